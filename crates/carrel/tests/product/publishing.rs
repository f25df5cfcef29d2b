//! Pushing a patch as a branch.

use carrel_testkit::git_server::{GitServer, Policy};
use carrel_testkit::model::Reply;

use serde_json::Value;

use crate::{CARREL, FILES, MENDING, Repository, World, of_type, patch, says};

fn warnings(events: &[Value]) -> Vec<String> {
    of_type(events, "attempt.warning").iter().map(|event| event["data"]["message"].to_string()).collect()
}

async fn ready() -> (World, Repository, String) {
    let script = says([patch(MENDING), Reply::message("Done.")])
        .when("And more", [Reply::command("echo more >> answer"), Reply::message("More.")]);
    let world = World::new(CARREL, script).await;
    let repository = world.repository("api", FILES);
    let task = world.run(&repository, "Mend the check").await;
    let id = task["id"].as_str().expect("an id").to_owned();
    (world, repository, id)
}

#[tokio::test]
async fn a_patch_is_pushed_as_a_commit_on_its_base() {
    let (world, repository, id) = ready().await;

    let pushed = world.json(&["task", "push", &id, "--branch", "carrel/fix"]).await;

    assert_eq!(pushed["state"], "pushed", "{pushed}");
    assert_eq!(pushed["commit"], repository.git(&["rev-parse", "carrel/fix"]));
    assert_eq!(repository.git(&["rev-parse", "carrel/fix^"]), repository.git(&["rev-parse", "main"]));
    assert_eq!(repository.git(&["show", "carrel/fix:answer"]), "42");
    let message = repository.git(&["log", "-1", "--format=%B", "carrel/fix"]);
    assert!(message.starts_with("Mend the check\n") && message.contains(&id), "{message}");
    assert_eq!(repository.git(&["status", "--short"]), "", "the work tree is nobody's business");
}

#[tokio::test]
async fn watching_a_published_task_ends() {
    let (world, _repository, id) = ready().await;
    world.json(&["task", "push", &id, "--branch", "fix"]).await;

    let watched = world.carrel(&["task", "watch", &id]).await;

    assert_eq!(watched.code, 0, "{watched:?}");
    assert!(watched.stdout.contains("branch fix pushed"), "{watched:?}");
}

#[tokio::test]
async fn pushing_twice_is_pushing_once() {
    let (world, repository, id) = ready().await;

    let first = world.json(&["task", "push", &id, "--branch", "fix"]).await;
    let second = world.json(&["task", "push", &id, "--branch", "fix"]).await;

    assert_eq!(first["id"], second["id"]);
    assert_eq!(second["commit"], repository.git(&["rev-parse", "fix"]));
}

#[tokio::test]
async fn a_branch_of_somebody_else_is_left_alone_and_the_refusal_is_told() {
    let (world, repository, id) = ready().await;
    repository.git(&["checkout", "-q", "-b", "theirs"]);
    repository.commit("theirs", &[("answer", "7\n")]);
    repository.git(&["checkout", "-q", "main"]);
    let before = repository.git(&["rev-parse", "theirs"]);

    let ran = world.carrel(&["task", "push", &id, "--branch", "theirs"]).await;

    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.stdout.contains("`theirs` exists"), "{ran:?}");
    assert_eq!(repository.git(&["rev-parse", "theirs"]), before);
}

#[tokio::test]
async fn a_follow_up_moves_its_own_branch_on() {
    let (world, repository, id) = ready().await;
    world.json(&["task", "push", &id, "--branch", "fix"]).await;
    world.json(&["task", "follow-up", &id, "And more"]).await;
    world.ended(&id).await;

    let pushed = world.json(&["task", "push", &id, "--branch", "fix"]).await;

    assert_eq!(pushed["state"], "pushed", "{pushed}");
    assert_eq!(repository.git(&["show", "fix:answer"]), "42\nmore");
}

#[tokio::test]
async fn a_remote_that_rejects_is_quoted_and_can_be_tried_again() {
    let (world, repository, id) = ready().await;
    let hook = repository.path().join(".git/hooks/pre-receive");
    std::fs::write(&hook, "#!/bin/sh\necho 'only on Mondays' >&2\nexit 1\n").expect("a hook");
    std::fs::set_permissions(&hook, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("a hook");

    let refused = world.carrel(&["task", "push", &id, "--branch", "fix"]).await;
    std::fs::remove_file(&hook).expect("the hook");
    let pushed = world.json(&["task", "push", &id, "--branch", "fix"]).await;

    assert_eq!(refused.code, 1);
    assert!(refused.stdout.contains("only on Mondays"), "{refused:?}");
    assert_eq!(pushed["state"], "pushed", "{pushed}");
}

#[tokio::test]
async fn branches_that_make_no_sense_are_refused() {
    let (world, repository, id) = ready().await;
    let before = repository.git(&["for-each-ref"]);

    for branch in ["", "-f", "--mirror", "a b", "refs/heads/x", "x..y", "a\u{3000}b", "HEAD"] {
        let ran = world.carrel(&["task", "push", &id, "--branch", branch]).await;
        assert_eq!(ran.code, 3, "{branch:?}: {ran:?}");
    }

    assert_eq!(repository.git(&["for-each-ref"]), before);
}

#[tokio::test]
async fn a_push_to_a_server_that_is_away_for_a_while_is_tried_again_and_the_log_says_so() {
    let world = World::new(CARREL, says([patch(MENDING), Reply::message("Done.")])).await;
    let repository = world.repository("api", FILES);
    repository.git(&["config", "http.receivepack", "true"]);
    repository.git(&["config", "receive.denyCurrentBranch", "ignore"]);
    let server = GitServer::serve(repository.path().parent().expect("a folder"), Policy::Open);
    let task = world.json(&["task", "create", "--repository", &server.url("api/.git"), "Mend it"]).await;
    let id = task["id"].as_str().expect("an id");
    world.ended(id).await;
    server.set(Policy::Status("503 Service Unavailable"));

    let push = ["task", "push", id, "--branch", "fix"];
    let (ran, told) = tokio::join!(world.carrel(&push), async {
        let told = world.events_until(id, |events| !warnings(events).is_empty()).await;
        server.set(Policy::Open);
        told
    });

    let said = &warnings(&told)[0];
    assert!(said.contains("pushing to `fix`") && said.contains("503") && said.contains("(try 2 of 2)"), "{said}");
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(repository.git(&["rev-list", "--count", "main..fix"]), "1");
}

#[tokio::test]
async fn a_push_whose_remote_stays_away_fails_with_the_reason_and_goes_once_it_is_back() {
    let (world, repository, id) = ready().await;
    let away = repository.path().with_extension("away");
    std::fs::rename(repository.path(), &away).expect("our own folder");

    let push = ["task", "push", &id, "--branch", "fix"];
    let failed = world.carrel(&push).await;
    std::fs::rename(&away, repository.path()).expect("our own folder");
    let pushed = world.json(&push).await;

    assert_eq!(failed.code, 1, "{failed:?}");
    assert!(failed.stdout.contains(&repository.path().display().to_string()), "{failed:?}");
    assert_eq!(pushed["state"], "pushed", "{pushed}");
    assert_eq!(repository.git(&["rev-list", "--count", "main..fix"]), "1");
}
