//! Files that an agent attaches, and output of earlier turns that it reads again.

use carrel_testkit::model::Reply;
use serde_json::json;

use crate::{CARREL, FILES, World, attempt, of_type, says};

/// A page that would run a script if a browser took it for one.
const PAGE: &str = "<html><script>alert(1)</script></html>";

fn attach(path: &str, name: &str) -> Reply {
    Reply::call("attach_artifact", json!({ "path": path, "name": name, "description": "What it looks like" }))
}

#[tokio::test]
async fn an_attached_file_is_listed_served_harmlessly_and_saved() {
    let make = format!("printf '{PAGE}' > /tmp/page.html; printf '\\x89PNG\\r\\n\\x1a\\nrest' > /tmp/x; rm -f answer");
    let script = says([
        Reply::command(make),
        attach("/tmp/page.html", "../a page.png").then(attach("/tmp/x", "shot")),
        Reply::message("Attached."),
    ]);
    let world = World::new(CARREL, script).await;
    let repository = world.repository("api", FILES);
    let id = world.create(&repository, "Show it").await;
    let task = world.ended(&id).await;
    let attempt = attempt(&task)["id"].as_str().expect("an id").to_owned();

    let list = world.json(&["task", "artifacts", &id]).await;
    let folder = tempfile::tempdir().expect("a folder");
    let output = folder.path().join("out");
    let output = output.to_str().expect("a name");
    let saved = world.carrel(&["task", "artifacts", &id, "--output", output]).await;
    let again = world.carrel(&["task", "artifacts", &id, "--output", output]).await;

    let told = |field: &str| {
        let items = list["items"].as_array().expect("a list").iter();
        items.map(|item| item[field].clone()).collect::<Vec<_>>()
    };
    assert_eq!(told("name"), ["a page.png", "shot"]);
    assert_eq!(told("media_type"), ["application/octet-stream", "image/png"]);
    assert_eq!(saved.code, 0, "{saved:?}");
    assert_eq!(std::fs::read_to_string(folder.path().join("out/a page.png")).expect("saved"), PAGE);
    assert_ne!(again.code, 0, "nothing is replaced: {again:?}");
    let get = |name: &str| {
        let url = format!("{}/api/v1/attempts/{attempt}/artifacts/{name}", world.url().trim_end_matches('/'));
        reqwest::Client::new().get(url).bearer_auth(world.token()).send()
    };
    let page = get("a%20page.png").await.expect("an answer");
    let header = |name: &str| page.headers()[name].to_str().expect("text").to_owned();
    assert_eq!(header("content-type"), "application/octet-stream");
    assert_eq!(header("content-disposition"), "attachment; filename*=UTF-8''a%20page.png");
    assert_eq!(header("x-content-type-options"), "nosniff");
    assert!(header("content-security-policy").contains("sandbox"), "{}", header("content-security-policy"));
    assert_eq!(get("..%2Fpatch").await.expect("an answer").status(), 404);
    let events = world.events(&id).await;
    assert_eq!(of_type(&events, "artifact.attached").len(), 2);
}

#[tokio::test]
async fn a_follow_up_reads_what_a_command_of_the_turn_before_printed() {
    let script = says([Reply::command("seq 1 20000"), Reply::message("Counted.")]).when(
        "Again",
        [Reply::call("read_output", json!({"session_id": 3, "start_line": 19_999})), Reply::message("Read.")],
    );
    let world = World::new(CARREL, script).await;
    let repository = world.repository("api", FILES);
    let id = world.create(&repository, "Count").await;
    world.ended(&id).await;

    world.json(&["task", "follow-up", &id, "Again"]).await;
    world.ended(&id).await;

    let last = world.model().requests().last().expect("requests").json().to_string();
    assert!(last.contains("From the log of an earlier turn") && last.contains("20000:20000"), "{last:.2000}");
}
