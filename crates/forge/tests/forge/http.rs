//! Fetch and push over real HTTP with credentials, and where those credentials must not turn up.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use carrel_domain::RepositoryLocation;
use carrel_forge::{Forge, ForgeError, GitOptions};
use carrel_testkit::git_server::{GitServer, Policy};

use crate::support::{World, branch, branch_name, holds, options};

const TOKEN: &str = "canary-7f3a/91+c";
/// `me:canary-7f3a/91+c`
const AUTHORIZATION: &str = "Basic bWU6Y2FuYXJ5LTdmM2EvOTErYw==";

/// A forge whose credentials file has this password for the server.
fn forge_with(world: &World, password: &str, server: &GitServer) -> Forge {
    let file = world.path("credentials");
    let encoded = password.replace('/', "%2F").replace('+', "%2B");
    fs::write(&file, format!("http://me:{encoded}@127.0.0.1:{}\n", server.port)).expect("a file");
    Forge::new(GitOptions { credentials: Some(file), ..options(world.folder.path()) }).expect("a usable git")
}

fn at(server: &GitServer, repository: &str) -> RepositoryLocation {
    server.url(repository).parse().expect("a URL")
}

/// Looks at every process's arguments and environment until told to stop; says whether the token was in one.
fn watch(stop: Arc<AtomicBool>) -> std::thread::JoinHandle<Option<String>> {
    std::thread::spawn(move || {
        while !stop.load(Ordering::SeqCst) {
            for process in fs::read_dir("/proc").into_iter().flatten().flatten() {
                for file in ["cmdline", "environ"] {
                    let text = fs::read(process.path().join(file)).unwrap_or_default();
                    let text = String::from_utf8_lossy(&text);
                    if text.contains(TOKEN) || text.contains("canary-7f3a%2F") || text.contains(&AUTHORIZATION[6..]) {
                        return Some(text.into_owned());
                    }
                }
            }
        }
        None
    })
}

#[tokio::test]
async fn a_fetch_and_a_push_with_credentials_work_and_leave_no_trace_of_them() {
    let world = World::new();
    let bare = world.bare();
    bare.git(&["config", "http.receivepack", "true"]);
    let server = GitServer::serve(world.folder.path(), Policy::Basic(AUTHORIZATION));
    let forge = forge_with(&world, TOKEN, &server);
    let location = at(&server, "bare.git");
    let stop = Arc::new(AtomicBool::new(false));
    let watcher = watch(Arc::clone(&stop));

    let mirror = forge.fetch(world.id, &location).await.expect("a mirror");
    let base = mirror.resolve(&branch("main")).await.expect("main").commit;
    let made = world.commit_onto(&mirror, &base, "new.txt").await;
    mirror.push(&location, &made, &branch_name("carrel/work"), None).await.expect("a push");

    stop.store(true, Ordering::SeqCst);
    assert_eq!(watcher.join().expect("the watcher"), None, "in a process's arguments or environment");
    assert_eq!(bare.oid("carrel/work"), made);
    for needle in [TOKEN, "canary-7f3a", &AUTHORIZATION[6..], "127.0.0.1"] {
        assert!(!holds(&world.path("mirrors"), needle), "{needle}");
    }
}

#[tokio::test]
async fn credentials_that_are_refused_or_missing_are_named_but_not_shown_and_the_file_is_left_alone() {
    let world = World::new();
    world.bare();
    let server = GitServer::serve(world.folder.path(), Policy::Basic("Basic b3RoZXI="));
    let forge = forge_with(&world, TOKEN, &server);
    let file = world.path("credentials");
    let before = fs::read_to_string(&file).expect("the file");

    let refused = forge.fetch(world.id, &at(&server, "bare.git")).await.expect_err("refused");
    let missing = world.forge.fetch(world.id, &at(&server, "bare.git")).await.expect_err("no credentials");

    assert!(matches!(refused, ForgeError::AuthenticationFailed { .. }), "{refused:?}");
    assert!(refused.to_string().contains(&file.display().to_string()), "{refused}");
    assert!(!format!("{refused} {refused:?}").contains("canary"), "{refused:?}");
    assert!(missing.to_string().contains("CARREL_GIT_CREDENTIALS"), "{missing}");
    assert!(!refused.is_retryable() && !missing.is_retryable());
    assert_eq!(fs::read_to_string(&file).expect("the file"), before, "git's helper forgets what was refused");
    let sent: Vec<_> =
        server.authorizations.lock().expect("the list").iter().filter(|sent| !sent.is_empty()).cloned().collect();
    assert_eq!(sent, [AUTHORIZATION]);
}

#[tokio::test]
async fn a_push_that_is_forbidden_is_about_the_credentials() {
    let world = World::new();
    world.bare();
    let server = GitServer::serve(world.folder.path(), Policy::ReadOnly(AUTHORIZATION));
    let forge = forge_with(&world, TOKEN, &server);
    let (_, made) = world.made("new.txt").await;

    let pushed = forge.mirror(world.id).push(&at(&server, "bare.git"), &made, &branch_name("carrel/work"), None).await;

    assert!(
        matches!(&pushed, Err(ForgeError::AuthenticationFailed { words, .. }) if words.contains("403")),
        "{pushed:?}"
    );
}

#[tokio::test]
async fn a_redirect_to_another_server_does_not_take_the_credentials_there() {
    let world = World::new();
    world.bare();
    let thief = GitServer::serve(world.folder.path(), Policy::Basic("Basic never"));
    let to = format!("http://127.0.0.1:{}", thief.port);
    let server = GitServer::serve(world.folder.path(), Policy::Redirect(to));
    let forge = forge_with(&world, TOKEN, &server);

    let error = forge.fetch(world.id, &at(&server, "bare.git")).await.expect_err("no credentials for that one");

    assert!(matches!(error, ForgeError::AuthenticationFailed { .. }), "{error:?}");
    assert!(thief.authorizations.lock().expect("the list").iter().all(String::is_empty));
}

#[tokio::test]
async fn a_redirect_in_the_middle_of_a_conversation_is_not_followed() {
    let world = World::new();
    world.bare();
    let other = GitServer::serve(world.folder.path(), Policy::Status("200 OK"));
    let to = format!("http://127.0.0.1:{}", other.port);
    let server = GitServer::serve(world.folder.path(), Policy::RedirectLater(to));

    world.forge.fetch(world.id, &at(&server, "bare.git")).await.expect_err("a redirect");

    assert!(other.authorizations.lock().expect("the list").is_empty(), "it was asked");
}

#[tokio::test]
async fn a_server_that_is_down_busy_or_does_not_know_the_repository_is_told_apart() {
    let world = World::new();
    let fetch = async |policy| {
        let server = GitServer::serve(world.folder.path(), Policy::Status(policy));
        world.forge.fetch(world.id, &at(&server, "bare.git")).await.expect_err("no mirror")
    };

    let gone = fetch("404 Not Found").await;
    assert!(matches!(gone, ForgeError::NotFound { .. }) && !gone.is_retryable(), "{gone:?}");
    for status in ["500 Internal Server Error", "502 Bad Gateway", "503 Service Unavailable", "429 Too Many Requests"] {
        let busy = fetch(status).await;
        assert!(matches!(busy, ForgeError::Unreachable { .. }) && busy.is_retryable(), "{busy:?}");
    }
    let url = at(&GitServer::serve(world.folder.path(), Policy::Status("200 OK")), "bare.git");
    let down = world.forge.fetch(world.id, &url).await.expect_err("nobody listens");
    assert!(matches!(down, ForgeError::Unreachable { .. }) && down.is_retryable(), "{down:?}");
}
