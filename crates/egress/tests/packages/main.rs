//! The preset of package managers: the probe run against real tools and against programs that play them, what it prints
//! read, and indexes asked over real connections where their files are.

mod files;
mod known;
mod probe;
mod reading;
mod served;

use carrel_egress::packages::{Found, Tool};

/// What a tool is at while it is not told otherwise.
const DEFAULT: &str = "default";

/// The addresses that were found for a tool, and `default` where it is at its own.
fn indexes(found: &Found, tool: Tool) -> Vec<&str> {
    let named = found.indexes.iter().filter(|index| index.tool == tool).map(|index| index.url.as_str());
    named.chain(found.at_default.contains(&tool).then_some(DEFAULT)).collect()
}
