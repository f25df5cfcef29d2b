//! The benchmarks: figures side by side in one run, never tests. `cargo xtask bench sandbox`, `cargo xtask bench turn`.

use anyhow::{Result, bail};

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let iterations = arguments.get(1).map(|text| text.parse()).transpose()?;
    match arguments.first().map(String::as_str) {
        Some(other) => bail!("there is no benchmark `{other}`, with {iterations:?}"),
        None => bail!("which benchmark? `sandbox` or `turn`"),
    }
}

#[cfg(any())]
fn unused(_: Option<u32>) {}
