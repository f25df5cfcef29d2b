//! Commands that run: each is listened to by one task, which shows its output to people and keeps for the model what
//! it has not seen yet.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use carrel_domain::event::CommandEnd;
use carrel_domain::{EventBody, Redactor};
use carrel_sandbox::{Command, CommandId, ExitStatus, Output, Process, ProcessEvent, Sandbox, SandboxError};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use crate::journal::{Bell, JournalClosed};
use crate::output::ends::{Ends, Excerpt, count_lines};
use crate::output::for_people;
use crate::output::keep::{Taken, Unread};
use crate::output::show::{COLLECT_FOR, Shown};
use crate::{AgentError, AgentLimits, Journal};

/// What is kept of a command's output to be read again: by its runner, and here while it runs.
pub(super) const KEPT_BYTES: usize = 1 << 20;

/// How long the output of an earlier command may take to come, and how long it may pause: one that still runs says no
/// more.
const REPLAY_TIMEOUT: Duration = Duration::from_secs(10);
const REPLAY_PAUSE: Duration = Duration::from_millis(500);

/// How long a command may refuse to take its input.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);

/// What a command is waited for at least, though somebody has said something: most end within that.
const HEARD_AFTER: Duration = Duration::from_secs(1);

/// How long the end may take altogether: an agent that is cancelled stops within a second.
const KILL_TIMEOUT: Duration = Duration::from_millis(500);
const FAREWELL_TIMEOUT: Duration = Duration::from_millis(300);
/// What then remains for saying that an end was not seen.
const LAST_WORDS_TIMEOUT: Duration = Duration::from_millis(150);

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
    /// What the commands of this run printed, by their place in the conversation.
    printed: Mutex<BTreeMap<usize, Arc<Mutex<Printed>>>>,
    listeners: Mutex<JoinSet<()>>,
    /// Cancelled when nobody waits for the ends of commands any more.
    farewell: CancellationToken,
}

/// What a command has printed so far.
#[derive(Debug)]
struct Printed {
    /// What the model has not seen.
    unread: Unread,
    /// All of it, within bounds, to be read again; nothing once it has ended, when its runner has it.
    kept: Option<Ends>,
    /// How many line ends were in it, if all of it came here.
    line_ends: Option<u64>,
}

/// One command, as long as the model may ask for it.
#[derive(Debug, Clone)]
pub(super) struct Session {
    inbox: mpsc::Sender<Input>,
    printed: Arc<Mutex<Printed>>,
    end: watch::Receiver<Option<End>>,
    bell: Bell,
    pub(super) has_input: bool,
    /// Held by whoever writes to it or waits for it.
    pub(super) turn: Arc<tokio::sync::Mutex<()>>,
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
        let (open, printed, listeners) = (Mutex::default(), Mutex::default(), Mutex::default());
        let farewell = CancellationToken::new();
        Self { sandbox, journal, redactor, unread_tokens, output_bytes, shown, open, printed, listeners, farewell }
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
        let printed =
            Printed { unread: Unread::new(self.unread_tokens), kept: Some(Ends::new(KEPT_BYTES)), line_ends: None };
        let printed = Arc::new(Mutex::new(printed));
        lock(&self.printed).insert(position, Arc::clone(&printed));
        let listener = Listener {
            process,
            inputs,
            printed: Arc::clone(&printed),
            shown: Shown::new(shown_bytes.unwrap_or_default()),
            journal: self.journal.clone(),
            redactor: self.redactor.clone(),
            ended,
            room_bytes: Some(self.output_bytes),
            began: Instant::now(),
            farewell: self.farewell.clone(),
        };
        lock(&self.listeners).spawn(listener.listen());
        let session = Session { inbox, printed, end, bell: self.journal.bell(), has_input, turn: Arc::default() };
        lock(&self.open).insert(position, session.clone());
        Ok(session)
    }

    /// Whether the command was started or followed in this run.
    pub(super) fn knows(&self, position: usize) -> bool {
        lock(&self.printed).contains_key(&position)
    }

    /// What is kept of a command's output; nothing when the sandbox does not know the command. For one of before a
    /// resumption, nobody else may listen to it: the runner has one listener for each.
    pub(super) async fn excerpt(&self, position: usize) -> Result<Option<Excerpt>, AgentError> {
        let mut line_ends = None;
        let printed = lock(&self.printed).get(&position).cloned();
        if let Some(printed) = &printed {
            let printed = lock(printed);
            if let Some(kept) = &printed.kept {
                return Ok(Some(kept.clone().into_excerpt()));
            }
            line_ends = printed.line_ends;
        }
        let action = "read a command's output again";
        match timeout(REPLAY_TIMEOUT, self.replay(position)).await {
            Ok(Ok(ends)) => {
                let mut excerpt = ends.into_excerpt();
                if let Some(line_ends) = line_ends {
                    excerpt.know_lines(line_ends);
                }
                Ok(Some(excerpt))
            }
            Ok(Err(SandboxError::Disconnected)) => {
                Err(AgentError::Sandbox { action, source: SandboxError::Disconnected })
            }
            Ok(Err(error)) => {
                tracing::warn!(sandbox = %self.sandbox.id(), %error, "the output of a command cannot be read again");
                Ok(None)
            }
            Err(_) => {
                // A busy machine: what was printed is in the log as well, and nothing depends on it.
                let seconds = REPLAY_TIMEOUT.as_secs();
                tracing::warn!(sandbox = %self.sandbox.id(), seconds, "the output of a command takes too long to be read again");
                Ok(None)
            }
        }
    }

    /// What the runner has kept of a command that it knows. The program is never started: the id is taken.
    async fn replay(&self, position: usize) -> Result<Ends, SandboxError> {
        let command = Command::new(command_id(position), ["true"]).output(Output::Kept { limit_bytes: KEPT_BYTES });
        let mut process = self.sandbox.exec(command).await?;
        let mut ends = Ends::new(KEPT_BYTES);
        while let Ok(Some(event)) = timeout(REPLAY_PAUSE, process.next()).await {
            match event {
                ProcessEvent::Output(bytes) => ends.push_counted(&bytes, count_lines(&bytes)),
                ProcessEvent::Dropped(bytes) => ends.skip(bytes),
                ProcessEvent::Ended(_) => break,
            }
        }
        Ok(ends)
    }

    /// What the log has of a command's output.
    pub(super) async fn recall(&self, command_id: String) -> Result<Option<String>, AgentError> {
        Ok(self.journal.recall(command_id).await?)
    }

    /// Where events go.
    pub(super) const fn journal(&self) -> &Journal {
        &self.journal
    }

    /// The redactor of this run.
    pub(super) fn redactor(&self) -> &Redactor {
        &self.redactor
    }

    /// Kills every process in the sandbox and waits until that has been recorded, for a bounded time: a command whose
    /// end is not heard by then, on a machine that is out of breath, is recorded as interrupted.
    pub(crate) async fn end_all(&self) {
        match timeout(KILL_TIMEOUT, self.sandbox.kill_all()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(sandbox = %self.sandbox.id(), %error, "commands may still run"),
            Err(_) => {
                tracing::warn!(sandbox = %self.sandbox.id(), "commands may still run: killing them took too long");
            }
        }
        let mut listeners = std::mem::take(&mut *lock(&self.listeners));
        let mut all_ended = async || while listeners.join_next().await.is_some() {};
        if timeout(FAREWELL_TIMEOUT, all_ended()).await.is_err() {
            self.farewell.cancel();
            let _journal_is_stuck = timeout(LAST_WORDS_TIMEOUT, all_ended()).await;
        }
        lock(&self.open).clear();
    }
}

impl Printed {
    fn push(&mut self, bytes: &[u8]) {
        let line_ends = count_lines(bytes);
        self.unread.push_counted(bytes, line_ends);
        if let Some(kept) = &mut self.kept {
            kept.push_counted(bytes, line_ends);
        }
    }

    fn skip(&mut self, bytes: u64) {
        self.unread.skip(bytes);
        if let Some(kept) = &mut self.kept {
            kept.skip(bytes);
        }
    }

    fn end(&mut self) {
        self.line_ends = self.kept.take().and_then(|kept| kept.totals().1);
    }
}

impl Session {
    /// Waits for the end of the command, at most until then, and not long once somebody has said something to the agent.
    pub(super) async fn wait(&self, until: Instant) -> Option<End> {
        let mut end = self.end.clone();
        let shortly = Instant::now() + HEARD_AFTER;
        let heard = async {
            self.bell.rung().await;
            sleep_until(shortly).await;
        };
        tokio::select! {
            biased;
            _ = tokio::time::timeout_at(until, end.wait_for(Option::is_some)) => {}
            () = heard => {}
        }
        *self.end.borrow()
    }

    /// What it printed since the last time.
    pub(super) fn take(&self, tokens: usize, chunk: &str) -> Taken {
        lock(&self.printed).unread.take(tokens, chunk)
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
    printed: Arc<Mutex<Printed>>,
    shown: Shown,
    journal: Journal,
    redactor: Redactor,
    ended: watch::Sender<Option<End>>,
    /// How much it may print; nothing once it was ended for having printed more.
    room_bytes: Option<u64>,
    began: Instant,
    farewell: CancellationToken,
}

impl Listener {
    async fn listen(mut self) {
        // Whoever waits for the journal hears that it is closed; here it only means that nothing more is shown.
        let end = self.hear().await.unwrap_or(End::Lost);
        lock(&self.printed).end();
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
                        lock(&self.printed).push(&bytes);
                        self.shown.push(&bytes);
                    }
                    Some(ProcessEvent::Dropped(bytes)) => {
                        lock(&self.printed).skip(bytes);
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
                () = self.farewell.cancelled() => {
                    self.end(CommandEnd::Interrupted, self.began.elapsed()).await?;
                    return Ok(End::Lost);
                }
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
