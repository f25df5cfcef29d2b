//! `cargo xtask test`: every check and every test, as CI runs them.

use anyhow::Result;

use crate::machine::{self, TO_BUILD, TO_TEST};
use crate::run::{cargo, program, run, say, step};
use crate::{oracles, root, tidy, up};

/// Runs everything. The first failure ends it, and names itself.
pub(crate) fn test() -> Result<()> {
    machine::ensure(&TO_BUILD.iter().chain(TO_TEST).collect::<Vec<_>>())?;
    oracles::ensure()?;
    step("format");
    run(&mut cargo(&["fmt", "--all", "--check"]))?;
    step("tidy");
    tidy::tidy(&root())?;
    step("web: build, check, test");
    up::build_web()?;
    let web = root().join("web");
    run(program("npm", &["run", "--silent", "check"]).current_dir(&web))?;
    run(program("npm", &["run", "--silent", "test"]).current_dir(&web))?;
    step("clippy");
    run(&mut cargo(&[
        "clippy",
        "--workspace",
        "--all-targets",
        "--features",
        "carrel-xtask/bench",
        "--",
        "-D",
        "warnings",
    ]))?;
    step("tests");
    // One build for everything: programs first, because tests run them.
    let bench = ["--features", "carrel-xtask/bench"];
    run(cargo(&["build", "--workspace", "--bins"]).args(bench))?;
    if machine::has_cargo("nextest") {
        run(cargo(&["nextest", "run", "--workspace", "--no-fail-fast"]).args(bench))?;
        run(&mut cargo(&["test", "--workspace", "--doc", "--quiet"]))?;
    } else {
        run(cargo(&["test", "--workspace", "--no-fail-fast"]).args(bench))?;
    }
    step("real bug fixes through the product");
    let program = ["run", "--quiet", "--package", "carrel-xtask", "--bin", "bench"];
    run(cargo(&program).args(bench).args(["--", "replay", "--seed"]))?;
    step("the plug pulled for half a minute");
    run(cargo(&program).args(bench).args(["--", "torture", "30"]))?;
    if machine::has_cargo("deny") {
        step("licences and sources of dependencies");
        run(&mut cargo(&["deny", "check", "bans", "licenses", "sources"]))?;
    } else {
        say("cargo-deny is not installed; licences and sources of dependencies were not checked");
    }
    Ok(())
}
