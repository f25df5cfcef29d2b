//! What people are told about their environments: errors in the words of the flags they wrote, hints, and the list.

use carrel_testkit::model::Reply;
use serde_json::{Value, json};

use crate::bad_input::post;
use crate::{CARREL, FILES, World, says};

async fn world() -> World {
    World::new(CARREL, says([Reply::message("Done.")])).await
}

async fn create(world: &World, flags: &[&str]) -> carrel_testkit::Ran {
    world.carrel(&[&["environment", "create", "x"], flags].concat()).await
}

#[tokio::test]
async fn a_name_that_is_given_twice_is_refused_and_nothing_is_dropped() {
    let world = world().await;

    for flags in [
        &["--setup-secret", "K=value-one", "--network-secret", "K=value-two@a.example"][..],
        &["--setup-secret", "K=value-one", "--setup-secret", "K=value-two"],
        &["--variable", "K=1", "--variable", "K=2"],
    ] {
        let ran = create(&world, flags).await;
        assert_eq!(ran.code, 2, "{flags:?}: {ran:?}");
        assert!(ran.stderr.contains(" K is given twice") && !ran.stderr.contains("value-"), "{flags:?}: {ran:?}");
    }
    let secret = json!({"kind": "network", "value": "value-two", "hosts": ["a.example"]});
    let body = json!({"name": "x", "setup_secrets_text": "K=value-one", "secrets": {"K": secret}});
    let (status, problem) = post(&world, "environments", &body).await;
    assert_eq!((status, &problem["errors"][0]["field"]), (422, &json!("secrets.K")), "{problem}");
}

#[tokio::test]
async fn what_the_sandbox_needs_for_itself_is_no_variable_and_no_secret() {
    let world = world().await;

    for (flags, words) in [
        (["--variable", "HTTP_PROXY=http://proxy.corp:3128"], "--variable: `HTTP_PROXY` is set by the sandbox"),
        (["--variable", "https_proxy=x"], "`https_proxy` is set by the sandbox"),
        (["--variable", "CARREL_PATH=/bin"], "choose a name without CARREL_"),
        (["--variable", "GIT_DIR=/x"], "away from the repository"),
        (["--variable", "PATH=$PATH:/opt/bin"], "`$` is not replaced"),
        (["--variable", "HOME=~"], "`HOME` is no absolute path"),
        (["--setup-secret", "PATH=/usr/bin:/bin"], "--setup-secret: `PATH` cannot be a secret"),
        (["--network-secret", "ALL_PROXY=hunter2@a.example"], "--network-secret: `ALL_PROXY` is set by the sandbox"),
    ] {
        let ran = create(&world, &flags).await;
        assert_eq!(ran.code, 3, "{flags:?}: {ran:?}");
        assert!(ran.stderr.contains(words), "{flags:?}: {ran:?}");
    }
}

#[tokio::test]
async fn an_error_names_the_flag_that_it_is_about() {
    let world = world().await;

    for (flags, words) in [
        (&["--memory", "1K"][..], "--memory is 1024, and may be 67108864 (64M) to 17592186044416 (16T)"),
        (&["--processes", "1"], "--processes is 1, and may be 16 to"),
        (&["--wall-clock", "1s"], "--wall-clock is 1, and may be 10 to 2592000 (30d)"),
        (&["--setup-limit", "2d"], "--setup-limit is 172800, and may be 1 to 86400 (1d)"),
        (&["--snapshot-life", "99d"], "--snapshot-life is"),
        (&["--image", "a b"], "--image: `a b`"),
        (&["--allow-domain", "10.0.0.1"], "--allow-domain: `10.0.0.1`"),
        (&["--setup-allow-domain", "https://a.example"], "--setup-allow-domain: `https://a.example`"),
        (&["--network-secret", "K=value-one@no host"], "--network-secret: `no host`"),
        (&["--setup-secret", "K=short"], "--setup-secret: the value of the secret `K`"),
    ] {
        let ran = create(&world, flags).await;
        assert_eq!(ran.code, 3, "{flags:?}: {ran:?}");
        assert!(ran.stderr.contains(words), "{flags:?}: {ran:?}");
        for word in ["limits.", "agent_network", "_bytes", "_life_s"] {
            assert!(!ran.stderr.contains(word), "{flags:?} is answered in words of the API: {ran:?}");
        }
    }
    let removed = world.carrel(&["environment", "edit", "default", "--remove-domain", "a.example"]).await;
    assert!(removed.stderr.contains("--remove-domain: `a.example` is not among"), "{removed:?}");
}

#[tokio::test]
async fn a_network_secret_that_the_agent_cannot_use_is_made_with_a_hint() {
    let world = world().await;
    let secret = ["environment", "create", "api", "--network-secret", "K=hunter2hunter2@a.example"];

    let made = world.carrel(&secret).await;
    let allowed = world.carrel(&["environment", "edit", "api", "--allow-domain", "a.example"]).await;

    assert_eq!(made.code, 0, "{made:?}");
    let way_out = "carrel environment edit api --allow-domain a.example";
    assert!(made.stdout.contains("hint") && made.stdout.contains(way_out), "{made:?}");
    assert!(allowed.code == 0 && !allowed.stdout.contains("hint"), "{allowed:?}");
    let edited = world.json(&["environment", "edit", "api", "--variable", "NO_PROXY=git.corp"]).await;
    let hints = edited["hints"].as_array().expect("hints");
    assert!(hints.len() == 1 && hints[0].as_str().is_some_and(|hint| hint.contains("names git.corp")), "{edited:#}");
}

#[tokio::test]
async fn the_list_has_a_head_is_sorted_and_says_what_may_be_reached() {
    let world = world().await;
    for (name, flags) in [
        ("web", &["--allow-domain", "a.example", "--allow-domain", "b.example"][..]),
        ("api", &["--internet", "packages", "--allow-domain", "a.example", "--image", "debian:12"]),
    ] {
        world.json(&[&["environment", "create", name], flags].concat()).await;
    }

    let list = world.carrel(&["environment", "list"]).await.stdout;

    let cells = list.lines().map(|line| line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect());
    let cells: Vec<Vec<&str>> = cells.collect();
    assert_eq!(
        cells,
        [
            vec!["NAME", "VERSION", "IMAGE", "INTERNET", "REPOSITORIES"],
            vec!["api", "1", "debian:12", "packages + 1", "any repository"],
            vec!["default", "1", "host", "off", "any repository"],
            vec!["web", "1", "-", "2 domains", "any repository"],
        ],
        "{list}"
    );
}

#[tokio::test]
async fn people_who_edit_different_things_at_once_are_not_in_each_others_way() {
    let world = world().await;
    world.json(&["environment", "create", "api"]).await;
    let paths: Vec<String> = (0..6)
        .map(|number| {
            let repository = world.repository(&format!("r{number}"), FILES);
            repository.path().to_string_lossy().into_owned()
        })
        .collect();
    let variables: Vec<String> = (0..12).map(|number| format!("V{number}=1")).collect();
    let edits = paths
        .iter()
        .map(|path| ["environment", "edit", "api", "--repository", path])
        .chain(variables.iter().map(|variable| ["environment", "edit", "api", "--variable", variable]));

    let ran = futures::future::join_all(edits.map(async |arguments| world.carrel(&arguments).await)).await;

    for ran in ran {
        assert_eq!(ran.code, 0, "{ran:?}");
    }
    let shown = world.json(&["environment", "show", "api"]).await;
    assert_eq!(shown["version"], 19, "{shown:#}");
    assert_eq!(shown["repositories"].as_array().map(Vec::len), Some(6), "{shown:#}");
    assert_eq!(shown["variables"].as_object().map(serde_json::Map::len), Some(12), "{shown:#}");
}

#[tokio::test]
async fn a_request_that_is_too_large_is_told_how_large_it_may_be() {
    let world = world().await;
    let body = json!({"name": "x", "variables_text": "x".repeat(30_000_000)});

    let (status, problem) = post(&world, "environments", &body).await;
    std::fs::write(world.folder().join("large.env"), format!("A={}\n", "x".repeat(30_000_000))).expect("a file");
    let ran = create(&world, &["--variables-file", "large.env"]).await;

    assert_eq!((status, &problem["type"]), (413, &Value::from("urn:carrel:problem:too-large")), "{problem}");
    let detail = problem["detail"].as_str().unwrap_or_default();
    assert!(detail.contains("more than 8388608 bytes (8 MiB)"), "{problem}");
    assert!(ran.code == 3 && ran.stderr.contains("8 MiB"), "{ran:?}");
}
