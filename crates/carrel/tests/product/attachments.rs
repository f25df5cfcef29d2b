//! Files given with a prompt.

use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use carrel_testkit::model::Reply;
use reqwest::{Client, StatusCode};
use serde_json::{Value, json};

use crate::{CARREL, FILES, World, attempt, says};

/// A picture of one pixel.
const PIXEL: &str = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";

fn file(folder: &Path, name: &str, bytes: &[u8]) -> String {
    let path: PathBuf = folder.join(name);
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
    std::fs::write(&path, bytes).expect("a file");
    path.to_str().expect("UTF-8").to_owned()
}

/// The parts of the message that has this text.
fn parts_of(request: &Value, text: &str) -> Vec<Value> {
    let items = request["input"].as_array().expect("items");
    let item = items.iter().find(|item| item["content"].to_string().contains(text)).expect("the prompt");
    item["content"].as_array().expect("parts").clone()
}

async fn upload(world: &World, name: &str, bytes: Vec<u8>) -> (StatusCode, Value) {
    let name = name.replace('/', "%2F");
    let url = format!("{}/api/v1/attachments?name={name}", world.url());
    let request = Client::new().post(url).bearer_auth(world.token()).body(bytes);
    let answer = request.send().await.expect("an answer");
    (answer.status(), answer.json().await.expect("JSON"))
}

#[tokio::test]
async fn what_is_attached_lies_in_the_sandbox_and_an_image_is_seen() {
    let look = "ls -l /attachments; cat /attachments/*.log; echo x >> /attachments/trace_one.log; git status --short";
    let script = says([Reply::command(look), Reply::message("Read.")])
        .when("And now", [Reply::command("ls /attachments"), Reply::message("Still there.")]);
    let world = World::new(CARREL, script).await;
    let repository = world.repository("api", FILES);
    let one = file(world.folder(), "a/trace one.log", b"first trace\n");
    let two = file(world.folder(), "b/trace one.log", b"second trace\n");
    let image = file(world.folder(), "shot.png", &STANDARD.decode(PIXEL).expect("base64"));
    let given = ["--attach", &one, "--attach", &two, "--image", &image, "Look at these"];

    let id = world.create_with(&repository, &given).await;
    let task = world.ended(&id).await;
    let three = file(world.folder(), "c/trace one.log", b"third trace\n");
    world.json(&["task", "follow-up", &id, "--attach", &three, "And now"]).await;
    let after = world.ended(&id).await;

    let names = |turn: usize| {
        let given = after["turns"][turn]["attachments"].as_array().expect("attachments").clone();
        given.iter().filter_map(|one| one["name"].as_str().map(str::to_owned)).collect::<Vec<_>>()
    };
    assert_eq!(names(0), ["trace_one.log", "trace_one-2.log", "shot.png"], "{after:#}");
    assert_eq!(names(1), ["trace_one-3.log"]);
    assert!(attempt(&task)["result"]["patch"].is_null(), "attachments are no changes: {task:#}");
    let requests = world.model().requests();
    let parts = parts_of(&requests[0].json(), "Look at these");
    let listed = parts[1]["text"].as_str().expect("a list");
    assert!(listed.contains("/attachments/trace_one-2.log (13 bytes)"), "{listed}");
    assert!(listed.contains("/attachments/shot.png") && listed.contains("an image, shown below"), "{listed}");
    assert_eq!(parts[2]["image_url"], format!("data:image/png;base64,{PIXEL}"), "{parts:#?}");
    let output = requests[1].output(0).expect("a result");
    assert!(output.contains("first trace") && output.contains("second trace"), "{output}");
    assert!(output.contains("-r--r--r--"), "they are for reading: {output}");
    let later = requests.last().and_then(|last| last.output(1)).expect("a result");
    assert!(later.contains("shot.png") && later.contains("trace_one-3.log"), "{later}");
}

#[tokio::test]
async fn an_attachment_is_given_back_to_its_owner_only_and_runs_nowhere() {
    let world = World::new(CARREL, says([Reply::message("unused")])).await;
    let (status, page) = upload(&world, "../x.html", b"<script>alert(1)</script>".to_vec()).await;
    let (_, image) = upload(&world, "x", STANDARD.decode(PIXEL).expect("base64")).await;
    let get = |id: &Value| {
        let url = format!("{}/api/v1/attachments/{}", world.url(), id.as_str().expect("an id"));
        Client::new().get(url)
    };

    let shown = get(&page["id"]).bearer_auth(world.token()).send().await.expect("an answer");
    let picture = get(&image["id"]).bearer_auth(world.token()).send().await.expect("an answer");
    let stranger = get(&page["id"]).send().await.expect("an answer");

    assert_eq!((status, &page["name"], &page["media_type"]), (StatusCode::CREATED, &json!("x.html"), &Value::Null));
    assert_eq!(image["media_type"], "image/png");
    assert_eq!(shown.headers()["content-type"], "application/octet-stream");
    assert!(shown.headers()["content-disposition"].to_str().expect("text").starts_with("attachment;"));
    assert_eq!(picture.headers()["content-type"], "image/png");
    assert_eq!(stranger.status(), StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn what_cannot_be_attached_is_refused_and_says_why() {
    let world = World::new(CARREL, says([Reply::message("unused")])).await;
    let repository = world.repository("api", FILES);
    let text = file(world.folder(), "notes.txt", b"no image");
    let create = async |ids: Vec<String>| {
        let body = json!({"repository": repository.path(), "mode": "code", "prompt": "x", "attachments": ids});
        let request = Client::new().post(format!("{}/api/v1/tasks", world.url())).bearer_auth(world.token());
        let answer = request.json(&body).send().await.expect("an answer");
        (answer.status(), answer.text().await.expect("text"))
    };
    let nothing = "0198c1de-7a3b-7c4e-9d5f-0123456789ab".to_owned();

    let (too_large, _) = upload(&world, "big", vec![7; 20 * 1024 * 1024 + 1]).await;
    let (as_large_as_may_be, _) = upload(&world, "big", vec![7; 20 * 1024 * 1024]).await;
    let (empty, _) = upload(&world, "none", Vec::new()).await;
    let unknown = create(vec![nothing.clone()]).await;
    let twice = create(vec![nothing.clone(), nothing.clone()]).await;
    let many = create((0..21).map(|_| nothing.clone()).collect()).await;
    let path = repository.path().to_str().expect("UTF-8");
    let no_image = world.carrel(&["task", "create", "--repository", path, "--image", &text, "Look"]).await;

    assert_eq!(too_large, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(as_large_as_may_be, StatusCode::CREATED);
    assert_eq!(empty, StatusCode::UNPROCESSABLE_ENTITY);
    for (refused, says) in [(unknown, "there is no attachment"), (twice, "given twice"), (many, "20 at most")] {
        assert_eq!(refused.0, StatusCode::UNPROCESSABLE_ENTITY, "{}", refused.1);
        assert!(refused.1.contains(says), "{}", refused.1);
    }
    assert_eq!(no_image.code, 2, "{no_image:?}");
    assert!(no_image.stderr.contains("--attach"), "{no_image:?}");
    assert_eq!(world.json(&["task", "list"]).await["items"], json!([]), "nothing is stored of what was refused");
}
