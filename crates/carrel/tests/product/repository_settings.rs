//! What a repository says of its own environment: by its lock files, `.carrel/environment.toml` and `devcontainer.json`.

use carrel_testkit::model::Reply;
use serde_json::{Value, json};

use crate::setup::{agent_printed, environment, events_of, messages, printed, runs, scripts, task_in};
use crate::{CARREL, FILES, World, attempt, of_type, reason, says};

/// A package with one dependency, which is a folder of the repository: installing it needs no network.
const NPM: &[(&str, &str)] = &[
    ("package.json", r#"{"name": "app", "version": "1.0.0", "dependencies": {"left": "file:./left"}}"#),
    (
        "package-lock.json",
        r#"{"name": "app", "version": "1.0.0", "lockfileVersion": 3, "requires": true, "packages": {
            "": {"name": "app", "version": "1.0.0", "dependencies": {"left": "file:./left"}},
            "left": {"version": "1.0.0"}, "node_modules/left": {"resolved": "left", "link": true}}}"#,
    ),
    ("left/package.json", r#"{"name": "left", "version": "1.0.0", "main": "index.js"}"#),
    ("left/index.js", "module.exports = 'from the left';\n"),
];

/// Where each setting came from, as the log shows it.
fn sources(events: &[Value]) -> Vec<String> {
    let resolved = &of_type(events, "environment.resolved")[0]["data"]["sources"];
    let pairs = resolved.as_array().expect("sources").iter();
    pairs.map(|pair| format!("{}: {}", pair[0].as_str().unwrap_or("?"), pair[1].as_str().unwrap_or("?"))).collect()
}

#[tokio::test]
async fn a_lock_file_is_installed_from_and_the_command_is_shown() {
    let world = World::new(CARREL, runs("node -p 'require(\"left\")'; git status --short")).await;
    let repository = world.repository("api", NPM);
    world.json(&["environment", "create", "api", "--setup-internet", "off"]).await;

    let task = task_in(&world, &repository, "api").await;

    assert_eq!(attempt(&task)["state"], "ready", "{task:#}");
    let events = events_of(&world, &task).await;
    assert_eq!(scripts(&events), ["npm ci"]);
    assert!(printed(&events, "setup.1").contains("added "), "{events:#?}");
    assert_eq!(agent_printed(&events), "from the left\n");
    assert_eq!(sources(&events), ["image: default", "setup: default", "maintenance_script: default"]);
    assert_eq!(attempt(&task)["result"]["patch"], Value::Null, "what was installed is no work of the agent");
}

#[tokio::test]
async fn a_lock_file_that_does_not_fit_fails_with_the_way_out() {
    let world = World::new(CARREL, runs("true")).await;
    let package = ("package.json", r#"{"name": "app", "version": "1.0.0", "dependencies": {"right": "file:./right"}}"#);
    let repository = world.repository("api", &[NPM, &[package]].concat());
    world.json(&["environment", "create", "api", "--setup-internet", "off"]).await;

    let task = task_in(&world, &repository, "api").await;

    let reason = reason(&task);
    assert!(reason.starts_with("setup (`npm ci`) ended with exit code 1; it said:\n"), "{reason}");
    let way_out = "\ngive the environment a setup script of its own (--setup-script FILE), or none (--no-setup)";
    assert!(reason.ends_with(way_out), "{reason}");
    assert_eq!(attempt(&task)["failure"]["stage"], "setting_up");
}

#[tokio::test]
async fn a_tool_that_is_not_in_the_image_is_passed_over_with_a_warning() {
    let npm = std::process::Command::new("sh").args(["-c", "command -v npm"]).output().expect("sh is there");
    let npm = String::from_utf8_lossy(&npm.stdout).trim().to_owned();
    let world = World::with(CARREL, runs("echo alive"), &[("CARREL_PRIVATE_PATHS", &npm)]).await;
    let repository = world.repository("api", NPM);
    world.json(&["environment", "create", "api", "--automatic-setup"]).await;

    let task = task_in(&world, &repository, "api").await;

    assert_eq!(attempt(&task)["state"], "ready", "{task:#}");
    let events = events_of(&world, &task).await;
    assert_eq!(scripts(&events), Vec::<&str>::new());
    let warning = "automatic setup: `package-lock.json` calls for npm, which is not in the image; skipped";
    assert_eq!(messages(&events, "attempt.warning"), [warning]);
}

#[tokio::test]
async fn the_default_environment_and_one_without_setup_run_nothing() {
    let world = World::new(CARREL, runs("ls")).await;
    let repository = world.repository("api", NPM);
    world.json(&["environment", "create", "plain", "--no-setup"]).await;

    for name in ["default", "plain"] {
        let task = task_in(&world, &repository, name).await;
        let events = events_of(&world, &task).await;
        assert_eq!(scripts(&events), Vec::<&str>::new(), "{name}");
        assert_eq!(agent_printed(&events), "left\npackage-lock.json\npackage.json\n");
    }
}

#[tokio::test]
async fn the_first_that_says_something_counts_and_the_log_shows_which() {
    let toml = "setup_script = 'echo toml > ~/made'\n[variables]\nA = 'toml'\nB = 'toml'\n[limits]\nprocesses = 200\n";
    let container = r#"{"postCreateCommand": "echo container > ~/made", // why
        "containerEnv": {"B": "container", "C": "container"},}"#;
    let world = World::new(CARREL, runs("cat ~/made; echo $A $B $C")).await;
    let with_both = [
        ("environment", ".carrel/environment.toml", toml),
        ("container", ".devcontainer/devcontainer.json", container),
    ];
    let both: Vec<(&str, &str)> = with_both.iter().map(|(_, path, text)| (*path, *text)).collect();
    let repository = world.repository("both", &[FILES, &both].concat());
    let contained = world.repository("contained", &[FILES, &both[1..]].concat());
    world.json(&["environment", "create", "silent"]).await;
    environment(&world, "loud", "echo stored > ~/made", &["--variable", "A=stored"]).await;

    for (repository, name, said, expected) in [
        (
            &repository,
            "silent",
            "toml\ntoml toml container\n",
            &[
                "setup: .carrel/environment.toml",
                "variables.A: .carrel/environment.toml",
                "variables.B: .carrel/environment.toml",
                "variables.C: .devcontainer/devcontainer.json",
                "limits.processes: .carrel/environment.toml",
            ][..],
        ),
        (
            &repository,
            "loud",
            "stored\nstored toml container\n",
            &[
                "setup: environment",
                "variables.B: .carrel/environment.toml",
                "variables.C: .devcontainer/devcontainer.json",
                "limits.processes: .carrel/environment.toml",
            ],
        ),
        (
            &contained,
            "silent",
            "container\ncontainer container\n",
            &[
                "setup: .devcontainer/devcontainer.json",
                "variables.B: .devcontainer/devcontainer.json",
                "variables.C: .devcontainer/devcontainer.json",
            ],
        ),
    ] {
        let task = task_in(&world, repository, name).await;
        assert_eq!(attempt(&task)["state"], "ready", "{task:#}");
        let events = events_of(&world, &task).await;
        assert_eq!(agent_printed(&events), said, "{name}");
        let shown: Vec<String> = sources(&events).into_iter().filter(|source| !source.ends_with(": default")).collect();
        assert_eq!(shown, expected, "{name}");
    }
}

#[tokio::test]
async fn a_file_that_makes_no_sense_fails_the_attempt_and_names_the_line() {
    let world = World::new(CARREL, runs("true")).await;
    world.json(&["environment", "create", "api"]).await;

    for (name, path, text, says) in [
        (
            "key",
            ".carrel/environment.toml",
            "image = 'host'\nsetup_skript = 'true'\n",
            "`.carrel/environment.toml` line 2: unknown field `setup_skript`",
        ),
        ("type", ".carrel/environment.toml", "\n\nsetup_script = 1\n", "`.carrel/environment.toml` line 3: "),
        (
            "folder",
            ".carrel/environment.toml",
            "image = '/etc'\n",
            "`.carrel/environment.toml` line 1: a repository cannot choose a folder of the host",
        ),
        (
            "path",
            ".carrel/environment.toml",
            "setup_script_file = '../x'\n",
            "`.carrel/environment.toml` line 1: `../x` is no path in the repository",
        ),
        (
            "none",
            ".carrel/environment.toml",
            "setup_script_file = 'x.sh'\n",
            "names the script `x.sh`, which is not in the repository",
        ),
        ("json", ".devcontainer/devcontainer.json", "{\n\"image\": }\n", "`.devcontainer/devcontainer.json` line 2: "),
    ] {
        let repository = world.repository(name, &[FILES, &[(path, text)]].concat());
        let task = task_in(&world, &repository, "api").await;
        let reason = reason(&task);
        assert!(reason.contains(says), "{name}: {reason}");
        assert_eq!(attempt(&task)["failure"]["stage"], "preparing", "{name}");
    }
}

#[tokio::test]
async fn a_file_counts_as_it_is_on_the_default_branch_whatever_branch_is_worked_on() {
    let world = World::new(CARREL, runs("cat ~/made; cat .carrel/environment.toml | wc -l")).await;
    let on_main = (".carrel/environment.toml", "setup_script_file = 'ci/setup.sh'\n");
    let repository = world.repository("api", &[FILES, &[on_main, ("ci/setup.sh", "echo main > ~/made\n")]].concat());
    repository.git(&["checkout", "--quiet", "-b", "pushed"]);
    let pushed = (".carrel/environment.toml", "[variables]\nA = 'a'\n\n[network]\nallow_domains = ['a.example']\n");
    repository.commit("pushed", &[pushed, ("ci/setup.sh", "echo pushed > ~/made\n")]);
    repository.git(&["checkout", "--quiet", "main"]);
    world.json(&["environment", "create", "api"]).await;

    let id = world.create_with(&repository, &["--environment", "api", "--branch", "pushed", "Look"]).await;
    let task = world.ended(&id).await;

    assert_eq!(attempt(&task)["state"], "ready", "{task:#}");
    let events = world.events(&id).await;
    assert_eq!(agent_printed(&events), "main\n5\n");
    assert_eq!(messages(&events, "attempt.warning"), Vec::<&str>::new());
    assert!(!sources(&events).iter().any(|source| source.starts_with("variables.")), "{events:#?}");
}

#[tokio::test]
async fn domains_that_a_repository_asks_for_are_shown_with_the_command_that_allows_them() {
    let toml = "[network]\nallow_domains = ['a.example', '*.b.example', 'c.example']\n";
    let world = World::new(CARREL, runs("true")).await;
    let repository = world.repository("api", &[FILES, &[(".carrel/environment.toml", toml)]].concat());
    world.json(&["environment", "create", "api", "--allow-domain", "c.example"]).await;

    let asked = task_in(&world, &repository, "api").await;
    let warnings = events_of(&world, &asked).await;
    let allow = "carrel environment edit api --allow-domain a.example --allow-domain *.b.example";
    world.json(&allow.split_whitespace().skip(1).collect::<Vec<_>>()).await;
    let allowed = task_in(&world, &repository, "api").await;

    let warning = "the repository asks for a.example, *.b.example, which the environment does not allow; to allow it: ";
    assert_eq!(messages(&warnings, "attempt.warning"), [format!("{warning}{allow}")]);
    assert_eq!(messages(&events_of(&world, &allowed).await, "attempt.warning"), Vec::<&str>::new());
}

#[tokio::test]
async fn a_repository_cannot_put_its_own_value_where_a_secret_of_the_environment_is() {
    let toml = "setup_script = 'printf %s \"$TOKEN\" | wc -c; echo \"$LIMIT\"'\n[variables]\nTOKEN = 'mine'\n[limits]\n\
                memory_bytes = 99000000000\n";
    let world = World::new(CARREL, says([Reply::command("echo \"[$TOKEN]\""), Reply::message("Done.")])).await;
    let repository = world.repository("api", &[FILES, &[(".carrel/environment.toml", toml)]].concat());
    world.json(&["environment", "create", "api", "--setup-secret", "TOKEN=hunter2hunter2"]).await;

    let task = task_in(&world, &repository, "api").await;

    let events = events_of(&world, &task).await;
    assert!(printed(&events, "setup.1").starts_with("14\n"), "{events:#?}");
    assert_eq!(agent_printed(&events), "[]\n");
    let warnings = messages(&events, "attempt.warning");
    let secret =
        "`.carrel/environment.toml` sets TOKEN, which is the name of a secret of the environment; the secret counts";
    let memory = "`.carrel/environment.toml` sets memory_bytes to 99000000000; the environment allows 4294967296, and that counts";
    assert_eq!(warnings, [secret, memory]);
    assert_eq!(attempt(&task)["result"]["patch"], json!(null));
}
