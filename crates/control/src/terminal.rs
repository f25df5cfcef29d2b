//! Terminals: a person's shell in the sandbox of a running attempt, or in a fresh sandbox of an environment that somebody
//! wants to try. A terminal lives as long as somebody looks at it, and leaves nothing behind.

mod shell;
mod try_out;
mod words;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use carrel_domain::{Attempt, AttemptId, AttemptState, EnvironmentName, EventBody, NewEvent, RepositoryLocation};
use carrel_sandbox::{SandboxError, TerminalSize};
use carrel_store::{Principal, StoreError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use crate::{Control, ControlError};
use shell::{End, Shell};
use try_out::TryOut;

/// Terminals that are open at the same time, in attempts and in tries.
const TERMINALS: usize = 64;

/// Environments that are tried at the same time: each is a sandbox that nobody but its viewer needs.
const TRIES: usize = 8;

/// How long a last word may wait for whoever listens.
const LAST_WORD_WITHIN: Duration = Duration::from_secs(10);

/// What a person does at a terminal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TerminalInput {
    /// Types.
    Bytes(Bytes),
    /// Changes its size.
    Resize(TerminalSize),
    /// Has nothing more to type.
    End,
}

/// What a terminal shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TerminalOutput {
    /// What the service does meanwhile, in words of its own and of those who wrote the environment. Without secrets, but not made safe for a terminal.
    Told(String),
    /// The shell runs: from now on it takes what is typed.
    Started,
    /// The next bytes.
    Bytes(Bytes),
    /// The shell has ended, with this exit code. Nothing follows.
    Exited(i32),
    /// There is no shell, or none any more, and why. Nothing follows.
    Failed(String),
}

/// Who looks at a terminal: where it gets its input from and sends its output to.
pub(crate) struct Viewer {
    pub(crate) input: mpsc::Receiver<TerminalInput>,
    pub(crate) output: mpsc::Sender<TerminalOutput>,
}

/// The right to a terminal that was asked for, until it is served.
pub struct Terminal {
    control: Control,
    who: String,
    /// Without a size the shell gets pipes instead of a terminal.
    size: Option<TerminalSize>,
    place: Place,
    _seats: Vec<OwnedSemaphorePermit>,
}

/// Where a shell runs.
enum Place {
    /// In the sandbox of an attempt.
    Attempt { attempt: Box<Attempt>, workspace: String },
    /// In a sandbox of its own.
    Environment(Box<TryOut>),
}

/// How many terminals there may be yet.
#[derive(Clone)]
pub(crate) struct Seats {
    terminals: Arc<Semaphore>,
    tries: Arc<Semaphore>,
}

impl Default for Seats {
    fn default() -> Self {
        Self { terminals: Arc::new(Semaphore::new(TERMINALS)), tries: Arc::new(Semaphore::new(TRIES)) }
    }
}

impl Seats {
    fn terminal(&self) -> Result<OwnedSemaphorePermit, ControlError> {
        Arc::clone(&self.terminals).try_acquire_owned().map_err(|_| {
            ControlError::NotNow(format!("{TERMINALS} terminals are open already; close one, or wait until one is"))
        })
    }

    fn a_try(&self) -> Result<OwnedSemaphorePermit, ControlError> {
        Arc::clone(&self.tries).try_acquire_owned().map_err(|_| {
            ControlError::NotNow(format!("{TRIES} environments are being tried already; wait until one has ended"))
        })
    }
}

impl Control {
    /// A shell in the folder of the repository of an attempt that runs. Who opens and closes it stands in the task's log.
    ///
    /// # Errors
    /// When there is no such attempt, when it does not run (yet, or any more), when its sandbox is on another worker's
    /// machine, or when too many terminals are open.
    pub async fn attempt_terminal(
        &self,
        by: Principal,
        id: AttemptId,
        size: Option<TerminalSize>,
    ) -> Result<Terminal, ControlError> {
        let store = &self.inner.store;
        let attempt = store.attempt(by.organization, id).await?;
        may_be_entered(&attempt)?;
        self.is_here(&attempt).await?;
        let thread = store.task(by.organization, attempt.task).await?;
        let workspace = format!("/workspace/{}", thread.task.repository.name());
        let who = store.member(by).await?.user_name;
        let seats = vec![self.seats.terminal()?];
        let place = Place::Attempt { attempt: Box::new(attempt), workspace };
        Ok(Terminal { control: self.clone(), who, size, place, _seats: seats })
    }

    /// Refuses a terminal in an attempt whose sandbox is on another machine.
    async fn is_here(&self, attempt: &Attempt) -> Result<(), ControlError> {
        let store = &self.inner.store;
        let Some(home) = store.worker_of(attempt.organization, attempt.id).await? else { return Ok(()) };
        if home == store.worker() {
            return Ok(());
        }
        let worker = store.find_worker(home).await?;
        let name = worker.as_ref().map_or_else(|| home.to_string(), |worker| worker.name.clone());
        let way_out = if worker.is_some_and(|worker| !worker.role.answers()) {
            "which serves no API; run workers with the role `all` to have terminals in their attempts"
        } else {
            "and its terminals are served there: ask the service at that worker's address"
        };
        Err(ControlError::NotNow(format!(
            "the sandbox of attempt {} is on the machine of the worker `{name}`, {way_out}",
            attempt.id
        )))
    }

    /// A shell in a fresh sandbox of an environment, prepared as for an attempt on the default branch of the repository,
    /// with the network that agents have. Without a repository it is the environment's first. The sandbox is there only
    /// as long as the terminal.
    ///
    /// # Errors
    /// When there is no such environment, when it does not cover the repository or none is named, or when too many are
    /// being tried; when this process makes no sandboxes.
    pub async fn try_environment(
        &self,
        by: Principal,
        name: &EnvironmentName,
        repository: Option<RepositoryLocation>,
        size: Option<TerminalSize>,
    ) -> Result<Terminal, ControlError> {
        if !self.inner.role.works() {
            let refusal = "this process serves the API and makes no sandboxes; try environments at the address of one with the \
                           role `all` (`carrel workers` lists them)";
            return Err(ControlError::NotNow(refusal.to_owned()));
        }
        let what = TryOut::find(self, by.organization, name, repository).await?;
        let who = self.inner.store.member(by).await?.user_name;
        let seats = vec![self.seats.terminal()?, self.seats.a_try()?];
        Ok(Terminal { control: self.clone(), who, size, place: Place::Environment(Box::new(what)), _seats: seats })
    }
}

impl Terminal {
    /// Starts the shell and serves it until it has ended, until nobody gives input any more, or until nothing has moved
    /// for an hour. On return everything it started is gone.
    pub async fn serve(self, input: mpsc::Receiver<TerminalInput>, output: mpsc::Sender<TerminalOutput>) {
        let mut viewer = Viewer { input, output };
        let end = match &self.place {
            Place::Attempt { attempt, workspace } => self.in_attempt(attempt, workspace, &mut viewer).await,
            Place::Environment(what) => what.run(&self.control, &self.who, self.size, &mut viewer).await,
        };
        let last = match end {
            End::Exited(code) => TerminalOutput::Exited(code),
            End::Failed(reason) => TerminalOutput::Failed(reason),
            End::Left => return,
        };
        // Whoever has gone, or does not listen any more, needs no last word.
        let _unheard = tokio::time::timeout(LAST_WORD_WITHIN, viewer.output.send(last)).await;
    }

    async fn in_attempt(&self, attempt: &Attempt, workspace: &str, viewer: &mut Viewer) -> End {
        // Nobody acts without its being on record.
        if let Err(error) = self.record(attempt, format!("{} opened a terminal", self.who), None).await {
            return End::Failed(error.to_string());
        }
        let since = Instant::now();
        let end = self.shell_in_attempt(attempt, workspace, viewer).await;
        let how = match &end {
            End::Exited(code) => format!("the terminal of {} has ended with exit code {code}", self.who),
            End::Left => format!("{} closed the terminal", self.who),
            End::Failed(reason) => format!("the terminal of {} has ended: {reason}", self.who),
        };
        if let Err(error) = self.record(attempt, how, Some(since)).await {
            tracing::warn!(attempt = %attempt.id, %error, "the end of a terminal could not be put on record");
        }
        end
    }

    async fn shell_in_attempt(&self, attempt: &Attempt, workspace: &str, viewer: &mut Viewer) -> End {
        let gone = || End::Failed(format!("attempt {} has ended, and its sandbox with it", attempt.id));
        let sandbox = match self.control.inner.sandboxes.attach(attempt.id.sandbox()).await {
            Ok(sandbox) => sandbox,
            Err(SandboxError::Gone(_)) => return gone(),
            Err(error) => return End::Failed(error.to_string()),
        };
        let shell = match Shell::start(&sandbox, workspace, self.size).await {
            Ok(shell) => shell,
            Err(error) => return End::Failed(error.to_string()),
        };
        // Whoever moves the attempt on ends what runs in its sandbox only after it has moved: so a shell that was started
        // in between is seen either there or here.
        let still = self.control.inner.store.attempt(attempt.organization, attempt.id).await;
        if let Err(error) = still.map_err(ControlError::from).and_then(|attempt| may_be_entered(&attempt)) {
            shell.end().await;
            return End::Failed(error.to_string());
        }
        match shell.serve(viewer).await {
            Some(end) => end,
            None => gone(),
        }
    }

    async fn record(&self, attempt: &Attempt, message: String, since: Option<Instant>) -> Result<(), StoreError> {
        let duration_ms = since.and_then(|since| u64::try_from(since.elapsed().as_millis()).ok());
        let event = NewEvent { attempt: Some(attempt.id), body: EventBody::Progress { message, duration_ms } };
        self.control.inner.store.append(attempt.organization, attempt.task, vec![event]).await.map(drop)
    }
}

/// Whether an attempt's sandbox is one that people may work in: nothing of what they do is lost, or takes part in what
/// is kept without their knowing.
fn may_be_entered(attempt: &Attempt) -> Result<(), ControlError> {
    let (id, word) = (attempt.id, attempt.state.word());
    let why = match &attempt.state {
        AttemptState::Running => return Ok(()),
        AttemptState::Queued | AttemptState::Preparing | AttemptState::SettingUp => {
            "a terminal can be opened once it runs"
        }
        AttemptState::Collecting { .. } => "its sandbox is about to end",
        AttemptState::Ready(_) | AttemptState::Failed { .. } | AttemptState::Cancelled { .. } => {
            "its sandbox has ended; a follow-up goes on from its files"
        }
    };
    Err(ControlError::NotNow(format!("attempt {id} is {}; {why}", word.replace('_', " "))))
}
