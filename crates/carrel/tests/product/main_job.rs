//! The main job: a repository and a prompt go in, a diff comes back.

use serde_json::{Value, json};

use crate::{CARREL, FILES, MENDING, World, attempt, mends, of_type, patch, says};
use carrel_testkit::model::Reply;

#[tokio::test]
async fn a_prompt_becomes_a_diff_that_applies() {
    let world = World::new(CARREL, mends()).await;
    let repository = world.repository("api", FILES);

    let task = world.run(&repository, "Mend the check").await;

    assert_eq!(task["state"], "ready", "{task:#}");
    let attempt = attempt(&task);
    assert_eq!(attempt["base_commit"], repository.git(&["rev-parse", "HEAD"]));
    assert_eq!(attempt["environment"]["image"], "host");
    assert_eq!(attempt["usage"]["requests"], 4);
    assert_eq!(attempt["result"]["patch"]["files"][0]["path"], "answer");
    let id = task["id"].as_str().expect("an id");
    let diff = world.carrel(&["task", "diff", id]).await.stdout;
    assert!(diff.starts_with("diff --git a/answer b/answer\n") && diff.contains("\n-41\n+42\n"), "{diff}");
    let applied = world.carrel_in(repository.path(), &["task", "apply", id]).await;
    assert_eq!(applied.code, 0, "{applied:?}");
    assert_eq!(std::fs::read_to_string(repository.path().join("answer")).expect("the file"), "42\n");
    assert_eq!(repository.git(&["status", "--short"]), "M  answer");
}

#[tokio::test]
async fn the_log_tells_the_whole_story_without_gaps() {
    let world = World::new(CARREL, mends()).await;
    let repository = world.repository("api", FILES);

    let task = world.run(&repository, "Mend the check").await;

    let events = world.events(task["id"].as_str().expect("an id")).await;
    let seqs: Vec<i64> = events.iter().filter_map(|event| event["seq"].as_i64()).collect();
    assert_eq!(seqs, (1..=i64::try_from(events.len()).expect("few")).collect::<Vec<_>>());
    let states: Vec<_> = of_type(&events, "attempt.state").iter().map(|event| &event["data"]["state"]).collect();
    assert_eq!(states, ["preparing", "setting_up", "running", "collecting", "ready"]);
    let ends: Vec<_> = of_type(&events, "command.ended").iter().map(|event| &event["data"]["end"]).collect();
    assert_eq!(ends, [&json!({"how": "exited", "code": 1}), &json!({"how": "exited", "code": 0})]);
    let output: String =
        of_type(&events, "command.output").iter().filter_map(|event| event["data"]["text"].as_str()).collect();
    assert_eq!(output, "the answer is wrong\nfine\n");
    assert_eq!(of_type(&events, "patch.applied")[0]["data"]["files"][0]["path"], "answer");
    assert!(events.iter().all(|event| event["at"].is_string() && event.get("attempt_id").is_some()));
}

#[tokio::test]
async fn asking_keeps_no_change() {
    let script = says([Reply::command("echo changed > answer; git commit -qam x"), Reply::message("It is 41.")]);
    let world = World::new(CARREL, script).await;
    let repository = world.repository("api", FILES);

    let id = world.create_with(&repository, &["--mode", "ask", "What is the answer?"]).await;
    let task = world.ended(&id).await;

    let attempt = attempt(&task);
    assert_eq!(attempt["state"], "ready");
    let result = &attempt["result"];
    assert_eq!((&result["answer"], &result["patch"]), (&json!("It is 41."), &Value::Null));
    assert_eq!(world.carrel(&["task", "diff", &id]).await.code, 1);
    assert_eq!(repository.git(&["status", "--short"]), "");
}

#[tokio::test]
async fn everything_that_git_sees_is_in_the_patch_and_nothing_else() {
    let changes = "set -e; mkdir .GIT; echo x > .GIT/config; rm docs/note.txt; mv check.sh verify.sh; printf '\\0\\1\\2' > blob; ln -s answer link; \
         printf 'no end' > 'with space é.txt'; chmod +x answer; echo ignored > x.log; git add answer; git commit -qm inner; \
         mkdir sub bare && git -C bare init -q && git -C sub init -q && touch sub/x && git -C sub add x && \
         git -C sub -c user.name=A -c user.email=a@b commit -qm sub";
    let world = World::new(CARREL, says([Reply::command(changes), Reply::message("Done.")])).await;
    let files: Vec<_> = FILES.iter().copied().chain([(".gitignore", "*.log\n")]).collect();
    let repository = world.repository("api", &files);

    let task = world.run(&repository, "Change much").await;

    assert_eq!(attempt(&task)["state"], "ready", "{task:#}");
    let applied = world.carrel_in(repository.path(), &["task", "apply", task["id"].as_str().expect("an id")]).await;
    assert_eq!(applied.code, 0, "{applied:?}");
    let names = repository.git(&["-c", "core.quotePath=false", "ls-files", "-s"]);
    let names: Vec<&str> = names.lines().map(|line| line.split_once('\t').expect("a name").1).collect();
    assert_eq!(names, [".gitignore", "answer", "blob", "link", "verify.sh", "with space é.txt"]);
    assert_eq!(std::fs::read(repository.path().join("blob")).expect("the file"), [0, 1, 2]);
    assert!(repository.git(&["ls-files", "-s", "answer"]).starts_with("100755"));
    assert!(repository.git(&["ls-files", "-s", "link"]).starts_with("120000"));
    let events = world.events(task["id"].as_str().expect("an id")).await;
    let warning = of_type(&events, "attempt.warning")[0]["data"]["message"].as_str().expect("text");
    for left_out in ["'.GIT/config'", "'bare/'", "'sub' is a git repository of its own"] {
        assert!(warning.contains(left_out), "{warning} does not name {left_out}");
    }
}

#[tokio::test]
async fn a_patch_in_a_pipe_is_the_patch_byte_for_byte() {
    let script = says([Reply::command("printf 'a\\033[31mb\\007\\r\\n\\177' > answer"), Reply::message("Done.")]);
    let world = World::new(CARREL, script).await;
    let repository = world.repository("api", FILES);

    let task = world.run(&repository, "Colour it").await;

    let diff = world.carrel(&["task", "diff", task["id"].as_str().expect("an id")]).await.stdout;
    assert!(diff.contains("+a\u{1b}[31mb\u{7}\r\n+\u{7f}\n"), "{diff:?}");
}

#[tokio::test]
async fn an_agent_that_breaks_its_git_folder_still_leaves_a_patch() {
    let script = says([Reply::command("rm -rf .git; echo 42 > answer"), Reply::message("Done.")]);
    let world = World::new(CARREL, script).await;
    let repository = world.repository("api", FILES);

    let task = world.run(&repository, "Break it").await;

    assert_eq!(attempt(&task)["result"]["patch"]["files"][0]["path"], "answer", "{task:#}");
    assert_eq!(attempt(&task)["result"]["patch"]["files"].as_array().map(Vec::len), Some(1));
}

#[tokio::test]
async fn up_to_four_attempts_run_side_by_side_from_the_same_commit() {
    let world = World::new(CARREL, mends()).await;
    let repository = world.repository("api", FILES);

    let id = world.create_with(&repository, &["--attempts", "4", "Mend the check"]).await;
    let task = world.ended(&id).await;

    let attempts = task["turns"][0]["attempts"].as_array().expect("attempts");
    let states: Vec<_> = attempts.iter().map(|attempt| &attempt["state"]).collect();
    assert_eq!(states, ["ready"; 4]);
    let bases: std::collections::BTreeSet<_> = attempts.iter().map(|attempt| attempt["base_commit"].as_str()).collect();
    assert_eq!(bases.len(), 1);
    assert_eq!(world.carrel(&["task", "diff", &id, "--attempt", "3"]).await.code, 0);
}

#[tokio::test]
async fn a_branch_and_a_commit_can_be_started_from() {
    let world = World::new(CARREL, says([Reply::command("cat answer"), Reply::message("Read.")])).await;
    let repository = world.repository("api", FILES);
    let first = repository.git(&["rev-parse", "HEAD"]);
    repository.git(&["checkout", "-q", "-b", "it's $(odd) \u{e9}".replace(' ', "-").as_str()]);
    repository.commit("second", &[("answer", "43\n")]);
    repository.git(&["checkout", "-q", "main"]);

    let odd = world.create_with(&repository, &["--branch", "it's-$(odd)-\u{e9}", "--mode", "ask", "Read"]).await;
    let old = world.create_with(&repository, &["--commit", &first[..10], "--mode", "ask", "Read"]).await;
    let (odd, old) = (world.ended(&odd).await, world.ended(&old).await);

    assert_eq!(attempt(&odd)["base_commit"], repository.git(&["rev-parse", "it's-$(odd)-\u{e9}"]), "{odd:#}");
    assert_eq!(attempt(&old)["base_commit"], first, "{old:#}");
}

#[tokio::test]
async fn a_patch_that_meets_other_changes_says_what_conflicts() {
    let world = World::new(CARREL, says([patch(MENDING), Reply::message("Done.")])).await;
    let repository = world.repository("api", FILES);
    let id = world.create(&repository, "Mend the check").await;
    world.ended(&id).await;
    repository.commit("meanwhile", &[("answer", "40\n")]);

    let applied = world.carrel_in(repository.path(), &["task", "apply", &id]).await;

    assert_eq!(applied.code, 1, "{applied:?}");
    assert!(applied.stderr.contains("with conflicts in\n  answer"), "{applied:?}");
    let text = std::fs::read_to_string(repository.path().join("answer")).expect("the file");
    assert!(text.contains("<<<<<<<") && text.contains("40") && text.contains("42"), "{text}");

    let again = world.carrel_in(repository.path(), &["task", "apply", &id]).await;
    assert_eq!(again.code, 1, "{again:?}");
    assert!(again.stderr.contains("nothing was applied"), "{again:?}");
}

#[tokio::test]
async fn the_demo_needs_nothing_and_says_that_its_model_is_recorded() {
    let world =
        World::with(CARREL, says([Reply::message("unused")]), &[("CARREL_MODEL_URL", ""), ("CARREL_MODEL_KEY", "")])
            .await;

    let demo = world.carrel(&["demo"]).await;

    assert_eq!(demo.code, 0, "{demo:?}");
    assert!(
        demo.stdout.contains("The model of this demo is recorded.") && demo.stdout.contains("CARREL_MODEL_URL"),
        "{demo:?}"
    );
    assert!(demo.stdout.contains("2 passed, 2 failed") && demo.stdout.contains("4 passed, 0 failed"), "{demo:?}");
    assert!(demo.stdout.contains("+  echo $(( ($1 - 32) * 5 / 9 ))"), "{demo:?}");
    assert!(world.model().requests().is_empty());
}
