//! Setup as its users meet it: what is run, shown, bounded and taken back, and what of its secrets is where.

use std::path::Path;

use carrel_testkit::Repository;
use carrel_testkit::model::{Reply, Script};
use serde_json::{Value, json};

use crate::limits::running;
use crate::{CARREL, FILES, World, attempt, of_type, reason, says};

/// A value that is planted, to be looked for, and its base64.
const CANARY: &str = "setup-canary-5b1f9c07d2e";
const CANARY_BASE64: &str = "c2V0dXAtY2FuYXJ5LTViMWY5YzA3ZDJl";

/// Looks for the planted value where a hostile agent would.
const SEARCH: &str = "env; cat /proc/*/environ 2>/dev/null | tr '\\0' '\\n'; \
    for where in /tmp /dev/shm /home /root /run /var /workspace /etc /opt /srv; do \
    grep -rlF -e setup-canary -e c2V0dXAtY2FuYXJ5 $where 2>/dev/null -D skip; done; ls -A /dev/shm; echo searched";

/// Makes an environment with this setup script and whatever else the flags say.
pub(crate) async fn environment(world: &World, name: &str, script: &str, flags: &[&str]) {
    std::fs::write(world.folder().join("setup.sh"), script).expect("a file");
    world.json(&[&["environment", "create", name, "--setup-script", "setup.sh"], flags].concat()).await;
}

/// Has one agent of the environment run one command, and gives the ended task.
pub(crate) async fn task_in(world: &World, repository: &Repository, name: &str) -> Value {
    let id = world.create_with(repository, &["--environment", name, "Do it"]).await;
    world.ended(&id).await
}

/// The events of a task.
pub(crate) async fn events_of(world: &World, task: &Value) -> Vec<Value> {
    world.events(task["id"].as_str().expect("an id")).await
}

/// What a command has printed.
pub(crate) fn printed(events: &[Value], command: &str) -> String {
    let output = of_type(events, "command.output").into_iter();
    output
        .filter(|event| event["data"]["command_id"] == command)
        .filter_map(|event| event["data"]["text"].as_str())
        .collect()
}

/// What the commands of the agent have printed.
pub(crate) fn agent_printed(events: &[Value]) -> String {
    let of_setup = |event: &Value| {
        let id = event["data"]["command_id"].as_str().unwrap_or_default();
        id.starts_with("setup.") || id.starts_with("maintenance.")
    };
    let output = of_type(events, "command.output").into_iter();
    output.filter(|event| !of_setup(event)).filter_map(|event| event["data"]["text"].as_str()).collect()
}

/// The scripts that were run, by what people see as the command.
pub(crate) fn scripts(events: &[Value]) -> Vec<&str> {
    let is_script = |id: &str| id.starts_with("setup.") || id.starts_with("maintenance.");
    let started = of_type(events, "command.started").into_iter();
    let started = started.filter(|event| event["data"]["command_id"].as_str().is_some_and(is_script));
    started.filter_map(|event| event["data"]["command"].as_str()).collect()
}

/// The words of the events of one type.
pub(crate) fn messages<'a>(events: &'a [Value], kind: &str) -> Vec<&'a str> {
    of_type(events, kind).into_iter().filter_map(|event| event["data"]["message"].as_str()).collect()
}

/// The kept layers whose names begin so.
pub(crate) fn layers(world: &World, kind: &str) -> Vec<String> {
    let folder = std::fs::read_dir(world.data().join("sandboxes/layers")).expect("the folder of layers");
    let names = folder.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut names: Vec<String> = names.filter(|name| name.starts_with(kind)).collect();
    names.sort();
    names
}

/// A model that runs one command, whatever is asked.
pub(crate) fn runs(command: &str) -> Script {
    says([Reply::command(command), Reply::message("Done.")])
}

#[tokio::test]
async fn setup_is_told_while_it_runs_and_its_shell_is_its_own() {
    let script = "export LOST=lost; lost=lost; cd /tmp\necho \"in $OLDPWD with $KEPT\" >&2\necho built > ~/tool\n\
        while [ ! -e /tmp/go ]; do sleep 0.05; done\necho through\n";
    let world = World::new(CARREL, runs("echo \"[$LOST$lost] [$KEPT] $(cat ~/tool)\"; pwd")).await;
    let repository = world.repository("api", FILES);
    environment(&world, "api", script, &["--variable", "KEPT=kept"]).await;

    let id = world.create_with(&repository, &["--environment", "api", "Do it"]).await;
    let running = world.events_until(&id, |events| !printed(events, "setup.1").is_empty()).await;
    crate::recovery::touch_inside(&world);
    let task = world.ended(&id).await;

    assert_eq!(printed(&running, "setup.1"), "in /workspace/api with kept\n");
    assert_eq!(of_type(&running, "command.ended"), Vec::<&Value>::new());
    assert_eq!(attempt(&task)["state"], "ready", "{task:#}\n{}", world.logged());
    let events = world.events(&id).await;
    assert_eq!(scripts(&events), ["setup script"]);
    assert_eq!(printed(&events, "setup.1"), "in /workspace/api with kept\nthrough\n");
    assert_eq!(agent_printed(&events), "[] [kept] built\n/workspace/api\n");
}

#[tokio::test]
async fn a_setup_that_fails_says_its_code_and_last_lines_and_leaves_nothing() {
    let world = World::new(CARREL, runs("cat ~/tool")).await;
    let repository = world.repository("api", FILES);
    let script = "echo built > ~/tool; seq 1 50; echo 'no such package' >&2; exit 7";
    environment(&world, "api", script, &[]).await;

    let first = task_in(&world, &repository, "api").await;
    let left = layers(&world, "snapshot-");
    let again = task_in(&world, &repository, "api").await;

    for task in [&first, &again] {
        assert_eq!(attempt(task)["failure"]["stage"], "setting_up", "{task:#}");
        let expected = "setup (`setup script`) ended with exit code 7; it said:\n42\n43\n44\n45\n46\n47\n48\n49\n50\nno such package";
        assert_eq!(reason(task), expected);
    }
    assert_eq!(left, Vec::<String>::new());
    let events = events_of(&world, &again).await;
    let looked = of_type(&events, "snapshot.looked_up");
    let reason = "preparing the environment: nothing is kept for this environment and repository";
    assert_eq!(looked[0]["data"], json!({"snapshot_id": null, "reason": reason}));
    assert_eq!(of_type(&events, "snapshot.kept"), Vec::<&Value>::new());
    assert_eq!(scripts(&events), ["setup script"], "it was built anew");
    assert_eq!(world.model().requests().len(), 0, "no agent was asked");
}

#[tokio::test]
async fn a_setup_that_passes_its_limit_is_ended_with_all_it_has_started() {
    let world = World::new(CARREL, runs("true")).await;
    let repository = world.repository("api", FILES);
    environment(&world, "api", "echo waiting\nsleep 1000011 &\nsleep 1000012", &["--setup-limit", "1s"]).await;

    let task = task_in(&world, &repository, "api").await;

    let hit = "did not end within its limit of 1 s; to raise it: carrel environment edit api --setup-limit DURATION";
    assert_eq!(reason(&task), format!("setup (`setup script`) {hit}; it said:\nwaiting"));
    let events = events_of(&world, &task).await;
    let told = &of_type(&events, "limit.hit")[0]["data"];
    assert_eq!(*told, json!({"limit": "setup", "message": format!("setup {hit}")}));
    assert_eq!(of_type(&events, "command.ended")[0]["data"]["end"], json!({"how": "timed_out"}));
    assert_eq!(layers(&world, "snapshot-"), Vec::<String>::new());
    assert!(!running("sleep 1000011") && !running("sleep 1000012"), "nothing of the sandbox is left");
}

#[tokio::test]
async fn a_setup_that_prints_without_end_is_cut_in_the_log_and_ended_at_its_limit() {
    let world = World::new(CARREL, runs("echo alive")).await;
    let repository = world.repository("api", FILES);
    environment(&world, "api", "head -c 100000000 /dev/zero | tr '\\0' x; echo; echo the end", &[]).await;

    let long = task_in(&world, &repository, "api").await;
    world.json(&["environment", "edit", "api", "--output", "1M"]).await;
    world.json(&["environment", "reset-cache", "api"]).await;
    let endless = task_in(&world, &repository, "api").await;

    assert_eq!(attempt(&long)["state"], "ready", "{long:#}");
    let events = events_of(&world, &long).await;
    let end = &of_type(&events, "command.ended")[0]["data"];
    assert!(end["output_bytes"].as_u64().is_some_and(|bytes| bytes >= 100_000_000), "{end}");
    let size: usize = events.iter().map(|event| event.to_string().len()).sum();
    assert!(size < 8_000_000, "{size} bytes of events");
    assert!(printed(&events, "setup.1").ends_with("the end\n"));
    let way_out = "to raise it: carrel environment edit api --output SIZE";
    assert_eq!(reason(&endless), format!("setup printed more than 1048576 bytes and was ended; {way_out}"));
    let events = events_of(&world, &endless).await;
    assert_eq!(of_type(&events, "limit.hit")[0]["data"]["limit"], "output");
    assert_eq!(of_type(&events, "command.ended").len(), 1, "what was begun is shown as ended");
}

#[tokio::test]
async fn what_setup_leaves_in_the_work_tree_is_no_work_of_the_agent() {
    let script = "echo made > made.txt; mkdir cache; echo x > 'cache/a b'; echo 43 > answer; rm docs/note.txt; echo '#' > '#odd[1]'";
    let look = "cat answer docs/note.txt made.txt cache/*; git status --short; echo mine > mine.txt";
    let world = World::new(CARREL, runs(look)).await;
    let repository = world.repository("api", FILES);
    environment(&world, "api", script, &[]).await;

    let fresh = task_in(&world, &repository, "api").await;
    let reused = task_in(&world, &repository, "api").await;

    for task in [fresh, reused] {
        let events = events_of(&world, &task).await;
        assert_eq!(agent_printed(&events), "41\none\ntwo\nthree\nmade\nx\n");
        let patch = &attempt(&task)["result"]["patch"];
        assert_eq!(
            (&patch["files"][0]["path"], patch["files"].as_array().map(Vec::len)),
            (&json!("mine.txt"), Some(1)),
            "{patch:#}"
        );
    }
}

#[tokio::test]
async fn what_maintenance_leaves_in_the_work_tree_is_no_work_of_the_agent() {
    let world = World::new(CARREL, runs("cat answer made.txt; git status --short; echo mine > mine.txt")).await;
    let repository = world.repository("api", FILES);
    std::fs::write(world.folder().join("maintain.sh"), "echo made > made.txt; echo 43 > answer").expect("a file");
    environment(&world, "api", "true", &["--maintenance-script", "maintain.sh"]).await;

    task_in(&world, &repository, "api").await;
    let reused = task_in(&world, &repository, "api").await;

    let events = events_of(&world, &reused).await;
    assert_eq!(scripts(&events), ["maintenance script"]);
    assert_eq!(agent_printed(&events), "41\nmade\n");
    let patch = &attempt(&reused)["result"]["patch"];
    assert_eq!(
        (&patch["files"][0]["path"], patch["files"].as_array().map(Vec::len)),
        (&json!("mine.txt"), Some(1)),
        "{patch:#}"
    );
}

#[tokio::test]
async fn maintenance_runs_on_what_is_reused_and_never_on_what_was_just_built() {
    let world = World::new(CARREL, runs("cat ~/log")).await;
    let repository = world.repository("api", FILES);
    std::fs::write(world.folder().join("maintain.sh"), "echo maintained >> ~/log; echo maintaining").expect("a file");
    environment(&world, "api", "echo set up >> ~/log", &["--maintenance-script", "maintain.sh"]).await;

    let mut told = Vec::new();
    for _ in 0..3 {
        let task = task_in(&world, &repository, "api").await;
        told.push(agent_printed(&events_of(&world, &task).await));
    }

    assert_eq!(told, ["set up\n", "set up\nmaintained\n", "set up\nmaintained\n"]);
    std::fs::write(world.folder().join("maintain.sh"), "echo no mirror; exit 3").expect("a file");
    world.json(&["environment", "edit", "api", "--maintenance-script", "maintain.sh"]).await;
    task_in(&world, &repository, "api").await;
    let failed = task_in(&world, &repository, "api").await;
    assert_eq!(reason(&failed), "maintenance (`maintenance script`) ended with exit code 3; it said:\nno mirror");
    assert_eq!(attempt(&failed)["failure"]["stage"], "setting_up");
}

#[tokio::test]
async fn setup_secrets_are_there_for_setup_and_maintenance_and_nowhere_after() {
    let script = "[ \"$TOKEN\" = setup-canary-5b1f9c07d2e ] && echo \"it is $TOKEN, $(printf %s \"$TOKEN\" | base64)\"\n\
        echo \"$TOKEN\" > /dev/shm/kept; setsid sleep 1000021 >/dev/null 2>&1 &\n";
    // The script itself has the value, and the search has its beginning: as the test needs it, nobody else.
    let script = script.replace("setup-canary-5b1f9c07d2e", "$(echo e2d70c9f1b5-yranac-putes | rev)");
    let world = World::with(CARREL, runs(SEARCH), &[("CARREL_LOG", "trace")]).await;
    let repository = world.repository("api", FILES);
    std::fs::write(world.folder().join("maintain.sh"), &script).expect("a file");
    let secret = format!("TOKEN={CANARY}");
    environment(&world, "api", &script, &["--setup-secret", &secret, "--maintenance-script", "maintain.sh"]).await;

    let fresh = task_in(&world, &repository, "api").await;
    let reused = task_in(&world, &repository, "api").await;

    for (task, command) in [(fresh, "setup.1"), (reused, "maintenance.1")] {
        assert_eq!(attempt(&task)["state"], "ready", "{task:#}");
        let events = events_of(&world, &task).await;
        assert_eq!(printed(&events, command), "it is [redacted], [redacted]\n");
        let searched = agent_printed(&events);
        assert!(searched.contains("\nsearched\n") && !searched.contains("TOKEN"), "{searched}");
        for hidden in ["/kept", "[redacted]", "sleep 1000021"] {
            assert!(!searched.contains(hidden), "{hidden}: {searched}");
        }
        assert!(!format!("{events:?}{task}").contains(CANARY));
    }
    for secret in [CANARY, CANARY_BASE64] {
        assert!(!world.logged().contains(secret), "the log has {secret}");
        assert_eq!(holders(&world.data(), secret), Vec::<String>::new(), "files of the service have {secret}");
        let seen = world.model().requests();
        assert!(
            !seen.iter().any(|request| String::from_utf8_lossy(&request.body).contains(secret)),
            "the model saw it"
        );
    }
}

#[tokio::test]
async fn a_script_that_leaves_a_secret_in_a_file_keeps_nothing_and_names_the_file() {
    let world = World::new(CARREL, runs("true")).await;
    let repository = world.repository("api", FILES);
    let secret = format!("TOKEN={CANARY}");
    environment(&world, "api", "true", &["--setup-secret", &secret]).await;

    for (leaving, path) in [
        ("echo \"machine a.example password $TOKEN\" > ~/.netrc", ".netrc"),
        ("printf 'user:%s' \"$TOKEN\" | base64 -w0 > auth.json", "workspace/api/auth.json"),
        ("head -c 3000000 /dev/zero > /tmp/big; printf %s \"$TOKEN\" >> /tmp/big", "tmp/big"),
        ("git config --global http.extraHeader \"Authorization: $TOKEN\"", ".gitconfig"),
        ("printf %s \"$TOKEN\" | od -An -tx1 | tr -d ' \\n' > /var/tmp/hex", "var/tmp/hex"),
        ("ln -s \"/nowhere/$TOKEN\" ~/link", "link"),
        ("echo \"$TOKEN\" > ~/secret; chmod 0 ~/secret", "secret"),
    ] {
        std::fs::write(world.folder().join("setup.sh"), leaving).expect("a file");
        world.json(&["environment", "edit", "api", "--setup-script", "setup.sh"]).await;
        let task = task_in(&world, &repository, "api").await;

        let reason = reason(&task);
        assert!(reason.starts_with("setup left the value of the secret TOKEN in `"), "{leaving}: {reason}");
        assert!(reason.contains(&format!("{path}`, where the agent would see it")), "{leaving}: {reason}");
        let events = events_of(&world, &task).await;
        let kept = &of_type(&events, "snapshot.kept")[0]["data"];
        assert_eq!((&kept["snapshot_id"], &kept["reason"]), (&Value::Null, &json!(reason)));
        assert_eq!(layers(&world, "snapshot-"), Vec::<String>::new(), "{leaving}");
        assert!(!format!("{events:?}").contains(CANARY), "{leaving}");
    }
    forgotten(&world).await;
    assert_eq!(world.model().requests().len(), 0, "no agent was asked");
}

#[tokio::test]
async fn a_maintenance_script_that_leaves_a_secret_ends_the_attempt_before_the_agent_begins() {
    let world = World::new(CARREL, runs("true")).await;
    let repository = world.repository("api", FILES);
    std::fs::write(world.folder().join("maintain.sh"), "echo \"$TOKEN\" > /var/tmp/left").expect("a file");
    let secret = format!("TOKEN={CANARY}");
    environment(&world, "api", "true", &["--maintenance-script", "maintain.sh", "--setup-secret", &secret]).await;
    task_in(&world, &repository, "api").await;
    let before = world.model().requests().len();

    let task = task_in(&world, &repository, "api").await;

    assert!(reason(&task).starts_with("the maintenance script left the value of the secret TOKEN in `"), "{task:#}");
    assert_eq!(attempt(&task)["failure"]["stage"], "setting_up");
    assert_eq!(world.model().requests().len(), before, "no agent was asked");
    assert_eq!(layers(&world, "snapshot-").len(), 1, "what was prepared before is good still");
    forgotten(&world).await;
}

#[tokio::test]
async fn a_failing_script_that_prints_a_secret_does_not_tell_it() {
    let world = World::with(CARREL, runs("true"), &[("CARREL_LOG", "trace")]).await;
    let repository = world.repository("api", FILES);
    let secret = format!("TOKEN={CANARY}");
    environment(
        &world,
        "api",
        "set -x; printf 'half: '; sleep 0.2; curl_with() { echo \"$@\"; exit 22; }; curl_with \"$TOKEN\"",
        &["--setup-secret", &secret],
    )
    .await;

    let task = task_in(&world, &repository, "api").await;

    let reason = reason(&task);
    assert!(reason.contains("exit code 22") && reason.contains("half: ") && reason.contains("[redacted]"), "{reason}");
    let told = format!("{task}{:?}{}", events_of(&world, &task).await, world.logged());
    assert!(!told.contains(CANARY), "{told}");
    forgotten(&world).await;
}

#[tokio::test]
async fn an_attempt_that_is_stopped_while_setup_runs_leaves_nothing_and_the_next_in_line_builds() {
    let script = "echo building; while [ ! -e /tmp/go ]; do sleep 0.05; done; sleep 1000031 & echo built > ~/tool";
    let world = World::new(CARREL, runs("cat ~/tool")).await;
    let repository = world.repository("api", FILES);
    environment(&world, "api", script, &[]).await;
    let stopped = world.create_with(&repository, &["--environment", "api", "Do it"]).await;
    world.events_until(&stopped, |events| !printed(events, "setup.1").is_empty()).await;
    let waiting = world.create_with(&repository, &["--environment", "api", "Do it"]).await;
    let waits = "another attempt is preparing the same environment; waiting for it";
    world.events_until(&waiting, |events| messages(events, "attempt.progress").contains(&waits)).await;

    let cancelled = world.json(&["task", "cancel", &stopped]).await;
    world.events_until(&waiting, |events| !printed(events, "setup.1").is_empty()).await;
    crate::recovery::touch_inside(&world);
    let task = world.ended(&waiting).await;

    assert_eq!(attempt(&cancelled)["state"], "cancelled", "{cancelled:#}");
    assert_eq!(attempt(&task)["state"], "ready", "{task:#}\n{}", world.logged());
    assert_eq!(agent_printed(&world.events(&waiting).await), "built\n");
    assert_eq!(layers(&world, "snapshot-").len(), 1);
    assert!(!running("sleep 1000031"), "nothing that setup has started lives on");
}

#[tokio::test]
async fn a_setup_that_takes_its_work_tree_away_does_no_harm() {
    let world = World::new(CARREL, runs("cat answer; git status --short; echo 42 > answer")).await;
    let repository = world.repository("api", FILES);

    for (name, script) in [
        ("git", "rm -rf .git"),
        ("all", "cd /; rm -rf /workspace/api"),
        ("tmp", "rm -rf /tmp/* /tmp/.[a-z]*"),
        ("lock", "touch .git/index.lock"),
        (
            "other",
            "git checkout --quiet --orphan other; git commit --quiet --allow-empty -m x; echo 43 > answer; git add answer",
        ),
        ("hook", "printf '#!/bin/sh\\nexit 1\\n' > .git/hooks/post-checkout; chmod +x .git/hooks/post-checkout"),
    ] {
        environment(&world, name, script, &[]).await;
        let task = task_in(&world, &repository, name).await;
        assert_eq!(attempt(&task)["state"], "ready", "{name}: {task:#}");
        assert_eq!(agent_printed(&events_of(&world, &task).await), "41\n", "{name}");
        assert_eq!(attempt(&task)["result"]["patch"]["additions"], 1, "{name}");
    }
}

#[tokio::test]
async fn a_secret_as_long_as_there_may_be_is_looked_for_too() {
    let world = World::new(CARREL, runs("true")).await;
    let repository = world.repository("api", FILES);
    let value: String = (0..6_000).map(|number| format!("{number:x}-")).collect();
    std::fs::write(world.folder().join("key"), &value).expect("a file");
    environment(&world, "api", "printf %s \"$KEY\" | wc -c", &["--setup-secret", "KEY=@key"]).await;

    let clean = task_in(&world, &repository, "api").await;
    environment(&world, "leaky", "printf %s \"$KEY\" > ~/key", &["--setup-secret", "KEY=@key"]).await;
    let leaky = task_in(&world, &repository, "leaky").await;

    assert_eq!(attempt(&clean)["state"], "ready", "{clean:#}");
    assert!(reason(&leaky).starts_with("setup left the value of the secret KEY in `"), "{leaky:#}");
}

/// Waits until the planted value is nowhere in the data: files of a sandbox are removed in the background.
async fn forgotten(world: &World) {
    let tasks = world.json(&["task", "list"]).await;
    let id = tasks["items"][0]["id"].as_str().expect("a task").to_owned();
    world.events_until(&id, |_| holders(&world.data(), CANARY).is_empty()).await;
}

/// The files below a folder that hold the text.
fn holders(folder: &Path, text: &str) -> Vec<String> {
    let output = std::process::Command::new("grep").args(["-rlF", text]).arg(folder).output().expect("grep is there");
    String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
}
