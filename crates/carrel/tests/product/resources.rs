//! The limits of a sandbox as its user set them: what runs into one is held, told, and nobody else's trouble.

use carrel_testkit::Repository;
use carrel_testkit::model::{Reply, Script, Step};
use serde_json::{Value, json};

use crate::{CARREL, FILES, World, attempt, of_type, reason, says};

/// Takes a gigabyte of memory.
const HOG: &str = "python3 -c 'x = [bytearray(1 << 20) for _ in range(1024)]; print(len(x))'";

/// A model that runs the wild command, looks whether the sandbox is still of use, and is done. Another task, asked to
/// stand by, works for a while.
fn script(wild: &str) -> Script {
    let long = |cmd: &str| Step::from(Reply::call("exec_command", json!({"cmd": cmd, "yield_time_ms": 30000})));
    says([long(wild), long("echo still of use"), Step::from(Reply::message("Done."))]).when(
        "Stand by",
        [
            long("for i in $(seq 30); do echo $i > number; ls / >/dev/null && sleep 0.1; done; cat number"),
            Step::from(Reply::message("Done.")),
        ],
    )
}

struct Outcome {
    task: Value,
    events: Vec<Value>,
}

impl Outcome {
    /// The limits that were run into, with what was said about them.
    fn limits(&self) -> Vec<(String, String)> {
        let text = |event: &Value, key: &str| event["data"][key].as_str().expect("text").to_owned();
        of_type(&self.events, "limit.hit")
            .into_iter()
            .map(|event| (text(event, "limit"), text(event, "message")))
            .collect()
    }

    /// Everything the commands printed.
    fn output(&self) -> String {
        of_type(&self.events, "command.output").iter().filter_map(|event| event["data"]["text"].as_str()).collect()
    }
}

async fn outcome(world: &World, id: &str) -> Outcome {
    Outcome { task: world.ended(id).await, events: world.events(id).await }
}

/// Runs a wild attempt in an environment with these limits, and one beside it without them, which must not notice.
async fn beside_a_bystander(wild: &str, limits: &[&str]) -> (World, Outcome) {
    let world = World::new(CARREL, script(wild)).await;
    let repository = world.repository("project", FILES);
    world.json(&[&["environment", "create", "tight", "--no-setup"], limits].concat()).await;
    let create = async |repository: &Repository, words: &[&str]| world.create_with(repository, words).await;
    let bystander = create(&repository, &["Stand by"]).await;
    world.events_until(&bystander, |events| !of_type(events, "command.started").is_empty()).await;
    let id = create(&repository, &["--environment", "tight", "Run wild"]).await;

    let wild = outcome(&world, &id).await;
    let bystander = outcome(&world, &bystander).await;

    assert_eq!(attempt(&bystander.task)["state"], "ready", "{:#}", bystander.task);
    assert!(bystander.output().contains("30\n"), "{:?}", bystander.output());
    assert_eq!(bystander.limits(), [], "the bystander ran into nothing");
    (world, wild)
}

#[tokio::test]
async fn a_command_that_takes_all_memory_is_ended_and_the_attempt_goes_on() {
    let hog = format!("{HOG}; echo \"ended with $?\"");

    let (_world, wild) = beside_a_bystander(&hog, &["--memory", "128M"]).await;

    assert_eq!(attempt(&wild.task)["state"], "ready", "{:#}", wild.task);
    let limits = wild.limits();
    assert!(limits.iter().any(|(limit, said)| limit == "memory" && said.contains("128 MiB")), "{limits:?}");
    assert!(wild.output().contains("ended with 137") && wild.output().contains("still of use"), "{}", wild.output());
}

#[tokio::test]
async fn setup_that_takes_all_memory_fails_and_the_limit_is_told() {
    let world = World::new(CARREL, script("unused")).await;
    let repository = world.repository("project", FILES);
    std::fs::write(world.folder().join("setup.sh"), format!("{HOG}\n")).expect("a file");
    world.json(&["environment", "create", "tight", "--setup-script", "setup.sh", "--memory", "128M"]).await;

    let id = world.create_with(&repository, &["--environment", "tight", "Run wild"]).await;
    let wild = outcome(&world, &id).await;

    assert!(reason(&wild.task).contains("setup"), "{}", reason(&wild.task));
    assert_eq!(attempt(&wild.task)["failure"]["stage"], "setting_up");
    assert!(
        wild.limits().iter().any(|(limit, said)| limit == "memory" && said.contains("128 MiB")),
        "{:#?}",
        wild.events
    );
}

#[tokio::test]
async fn a_fork_bomb_runs_into_its_limit_and_the_attempt_goes_on() {
    // A shell could not start a program to end them while all places are taken: the parent ends them itself.
    let bomb = "python3 -c '\nimport os, time\nmade = []\ntry:\n    while len(made) < 1000:\n        \
         child = os.fork()\n        if child == 0: time.sleep(20); os._exit(0)\n        made.append(child)\n\
         except OSError as error: print(error, len(made))\nfor child in made: os.kill(child, 9)'";

    let (_world, wild) = beside_a_bystander(&format!("{bomb}; sleep 2.5"), &["--processes", "64"]).await;

    assert_eq!(attempt(&wild.task)["state"], "ready", "{:#}", wild.task);
    let limits = wild.limits();
    assert!(limits.iter().any(|(limit, said)| limit == "processes" && said.contains("64")), "{limits:?}");
    assert!(wild.output().contains("still of use"), "{}", wild.output());
}

#[tokio::test]
async fn an_attempt_that_fills_its_disk_loses_its_commands_and_is_told() {
    let filler =
        "for i in $(seq 100); do head -c 10000000 /dev/urandom > /var/tmp/filler.$i || exit 1; sleep 0.05; done";

    let (world, wild) = beside_a_bystander(filler, &["--disk", "64M"]).await;

    let limits = wild.limits();
    assert!(
        limits.iter().any(|(limit, said)| limit == "disk" && said.contains("64 MiB")),
        "{limits:?}\n{}",
        world.logged()
    );
    let ended = of_type(&wild.events, "command.ended");
    let first = ended.first().unwrap_or_else(|| panic!("no command ended\n{:#?}\n{}", wild.events, world.logged()));
    assert_ne!(first["data"]["end"], json!({"how": "exited", "code": 0}), "{first}");
}

#[tokio::test]
async fn an_attempt_that_wants_more_processor_time_than_it_may_have_is_slowed_and_told() {
    let burner = "for i in 1 2 3; do timeout 7 sh -c 'while :; do :; done' & done; wait; echo burnt";

    let (_world, wild) = beside_a_bystander(burner, &["--cpus", "0.1"]).await;

    assert_eq!(attempt(&wild.task)["state"], "ready", "{:#}", wild.task);
    assert!(wild.limits().iter().any(|(limit, _)| limit == "cpu"), "{:?}", wild.limits());
    assert!(wild.output().contains("burnt") && wild.output().contains("still of use"), "{}", wild.output());
}

#[tokio::test]
async fn an_attempt_that_takes_too_long_fails_and_says_how_long_it_had() {
    let (_world, wild) = beside_a_bystander("sleep 1000", &["--wall-clock", "10s"]).await;

    assert!(reason(&wild.task).contains("10 s"), "{}", reason(&wild.task));
    assert_eq!(attempt(&wild.task)["failure"]["stage"], "running");
}
