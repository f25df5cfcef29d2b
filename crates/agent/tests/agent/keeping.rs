//! `view_image` and `attach_artifact`.

use carrel_agent::AgentTask;
use carrel_domain::EventBody;
use carrel_testkit::model::{Fault, Reply, Script};
use serde_json::json;

use crate::world::World;

/// A PNG file of one red pixel, in base64.
const PIXEL: &str = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4z8AAAAMBAQDJ/pLvAAAAAElFTkSuQmCC";

fn view(path: &str) -> Reply {
    Reply::call("view_image", json!({"path": path}))
}

fn attach(arguments: serde_json::Value) -> Reply {
    Reply::call("attach_artifact", arguments)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_goes_to_the_model_and_only_its_name_to_the_log() {
    let world = World::new(Script::new([view("a b.png"), Reply::message("Red.")])).await;
    world.shell(&format!("echo {PIXEL} | base64 -d > 'a b.png'")).await;

    world.answer("What colour?").await;

    let requests = world.requests();
    let input = requests.last().expect("a request").input();
    let output = &input.iter().find(|item| item["type"] == "function_call_output").expect("a result")["output"];
    assert_eq!(output[0]["text"], "/workspace/repo/a b.png: image/png, 1 x 1 pixels, 69 bytes");
    assert_eq!(output[1], json!({"type": "input_image", "image_url": format!("data:image/png;base64,{PIXEL}")}));
    let viewed = world.events().into_iter().find(|body| matches!(body, EventBody::ImageViewed { .. }));
    let expected = EventBody::ImageViewed {
        path: "/workspace/repo/a b.png".to_owned(),
        media_type: "image/png".to_owned(),
        size_bytes: 69,
        width: 1,
        height: 1,
    };
    assert_eq!(viewed, Some(expected));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_image_or_too_large_is_answered_with_a_way_out() {
    let paths = ["greeting.txt", "nowhere.png", "huge.png", "wide.png", "/proc/self/mem", "fifo"];
    let replies = paths.iter().map(|path| view(path));
    let world = World::new(Script::new(replies.chain([Reply::message("Done.")]))).await;
    world
        .shell(
            "truncate -s 5M huge.png; mkfifo fifo; printf '\\x89PNG\\r\\n\\x1a\\n\\0\\0\\0\\rIHDR\\0\\0\\xff\\xff\\0\\0\\xff\\xff' > wide.png",
        )
        .await;

    world.answer("Go.").await;

    for (index, expected) in [
        "is no PNG, JPEG, GIF or WebP",
        "`/workspace/repo/nowhere.png` is not in the sandbox",
        "make a smaller copy",
        "has 65535 x 65535 pixels",
        "/proc/self/mem",
        "is not a regular file",
    ]
    .iter()
    .enumerate()
    {
        assert!(world.result(index).contains(expected), "{}", world.result(index));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_without_eyes_is_told_so_and_not_offered_the_tool() {
    let mut world = World::new(Script::new([view("a.png"), Reply::message("Done.")])).await;
    world.endpoint.images = false;

    world.answer("Go.").await;

    assert!(world.result(0).contains("takes no images"), "{}", world.result(0));
    let tools = world.requests()[0].json()["tools"].to_string();
    assert!(!tools.contains("view_image") && tools.contains("attach_artifact"), "{tools}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_kept_with_its_event_under_a_harmless_name() {
    let script = Script::new([
        attach(json!({"path": "greeting.txt", "name": "../the report.txt", "description": "Says hello"})),
        attach(json!({"path": "nowhere"})),
        attach(json!({"path": "big"})),
        Reply::message("Done."),
    ]);
    let world = World::new(script).await;
    world.shell("truncate -s 11M big").await;

    world.answer("Go.").await;

    assert_eq!(world.result(0), "The file is attached as `the report.txt` (12 bytes). The person can download it.");
    assert!(world.result(1).contains("is not in the sandbox"), "{}", world.result(1));
    assert!(world.result(2).contains("an artifact at most 10485760"), "{}", world.result(2));
    let kept = world.kept.lock().expect("no panic").clone();
    assert_eq!(
        kept.iter().map(|file| (file.name.as_str(), file.bytes.as_slice())).collect::<Vec<_>>(),
        [("the report.txt", &b"hello\nworld\n"[..])]
    );
    let told = world.events().into_iter().filter(|body| matches!(body, EventBody::ArtifactAttached { .. }));
    let expected = EventBody::ArtifactAttached {
        name: "the report.txt".to_owned(),
        size_bytes: 12,
        description: Some("Says hello".to_owned()),
    };
    assert_eq!(told.collect::<Vec<_>>(), [expected]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_attached_before_a_resumption_counts_and_is_not_attached_again() {
    let files: Vec<Reply> =
        (0..20).map(|number| attach(json!({"path": "greeting.txt", "name": number.to_string()}))).collect();
    let world = World::new(Script::new(
        files.into_iter().chain([attach(json!({"path": "greeting.txt", "name": "more"})), Reply::message("Done.")]),
    ))
    .await;
    world.answer("Go.").await;
    assert!(world.result(20).contains("has 20 artifacts"), "{}", world.result(20));
    // The first twenty results had been recorded.
    let items: Vec<_> = world.items().into_iter().take(2 + 40).collect();

    let task = AgentTask { resumed: items, ..world.task("Go.") };
    world.run_task(task).await.expect("an answer");

    assert!(world.result(20).contains("has 20 artifacts"), "{}", world.result(20));
    assert_eq!(world.kept.lock().expect("no panic").len(), 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn images_are_left_out_when_they_make_a_request_too_large() {
    let too_large = Fault::Status { code: 413, message: "request too large".to_owned(), retry_after: None };
    let script =
        Script::new([view("a.png").into(), Reply::command("echo 1").after(too_large), Reply::message("Done.").into()]);
    let mut world = World::new(script).await;
    world.endpoint.images = true;
    world.shell(&format!("echo {PIXEL} | base64 -d > a.png")).await;

    let answer = world.answer("Look.").await;

    assert_eq!((answer.as_str(), world.requests().len()), ("Done.", 4));
    let shown: Vec<bool> =
        world.requests().iter().map(|request| request.json().to_string().contains("data:image/png")).collect();
    assert_eq!(shown, [false, true, false, false]);
    assert!(world.kinds().contains(&"attempt.warning") && !world.kinds().contains(&"context.compacted"));
}
