//! What makes no sense is refused with a clear error, and nothing is stored or lost.

use carrel_testkit::Repository;
use carrel_testkit::model::{Reply, Script};
use serde_json::{Value, json};

use crate::{CARREL, FILES, World, assert_refused, mends};

async fn world() -> World {
    World::new(CARREL, mends()).await
}

async fn create(world: &World, arguments: &[&str]) -> carrel_testkit::Ran {
    world.carrel(&[&["task", "create", "--repository"], arguments].concat()).await
}

#[tokio::test]
async fn a_path_that_is_not_there_is_named() {
    let world = world().await;

    let ran = create(&world, &["/nowhere/at/all", "Fix it"]).await;

    assert_eq!(ran.code, 2, "{ran:?}");
    assert!(ran.stderr.contains("`/nowhere/at/all`"), "{ran:?}");
}

#[tokio::test]
async fn a_folder_that_is_no_repository_is_refused() {
    let world = world().await;
    let folder = world.folder().join("plain");
    std::fs::create_dir(&folder).expect("a folder");

    let ran = create(&world, &[&folder.to_string_lossy(), "Fix it"]).await;

    assert_refused(&world, &ran, "is not a git repository").await;
}

#[tokio::test]
async fn an_empty_repository_is_refused() {
    let world = world().await;
    let repository = Repository::empty(&world.folder().join("empty"));

    let ran = create(&world, &[&repository.path().to_string_lossy(), "Fix it"]).await;

    assert_refused(&world, &ran, "is empty").await;
}

#[tokio::test]
async fn a_branch_that_is_not_there_is_refused_and_those_that_are_like_it_named() {
    let world = world().await;
    let repository = world.repository("api", FILES);

    let ran = create(&world, &[&repository.path().to_string_lossy(), "--branch", "mian", "Fix it"]).await;

    assert_refused(&world, &ran, "there is no branch `mian`; did you mean `main`?").await;
}

#[tokio::test]
async fn names_of_branches_that_could_mislead_run_nothing() {
    let world = world().await;
    let repository = world.repository("api", FILES);
    let path = repository.path().to_string_lossy().into_owned();
    let mark = world.folder().join("ran");

    for name in [
        "a b",
        "main\u{3000}",
        "main\u{a0}&& touch x",
        "-main",
        "--upload-pack=touch",
        "a\u{200b}b",
        "a..b",
        "a\nb",
        &format!("$(touch {})", mark.display()),
        &format!("';touch${{IFS}}{};'", mark.display()),
        "\"",
    ] {
        let ran = create(&world, &[&path, "--branch", name, "Fix it"]).await;
        assert_refused(&world, &ran, "branch").await;
    }
    assert!(!mark.exists());
}

#[tokio::test]
async fn a_prompt_must_say_something_and_end_somewhere() {
    let world = world().await;
    let repository = world.repository("api", FILES);
    let path = repository.path().to_string_lossy().into_owned();

    let ran = create(&world, &[&path, "  "]).await;
    assert_refused(&world, &ran, "the prompt is empty").await;

    let long = json!({"repository": path, "mode": "code", "prompt": "x".repeat(1 << 20)});
    let (status, problem) = post(&world, "tasks", &long).await;
    assert_eq!(status, 422);
    assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("1048576 bytes")), "{problem}");
    assert_eq!(problem["errors"][0]["field"], "prompt");
}

#[tokio::test]
async fn requests_that_make_no_sense_are_problem_documents_that_name_the_field() {
    let world = world().await;
    let repository = world.repository("api", FILES);
    let path = repository.path().to_string_lossy().into_owned();

    for (body, says) in [
        (json!({"mode": "code", "prompt": "x"}), "repository"),
        (json!({"repository": path, "mode": "play", "prompt": "x"}), "play"),
        (json!({"repository": path, "mode": "code", "prompt": "x", "atempts": 2}), "atempts"),
        (json!({"repository": path, "mode": "code", "prompt": "x", "attempts": 5}), "1 to 4"),
        (json!({"repository": path, "mode": "code", "prompt": "x", "attempts": 0}), "1 to 4"),
        (json!({"repository": path, "mode": "code", "prompt": "x", "branch": "a", "commit": "abcdef1"}), "both"),
        (json!({"repository": path, "mode": "code", "prompt": "x", "commit": "HEAD~1"}), "hexadecimal"),
        (json!({"repository": path, "mode": "code", "prompt": "x", "commit": "abcdef1234"}), "no commit"),
        (json!({"repository": path, "mode": "code", "prompt": "x", "model": "gpt-9"}), "gpt-9"),
        (json!({"repository": "ext::sh -c id", "mode": "code", "prompt": "x"}), "repository"),
        (json!({"repository": "relative", "mode": "code", "prompt": "x"}), "absolute path"),
        (json!({"repository": "https://u:hunter22@example.com/a", "mode": "code", "prompt": "x"}), "credential"),
    ] {
        let (status, problem) = post(&world, "tasks", &body).await;
        assert_eq!(status, 422, "{body}: {problem}");
        assert!(problem["errors"][0]["field"].is_string(), "{body}: {problem}");
        let detail = problem["detail"].as_str().unwrap_or_default();
        assert!(detail.contains(says) && !detail.contains("hunter22"), "{body}: {problem}");
    }
    let list = world.json(&["task", "list"]).await;
    assert_eq!(list["items"], json!([]));
}

#[tokio::test]
async fn what_cannot_be_read_is_said_in_words_of_the_service() {
    let world = world().await;

    for (body, field, words) in [
        (json!({}), "repository", "`repository` is missing"),
        (json!({"repository": "/a", "mode": "code", "prompt": 7}), "prompt", "must be text"),
        (
            json!({"repository": "/a", "mode": "code", "prompt": "x", "limits": {"steps": -1}}),
            "limits.steps",
            "0 or more",
        ),
    ] {
        let (status, problem) = post(&world, "tasks", &body).await;
        let detail = problem["detail"].as_str().unwrap_or_default();
        assert_eq!((status, &problem["errors"][0]["field"]), (422, &json!(field)), "{problem}");
        assert!(detail.contains(words) && !detail.contains("line 1"), "{problem}");
        assert_eq!(problem["errors"][0]["message"], problem["detail"]);
    }
    let ask = async |query: &str| {
        let url = format!("{}/api/v1/tasks?{query}", world.url());
        let answer = reqwest::Client::new().get(url).bearer_auth(world.token()).send().await.expect("an answer");
        (answer.status().as_u16(), answer.json::<Value>().await.expect("JSON"))
    };
    for (query, field) in [("limit=abc", "limit"), ("limit=0", "limit"), ("limti=1", "limti"), ("before=x", "before")] {
        let (status, problem) = ask(query).await;
        assert_eq!((status, &problem["errors"][0]["field"]), (422, &json!(field)), "{problem}");
        assert!(!problem["detail"].to_string().contains("deserialize"), "{problem}");
    }
}

#[tokio::test]
async fn an_id_that_names_nothing_is_a_404_that_says_so() {
    let world = world().await;
    let nothing = "0198c1de-7a3b-7c4e-9d5f-0123456789ab";

    let ran = world.carrel(&["task", "show", nothing]).await;

    assert_eq!(ran.code, 3);
    assert!(ran.stderr.contains("there is no such task"), "{ran:?}");
    let ran = world.carrel(&["--json", "task", "show", nothing]).await;
    let error: Value = serde_json::from_str(&ran.stderr).expect("errors are JSON, too");
    assert_eq!(
        (ran.stdout.as_str(), &error["code"], &error["error"]),
        ("", &json!(3), &json!("there is no such task"))
    );
    for path in [format!("attempts/{nothing}/cancel"), format!("tasks/{nothing}/turns"), "attempts/x/cancel".to_owned()]
    {
        let (status, problem) = post(&world, &path, &json!({"prompt": "x"})).await;
        assert_eq!(status, 404, "{path}: {problem}");
    }
}

#[tokio::test]
async fn without_a_model_a_task_is_refused_with_the_way_out() {
    let variables = [("CARREL_MODEL_URL", ""), ("CARREL_MODEL_KEY", "")];
    let world = World::with(CARREL, Script::new([Reply::message("unused")]), &variables).await;
    let repository = world.repository("api", FILES);

    let ran = create(&world, &[&repository.path().to_string_lossy(), "Fix it"]).await;

    assert_refused(&world, &ran, "CARREL_MODEL_URL").await;
}

#[tokio::test]
async fn a_url_that_nobody_answers_fails_the_attempt_with_the_reason() {
    let world = world().await;
    let closed = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");

    let url = format!("http://{closed}/acme/api.git");
    let task = world.json(&["task", "create", "--repository", &url, "Fix it"]).await;
    let task = world.ended(task["id"].as_str().expect("an id")).await;

    let attempt = crate::attempt(&task);
    assert_eq!(attempt["failure"]["stage"], "preparing", "{attempt:#}");
    assert!(crate::reason(&task).contains("cannot be reached"), "{attempt:#}");
}

pub(crate) async fn post(world: &World, path: &str, body: &Value) -> (u16, Value) {
    let url = format!("{}/api/v1/{path}", world.url());
    let request = reqwest::Client::new().post(url).bearer_auth(world.token()).json(body);
    let answer = request.send().await.expect("the service answers");
    let status = answer.status().as_u16();
    if status >= 400 {
        assert_eq!(answer.headers()["content-type"], "application/problem+json");
    }
    (status, answer.json().await.expect("JSON"))
}
