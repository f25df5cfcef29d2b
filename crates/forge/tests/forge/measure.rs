//! How long the common operations take; run by hand: `cargo nextest run -p carrel-forge --run-ignored only --no-capture`.

use std::fs;
use std::time::{Duration, Instant};

use crate::support::{World, branch, command, request};

#[expect(clippy::print_stdout, reason = "figures are for reading")]
fn report(what: &str, mut times: Vec<Duration>) {
    times.sort();
    println!("{what}: median {:?}, best {:?}, of {}", times[times.len() / 2], times[0], times.len());
}

#[tokio::test]
#[ignore = "a measurement, not a fact"]
async fn fetching_and_committing_in_a_repository_of_5000_files() {
    let world = World::empty();
    for number in 0..5_000_u32 {
        let lines: String = (0..60).map(|line| format!("fn item_{number}_{line}() {{}}\n")).collect();
        world.source.write(&format!("src/{}/file_{number}.rs", number % 50), lines);
    }
    world.source.commit("all");
    for number in 0..10 {
        world.source.write(&format!("src/{number}/file_{number}.rs"), "fn changed() {}\n");
    }
    let diff = command(&world.source.path).args(["diff", "--binary", "--full-index"]).output().expect("git").stdout;
    let patch = world.path("ten.patch");
    fs::write(&patch, diff).expect("a patch");

    let started = Instant::now();
    let mirror = world.fetch().await.expect("a mirror");
    report("first fetch", vec![started.elapsed()]);
    let (mut again, mut probe, mut resolve, mut commit) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..20 {
        let started = Instant::now();
        world.forge.probe(&world.source.location(), &branch("main")).await.expect("a repository");
        probe.push(started.elapsed());
        let started = Instant::now();
        world.fetch().await.expect("a mirror");
        again.push(started.elapsed());
        let started = Instant::now();
        let base = mirror.resolve(&branch("main")).await.expect("main").commit;
        resolve.push(started.elapsed());
        let started = Instant::now();
        mirror.commit_patch(&request(&base, &patch)).await.expect("a commit");
        commit.push(started.elapsed());
    }
    report("probe", probe);
    report("fetch with nothing new", again);
    report("resolve", resolve);
    report("commit of a patch of 10 files", commit);
}
