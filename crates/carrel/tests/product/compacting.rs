//! The plug is pulled while a conversation is made shorter: it goes on, nothing is lost, and nothing runs twice.

use carrel_testkit::model::{Exchange, Fault, Reply, Script, ScriptedModel, Step};
use carrel_testkit::world::MODEL_KEY;
use serde_json::{Value, json};

use crate::recovery::touch_inside;
use crate::{CARREL, FILES, World, attempt, of_type, says};

/// What only the request for a summary has in it.
const ASKED: &str = "Your context window is nearly full.";

/// What every conversation that goes on from a summary has in it.
const SUMMARY: &str = "[Context summary 1]";

/// A command that leaves its number, and fills the window by some.
fn work(number: usize) -> Reply {
    Reply::command(format!("echo step-{number} >> steps; seq -s ' ' 100000 100900"))
}

/// A world whose model has a small window.
async fn world(script: Script) -> (World, ScriptedModel) {
    let model = ScriptedModel::start(script.key(MODEL_KEY)).await.expect("a server");
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    let text = format!(
        "default = \"small\"\n[providers.one]\nprotocol = \"responses\"\nbase_url = \"{}\"\nkey_variable = \"FILE_KEY\"\n\
         [[models]]\nname = \"small\"\nprovider = \"one\"\nid = \"gpt-5-codex\"\ncontext_window = 16000\n",
        model.url()
    );
    std::fs::write(file.path(), text).expect("written");
    let path = file.into_temp_path().keep().expect("kept").to_string_lossy().into_owned();
    let variables = [("CARREL_MODELS_FILE", path.as_str()), ("FILE_KEY", MODEL_KEY)];
    (World::with(CARREL, says([Reply::message("Of the variables.")]), &variables).await, model)
}

fn has(request: &Exchange, text: &str) -> bool {
    String::from_utf8_lossy(&request.body).contains(text)
}

/// Waits until the model is asked something with this text in it.
async fn asked(model: &ScriptedModel, text: &str) {
    let mut number = 0;
    while !has(&model.request(number).await, text) {
        number += 1;
    }
}

/// What must be so however the plug was pulled: one end, one summary, and each command ran once.
async fn assert_whole(world: &World, id: &str) {
    let task = world.ended(id).await;
    assert_eq!(attempt(&task)["state"], "ready", "{task:#}\n{}", world.logged());
    assert_eq!(attempt(&task)["result"]["answer"], "Done.");
    let events = world.events(id).await;
    assert_eq!(of_type(&events, "context.compacted").len(), 1, "{events:#?}");
    let diff = world.carrel(&["task", "diff", id]).await.stdout;
    let steps: Vec<&str> = diff.lines().filter_map(|line| line.strip_prefix("+step-")).collect();
    let mut once = steps.clone();
    once.dedup();
    assert!(steps.len() > 3 && steps == once, "{steps:?}");
    assert_eq!(steps.len(), of_type(&events, "command.started").len(), "{steps:?}");
    let called = of_type(&events, "conversation.item");
    let of = |kind: &str| called.iter().filter(|event| event["data"]["item"]["type"] == kind).count();
    assert_eq!(of("function_call"), of("function_call_output"), "every call has its result");
    let goal = |item: &&Value| item.to_string().contains("Paint the bridge teal");
    let compacted = &of_type(&events, "context.compacted")[0]["data"]["items"];
    assert!(compacted.as_array().is_some_and(|items| items.iter().any(|item| goal(&item))), "{compacted}");
}

#[tokio::test]
async fn a_service_that_is_killed_before_a_summary_is_asked_for_goes_on() {
    // The second result does not fit into the window any more, and comes only after the restart.
    let wait = "echo step-6 >> steps; while [ ! -e /tmp/go ]; do sleep 0.05; done; seq -s ' ' 100000 103500";
    let wait = Reply::call("exec_command", json!({"cmd": wait, "yield_time_ms": 30000, "max_output_tokens": 20000}));
    let script = says((0..1).map(work).chain([wait]).chain((7..30).map(work)))
        .when(SUMMARY, [work(1000), work(1001), Reply::message("Done.")])
        .when(ASKED, [Reply::message("I looked around.")]);
    let (mut world, model) = world(script).await;
    let repository = world.repository("api", FILES);
    let id = world.create(&repository, "Paint the bridge teal").await;
    world.events_until(&id, |events| of_type(events, "command.started").len() == 2).await;
    assert!(!model.requests().iter().any(|request| has(request, ASKED)));

    world.kill().await;
    touch_inside(&world);
    world.start().await;

    assert_whole(&world, &id).await;
}

#[tokio::test]
async fn a_service_that_is_killed_while_a_summary_is_written_asks_for_it_again() {
    let script = says((0..30).map(work))
        .when(SUMMARY, [work(1000), Reply::message("Done.")])
        .when(ASKED, [Reply::message("I looked around.").after(Fault::Stall { after_bytes: 0 })]);
    let (mut world, model) = world(script).await;
    let repository = world.repository("api", FILES);
    let id = world.create(&repository, "Paint the bridge teal").await;
    asked(&model, ASKED).await;

    world.kill().await;
    world.start().await;

    assert_whole(&world, &id).await;
    assert_eq!(model.requests().iter().filter(|request| has(request, ASKED)).count(), 2);
}

#[tokio::test]
async fn a_service_that_is_killed_once_a_summary_is_stored_goes_on_from_it() {
    let script = says((0..30).map(work))
        .when(SUMMARY, [Step::from(work(1000)).after(Fault::Stall { after_bytes: 0 }), Reply::message("Done.").into()])
        .when(ASKED, [Reply::message("I looked around.")]);
    let (mut world, model) = world(script).await;
    let repository = world.repository("api", FILES);
    let id = world.create(&repository, "Paint the bridge teal").await;
    world.events_until(&id, |events| !of_type(events, "context.compacted").is_empty()).await;

    world.kill().await;
    world.start().await;

    assert_whole(&world, &id).await;
    assert_eq!(model.requests().iter().filter(|request| has(request, ASKED)).count(), 1);
}

#[tokio::test]
async fn an_attempt_is_stopped_within_a_second_while_its_summary_is_written() {
    let script = says((0..30).map(work)).when(ASKED, [Step::always(Fault::Stall { after_bytes: 0 })]);
    let (world, model) = world(script).await;
    let repository = world.repository("api", FILES);
    let id = world.create(&repository, "Paint the bridge teal").await;
    asked(&model, ASKED).await;

    let stopped = world.json(&["task", "cancel", &id]).await;

    assert_eq!(attempt(&stopped)["state"], "cancelled", "{stopped:#}");
    let events = world.events(&id).await;
    assert!(of_type(&events, "context.compacted").is_empty());
}
