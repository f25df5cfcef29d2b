//! Prepared environments and kept files as their users meet them: what is reused and why, what a follow-up starts on, what
//! is collected, and what is left when the plug is pulled.

use carrel_testkit::Repository;
use carrel_testkit::model::Reply;
use serde_json::{Value, json};

use crate::setup::{agent_printed, environment, events_of, layers, messages, printed, runs, scripts, task_in};
use crate::{CARREL, FILES, World, attempt, of_type, says};

/// Told where a follow-up cannot start on files.
const NO_LONGER_KEPT: &str = "the files of the attempt before are no longer kept: starting from the base commit, with its \
                              changes put on top";

/// Why a prepared environment was reused or not, word by word.
fn looked_up(events: &[Value]) -> Vec<&str> {
    of_type(events, "snapshot.looked_up").into_iter().filter_map(|event| event["data"]["reason"].as_str()).collect()
}

/// What one more task in the environment is told.
async fn reason_of_next(world: &World, repository: &Repository, name: &str) -> String {
    let task = task_in(world, repository, name).await;
    assert_eq!(attempt(&task)["state"], "ready", "{task:#}\n{}", world.logged());
    let events = events_of(world, &task).await;
    let reasons = looked_up(&events);
    assert_eq!(reasons.len(), 1, "{events:#?}");
    reasons[0].to_owned()
}

async fn follow_up(world: &World, id: &str, arguments: &[&str]) -> (Value, Vec<Value>) {
    let before = world.events(id).await.len();
    world.json(&[&["task", "follow-up", id], arguments].concat()).await;
    let task = world.ended(id).await;
    assert_eq!(attempt(&task)["state"], "ready", "{task:#}\n{}", world.logged());
    (task, world.events(id).await.split_off(before))
}

/// Takes away what is kept of attempts, as if it had been collected.
async fn lose_the_files_of_attempts(world: &mut World, id: &str) {
    // They are kept a moment after the end is told.
    world.events_until(id, |_| !layers(world, "attempt-").is_empty()).await;
    world.kill().await;
    for name in layers(world, "attempt-") {
        std::fs::remove_dir_all(world.data().join("sandboxes/layers").join(name)).expect("a kept layer");
    }
    world.start().await;
}

#[tokio::test]
async fn what_was_prepared_is_reused_until_something_it_depends_on_changes() {
    let world = World::new(CARREL, runs("true")).await;
    let repository = world.repository("api", FILES);
    environment(&world, "api", "echo one", &[]).await;
    let edit = async |flags: &[&str]| {
        std::fs::write(world.folder().join("other.sh"), "echo two").expect("a file");
        world.json(&[&["environment", "edit", "api"], flags].concat()).await;
        reason_of_next(&world, &repository, "api").await
    };

    assert_eq!(
        reason_of_next(&world, &repository, "api").await,
        "preparing the environment: nothing is kept for this environment and repository"
    );
    let reused = reason_of_next(&world, &repository, "api").await;
    assert!(reused.starts_with("reusing the environment as it was prepared ") && reused.ends_with(" ago"), "{reused}");

    let another = "preparing the environment: since it was last prepared there is another ";
    for (flags, part) in [
        (&["--setup-script", "other.sh"][..], "setup script"),
        (&["--maintenance-script", "other.sh"], "maintenance script"),
        (&["--variable", "A=1"], "set of variables"),
        (&["--setup-secret", "TOKEN=hunter2hunter2"], "set of secrets"),
        (&["--setup-secret", "TOKEN=hunter3hunter3"], "set of secrets"),
        (&["--setup-internet", "off"], "network policy"),
    ] {
        assert_eq!(edit(flags).await, format!("{another}{part}"), "{flags:?}");
    }
    let reused = edit(&["--internet", "all", "--memory", "3G"]).await;
    assert!(reused.starts_with("reusing"), "neither is part of what was prepared: {reused}");
    assert_eq!(world.json(&["environment", "reset-cache", "api"]).await, json!({"snapshots": 7}));
    assert_eq!(reason_of_next(&world, &repository, "api").await, "preparing the environment: its cache was reset");
    let other = world.repository("web", FILES);
    assert!(
        reason_of_next(&world, &other, "api").await.contains("nothing is kept for this environment and repository")
    );
}

#[tokio::test]
async fn what_was_prepared_is_good_for_as_long_as_the_environment_says() {
    let world = World::new(CARREL, runs("true")).await;
    let repository = world.repository("api", FILES);
    environment(&world, "api", "echo one", &["--snapshot-life", "1s"]).await;
    reason_of_next(&world, &repository, "api").await;

    let mut reason = reason_of_next(&world, &repository, "api").await;
    for _ in 0..20 {
        if !reason.starts_with("reusing") {
            break;
        }
        reason = reason_of_next(&world, &repository, "api").await;
    }

    assert!(reason.starts_with("preparing the environment: what was prepared "), "{reason}");
    assert!(reason.ends_with(" ago is no longer good"), "{reason}");
}

#[tokio::test]
async fn what_several_attempts_need_at_once_is_built_once() {
    let script = "echo building; while [ ! -e /tmp/go ]; do sleep 0.05; done; echo $RANDOM$RANDOM > ~/dice";
    let world = World::new(CARREL, runs("cat ~/dice")).await;
    let repository = world.repository("api", FILES);
    environment(&world, "api", script, &[]).await;
    let two = world.create_with(&repository, &["--environment", "api", "--attempts", "2", "Do it"]).await;
    let one = world.create_with(&repository, &["--environment", "api", "Do it"]).await;

    let waiting = "another attempt is preparing the same environment; waiting for it";
    let waits = async |id: &str, attempts: usize| {
        let events = world
            .events_until(id, |events| {
                let waiting = messages(events, "attempt.progress").into_iter().filter(|text| *text == waiting).count();
                waiting + usize::from(!printed(events, "setup.1").is_empty()) >= attempts
            })
            .await;
        scripts(&events).len()
    };
    let begun = waits(&two, 2).await + waits(&one, 1).await;
    crate::recovery::touch_inside(&world);
    let tasks = [world.ended(&two).await, world.ended(&one).await];

    let events = [world.events(&two).await, world.events(&one).await].concat();
    assert_eq!((begun, scripts(&events).len()), (1, 1), "{events:#?}");
    assert_eq!(of_type(&events, "snapshot.kept").len(), 1);
    let found = "; another attempt has just built it";
    assert_eq!(looked_up(&events).iter().filter(|reason| reason.ends_with(found)).count(), 2, "{events:#?}");
    let thrown: String = agent_printed(&events);
    let mut thrown: Vec<&str> = thrown.lines().collect();
    thrown.dedup();
    assert_eq!(thrown.len(), 1, "all three stand on the same: {tasks:#?}");
    assert_eq!(layers(&world, "snapshot-").len(), 1);
}

#[tokio::test]
async fn an_attempt_goes_on_with_the_version_it_was_pinned_to() {
    let script = "echo one; while [ ! -e /tmp/go ]; do sleep 0.05; done; echo one > ~/tool";
    let world = World::new(CARREL, runs("cat ~/tool; echo $V")).await;
    let repository = world.repository("api", FILES);
    environment(&world, "api", script, &["--variable", "V=1"]).await;
    let id = world.create_with(&repository, &["--environment", "api", "Do it"]).await;
    world.events_until(&id, |events| !printed(events, "setup.1").is_empty()).await;

    std::fs::write(world.folder().join("setup.sh"), "echo two > ~/tool").expect("a file");
    world.json(&["environment", "edit", "api", "--setup-script", "setup.sh", "--variable", "V=2"]).await;
    crate::recovery::touch_inside(&world);
    let pinned = world.ended(&id).await;
    let next = task_in(&world, &repository, "api").await;

    for (task, version, said) in [(&pinned, 1, "one\n1\n"), (&next, 2, "two\n2\n")] {
        let events = events_of(&world, task).await;
        assert_eq!(of_type(&events, "environment.resolved")[0]["data"]["version"], version);
        assert_eq!(agent_printed(&events), said);
    }
}

#[tokio::test]
async fn a_service_that_is_killed_while_setup_runs_begins_it_anew_and_leaves_nothing_over() {
    let script = "echo $RANDOM > ~/half; echo begun; while [ ! -e /tmp/go ]; do sleep 0.05; done; ls ~ > ~/seen";
    let mut world = World::new(CARREL, runs("cat ~/seen")).await;
    let repository = world.repository("api", FILES);
    environment(&world, "api", script, &[]).await;
    let id = world.create_with(&repository, &["--environment", "api", "Do it"]).await;
    world.events_until(&id, |events| !printed(events, "setup.1").is_empty()).await;

    world.kill().await;
    world.start().await;
    world.events_until(&id, |events| printed(events, "setup.1") == "begun\nbegun\n").await;
    crate::recovery::touch_inside(&world);
    let task = world.ended(&id).await;

    assert_eq!(attempt(&task)["state"], "ready", "{task:#}\n{}", world.logged());
    let events = world.events(&id).await;
    assert_eq!(scripts(&events).len(), 2);
    assert_eq!(of_type(&events, "snapshot.kept").len(), 1);
    assert_eq!(agent_printed(&events), "half\nseen\n", "the second began with nothing of the first");
    assert_eq!(layers(&world, "snapshot-").len(), 1);
    assert!(reason_of_next(&world, &repository, "api").await.starts_with("reusing"));
    world.kill().await;
    world.start().await;
    assert_eq!(sandboxes(&world), Vec::<String>::new());
}

#[tokio::test]
async fn a_service_that_is_killed_while_maintenance_runs_begins_with_a_fresh_sandbox() {
    let maintain = "ls ~/half 2>/dev/null; touch ~/half; echo begun; while [ ! -e /tmp/go ]; do sleep 0.05; done";
    let mut world = World::new(CARREL, runs("echo alive")).await;
    let repository = world.repository("api", FILES);
    std::fs::write(world.folder().join("maintain.sh"), maintain).expect("a file");
    environment(&world, "api", "true", &["--maintenance-script", "maintain.sh"]).await;
    task_in(&world, &repository, "api").await;
    let id = world.create_with(&repository, &["--environment", "api", "Do it"]).await;
    world.events_until(&id, |events| !printed(events, "maintenance.1").is_empty()).await;

    world.kill().await;
    world.start().await;
    world.events_until(&id, |events| printed(events, "maintenance.1") == "begun\nbegun\n").await;
    crate::recovery::touch_inside(&world);
    let task = world.ended(&id).await;

    assert_eq!(attempt(&task)["state"], "ready", "{task:#}\n{}", world.logged());
    assert_eq!(agent_printed(&world.events(&id).await), "alive\n");
}

#[tokio::test]
async fn a_follow_up_finds_every_file_as_it_was_left_also_after_a_restart() {
    let leave =
        "mkdir node_modules; echo installed > node_modules/m; echo 42 > answer; echo new > new.txt; echo home > ~/h";
    let look = "cat node_modules/m answer new.txt ~/h; git status --short; echo more >> new.txt";
    let script = says([Reply::command(leave), Reply::message("Left.")])
        .when("Look", [Reply::command(look), Reply::message("Looked.")]);
    let mut world = World::new(CARREL, script).await;
    let repository = world.repository("api", &[FILES, &[(".gitignore", "node_modules/\n")]].concat());
    let id = world.create(&repository, "Leave").await;
    world.ended(&id).await;

    let (_, second) = follow_up(&world, &id, &["Look"]).await;
    world.kill().await;
    world.start().await;
    let (task, third) = follow_up(&world, &id, &["Look"]).await;

    let left = "installed\n42\nnew\n";
    assert_eq!(agent_printed(&second), format!("{left}home\n M answer\n?? new.txt\n"));
    assert_eq!(agent_printed(&third), format!("{left}more\nhome\n M answer\n?? new.txt\n"));
    assert_eq!(
        [messages(&second, "attempt.warning"), messages(&third, "attempt.warning")],
        [Vec::<&str>::new(), vec![]]
    );
    assert_eq!(attempt(&task)["result"]["patch"]["files"].as_array().map(Vec::len), Some(2), "{task:#}");
    let diff = world.carrel(&["task", "diff", &id]).await.stdout;
    assert!(diff.contains("+new\n+more\n+more\n"), "the patch of every turn is the whole change: {diff}");
}

#[tokio::test]
async fn a_follow_up_whose_files_are_lost_starts_on_the_patch_and_says_so() {
    let leave = "mkdir node_modules; echo installed > node_modules/m; echo 42 > answer; echo new > new.txt";
    let look = "cat node_modules/m answer new.txt; git status --short";
    let script = says([Reply::command(leave), Reply::message("Left.")])
        .when("Look", [Reply::command(look), Reply::message("Looked.")])
        .when("Why", [Reply::message("Because.")]);
    let mut world = World::new(CARREL, script).await;
    let repository = world.repository("api", &[FILES, &[(".gitignore", "node_modules/\n")]].concat());
    let id = world.create(&repository, "Leave").await;
    world.ended(&id).await;

    lose_the_files_of_attempts(&mut world, &id).await;
    let (_, look) = follow_up(&world, &id, &["Look"]).await;
    follow_up(&world, &id, &["--mode", "ask", "Why?"]).await;
    lose_the_files_of_attempts(&mut world, &id).await;
    let (task, after_a_question) = follow_up(&world, &id, &["--mode", "code", "Look"]).await;

    for events in [look, after_a_question] {
        assert_eq!(messages(&events, "attempt.warning"), [NO_LONGER_KEPT]);
        let gone = "cat: node_modules/m: No such file or directory\n";
        assert_eq!(agent_printed(&events), format!("{gone}42\nnew\n M answer\n?? new.txt\n"));
    }
    assert_eq!(attempt(&task)["result"]["patch"]["files"].as_array().map(Vec::len), Some(2), "{task:#}");
}

#[tokio::test]
async fn what_the_agent_wrote_never_runs_in_maintenance() {
    let script =
        says([Reply::command("echo 'echo \"stolen $TOKEN\" > ~/stolen' > update.sh"), Reply::message("Planted.")])
            .when("Look", [Reply::command("cat ~/stolen ~/updated update.sh"), Reply::message("Looked.")]);
    let mut world = World::new(CARREL, script).await;
    let repository = world.repository("api", &[FILES, &[("update.sh", "echo updated > ~/updated\n")]].concat());
    std::fs::write(world.folder().join("maintain.sh"), "bash update.sh").expect("a file");
    let flags = ["--maintenance-script", "maintain.sh", "--setup-secret", "TOKEN=hunter2hunter2"];
    environment(&world, "api", "true", &flags).await;
    let id = world.create_with(&repository, &["--environment", "api", "Plant it"]).await;
    world.ended(&id).await;

    lose_the_files_of_attempts(&mut world, &id).await;
    let (_, events) = follow_up(&world, &id, &["Look"]).await;

    assert_eq!(scripts(&events), ["maintenance script"]);
    let said = agent_printed(&events);
    assert!(said.contains("stolen: No such file") && said.contains("updated\necho \"stolen $TOKEN\""), "{said}");
}

#[tokio::test]
async fn a_follow_up_goes_on_from_the_files_of_the_attempt_that_was_picked() {
    let throw = "mkdir node_modules; echo $RANDOM$RANDOM | tee node_modules/dice > answer";
    let script = says([Reply::command(throw), Reply::message("Thrown.")])
        .when("Show", [Reply::command("cat node_modules/dice answer"), Reply::message("Shown.")]);
    let world = World::new(CARREL, script).await;
    let repository = world.repository("api", &[FILES, &[(".gitignore", "node_modules/\n")]].concat());
    let id = world.create_with(&repository, &["--attempts", "2", "Throw the dice"]).await;
    world.ended(&id).await;
    let diff = world.carrel(&["task", "diff", &id, "--attempt", "2"]).await.stdout;
    let thrown = diff.lines().rev().find_map(|line| line.strip_prefix('+')).expect("an added line").to_owned();

    let (_, events) = follow_up(&world, &id, &["--from-attempt", "2", "Show"]).await;

    assert_eq!(agent_printed(&events), format!("{thrown}\n{thrown}\n"));
}

#[tokio::test]
async fn a_question_leaves_nothing_and_a_follow_up_stands_on_what_it_was_asked_about() {
    let script =
        says([Reply::command("echo 42 > answer; mkdir node_modules; echo x > node_modules/m"), Reply::message("A.")])
            .when("Why", [Reply::command("echo 13 > answer; rm node_modules/m; cat answer"), Reply::message("B.")])
            .when("Look", [Reply::command("cat answer node_modules/m"), Reply::message("C.")]);
    let world = World::new(CARREL, script).await;
    let repository = world.repository("api", &[FILES, &[(".gitignore", "node_modules/\n")]].concat());
    let id = world.create(&repository, "Change it").await;
    world.ended(&id).await;

    let (_, asked) = follow_up(&world, &id, &["--mode", "ask", "Why?"]).await;
    let (_, looked) = follow_up(&world, &id, &["--mode", "code", "Look"]).await;
    let first = world.create_with(&repository, &["--mode", "ask", "Why?"]).await;
    world.ended(&first).await;
    let (_, changed) = follow_up(&world, &first, &["--mode", "code", "Look"]).await;

    assert_eq!((agent_printed(&asked).as_str(), agent_printed(&looked).as_str()), ("13\n", "42\nx\n"));
    assert_eq!(agent_printed(&changed), "41\ncat: node_modules/m: No such file or directory\n");
    for events in [asked, looked, changed] {
        assert_eq!(messages(&events, "attempt.warning"), Vec::<&str>::new());
    }
}

#[tokio::test]
async fn kept_layers_stay_within_their_budget_and_what_is_in_use_stays() {
    let wait = json!({"cmd": "while [ ! -e /tmp/go ]; do sleep 0.05; done; cat ~/tool", "yield_time_ms": 30000});
    let script = says([Reply::command("mkdir m; echo x > m/x; echo 42 > answer; cat ~/tool"), Reply::message("Done.")])
        .when("Wait", [Reply::call("exec_command", wait), Reply::message("Waited.")])
        .when("Look", [Reply::command("cat answer ~/tool"), Reply::message("Looked.")]);
    let world = World::with(CARREL, script, &[("CARREL_MAX_LAYER_BYTES", "4096")]).await;
    let repository = world.repository("api", FILES);
    environment(&world, "api", "echo one > ~/tool", &[]).await;
    environment(&world, "other", "echo two > ~/tool", &[]).await;
    let waiting = world.create_with(&repository, &["--environment", "api", "--mode", "ask", "Wait"]).await;
    world
        .events_until(&waiting, |events| {
            events.iter().any(|event| event["data"]["command"].as_str().is_some_and(|text| text.starts_with("while")))
        })
        .await;
    let in_use = layers(&world, "snapshot-");

    let id = world.create_with(&repository, &["--environment", "other", "Change it"]).await;
    let changed = world.ended(&id).await;
    let (_, events) = collected(&world, &id).await;

    assert_eq!(in_use.len(), 1);
    assert!(layers(&world, "snapshot-").contains(&in_use[0]), "a sandbox stands on it");
    assert_eq!(attempt(&changed)["state"], "ready", "{changed:#}");
    assert_eq!(messages(&events, "attempt.warning"), [NO_LONGER_KEPT]);
    assert_eq!(agent_printed(&events), "42\ntwo\n", "the patch was put on top of what was prepared anew");
    crate::recovery::touch_inside(&world);
    let waited = world.ended(&waiting).await;
    assert_eq!(attempt(&waited)["state"], "ready", "{waited:#}");
    assert_eq!(agent_printed(&world.events(&waiting).await), "one\n");
}

#[tokio::test]
async fn over_the_budget_what_was_used_longest_ago_goes_first() {
    let world = World::with(CARREL, runs("true"), &[("CARREL_MAX_LAYER_BYTES", "10000000")]).await;
    let repository = world.repository("api", FILES);
    let ask = async |name: &str| {
        let id = world.create_with(&repository, &["--environment", name, "--mode", "ask", "Look"]).await;
        world.ended(&id).await;
        (looked_up(&world.events(&id).await)[0].to_owned(), id)
    };
    for name in ["one", "two", "three"] {
        environment(&world, name, "head -c 4000000 /dev/urandom > ~/blob", &[]).await;
    }

    ask("one").await;
    ask("two").await;
    let (again, _) = ask("one").await;
    let (_, id) = ask("three").await;
    world.events_until(&id, |_| layers(&world, "snapshot-").len() == 2).await;

    assert!(again.starts_with("reusing"), "{again}");
    assert!(ask("one").await.0.starts_with("reusing"));
    assert!(ask("three").await.0.starts_with("reusing"));
    assert_eq!(ask("two").await.0, "preparing the environment: nothing is kept for this environment and repository");
}

#[tokio::test]
async fn what_was_reset_or_deleted_gives_its_room_back() {
    let world = World::new(CARREL, runs("true")).await;
    let repository = world.repository("api", FILES);
    let mut last = String::new();
    for name in ["reset", "deleted", "kept"] {
        environment(&world, name, "true", &[]).await;
        last = world.create_with(&repository, &["--environment", name, "--mode", "ask", "Look"]).await;
        world.ended(&last).await;
    }
    let before = layers(&world, "snapshot-").len();

    world.json(&["environment", "reset-cache", "reset"]).await;
    world.json(&["environment", "delete", "deleted"]).await;

    assert_eq!(before, 3);
    world.events_until(&last, |_| layers(&world, "snapshot-").len() == 1).await;
    assert!(reason_of_next(&world, &repository, "kept").await.starts_with("reusing"));
    assert_eq!(reason_of_next(&world, &repository, "reset").await, "preparing the environment: its cache was reset");
}

#[tokio::test]
async fn a_follow_up_has_the_files_as_they_were_and_the_environment_as_it_is_now() {
    let script = says([Reply::command("echo $V > v; echo $V"), Reply::message("One.")])
        .when("Look", [Reply::command("cat v ~/tool; echo $V"), Reply::message("Looked.")]);
    let world = World::new(CARREL, script).await;
    let repository = world.repository("api", FILES);
    environment(&world, "api", "echo tool > ~/tool", &["--variable", "V=1"]).await;
    let id = world.create_with(&repository, &["--environment", "api", "Write it"]).await;
    world.ended(&id).await;

    world.json(&["environment", "edit", "api", "--variable", "V=2"]).await;
    let (_, events) = follow_up(&world, &id, &["Look"]).await;

    assert_eq!(agent_printed(&events), "1\ntool\n2\n");
    assert_eq!(scripts(&events), Vec::<&str>::new(), "nothing is prepared anew");
}

#[tokio::test]
async fn an_attempt_starts_clean_at_its_commit_wherever_setup_left_the_repository() {
    let setup = "echo 13 > answer; rm docs/note.txt; chmod -x check.sh; echo tool > tool; git checkout -qb mine; \
        git -c user.name=s -c user.email=s commit -qam setup";
    let look = "git status --short; git branch --show-current; git log --format=%s | head -n 1; cat answer docs/* tool fresh; \
        ./check.sh; echo agent >> docs/note.txt";
    let world = World::new(CARREL, runs(look)).await;
    let repository = world.repository("api", FILES);
    environment(&world, "api", setup, &[]).await;
    let started = async |flags: &[&str]| {
        let id = world.create_with(&repository, &[&["--environment", "api"], flags, &["Look"]].concat()).await;
        let task = world.ended(&id).await;
        let patch = attempt(&task)["result"]["patch"]["files"].as_array().map_or(0, Vec::len);
        (agent_printed(&world.events(&id).await), patch)
    };

    let [built, again] = [started(&[]).await, started(&[]).await];
    repository.git(&["branch", "topic/x"]);
    let on_a_branch = started(&["--branch", "topic/x"]).await;
    repository.git(&["rm", "-q", "docs/note.txt"]);
    repository.commit("second", &[("answer", "42\n"), ("fresh", "new\n"), ("tool", "theirs\n"), ("docs/other", "x\n")]);
    let moved = started(&[]).await;

    let was = |branch: &str| {
        let no = "cat: fresh: No such file or directory\n";
        (format!("{branch}\nfirst\n41\none\ntwo\nthree\ntool\n{no}the answer is wrong\n"), 1)
    };
    assert_eq!([built, again, on_a_branch], [was("carrel"), was("carrel"), was("topic/x")]);
    assert_eq!(moved, ("carrel\nsecond\n42\nx\ntheirs\nnew\nfine\n".to_owned(), 1));
    assert_eq!(layers(&world, "snapshot-").len(), 1, "all stand on the same");
}

/// Follows up once the files of the attempt were collected.
async fn collected(world: &World, id: &str) -> (Value, Vec<Value>) {
    let line = "collected a kept layer layer=attempt-";
    // Every look at the events takes some time, and the log grows meanwhile.
    world.events_until(id, |_| world.logged().contains(line) && layers(world, "attempt-").is_empty()).await;
    follow_up(world, id, &["Look"]).await
}

/// The folders of sandboxes there are.
fn sandboxes(world: &World) -> Vec<String> {
    let folder = std::fs::read_dir(world.data().join("sandboxes")).expect("the folder of sandboxes");
    let with_record = folder.flatten().filter(|entry| entry.path().join("sandbox.json").exists());
    with_record.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}
