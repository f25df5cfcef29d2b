//! Agents that run in the sandbox, played by scripts that say what a broken or a hostile one would, in its protocol's words.

use std::time::Duration;

use carrel_agent::{
    AgentContext, AgentError, AgentLimits, AgentTask, Finished, Guest, GuestModel, GuestProtocol, ModelEndpoint,
    run_guest,
};
use carrel_domain::{EventBody, Usage};
use carrel_testkit::model::Script;
use serde_json::{Value, json};

use crate::world::{World, within};

/// What a script has of each protocol: to hear a line, and to say one.
const WORDS: &str = r#"
hear() { read -r line || exit 0; printf '%s\n' "$line" >> /workspace/heard; }
until_heard() { while hear; do case "$line" in *"$1"*) break;; esac; done; }
say() { printf '%s\n' "$1"; }
"#;

/// The beginning of a session of the Agent Client Protocol: the prompt is request 3.
const ACP: &str = r#"
hear; say '{"id":1,"result":{"protocolVersion":1,"agentCapabilities":{}}}'
hear; say '{"id":2,"result":{"sessionId":"s1"}}'
hear
told() { say "{\"method\":\"session/update\",\"params\":{\"update\":$1}}"; }
message() { told "{\"sessionUpdate\":\"agent_message_chunk\",\"content\":{\"type\":\"text\",\"text\":\"$1\"}}"; }
over() { say "{\"id\":$1,\"result\":{\"stopReason\":\"end_turn\"}}"; }
"#;

/// The same of Codex: the turn is request 3.
const CODEX: &str = r#"
hear; say '{"id":1,"result":{}}'
hear
hear; say '{"id":2,"result":{"thread":{"id":"t1"}}}'
hear
begun() { say "{\"method\":\"turn/started\",\"params\":{\"turn\":{\"id\":\"$1\"}}}"; }
turn() { say "{\"id\":$1,\"result\":{\"turn\":{\"id\":\"$2\"}}}"; }
message() { say "{\"method\":\"item/completed\",\"params\":{\"item\":{\"type\":\"agentMessage\",\"text\":\"$1\"}}}"; }
over() { say "{\"method\":\"turn/completed\",\"params\":{\"turn\":{\"id\":\"$1\",\"status\":\"completed\"}}}"; }
"#;

/// What runs an agent that does what a script says.
pub(crate) struct Played<'w> {
    world: &'w World,
    guest: Guest,
    endpoint: ModelEndpoint,
    limits: AgentLimits,
    pub(crate) model: GuestModel,
}

impl<'w> Played<'w> {
    pub(crate) async fn new(world: &'w World, protocol: GuestProtocol, script: &str) -> Self {
        Self::with_limits(world, protocol, script, AgentLimits::default()).await
    }

    pub(crate) async fn with_limits(
        world: &'w World,
        protocol: GuestProtocol,
        script: &str,
        limits: AgentLimits,
    ) -> Self {
        let words = match protocol {
            GuestProtocol::Acp => ACP,
            GuestProtocol::CodexAppServer => CODEX,
        };
        let script = format!("{WORDS}{words}{script}\nwhile hear; do :; done\n");
        world.sandbox.write_file("/workspace/agent.sh", script.as_bytes(), None).await.expect("it is written");
        let command = ["/bin/bash", "/workspace/agent.sh"].map(str::to_owned).to_vec();
        let guest = Guest { name: "guest".to_owned(), protocol, command, environment: Vec::new() };
        let (endpoint, client) = (world.endpoint.clone(), world.client.clone());
        let (journal, redactor) = (world.journal.clone(), world.redactor.clone());
        let model = GuestModel::new(endpoint, client, journal, redactor, limits, Usage::default());
        Self { world, guest, endpoint: world.endpoint.clone(), limits, model }
    }

    /// What a run starts from.
    pub(crate) fn task(&self, prompt: &str) -> AgentTask {
        AgentTask { limits: self.limits, ..self.world.task(prompt) }
    }

    pub(crate) async fn run(&self, task: AgentTask) -> Result<Finished, AgentError> {
        let world = self.world;
        let context = AgentContext {
            endpoint: &self.endpoint,
            client: &world.client,
            sandbox: &world.sandbox,
            journal: &world.journal,
            redactor: &world.redactor,
            cancel: world.cancel.clone(),
        };
        within(60, Box::pin(run_guest(&self.guest, task, &self.model, &context))).await
    }

    /// The answer of a run that must end well.
    async fn answer(&self, task: AgentTask) -> String {
        Box::pin(self.run(task)).await.expect("an answer").answer
    }
}

/// A model that is not asked.
async fn world() -> World {
    World::new(Script::new(Vec::<carrel_testkit::model::Reply>::new())).await
}

/// What the agent was told, line by line.
async fn heard(world: &World) -> Vec<Value> {
    let lines = world.shell("cat /workspace/heard").await;
    lines.lines().map(|line| serde_json::from_str(line).expect("it is told JSON")).collect()
}

fn said(role: &str, text: &str) -> Value {
    json!({"type": "message", "role": role, "content": [{"type": "output_text", "text": text}]})
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_tells_too_much_goes_on_unheard_and_its_answer_counts() {
    let world = world().await;
    let flood = r#"
perl -e 'for (1..20100) {
  my $of = qq("toolCallId":"c$_","title":"t","kind":"read");
  print qq({"method":"session/update","params":{"update":{"sessionUpdate":"tool_call",$of}}}\n);
  print qq({"method":"session/update","params":{"update":{"sessionUpdate":"tool_call_update",$of,"status":"completed"}}}\n);
}'
message 'Done.'; over 3"#;
    let played = Played::new(&world, GuestProtocol::Acp, flood).await;

    let answer = played.answer(world.task("Go on.")).await;

    let events = world.events();
    let of = |wanted: &str| events.iter().filter(|body| body.kind() == wanted).count();
    assert_eq!(answer, "Done.");
    assert_eq!((of("attempt.progress"), of("attempt.warning"), of("agent.message")), (20_000, 1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_agent_tells_is_cut_and_cleaned() {
    let world = world().await;
    let script = r#"
long=$(printf 'x%.0s' {1..9000})
told "{\"sessionUpdate\":\"plan\",\"entries\":[{\"content\":\"sk-test-key $long\",\"status\":\"pending\"}]}"
told "{\"sessionUpdate\":\"tool_call\",\"toolCallId\":\"p\",\"kind\":\"edit\",\"status\":\"completed\",\"content\":[{\"type\":\"diff\",\"path\":\"a\\u202eb$long\",\"newText\":\"a\"}]}"
message 'Done.'; over 3"#;
    let played = Played::new(&world, GuestProtocol::Acp, script).await;

    played.answer(world.task("Go on.")).await;

    let events = world.events();
    let step = events.iter().find_map(|body| match body {
        EventBody::PlanUpdated { steps, .. } => Some(steps[0].step.clone()),
        _ => None,
    });
    let path = events.iter().find_map(|body| match body {
        EventBody::PatchApplied { files } => Some(files[0].path.clone()),
        _ => None,
    });
    let (step, path) = (step.expect("a plan"), path.expect("a patch"));
    assert!(step.len() == 4096 && step.contains("[redacted]"), "{} {}", step.len(), &step[..40]);
    assert!(path.len() < 4200 && path.starts_with("a\\u{202e}b"), "{} {}", path.len(), &path[..40]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_whose_id_is_no_id_is_a_failure() {
    let world = world().await;
    let mut played = Played::new(&world, GuestProtocol::Acp, "").await;
    let script = r#"read -r l; echo '{"id":1,"result":{"protocolVersion":1,"agentCapabilities":{}}}'
        read -r l; echo "{\"id\":2,\"result\":{\"sessionId\":\"$(printf 'x%.0s' {1..201})\"}}"; cat > /dev/null"#;
    played.guest.command = ["/bin/bash", "-c", script].map(str::to_owned).to_vec();

    let ended = played.run(world.task("Go on.")).await;

    assert!(matches!(&ended, Err(AgentError::Model { reason, .. }) if reason.contains("200 printable")), "{ended:?}");
    assert!(world.items().iter().all(|item| item["type"] != "guest_session"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_after_two_restarts_has_a_name_of_its_own() {
    let world = world().await;
    let script = r#"
for n in 1 2; do
told '{"sessionUpdate":"tool_call","toolCallId":"c","kind":"execute","title":"ls","status":"pending"}'
told '{"sessionUpdate":"tool_call_update","toolCallId":"c","status":"completed"}'
done
message 'Done.'; over 3"#;
    let played = Played::new(&world, GuestProtocol::Acp, script).await;
    let resumed = vec![said("user", "Go on.")];
    let shown = [("c".to_owned(), 3), ("c-2".to_owned(), 0)].into();

    played.answer(AgentTask { resumed, shown, ..world.task("Go on.") }).await;

    let names: Vec<String> = world.events().into_iter().filter_map(command).collect();
    assert_eq!(names, ["started c-3", "ended c-3"], "and once");
}

fn command(body: EventBody) -> Option<String> {
    match body {
        EventBody::CommandStarted { command_id, .. } => Some(format!("started {command_id}")),
        EventBody::CommandEnded { command_id, .. } => Some(format!("ended {command_id}")),
        _ => None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_that_is_too_long_ends_the_agent_with_a_clear_reason() {
    let world = world().await;
    let script = "perl -e 'print q(x) x (5 << 20)'";
    let played = Played::new(&world, GuestProtocol::Acp, script).await;

    let ended = played.run(world.task("Go on.")).await;

    assert!(
        matches!(&ended, Err(AgentError::Model { reason, .. }) if reason.contains("more than 4 MiB in one line")),
        "{ended:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_comes_after_the_answer_starts_the_agent_again() {
    let world = world().await;
    let script = "message 'Gone on.'; over 3; hear; message 'Heard.'; over 4";
    let played = Played::new(&world, GuestProtocol::Acp, script).await;
    let task = || AgentTask { resumed: vec![said("user", "Go."), said("assistant", "First.")], ..world.task("Go.") };

    let before = played.answer(task()).await;
    world.say("And another thing");
    let after = played.answer(task()).await;

    assert_eq!((before.as_str(), after.as_str()), ("First.", "Heard."));
    let heard = heard(&world).await;
    assert_eq!(heard.last().expect("lines")["params"]["prompt"][0]["text"], "And another thing");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_turn_that_follows_one_that_just_ended_is_waited_for() {
    let world = world().await;
    // What is said comes too late for the turn: it ends while it is told.
    let script = r#"
turn 3 one; begun one; message 'First.'
until_heard turn/steer; over one; say '{"id":4,"error":{"code":-1,"message":"no turn"}}'
until_heard turn/start; turn 5 two; begun two; sleep 0.5; message 'Second.'; over two"#;
    let played = Played::new(&world, GuestProtocol::CodexAppServer, script).await;

    let (answer, ()) = tokio::join!(played.answer(world.task("Go.")), async {
        world.wait_for("agent.message").await;
        world.say("And another thing");
    });

    assert_eq!(answer, "Second.");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_turn_that_ends_before_its_beginning_is_answered_is_over() {
    let world = world().await;
    let script = r#"
turn 3 one; begun one; message 'First.'
until_heard turn/steer; over one; say '{"id":4,"error":{"code":-1,"message":"no turn"}}'
until_heard turn/start; begun two; message 'Second.'; over two; turn 5 two"#;
    let played = Played::new(&world, GuestProtocol::CodexAppServer, script).await;

    let (answer, ()) = tokio::join!(played.answer(world.task("Go.")), async {
        world.wait_for("agent.message").await;
        world.say("And another thing");
    });

    assert_eq!(answer, "Second.");
    assert!(tokio::time::timeout(Duration::from_secs(1), world.wait_for("message.delivered")).await.is_ok());
}
