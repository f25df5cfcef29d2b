//! The benchmarks: figures side by side in one run, never tests: `cargo xtask bench sandbox`, and its neighbours.

mod egress;
mod many;
mod sandbox;
mod turn;
mod warm;
mod workspace;

/// What can be measured.
const NAMES: &str = "`sandbox`, `turn`, `workspace` (its number is that of the files), `many` (that of the sandboxes), \
    `egress`";

use anyhow::{Context, Result, bail};

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let count = arguments.get(1).map(|text| text.parse::<u32>().context("how often? a whole number")).transpose()?;
    match arguments.first().map(String::as_str) {
        Some("sandbox") => sandbox::run(count.unwrap_or(40)),
        Some("turn") => {
            let counts = count.map_or_else(|| vec![20, 200], |count| vec![count]);
            counts.into_iter().try_for_each(turn::run)
        }
        Some("workspace") => workspace::run(count.unwrap_or(100_000)),
        Some("egress") => egress::run(count.unwrap_or(2000)),
        Some("many") => many::run(count.unwrap_or(100)),
        Some(other) => bail!("there is no benchmark `{other}`; there are {NAMES}"),
        None => bail!("which benchmark? {NAMES}"),
    }
}
