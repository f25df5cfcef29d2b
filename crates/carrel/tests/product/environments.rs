//! Environments as their users meet them: made, shown, changed and deleted, with secrets that never come back out.

use std::path::Path;

use carrel_testkit::model::Reply;
use serde_json::{Value, json};

use crate::bad_input::post;
use crate::{CARREL, FILES, World, attempt, of_type, says};

/// Values that are planted, to be looked for.
const SETUP_CANARY: &str = "setup-canary-5b1f9c";
const NETWORK_CANARY: &str = "network-canary-e27a40";

async fn world() -> World {
    World::new(CARREL, says([Reply::message("Done.")])).await
}

async fn refused(world: &World, code: i32, says: &str, arguments: &[&str]) {
    let ran = world.carrel(&[&["environment"], arguments].concat()).await;
    assert_eq!(ran.code, code, "{arguments:?}: {ran:?}");
    assert!(ran.stderr.contains(says), "{arguments:?}: {ran:?} does not say {says:?}");
}

async fn patch(world: &World, name: &str, body: &Value) -> (u16, Value) {
    let url = format!("{}/api/v1/environments/{name}", world.url());
    let request = reqwest::Client::new().patch(url).bearer_auth(world.token()).json(body);
    let answer = request.send().await.expect("the service answers");
    (answer.status().as_u16(), answer.json().await.expect("JSON"))
}

#[tokio::test]
async fn an_environment_is_made_listed_shown_changed_and_deleted() {
    let world = world().await;
    let repository = world.repository("api", FILES);
    let path = repository.path().to_string_lossy().into_owned();
    std::fs::write(world.folder().join("setup.sh"), "npm ci\nmake\n").expect("a file");

    let flags = "--image debian:12 --setup-script setup.sh --variable A=1 --variable B=x=y --setup-secret T=tttttt \
         --network-secret K=v@alue@api.example,b.example --internet packages --allow-domain *.cdn.example --methods read \
         --setup-internet common --cpus 1.5 --memory 2G --disk none --processes 99 --wall-clock 1h --setup-limit 5m \
         --snapshot-life 30m";
    let create: Vec<&str> =
        ["environment", "create", "api", "--repository", &path].into_iter().chain(flags.split_whitespace()).collect();
    let made = world.json(&create).await;

    assert_eq!((&made["name"], &made["version"]), (&json!("api"), &json!(1)));
    assert_eq!(made["repositories"], json!([path]));
    assert_eq!(made["setup"], json!({"kind": "script", "script": "npm ci\nmake\n"}));
    assert_eq!(made["variables"], json!({"A": "1", "B": "x=y"}));
    let secrets = made["secrets"].as_array().expect("secrets");
    let told: Vec<Value> = secrets.iter().map(|one| json!([one["name"], one["kind"], one["hosts"]])).collect();
    assert_eq!(told, [json!(["K", "network", ["api.example", "b.example"]]), json!(["T", "setup", []])]);
    let agent = json!({"internet": "packages", "domains": ["*.cdn.example"], "methods": "read"});
    assert_eq!(made["agent_network"], agent);
    assert_eq!(made["setup_network"], json!({"internet": "common", "domains": [], "methods": "all"}));
    let limits = json!({
        "cpu_millis": 1500, "memory_bytes": 2_u64 << 30, "processes": 99, "disk_bytes": 0, "wall_clock_s": 3600,
        "setup_s": 300, "output_bytes": 1 << 30
    });
    assert_eq!((&made["limits"], &made["snapshot_life_s"]), (&limits, &json!(1800)));
    assert_eq!(world.json(&["environment", "show", "api"]).await, made);

    let edit = "environment edit api --variable A=2 --remove-variable B --remove-secret T --remove-domain *.cdn.example \
         --allow-domain .a.example --unset setup --memory 3G --clear-repositories";
    let edited = world.json(&edit.split_whitespace().collect::<Vec<_>>()).await;
    assert_eq!((&edited["version"], &edited["variables"]), (&json!(2), &json!({"A": "2"})));
    assert_eq!((&edited["repositories"], &edited["setup"]), (&json!([]), &Value::Null));
    assert_eq!(edited["agent_network"]["domains"], json!([".a.example"]));
    assert_eq!((&edited["limits"]["memory_bytes"], &edited["limits"]["processes"]), (&json!(3_u64 << 30), &json!(99)));
    let kept = edited["secrets"].as_array().expect("secrets");
    assert_eq!((kept.len(), &kept[0]["name"], &kept[0]["version"]), (1, &json!("K"), &json!(1)));

    let list = world.json(&["environment", "list"]).await;
    let names: Vec<&Value> = list["items"].as_array().expect("items").iter().map(|one| &one["name"]).collect();
    assert_eq!(names, ["api", "default"]);
    let shown = world.carrel(&["environment", "show", "api"]).await.stdout;
    assert!(shown.contains("A=2") && shown.contains("K for api.example, b.example, given 20"), "{shown}");
    let reset = world.json(&["environment", "reset-cache", "api"]).await;
    assert_eq!(reset, json!({"snapshots": 0}));
    assert_eq!(world.json(&["environment", "delete", "api"]).await, json!({"deleted": "api"}));
    refused(&world, 3, "no environment `api`; create one with `carrel environment create api`", &["show", "api"]).await;
}

#[tokio::test]
async fn a_pasted_env_file_is_taken_whole() {
    let world = world().await;
    let text = "# pasted\r\nexport A='one'\r\nB=\"two\\nlines\"\r\nURL=postgres://u@h/db?x=y # why\r\n";
    std::fs::write(world.folder().join("secrets.env"), "TOKEN=\"abc def\"\nOTHER=xyzxyz\n").expect("a file");

    let arguments =
        ["--json", "environment", "create", "api", "--env-file", "-", "--setup-secrets-file", "secrets.env"];
    let ran = world.carrel_given(text, &arguments).await;

    let made: Value = serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran:?}"));
    assert_eq!(made["variables"], json!({"A": "one", "B": "two\nlines", "URL": "postgres://u@h/db?x=y"}));
    assert_eq!(made["secrets"].as_array().map(Vec::len), Some(2));
    let ran = world.carrel_given("A=1\n\nhunter2 hunter2\n", &["environment", "edit", "api", "--env-file", "-"]).await;
    assert_eq!(ran.code, 3, "{ran:?}");
    assert!(ran.stderr.contains("line 3 has no `=`") && !ran.stderr.contains("hunter2"), "{ran:?}");
}

#[tokio::test]
async fn values_of_secrets_come_from_standard_input_and_files_so_that_they_are_on_no_command_line() {
    let world = world().await;
    std::fs::write(world.folder().join("key"), format!("{NETWORK_CANARY}\n")).expect("a file");

    let create = ["environment", "create", "api", "--setup-secret", "T", "--network-secret", "K=@key@a.example"];
    let ran = world.carrel_given(&format!("{SETUP_CANARY}\n"), &create).await;

    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.stdout.contains("secret        K for a.example") && ran.stdout.contains("T for setup"), "{ran:?}");
    let twice = ["edit", "api", "--setup-secret", "T", "--setup-secret", "U"];
    refused(&world, 2, "only one thing can be read from standard input", &twice).await;
    refused(&world, 3, "the value of the secret `T` is empty", &["edit", "api", "--setup-secret", "T"]).await;
}

#[tokio::test]
async fn a_value_is_nowhere_but_where_it_is_used() {
    let said = format!("It is {SETUP_CANARY} and {NETWORK_CANARY}.");
    let world = World::with(CARREL, says([Reply::message(said)]), &[("CARREL_LOG", "trace")]).await;
    let repository = world.repository("api", FILES);
    let setup = format!("T={SETUP_CANARY}");
    let network = format!("K={NETWORK_CANARY}@a.example");

    let create = ["environment", "create", "api", "--no-setup", "--setup-secret", &setup, "--network-secret", &network];
    let made = world.carrel(&create).await;
    let id = world.create_with(&repository, &["--environment", "api", "Say it"]).await;
    let task = world.ended(&id).await;

    assert_eq!(attempt(&task)["state"], "ready", "{task:#}");
    let events = format!("{:?}", world.events(&id).await);
    assert!(events.contains("[redacted]"), "the model has said it: {events}");
    let shown = world.json(&["environment", "show", "api"]).await.to_string();
    let listed = world.json(&["environment", "list"]).await.to_string();
    for secret in [SETUP_CANARY, NETWORK_CANARY] {
        let places = [("the answer", &made.stdout), ("an event", &events), ("show", &shown), ("list", &listed)];
        for (place, text) in places.into_iter().chain([("the log", &world.logged()), ("the task", &task.to_string())]) {
            assert!(!text.contains(secret), "{place} has {secret}");
        }
        assert_eq!(holders(&world.data(), secret), Vec::<String>::new(), "files of the service have {secret}");
    }
    assert!(world.logged().len() > 2_000, "there is a log to look at");
}

#[tokio::test]
async fn keys_are_rotated_by_a_line_and_a_restart() {
    use std::os::unix::fs::PermissionsExt as _;
    let mut world = World::new(CARREL, says([Reply::message(format!("It is {SETUP_CANARY}."))])).await;
    let repository = world.repository("api", FILES);
    let secret = format!("T={SETUP_CANARY}");
    world.json(&["environment", "create", "api", "--no-setup", "--setup-secret", &secret]).await;
    let file = world.data().join("secrets.key");
    let mode = std::fs::metadata(&file).expect("it was made").permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);
    let old = std::fs::read_to_string(&file).expect("keys");
    let new = "5f".repeat(32);

    for keys in [format!("{new}\n{old}"), new] {
        world.kill().await;
        std::fs::write(&file, keys).expect("keys");
        world.start().await;
        assert!(!world.logged().contains("does not open"), "{}", world.logged());
        let id = world.create_with(&repository, &["--environment", "api", "Say it"]).await;
        world.ended(&id).await;
        let events = format!("{:?}", world.events(&id).await);
        assert!(events.contains("It is [redacted].") && !events.contains(SETUP_CANARY), "it was opened: {events}");
    }
    world.kill().await;
    std::fs::write(&file, old).expect("keys");
    let ran = world.carrel(&["serve"]).await;
    assert!(ran.code == 2 && ran.stderr.contains("does not have the right key"), "{ran:?}");
}

#[tokio::test]
async fn an_attempt_keeps_its_version_while_the_environment_is_changed() {
    let script = says([Reply::call("exec_command", json!({"cmd": "sleep 1000", "yield_time_ms": 30000}))]);
    let world = World::new(CARREL, script).await;
    let repository = world.repository("api", FILES);
    world.json(&["environment", "create", "api", "--no-setup"]).await;
    let id = world.create_with(&repository, &["--environment", "api", "Wait"]).await;
    world.events_until(&id, |events| !of_type(events, "command.started").is_empty()).await;

    let edited = world.json(&["environment", "edit", "api", "--variable", "A=1"]).await;

    assert_eq!(edited["version"], 2);
    let task = world.json(&["task", "show", &id]).await;
    let pinned = &attempt(&task)["environment"];
    assert_eq!(
        (&task["environment"]["name"], &pinned["name"], &pinned["version"]),
        (&json!("api"), &json!("api"), &json!(1))
    );
    refused(&world, 3, "attempts are under way in the environment `api` (1)", &["delete", "api"]).await;
    world.json(&["task", "cancel", &id]).await;
    let follow_up = world.json(&["task", "follow-up", &id, "Wait again"]).await;
    let pinned = &attempt(&follow_up)["environment"];
    assert_eq!((&pinned["name"], &pinned["version"]), (&json!("api"), &json!(2)), "a follow-up takes the current one");
    world.json(&["task", "cancel", &id]).await;
    world.json(&["environment", "delete", "api"]).await;
    let task = world.json(&["task", "show", &id]).await;
    assert_eq!(attempt(&task)["environment"]["name"], "api", "what has ended shows what it ran with");
    let ran = world.carrel(&["task", "follow-up", &id, "Go on"]).await;
    assert_eq!(ran.code, 3, "{ran:?}");
    assert!(ran.stderr.contains("the task's environment `api` was deleted"), "{ran:?}");
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_with_the_way_out() {
    let world = world().await;
    let repository = world.repository("api", FILES);
    let path = repository.path().to_string_lossy().into_owned();
    world.json(&["environment", "create", "web", "--repository", "https://git.example.com/acme/web.git"]).await;

    for (code, says, arguments) in [
        (3, "is no name for an environment", &["create", "a/b"][..]),
        (3, "is no name for an environment", &["show", "../me"]),
        (3, "there is an environment `web` already", &["create", "web"]),
        (3, "no environment `wbe`", &["edit", "wbe", "--variable", "A=1"]),
        (3, "is no name for a variable", &["create", "x", "--variable", "A-B=1"]),
        (2, "write NAME=VALUE", &["create", "x", "--variable", "A"]),
        (2, "cannot be used with", &["create", "x", "--no-setup", "--automatic-setup"]),
        (2, "cannot read missing.sh", &["create", "x", "--setup-script", "missing.sh"]),
        (3, "the script is empty", &["create", "x", "--setup-script", "-"]),
        (2, "write a size", &["create", "x", "--memory", "lots"]),
        (3, "--memory is 1024", &["create", "x", "--memory", "1K"]),
        (2, "write a duration", &["create", "x", "--setup-limit", "1 week"]),
        (2, "invalid value 'some'", &["create", "x", "--internet", "some"]),
        (3, "name alone", &["create", "x", "--allow-domain", "https://a.example"]),
        (3, "`10.0.0.1`", &["create", "x", "--allow-domain", "10.0.0.1"]),
        (2, "the network secret K has no host", &["create", "x", "--network-secret", "K=hunter2"]),
        (3, "`no host`", &["create", "x", "--network-secret", "K=value@no host"]),
        (3, "is a variable and a secret", &["create", "x", "--variable", "A=1", "--setup-secret", "A=two-two"]),
        (3, "is no reference to an image", &["create", "x", "--image", "a b"]),
        (3, "there is no variable `A` to remove", &["edit", "web", "--remove-variable", "A"]),
        (3, "there is no secret `A` to remove", &["edit", "web", "--remove-secret", "A"]),
        (3, "is not among the domains", &["edit", "web", "--remove-domain", "a.example"]),
        (2, "--unset image takes away", &["edit", "web", "--unset", "image", "--image", "host"]),
        (3, "`default` cannot be deleted", &["delete", "default"]),
    ] {
        refused(&world, code, says, arguments).await;
    }

    let create =
        async |name: &str| world.carrel(&["task", "create", "--repository", &path, "--environment", name, "x"]).await;
    crate::assert_refused(&world, &create("wbe").await, "no environment `wbe`").await;
    crate::assert_refused(&world, &create("web").await, "the environment `web` does not cover").await;
    let (_, list) = get(&world, "environments").await;
    assert_eq!(list["items"].as_array().map(Vec::len), Some(2), "nothing was made: {list:#}");
}

#[tokio::test]
async fn a_change_names_what_it_looked_at_and_null_gives_the_default() {
    let world = world().await;
    let secret = json!({"kind": "network", "value": NETWORK_CANARY, "hosts": ["a.example"]});
    let new = json!({
        "name": "api", "image": "debian:12", "variables": {"A": "1", "B": "2"}, "secrets": {"K": secret},
        "agent_network": {"internet": "all"}, "limits": {"processes": 64}
    });
    let (status, made) = post(&world, "environments", &new).await;
    assert_eq!(status, 201, "{made}");

    let change = json!({
        "version": 1, "image": null, "variables": {"A": null, "C": "3"}, "secrets": {"K": {"hosts": ["b.example"]}},
        "agent_network": {"internet": null, "domains_add": ["c.example"]}, "limits": null
    });
    let (status, changed) = patch(&world, "api", &change).await;
    let (again, problem) = patch(&world, "api", &change).await;

    assert_eq!(status, 200, "{changed}");
    assert_eq!((&changed["image"], &changed["variables"]), (&Value::Null, &json!({"B": "2", "C": "3"})));
    assert_eq!(
        (&changed["secrets"][0]["hosts"], &changed["secrets"][0]["version"]),
        (&json!(["b.example"]), &json!(1))
    );
    assert_eq!(changed["agent_network"], json!({"internet": "off", "domains": ["c.example"], "methods": "all"}));
    assert_eq!(changed["limits"]["processes"], 1024);
    assert_eq!((again, &problem["type"]), (409, &json!("urn:carrel:problem:conflict")), "{problem}");
    let (status, allowed) = post(&world, "environments/api/domains", &json!({"domain": ".d.example"})).await;
    assert_eq!((status, &allowed["agent_network"]["domains"]), (200, &json!(["c.example", ".d.example"])));
    let (status, same) = post(&world, "environments/api/domains", &json!({"domain": ".d.example"})).await;
    assert_eq!((status, &same["version"]), (200, &json!(3)), "what is allowed already makes no version");
}

#[tokio::test]
async fn requests_that_make_no_sense_name_the_field_and_never_the_value() {
    let world = world().await;
    let with = |field: &str, value: Value| json!({"name": "x", field: value});
    let long = "x".repeat((64 << 10) + 1);
    let many: serde_json::Map<String, Value> = (0..201).map(|index| (format!("V{index}"), json!(""))).collect();
    let setup = |value: &str| json!({"T": {"kind": "setup", "value": value}});
    for (field, body) in [
        ("name", json!({"name": ".."})),
        ("nmae", json!({"nmae": "x"})),
        ("repositories", with("repositories", json!(["relative"]))),
        ("setup", with("setup", json!({"kind": "script", "script": "x".repeat((1 << 20) + 1)}))),
        ("variables", with("variables", Value::Object(many))),
        ("variables.A", with("variables", json!({"A": long}))),
        ("variables.A", with("variables", json!({"A": "a\0b"}))),
        ("variables_text", with("variables_text", json!("hunter2"))),
        ("setup_secrets_text", with("setup_secrets_text", json!("A=\"hunter2"))),
        ("secrets.T", with("secrets", json!({"T": "hunter2"}))),
        ("secrets.T.value", with("secrets", json!({"T": {"kind": "setup", "value": ["hunter2"]}}))),
        ("secrets.T", with("secrets", json!({"T": {"value": "hunter2"}}))),
        ("secrets.T", with("secrets", json!({"T": {"kind": "setup"}}))),
        ("secrets.T", with("secrets", setup(&long))),
        ("secrets.T", with("secrets", json!({"T": {"kind": "setup", "value": "hunter2", "hosts": ["a.example"]}}))),
        ("secrets.T", with("secrets", json!({"T": {"kind": "network", "value": "hunter2"}}))),
        ("secrets.T", with("secrets", json!({"T": {"kind": "network", "value": "hunter2\n", "hosts": ["a.example"]}}))),
        ("secrets.T", with("secrets", json!({"T": {"kind": "network", "value": "hunter2", "hosts": ["*.example"]}}))),
        ("agent_network.domains", with("agent_network", json!({"domains": ["a/b"]}))),
        ("limits.processes", with("limits", json!({"processes": 0}))),
        ("snapshot_life_s", with("snapshot_life_s", json!(99_999_999))),
    ] {
        let (status, problem) = post(&world, "environments", &body).await;
        assert_eq!(status, 422, "{field}: {problem}");
        assert_eq!(problem["errors"][0]["field"], field, "{problem}");
        assert!(!problem.to_string().contains("hunter2"), "{problem}");
    }
    let domains: Vec<String> = (0..501).map(|index| format!("h{index}.example")).collect();
    let (status, problem) = post(&world, "environments", &with("agent_network", json!({"domains": domains}))).await;
    assert_eq!((status, &problem["detail"]), (422, &json!("there are 501 domains, and may be 500")));
    let (_, list) = get(&world, "environments").await;
    assert_eq!(list["items"].as_array().map(Vec::len), Some(1), "nothing was made: {list:#}");
}

#[tokio::test]
async fn a_file_of_keys_that_makes_no_sense_stops_the_start_and_is_not_repeated() {
    let mut world = world().await;
    world.kill().await;
    std::fs::write(world.data().join("secrets.key"), "# mine\nhunter2\n").expect("a file");

    let ran = world.carrel(&["serve"]).await;

    assert_eq!(ran.code, 2, "{ran:?}");
    assert!(ran.stderr.contains("secrets.key: line 2 is no key") && !ran.stderr.contains("hunter2"), "{ran:?}");
}

#[tokio::test]
async fn a_key_given_in_a_variable_is_kept_in_no_file_and_told_to_nobody() {
    let key = "5fa1".repeat(16);
    let search = "env; cat /proc/*/environ 2>/dev/null | tr '\\0' '\\n'; echo searched";
    let script = says([Reply::command(search), Reply::message(format!("It is {key}."))]);
    let world = World::with(CARREL, script, &[("CARREL_SECRETS_KEY", &key), ("CARREL_LOG", "trace")]).await;
    let repository = world.repository("api", FILES);
    let secret = format!("T={SETUP_CANARY}");
    world.json(&["environment", "create", "api", "--no-setup", "--setup-secret", &secret]).await;

    let id = world.create_with(&repository, &["--environment", "api", "Search"]).await;
    world.ended(&id).await;

    assert!(!world.data().join("secrets.key").exists());
    assert_eq!(holders(&world.data(), &key), Vec::<String>::new());
    let events = format!("{:?}", world.events(&id).await);
    assert!(events.contains("searched") && !events.contains(&key), "{events}");
    let seen = world.model().requests();
    let inside = seen.iter().filter(|request| String::from_utf8_lossy(&request.body).contains("searched"));
    assert!(inside.clone().count() > 0 && !world.logged().contains(&key));
    for request in inside {
        let body = String::from_utf8_lossy(&request.body).into_owned();
        assert!(!body.contains(&key) && !body.contains(SETUP_CANARY), "it is inside the sandbox: {body}");
    }
}

async fn get(world: &World, path: &str) -> (u16, Value) {
    let request = reqwest::Client::new().get(format!("{}/api/v1/{path}", world.url())).bearer_auth(world.token());
    let answer = request.send().await.expect("the service answers");
    (answer.status().as_u16(), answer.json().await.expect("JSON"))
}

/// The files below a folder that hold the text.
fn holders(folder: &Path, text: &str) -> Vec<String> {
    let output = std::process::Command::new("grep").args(["-rlF", text]).arg(folder).output().expect("grep is there");
    String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
}
