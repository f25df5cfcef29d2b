//! Commands that run: each is listened to by one task, which shows its output to people and keeps for the model what
//! it has not seen yet.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use carrel_domain::event::CommandEnd;
use carrel_domain::{EventBody, Redactor};
use carrel_sandbox::{Command, CommandId, ExitStatus, Process, ProcessEvent, Sandbox, SandboxError};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use crate::journal::JournalClosed;
use crate::output::for_people;
use crate::output::keep::{Taken, Unread};
use crate::output::show::{COLLECT_FOR, Shown};
use crate::{AgentError, AgentLimits, Journal};

/// How long a command may refuse to take its input.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);

/// How long the end may take altogether: an agent that is cancelled stops within a second.
const KILL_TIMEOUT: Duration = Duration::from_millis(500);
const FAREWELL_TIMEOUT: Duration = Duration::from_millis(300);

/// All commands of one run.
pub(crate) struct Sessions {
    sandbox: Sandbox,
    journal: Journal,
    redactor: Redactor,
    /// The room for output that the model has not seen, in tokens.
    unread_tokens: usize,
    /// How much one command may print, in bytes.
    output_bytes: u64,
    /// Bytes in events from before a resumption, by command id.
    shown: BTreeMap<String, u64>,
    open: Mutex<BTreeMap<usize, Session>>,
    listeners: Mutex<JoinSet<()>>,
}

/// One command, as long as the model may ask for it.
#[derive(Debug, Clone)]
pub(super) struct Session {
    inbox: mpsc::Sender<Input>,
    unread: Arc<Mutex<Unread>>,
    end: watch::Receiver<Option<End>>,
    pub(super) has_input: bool,
}

/// How a command came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// It ended.
    Ended(ExitStatus),
    /// Nobody knows: the connection to the sandbox is lost.
    Lost,
}

/// Something to do to a running command.
#[derive(Debug)]
enum Input {
    Write(Vec<u8>, oneshot::Sender<Result<(), SandboxError>>),
    Kill(oneshot::Sender<Result<(), SandboxError>>),
}

/// The id of the command that the call at this place of the conversation starts.
pub(super) fn command_id(position: usize) -> CommandId {
    CommandId(format!("call-{position}"))
}

impl Sessions {
    /// No command yet.
    pub(crate) fn new(
        sandbox: Sandbox,
        journal: Journal,
        redactor: Redactor,
        limits: &AgentLimits,
        shown: BTreeMap<String, u64>,
    ) -> Self {
        let (unread_tokens, output_bytes) = (limits.tool_output_tokens, limits.output_bytes);
        let (open, listeners) = (Mutex::default(), Mutex::default());
        Self { sandbox, journal, redactor, unread_tokens, output_bytes, shown, open, listeners }
    }

    pub(super) fn sandbox(&self) -> &Sandbox {
        &self.sandbox
    }

    /// Whether the command of this call was under way before a resumption.
    pub(super) fn was_shown(&self, position: usize) -> bool {
        self.shown.contains_key(command_id(position).as_str())
    }

    /// The command of this call, if the model has not seen its end.
    pub(super) fn get(&self, position: usize) -> Option<Session> {
        lock(&self.open).get(&position).cloned()
    }

    /// Forgets a command whose end the model has seen.
    pub(super) fn forget(&self, position: usize) {
        lock(&self.open).remove(&position);
    }

    /// Starts the command of a call, or attaches to it when it was started before.
    pub(super) async fn start(&self, position: usize, command: Command, text: &str) -> Result<Session, AgentError> {
        let has_input = command.terminal.is_some();
        let (id, directory) = (command.id.clone(), command.directory.clone());
        let process = self
            .sandbox
            .exec(command)
            .await
            .map_err(|source| AgentError::Sandbox { action: "run a command", source })?;
        let shown_bytes = self.shown.get(id.as_str()).copied();
        if shown_bytes.is_none() {
            let started = EventBody::CommandStarted { command_id: id.0.clone(), command: text.to_owned(), directory };
            self.journal.send(vec![for_people(started, &self.redactor)]).await?;
        }
        let (inbox, inputs) = mpsc::channel(1);
        let (ended, end) = watch::channel(None);
        let unread = Arc::new(Mutex::new(Unread::new(self.unread_tokens)));
        let listener = Listener {
            process,
            inputs,
            unread: Arc::clone(&unread),
            shown: Shown::new(shown_bytes.unwrap_or_default()),
            journal: self.journal.clone(),
            redactor: self.redactor.clone(),
            ended,
            room_bytes: Some(self.output_bytes),
        };
        lock(&self.listeners).spawn(listener.listen());
        let session = Session { inbox, unread, end, has_input };
        lock(&self.open).insert(position, session.clone());
        Ok(session)
    }

    /// Kills every process in the sandbox and waits until that has been recorded, for a bounded time.
    pub(crate) async fn end_all(&self) {
        match timeout(KILL_TIMEOUT, self.sandbox.kill_all()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(sandbox = %self.sandbox.id(), %error, "commands may still run"),
            Err(_) => {
                tracing::warn!(sandbox = %self.sandbox.id(), "commands may still run: killing them took too long");
            }
        }
        let mut listeners = std::mem::take(&mut *lock(&self.listeners));
        let _ = timeout(FAREWELL_TIMEOUT, async { while listeners.join_next().await.is_some() {} }).await;
        lock(&self.open).clear();
    }
}

impl Session {
    /// Waits for the end of the command, at most until then.
    pub(super) async fn wait(&self, until: Instant) -> Option<End> {
        let mut end = self.end.clone();
        let _ = tokio::time::timeout_at(until, end.wait_for(Option::is_some)).await;
        *end.borrow_and_update()
    }

    /// What it printed since the last time.
    pub(super) fn take(&self, tokens: usize) -> Taken {
        lock(&self.unread).take(tokens)
    }

    /// Writes to its input.
    pub(super) async fn write(&self, bytes: Vec<u8>) -> Result<(), SandboxError> {
        self.tell(|reply| Input::Write(bytes, reply)).await
    }

    /// Ends it with everything it started.
    pub(super) async fn kill(&self) -> Result<(), SandboxError> {
        self.tell(Input::Kill).await
    }

    /// A command that has ended takes nothing, which is no error: its end tells.
    async fn tell(
        &self,
        input: impl FnOnce(oneshot::Sender<Result<(), SandboxError>>) -> Input,
    ) -> Result<(), SandboxError> {
        let (reply, done) = oneshot::channel();
        if self.inbox.send(input(reply)).await.is_err() {
            return Ok(());
        }
        done.await.unwrap_or(Ok(()))
    }
}

/// Listens to one command.
struct Listener {
    process: Process,
    inputs: mpsc::Receiver<Input>,
    unread: Arc<Mutex<Unread>>,
    shown: Shown,
    journal: Journal,
    redactor: Redactor,
    ended: watch::Sender<Option<End>>,
    /// How much it may print; nothing once it was ended for having printed more.
    room_bytes: Option<u64>,
}

impl Listener {
    async fn listen(mut self) {
        // Whoever waits for the journal hears that it is closed; here it only means that nothing more is shown.
        let end = self.hear().await.unwrap_or(End::Lost);
        self.ended.send_replace(Some(end));
    }

    async fn hear(&mut self) -> Result<End, JournalClosed> {
        let mut flush_at = None;
        loop {
            let flush = async {
                match flush_at {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                event = self.process.next() => match event {
                    Some(ProcessEvent::Output(bytes)) => {
                        lock(&self.unread).push(&bytes);
                        self.shown.push(&bytes);
                    }
                    Some(ProcessEvent::Dropped(bytes)) => {
                        lock(&self.unread).skip(bytes);
                        self.shown.skip(bytes);
                    }
                    Some(ProcessEvent::Ended(finished)) => {
                        self.end(command_end(finished.status), finished.duration).await?;
                        return Ok(End::Ended(finished.status));
                    }
                    None => {
                        // It may well go on: whoever attaches next will see its end.
                        let texts = self.shown.finish(&self.redactor);
                        self.show(texts).await?;
                        return Ok(End::Lost);
                    }
                },
                () = flush => {
                    flush_at = None;
                    let texts = self.shown.flush(&self.redactor);
                    self.show(texts).await?;
                }
                Some(input) = self.inputs.recv() => self.act(input).await,
            }
            self.bound().await?;
            if flush_at.is_none() && self.shown.is_waiting() {
                flush_at = Some(Instant::now() + COLLECT_FOR);
            }
        }
    }

    /// Ends a command that prints without end, once.
    async fn bound(&mut self) -> Result<(), JournalClosed> {
        let printed = self.shown.totals().0;
        let Some(room) = self.room_bytes.take_if(|room| printed > *room) else { return Ok(()) };
        let message = format!("a command printed more than {room} bytes and was ended");
        self.journal.send(vec![EventBody::LimitHit { limit: "output".to_owned(), message }]).await?;
        // If it cannot be ended, the connection is lost, and that is what is heard next.
        let _lost = self.process.kill().await;
        Ok(())
    }

    async fn act(&self, input: Input) {
        let (result, reply) = match input {
            Input::Write(bytes, reply) => {
                let written = timeout(WRITE_TIMEOUT, self.process.write_stdin(&bytes)).await;
                let refused = || SandboxError::Invalid("the command does not read its input".to_owned());
                (written.unwrap_or_else(|_| Err(refused())), reply)
            }
            Input::Kill(reply) => (self.process.kill().await, reply),
        };
        // Whoever asked may have been cancelled.
        let _ = reply.send(result);
    }

    async fn end(&mut self, end: CommandEnd, duration: Duration) -> Result<(), JournalClosed> {
        let texts = self.shown.finish(&self.redactor);
        self.show(texts).await?;
        let (output_bytes, dropped_bytes) = self.shown.totals();
        let ended = EventBody::CommandEnded {
            command_id: self.process.id().0.clone(),
            end,
            duration_ms: u64::try_from(duration.as_millis()).unwrap_or(u64::MAX),
            output_bytes,
            dropped_bytes,
        };
        self.journal.send(vec![ended]).await
    }

    async fn show(&self, texts: Vec<String>) -> Result<(), JournalClosed> {
        let command_id = &self.process.id().0;
        for text in texts {
            self.journal.send(vec![EventBody::CommandOutput { command_id: command_id.clone(), text }]).await?;
        }
        Ok(())
    }
}

fn command_end(status: ExitStatus) -> CommandEnd {
    match status {
        ExitStatus::Exited(code) => CommandEnd::Exited { code },
        ExitStatus::Signalled(signal) => CommandEnd::Signalled { signal },
        ExitStatus::TimedOut => CommandEnd::TimedOut,
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
