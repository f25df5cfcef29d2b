#![allow(missing_docs)]
#[path = "../../xtask/src/bench/sandbox.rs"]
mod bench;
fn main() {
    bench::run(std::env::args().nth(1).and_then(|n| n.parse().ok()).unwrap_or(40)).unwrap();
}
