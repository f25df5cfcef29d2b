//! The benchmarks: figures side by side in one run, never tests: `cargo xtask bench sandbox`, and its neighbours.

mod egress;
mod faults;
mod figures;
mod harness;
mod many;
mod replay;
mod sandbox;
mod scale;
mod torture;
mod waiting;
mod warm;
mod workspace;

/// What can be measured.
const NAMES: &str = "`sandbox`, `workspace` (its number is that of the files), `many` (that of the sandboxes), \
    `egress`, `harness` (that of the turns), `faults` (that of the rounds), `waiting` (that of the attempts), `torture` (that of the seconds), `scale` (that of the tasks), `replay`";

use anyhow::{Context, Result, bail};

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // Its arguments are its own.
    if let Some("replay") = arguments.first().map(String::as_str) {
        return replay::run(&arguments[1..]);
    }
    let count = arguments.get(1).map(|text| text.parse::<u32>().context("how often? a whole number")).transpose()?;
    match arguments.first().map(String::as_str) {
        Some("sandbox") => sandbox::run(count.unwrap_or(40)),
        Some("workspace") => workspace::run(count.unwrap_or(100_000)),
        Some("egress") => egress::run(count.unwrap_or(2000)),
        Some("harness") => harness::run(&count.map_or_else(|| vec![20, 200], |count| vec![count])),
        Some("faults") => faults::run(count.unwrap_or(1)),
        Some("waiting") => waiting::run(count.unwrap_or(500)),
        Some("torture") => torture::run(count.unwrap_or(600)),
        Some("scale") => scale::run(count.unwrap_or(100_000), arguments.get(2..).unwrap_or_default()),
        Some("many") => many::run(count.unwrap_or(100)),
        Some(other) => bail!("there is no benchmark `{other}`; there are {NAMES}"),
        None => bail!("which benchmark? {NAMES}"),
    }
}
