//! Diffs that a prompt names by their address, or holds itself.

use carrel_testkit::forge::{FakeForge, Page};
use carrel_testkit::model::Reply;
use serde_json::Value;

use crate::{CARREL, FILES, Repository, World, attempt, of_type, says};

const DIFF: &str =
    "diff --git a/answer b/answer\nindex 1111111..2222222 100644\n--- a/answer\n+++ b/answer\n@@ -1 +1 @@\n-41\n+42\n";

/// A world, and a forge with a repository in it that git fetches over HTTP.
async fn with_forge(script: carrel_testkit::model::Script, credentials: bool) -> (World, FakeForge, String) {
    let folder = tempfile::tempdir().expect("a folder").keep();
    let forge = FakeForge::start(&folder).await;
    let source = Repository::make(&folder.join("source"), FILES);
    source.git(&["clone", "--quiet", "--bare", ".", "../acme/api.git"]);
    Repository::at(&folder.join("acme/api.git")).git(&["update-server-info"]);
    let file = folder.join("git-credentials");
    std::fs::write(&file, format!("http://ada:s3cret-word@{}\n", forge.authority())).expect("a file");
    let file = file.to_str().expect("UTF-8").to_owned();
    let variables = [("CARREL_GIT_CREDENTIALS", file.as_str())];
    let world = World::with(CARREL, script, if credentials { &variables } else { &[] }).await;
    let repository = forge.url("/acme/api.git");
    (world, forge, repository)
}

async fn run(world: &World, repository: &str, prompt: &str) -> (String, Value) {
    let task = world.json(&["task", "create", "--repository", repository, prompt]).await;
    let id = task["id"].as_str().expect("an id").to_owned();
    let task = world.ended(&id).await;
    (id, task)
}

#[tokio::test]
async fn the_diff_of_a_pull_request_is_fetched_with_our_credentials_and_lies_in_the_sandbox() {
    let script = says([
        Reply::command("git apply /attachments/pulls-7.diff && cat answer; cat /proc/self/environ; ls -a /attachments"),
        Reply::message("Applied."),
    ]);
    let (world, forge, repository) = with_forge(script, true).await;
    forge.put("/acme/api/pulls/7.diff", Page::diff(DIFF));
    let url = forge.url("/acme/api/pulls/7.diff");

    let (id, task) = run(&world, &repository, &format!("Review {url}.")).await;

    assert_eq!(attempt(&task)["state"], "ready", "{task:#}");
    let asked = forge.asked("/acme/api/pulls/7.diff");
    assert_eq!(asked.len(), 1);
    assert!(asked[0].authorization.as_deref().is_some_and(|login| login.starts_with("Basic ")), "{asked:?}");
    let requests = world.model().requests();
    let told = requests[0].json().to_string();
    assert!(told.contains("/attachments/pulls-7.diff") && told.contains("the diff of"), "{told}");
    let output = requests[1].output(0).expect("a result");
    assert!(output.contains("42") && !output.contains("s3cret-word"), "{output}");
    let events = world.events(&id).await;
    let provided = of_type(&events, "diff.provided");
    assert_eq!(provided.len(), 1);
    assert_eq!(
        (&provided[0]["data"]["source"], &provided[0]["data"]["path"]),
        (&url.into(), &"/attachments/pulls-7.diff".into())
    );
}

#[tokio::test]
async fn a_diff_that_cannot_be_had_is_told_to_everybody_and_ends_nothing() {
    let (world, forge, repository) = with_forge(says([Reply::message("Without it.")]), false).await;
    let page = "<!DOCTYPE html><title>Sign in</title>";
    let html = Page { headers: vec![("content-type", "text/html".to_owned())], ..Page::diff(page) };
    forge.put("/acme/api/pulls/1.diff", html);
    forge.put("/acme/api/pulls/2.diff", Page::diff(&format!("{DIFF}{}", "+x\n".repeat(2_000_000))));
    forge.put("/acme/api/pulls/3.diff", Page::moved("http://127.0.0.2:1/acme/api/pulls/3.diff"));
    let url = |number: u32| forge.url(&format!("/acme/api/pulls/{number}.diff"));
    let prompt = format!("{} {} {} {} https://evil.example/a/b/pulls/5.diff", url(1), url(2), url(3), url(4));

    let (id, task) = run(&world, &repository, &prompt).await;

    assert_eq!(attempt(&task)["state"], "ready", "{task:#}");
    let events = world.events(&id).await;
    let problems: Vec<&str> = of_type(&events, "diff.provided")
        .iter()
        .map(|event| event["data"]["problem"].as_str().expect("a problem"))
        .collect();
    let expected = ["a page instead of a diff", "longer than 5000000", "none of the hosts", "404", "none of the hosts"];
    assert_eq!(problems.len(), expected.len(), "{problems:#?}");
    for (problem, expected) in problems.iter().zip(expected) {
        assert!(problem.contains(expected), "{expected}: {problem}");
    }
    let told = world.model().requests()[0].json().to_string();
    assert_eq!(told.matches("is not here: ").count(), 5, "{told}");
    assert!(attempt(&task)["result"]["patch"].is_null());
}

#[tokio::test]
async fn a_redirection_is_followed_on_the_allowed_host_and_takes_no_login_elsewhere() {
    let (world, forge, repository) = with_forge(says([Reply::message("Seen.")]), true).await;
    forge.put("/acme/api/pulls/7.diff", Page::moved("/raw/acme/7?token=abc"));
    forge.put("/raw/acme/7", Page::diff(DIFF));

    let (id, _) = run(&world, &repository, &forge.url("/acme/api/pulls/7.diff")).await;

    let events = world.events(&id).await;
    assert_eq!(of_type(&events, "diff.provided")[0]["data"]["path"], "/attachments/pulls-7.diff");
    assert_eq!(forge.asked("/raw/acme/7").len(), 1);
}

#[tokio::test]
async fn two_attempts_and_a_follow_up_have_the_diff_that_was_fetched_once() {
    let script = says([Reply::command("cat /attachments/pulls-7.diff"), Reply::message("Seen.")])
        .when("And now", [Reply::command("ls /attachments"), Reply::message("Still there.")]);
    let (world, forge, repository) = with_forge(script, false).await;
    forge.put("/acme/api/pulls/7.diff", Page::diff(DIFF));
    let prompt = forge.url("/acme/api/pulls/7.diff");

    let task = world.json(&["task", "create", "--repository", &repository, "--attempts", "2", &prompt]).await;
    let id = task["id"].as_str().expect("an id");
    world.ended(id).await;
    world.json(&["task", "follow-up", id, "And now"]).await;
    let after = world.ended(id).await;

    assert_eq!(of_type(&world.events(id).await, "diff.provided").len(), 1, "told once, whoever was first");
    assert_eq!(after["turns"][0]["attachments"].as_array().map(Vec::len), Some(1), "{after:#}");
    let last = world.model().requests().last().and_then(|last| last.output(1)).expect("a result");
    assert!(last.contains("pulls-7.diff"), "{last}");
}

#[tokio::test]
async fn a_diff_in_the_prompt_is_a_file_that_git_applies_and_the_prompt_stays_as_it_is() {
    let script = says([Reply::command("git apply /attachments/prompt.diff && cat answer"), Reply::message("Applied.")]);
    let world = World::new(CARREL, script).await;
    let repository = world.repository("api", FILES);
    let prompt = format!("Apply this, please:\n\n```diff\n{DIFF}```\n\n- and be careful");

    let task = world.run(&repository, &prompt).await;

    assert_eq!(attempt(&task)["state"], "ready", "{task:#}");
    assert_eq!(task["turns"][0]["prompt"], prompt);
    let output = world.model().requests()[1].output(0).expect("a result");
    assert!(output.contains("42"), "{output}");
}
