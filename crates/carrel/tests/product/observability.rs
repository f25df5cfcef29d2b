//! The service tells how it is: health, figures that the dashboard asks for, and a log that programs read.

use std::collections::BTreeSet;
use std::path::Path;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use reqwest::Client;
use serde_json::Value;

use crate::{CARREL, FILES, World, mends};

const TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

async fn figures(world: &World) -> String {
    let answer = Client::new().get(format!("{}/metrics", world.url())).bearer_auth(world.token());
    let answer = answer.send().await.expect("an answer");
    assert_eq!((answer.status().as_u16(), &answer.headers()["content-type"]), (200, &TYPE.parse().expect("a value")));
    answer.text().await.expect("text")
}

/// The value of one series, labels and all.
fn value(figures: &str, series: &str) -> f64 {
    let line = figures.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no {series} in\n{figures}"))
}

/// The names of all series.
fn names(figures: &str) -> BTreeSet<&str> {
    let series = figures.lines().filter(|line| !line.starts_with('#'));
    series.filter_map(|line| line.split(['{', ' ']).next()).collect()
}

/// What an expression of the dashboard asks for.
fn asked(expression: &str) -> impl Iterator<Item = &str> {
    let words = expression.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
    words.filter(|word| word.starts_with("carrel_") || word.starts_with("process_"))
}

#[tokio::test]
async fn every_figure_of_the_dashboard_is_among_those_of_a_service_that_has_worked() {
    let world = World::new(CARREL, mends()).await;
    let repository = world.repository("api", FILES);
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/grafana/carrel.json");
    let dashboard: Value = serde_json::from_slice(&std::fs::read(file).expect("the dashboard")).expect("JSON");
    let task = world.run(&repository, "Mend the check").await;
    assert_eq!(task["state"], "ready", "{task:#}");

    world.json(&["task", "push", task["id"].as_str().expect("an id"), "--branch", "fix"]).await;
    let figures = figures(&world).await;

    let logged = world.logged();
    let ended = logged.lines().find(|line| line.contains("an attempt has ended")).unwrap_or_else(|| panic!("{logged}"));
    assert_eq!(ended.matches("task=").count(), 2, "once by the job, once by the message: {ended}");
    let names = names(&figures);
    let panels = dashboard["panels"].as_array().expect("panels");
    let targets = panels.iter().filter_map(|panel| panel["targets"].as_array()).flatten();
    let mut looked_at = 0;
    for expression in targets.filter_map(|target| target["expr"].as_str()) {
        for name in asked(expression) {
            assert!(names.contains(name), "`{expression}` asks for {name}, which is none of {names:?}");
            looked_at += 1;
        }
    }
    assert!(looked_at > 20, "{looked_at}");
    assert_eq!(value(&figures, r#"carrel_attempts_ended_total{state="ready"}"#), 1.0);
    assert_eq!(value(&figures, r#"carrel_publications_ended_total{state="pushed"}"#), 1.0);
    assert_eq!(value(&figures, r#"carrel_snapshot_lookups_total{result="miss"}"#), 1.0);
    assert_eq!(value(&figures, r#"carrel_attempts_under_way{state="running"}"#), 0.0);
    assert_eq!(value(&figures, r#"carrel_stage_duration_seconds_count{stage="running"}"#), 1.0);
    assert_eq!(value(&figures, r#"carrel_queue_jobs{queue="attempts",state="due"}"#), 0.0);
    assert_eq!(value(&figures, "carrel_database_up"), 1.0);
    assert!(value(&figures, "process_resident_memory_bytes") > 1e6);
    assert!(value(&figures, "process_cpu_seconds_total") > 0.0);
    assert!(value(&figures, "carrel_event_delay_seconds_count") >= 1.0, "`task watch` has watched");
}

#[tokio::test]
async fn figures_want_a_token_where_people_come_and_name_nobody_anywhere() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port").local_addr().expect("an address");
    let own = free.to_string();
    let world = World::with(CARREL, mends(), &[("CARREL_METRICS_LISTEN", &own)]).await;
    let repository = world.repository("unspeakable", FILES);
    world.run(&repository, "Mend the ineffable check").await;
    let http = Client::new();
    let secretive = http.get(format!("{}/unspeakable/path", world.url())).send().await.expect("an answer");
    assert!(secretive.status().is_success() || secretive.status().is_client_error());

    let without = http.get(format!("{}/metrics", world.url())).send().await.expect("an answer");
    let watched = http.get(format!("http://{own}/metrics")).send().await.expect("an answer");

    assert_eq!(without.status(), 401);
    assert!(!without.text().await.expect("text").contains("carrel_jobs_running"));
    let text = watched.text().await.expect("text");
    assert_eq!(names(&text), names(&figures(&world).await));
    for word in ["unspeakable", "ineffable", "/tmp", "check.sh", carrel_testkit::world::MODEL_KEY] {
        assert!(!text.contains(word), "{word} is in\n{text}");
    }
    for (path, status) in [("healthz", 200), ("readyz", 200), ("api/v1/me", 404), ("", 404)] {
        let answer = http.get(format!("http://{own}/{path}")).send().await.expect("an answer");
        assert_eq!(answer.status(), status, "{path}");
    }
}

#[tokio::test]
async fn a_service_whose_sandboxes_are_gone_says_that_it_is_not_ready_and_which_check_it_is() {
    let world = World::new(CARREL, mends()).await;
    let http = Client::new();
    let ask = async || {
        let answer = http.get(format!("{}/readyz", world.url())).send().await.expect("an answer");
        let (status, text) = (answer.status().as_u16(), answer.text().await.expect("text"));
        (status, serde_json::from_str::<Value>(&text).unwrap_or_else(|error| panic!("{error}: {text}")))
    };
    let (status, whole) = ask().await;
    assert_eq!((status, &whole["ready"]), (200, &Value::Bool(true)), "{whole}");
    let names = whole["checks"].as_array().expect("checks").iter().map(|check| check["name"].as_str());
    assert_eq!(names.flatten().collect::<Vec<_>>(), ["database", "worker", "sandboxes", "not stopping"]);

    let (folder, beside) = (world.data().join("sandboxes"), world.data().join("elsewhere"));
    std::fs::rename(&folder, &beside).expect("it is there");
    std::fs::write(&folder, "no folder").expect("a file");
    let (status, broken) = ask().await;
    std::fs::remove_file(&folder).expect("our file");
    std::fs::rename(&beside, &folder).expect("it is there");

    assert_eq!((status, &broken["ready"]), (503, &Value::Bool(false)), "{broken}");
    let bad: Vec<&Value> =
        broken["checks"].as_array().expect("checks").iter().filter(|one| one["ok"] == false).collect();
    assert!(bad.len() == 1 && bad[0]["name"] == "sandboxes", "{broken}");
    assert!(!broken.to_string().contains(&*world.data().to_string_lossy()), "{broken}");
    assert_eq!(ask().await.0, 200);
}

#[tokio::test]
async fn a_log_in_json_says_of_each_line_which_job_attempt_and_task_it_is_about() {
    let world = World::with(CARREL, mends(), &[("CARREL_LOG_FORMAT", "json")]).await;
    let repository = world.repository("api", FILES);

    let task = world.run(&repository, "Mend the check").await;

    let logged = world.logged();
    let lines: Vec<Value> = logged.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let ended =
        lines.iter().find(|line| line["message"] == "an attempt has ended").unwrap_or_else(|| panic!("{logged}"));
    assert_eq!(ended["span"]["task"], task["id"], "{ended}");
    assert_eq!(ended["span"]["attempt"], ended["attempt"], "{ended}");
    assert!(ended["span"]["job"].is_string() && ended["timestamp"].is_string() && ended["level"] == "INFO", "{ended}");
}

#[tokio::test]
async fn as_many_can_watch_as_the_machine_has_open_files_for() {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).expect("a limit");
    // What a login gives; the service inherits it. Tests have processes of their own.
    setrlimit(Resource::RLIMIT_NOFILE, most.min(1024), most).expect("it may be lowered");

    let world = World::new(CARREL, mends()).await;

    let limits = std::fs::read_to_string(format!("/proc/{}/limits", world.service_pid())).expect("it runs");
    let files = limits.lines().find(|line| line.starts_with("Max open files")).expect("a line").split_whitespace();
    assert_eq!(files.skip(3).take(2).collect::<Vec<_>>(), [most.to_string(), most.to_string()]);
}
