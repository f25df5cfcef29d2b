//! scratch
#[path = "../../xtask/src/bench/turn.rs"]
mod turn;
fn main() { for n in [20,200] { turn::run(n).expect("bench"); } }
