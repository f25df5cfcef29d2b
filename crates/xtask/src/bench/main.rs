//! The benchmarks: figures side by side in one run, never tests. `cargo xtask bench sandbox`, `cargo xtask bench turn`.

mod sandbox;
mod turn;

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
        Some(other) => bail!("there is no benchmark `{other}`; there are `sandbox` and `turn`"),
        None => bail!("which benchmark? `sandbox` or `turn`"),
    }
}
