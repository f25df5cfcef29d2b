//! Everything a run needs: a sandbox with a small repository in it, a model that answers from a script, and a journal
//! that keeps what it is told.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use carrel_agent::{
    AgentContext, AgentError, AgentLimits, AgentTask, Attachment, Entry, Finished, Journal, ModelClient, ModelEndpoint,
    Said, run,
};
use carrel_domain::task::Mode;
use carrel_domain::{EventBody, Redactor, SandboxId, Secret, Usage};
use carrel_sandbox::{Command, Launcher, Limits, LocalOptions, Sandbox, SandboxSpec, Sandboxes};
use carrel_testkit::model::{Exchange, Script, ScriptedModel};
use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

pub(crate) const WORKSPACE: &str = "/workspace/repo";

pub(crate) struct World {
    pub(crate) sandboxes: Sandboxes,
    pub(crate) sandbox: Sandbox,
    pub(crate) model: ScriptedModel,
    pub(crate) endpoint: ModelEndpoint,
    pub(crate) client: ModelClient,
    pub(crate) redactor: Redactor,
    pub(crate) cancel: CancellationToken,
    pub(crate) journal: Journal,
    events: watch::Sender<Vec<EventBody>>,
    /// The files the agent attached.
    pub(crate) kept: Arc<Mutex<Vec<Attachment>>>,
    /// What people have said and the agent was not told.
    said: Arc<Mutex<Vec<Said>>>,
    /// The items of the attempts that a run goes on from.
    earlier: Arc<Mutex<Vec<Value>>>,
    _folder: TempDir,
}

impl World {
    /// A repository with one file, `greeting.txt`, in a fresh sandbox.
    pub(crate) async fn new(script: Script) -> Self {
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a temporary folder");
        let sandboxes = Sandboxes::open(LocalOptions {
            folder: folder.path().join("sandboxes"),
            private_paths: Vec::new(),
            launcher: Launcher::beside_tests().expect("the launcher is built"),
            limits: Limits { orphan_after: Duration::from_secs(20), ..Limits::default() },
        })
        .await
        .expect("this machine lets sandboxes be made");
        let id = SandboxId::from_uuid(uuid::Uuid::from_u128(u128::from(std::process::id())));
        let sandbox = sandboxes.launch(SandboxSpec::new(id)).await.expect("a sandbox");
        let model = ScriptedModel::start(script.key("sk-test-key")).await.expect("a model server");
        let mut endpoint = ModelEndpoint::new("gpt-5-test", model.url(), Some(Secret::new("sk-test-key")));
        endpoint.retries = 3;
        let (journal, entries) = Journal::channel();
        let events = watch::Sender::default();
        let kept = Arc::default();
        let said = Arc::default();
        let earlier = Arc::default();
        tokio::spawn(keep(entries, events.clone(), Arc::clone(&kept), Arc::clone(&said), Arc::clone(&earlier)));
        let world = Self {
            sandboxes,
            sandbox,
            model,
            endpoint,
            client: ModelClient::new().expect("a client"),
            redactor: Redactor::new([&Secret::new("sk-test-key")]),
            cancel: CancellationToken::new(),
            journal,
            events,
            kept,
            said,
            earlier,
            _folder: folder,
        };
        world.shell("mkdir -p /workspace/repo && git init -q -b main && printf 'hello\\nworld\\n' > greeting.txt && git add . && git -c user.name=a -c user.email=a@b commit -qm first").await;
        world
    }

    /// What a run starts from.
    pub(crate) fn task(&self, prompt: &str) -> AgentTask {
        AgentTask {
            prompt: prompt.to_owned(),
            given: Vec::new(),
            missing: Vec::new(),
            mode: Mode::Code,
            workspace: WORKSPACE.to_owned(),
            base: "a".repeat(40).parse().expect("an object name"),
            facts: None,
            network: carrel_domain::NetworkPolicy::default(),
            branch: Some("main".parse().expect("a branch name")),
            history: Vec::new(),
            resumed: Vec::new(),
            cut_off: 0,
            shown: BTreeMap::new(),
            started_patch: None,
            cache_key: "task-1".to_owned(),
            spent: Usage::default(),
            limits: AgentLimits::default(),
        }
    }

    pub(crate) async fn run(&self, prompt: &str) -> Result<Finished, AgentError> {
        self.run_task(self.task(prompt)).await
    }

    pub(crate) async fn run_task(&self, task: AgentTask) -> Result<Finished, AgentError> {
        self.earlier.lock().expect("no panic").clone_from(&task.history);
        let context = AgentContext {
            endpoint: &self.endpoint,
            client: &self.client,
            sandbox: &self.sandbox,
            journal: &self.journal,
            redactor: &self.redactor,
            cancel: self.cancel.clone(),
        };
        run(task, &context).await
    }

    /// The answer of a run that must end well.
    pub(crate) async fn answer(&self, prompt: &str) -> String {
        self.run(prompt).await.expect("an answer").answer
    }

    /// Says something to the agent.
    pub(crate) fn say(&self, text: &str) {
        let id = carrel_domain::MessageId::from_uuid(uuid::Uuid::now_v7());
        self.said.lock().expect("no panic").push(Said { id, text: text.to_owned() });
        self.journal.bell().ring();
    }

    /// Runs a script beside the agent and says what it printed.
    pub(crate) async fn shell(&self, script: &str) -> String {
        let id = format!("test-{}", uuid::Uuid::now_v7());
        let command =
            Command::new(id, ["/bin/bash", "-c", &format!("mkdir -p {WORKSPACE} && cd {WORKSPACE} && {script}")]);
        let finished = self.sandbox.run(command).await.expect("the script runs");
        String::from_utf8_lossy(&finished.output).into_owned()
    }

    /// Everything that was recorded.
    pub(crate) fn events(&self) -> Vec<EventBody> {
        self.events.borrow().clone()
    }

    /// The kinds of events, without the conversation's items and what says the same in other words.
    pub(crate) fn kinds(&self) -> Vec<&'static str> {
        self.events().iter().map(EventBody::kind).collect()
    }

    /// The conversation as it was recorded.
    pub(crate) fn items(&self) -> Vec<Value> {
        let events = self.events().into_iter();
        events.flat_map(EventBody::into_items).collect()
    }

    /// All that was shown of all commands.
    pub(crate) fn shown(&self) -> String {
        let events = self.events().into_iter();
        events
            .filter_map(|body| match body {
                EventBody::CommandOutput { text, .. } => Some(text),
                _ => None,
            })
            .collect()
    }

    pub(crate) fn requests(&self) -> Vec<Exchange> {
        self.model.requests()
    }

    /// The result of the first, second, … tool call, as the model got it with its last request.
    pub(crate) fn result(&self, index: usize) -> String {
        self.requests().last().and_then(|request| request.output(index)).expect("a result")
    }

    /// Waits until an event of this kind has been recorded.
    pub(crate) async fn wait_for(&self, kind: &str) {
        self.wait_until(|body| body.kind() == kind).await;
    }

    /// Waits until there is an event of which this is true.
    pub(crate) async fn wait_until(&self, is_wanted: impl Fn(&EventBody) -> bool) {
        let mut events = self.events.subscribe();
        within(20, events.wait_for(|events| events.iter().any(&is_wanted))).await.expect("the journal is open");
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let (sandboxes, id) = (self.sandboxes.clone(), self.sandbox.id());
        // The runtime is still there: tests end inside of it, and on more than one thread.
        tokio::task::block_in_place(|| {
            tokio::runtime::Handle::current()
                .block_on(async move { sandboxes.destroy(id).await.expect("it is destroyed") });
        });
    }
}

/// A store that is always there.
async fn keep(
    mut entries: mpsc::Receiver<Entry>,
    events: watch::Sender<Vec<EventBody>>,
    kept: Arc<Mutex<Vec<Attachment>>>,
    said: Arc<Mutex<Vec<Said>>>,
    earlier: Arc<Mutex<Vec<Value>>>,
) {
    while let Some(entry) = entries.recv().await {
        match entry {
            Entry::Store { bodies, attachments, stored } => {
                kept.lock().expect("no panic").extend(attachments);
                let told = |one: &Said| {
                    bodies
                        .iter()
                        .any(|body| matches!(body, EventBody::MessageDelivered { message_id } if *message_id == one.id))
                };
                said.lock().expect("no panic").retain(|one| !told(one));
                events.send_modify(|events| events.extend(bodies));
                // Live output is not waited for.
                let _ = stored.send(());
            }
            Entry::Recall { command_id, recalled } => {
                let texts = events
                    .borrow()
                    .iter()
                    .filter_map(|body| match body {
                        EventBody::CommandOutput { command_id: id, text } if *id == command_id => Some(text.clone()),
                        _ => None,
                    })
                    .collect::<Vec<_>>();
                let _ = recalled.send((!texts.is_empty()).then(|| texts.concat()));
            }
            Entry::Conversation { items } => {
                let own = events.borrow().iter().cloned().flat_map(EventBody::into_items).collect();
                let _ = items.send((earlier.lock().expect("no panic").clone(), own));
            }
            Entry::Messages { waiting } => {
                let _ = waiting.send(said.lock().expect("no panic").clone());
            }
        }
    }
}

/// The seconds a test may take that would otherwise wait for minutes.
pub(crate) async fn within<T>(seconds: u64, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(seconds), future).await.expect("in time")
}
