//! One sandbox: commands and files in it, over the stream to its runner.

use std::fmt;
use std::sync::Arc;

use carrel_domain::SandboxId;
use carrel_runner::kept::Kept;
use carrel_runner::protocol::{self, Event, ExecRequest, Failure, OUTPUT_WINDOW_BYTES, ProtocolError, Request};

use crate::connection::{Connection, Item};
use crate::{Command, CommandId, Finished, Output, Process, ProcessEvent, SandboxError, Stdin, Tunnels};

/// The most a streamed command may say to [`Sandbox::run`], which holds all of it in memory.
const STREAMED_RUN_BYTES: usize = 256 << 20;

/// A sandbox that runs. Clones share one connection; after it is lost, attach again.
#[derive(Clone)]
pub struct Sandbox {
    id: SandboxId,
    connection: Arc<Connection>,
}

/// What is at a path in a sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileStat {
    /// Its kind.
    pub kind: FileKind,
    /// Its length in bytes.
    pub size: u64,
    /// Its permission bits.
    pub mode: u32,
}

/// What a path in a sandbox names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    /// A regular file.
    File,
    /// A folder.
    Folder,
    /// A symbolic link.
    Link,
    /// A FIFO, socket or device.
    Special,
}

impl Sandbox {
    pub(crate) fn new(id: SandboxId, connection: Arc<Connection>) -> Self {
        Self { id, connection }
    }

    /// Its id.
    pub fn id(&self) -> SandboxId {
        self.id
    }

    /// Starts a command, or attaches to the one of that id and hears its kept output from the start.
    pub async fn exec(&self, command: Command) -> Result<Process, SandboxError> {
        let (id, program) = (command.id.clone(), command.argv.first().cloned().unwrap_or_default());
        let request = Request::Exec(request_of(command));
        let mut channel = self.connection.request(request, OUTPUT_WINDOW_BYTES).await?;
        match channel.answer("the start of a command").await? {
            Item::Event(Event::Started) => Ok(Process::new(id, self.clone(), channel)),
            Item::Event(Event::Failed(failure)) => Err(failed(failure, &program)),
            other => Err(unexpected(&other)),
        }
    }

    /// Runs a command to its end. Of kept output this returns head and tail within the limit; streamed output is
    /// complete, up to 256 MiB.
    #[tracing::instrument(name = "sandbox command", level = "info", skip_all)]
    pub async fn run(&self, command: Command) -> Result<Finished, SandboxError> {
        let output = command.output;
        let mut process = self.exec(command).await?;
        let mut kept = Kept::new(match output {
            Output::Kept { limit_bytes } => limit_bytes,
            // Twice, so that the head alone holds all that is allowed.
            Output::Streamed => 2 * STREAMED_RUN_BYTES,
        });
        while let Some(event) = process.next().await {
            match event {
                ProcessEvent::Output(bytes) => kept.push(&bytes),
                ProcessEvent::Dropped(bytes) => kept.skip(bytes),
                ProcessEvent::Ended(finished) => {
                    return Ok(Finished { dropped_bytes: kept.dropped_bytes(), output: kept.into_bytes(), ..finished });
                }
            }
            if output == Output::Streamed && kept.total_bytes() > STREAMED_RUN_BYTES as u64 {
                process.kill().await?;
                return Err(SandboxError::Invalid(format!("command `{}` said more than 256 MiB", process.id())));
            }
        }
        Err(process.why_closed())
    }

    /// From now on the connections its programs make to their proxy arrive here; an earlier receiver hears no more.
    /// Without a receiver they are closed at once.
    pub fn tunnels(&self) -> Tunnels {
        Tunnels::new(self.connection.shared())
    }

    /// Ends a command with everything it started, also what it left behind after its end. On return none of it lives.
    pub async fn kill(&self, command: &CommandId) -> Result<(), SandboxError> {
        self.ask(Request::Kill { command: command.0.clone() }, &command.0, "ending a command").await
    }

    /// Ends every process in the sandbox but its runner.
    pub async fn kill_all(&self) -> Result<(), SandboxError> {
        self.ask(Request::KillAll, "", "ending all commands").await
    }

    /// The bytes of a regular file; FIFOs, devices and `/proc` are refused and never waited for.
    pub async fn read_file(&self, path: &str, max_bytes: u64) -> Result<Vec<u8>, SandboxError> {
        let request = Request::ReadFile { path: path.to_owned(), max_bytes };
        let mut channel = self.connection.request(request, max_bytes).await?;
        let mut content = Vec::new();
        loop {
            match channel.answer("reading a file").await? {
                Item::Data(bytes) => content.extend_from_slice(&bytes),
                Item::Event(Event::Done) => return Ok(content),
                Item::Event(Event::Failed(Failure::TooLarge { size_bytes })) => {
                    return Err(SandboxError::TooLarge { path: path.to_owned(), size_bytes, max_bytes });
                }
                Item::Event(Event::Failed(failure)) => return Err(failed(failure, path)),
                other @ Item::Event(_) => return Err(unexpected(&other)),
            }
        }
    }

    /// Writes a file whole or not at all, with the folders above it. Without a mode an existing file keeps its own
    /// and a new one gets 0644.
    pub async fn write_file(&self, path: &str, bytes: &[u8], mode: Option<u32>) -> Result<(), SandboxError> {
        let request = Request::WriteFile { path: path.to_owned(), size_bytes: bytes.len() as u64, mode };
        let mut channel = self.connection.request(request, 0).await?;
        channel.send(bytes).await?;
        match channel.answer("writing a file").await? {
            Item::Event(Event::Done) => Ok(()),
            Item::Event(Event::Failed(failure)) => Err(failed(failure, path)),
            other => Err(unexpected(&other)),
        }
    }

    /// Removes a file, or a symbolic link itself.
    pub async fn remove_file(&self, path: &str) -> Result<(), SandboxError> {
        self.ask(Request::RemoveFile { path: path.to_owned() }, path, "removing a file").await
    }

    /// What is at a path, a symbolic link itself; `None` when nothing is.
    pub async fn stat(&self, path: &str) -> Result<Option<FileStat>, SandboxError> {
        let mut channel = self.connection.request(Request::Stat { path: path.to_owned() }, 0).await?;
        match channel.answer("looking at a file").await? {
            Item::Event(Event::Stat(found)) => {
                Ok(found.map(|found| FileStat { kind: kind(found.kind), size: found.size_bytes, mode: found.mode }))
            }
            Item::Event(Event::Failed(failure)) => Err(failed(failure, path)),
            other => Err(unexpected(&other)),
        }
    }

    /// The names in a folder, sorted, and whether that is all of them: about 256 KiB of names are listed.
    pub async fn list_folder(&self, path: &str) -> Result<(Vec<String>, bool), SandboxError> {
        let mut channel = self.connection.request(Request::ListFolder { path: path.to_owned() }, 0).await?;
        match channel.answer("listing a folder").await? {
            Item::Event(Event::Names { names, truncated }) => Ok((names, !truncated)),
            Item::Event(Event::Failed(failure)) => Err(failed(failure, path)),
            other => Err(unexpected(&other)),
        }
    }

    async fn ask(&self, request: Request, subject: &str, what: &'static str) -> Result<(), SandboxError> {
        let mut channel = self.connection.request(request, 0).await?;
        match channel.answer(what).await? {
            Item::Event(Event::Done) => Ok(()),
            Item::Event(Event::Failed(failure)) => Err(failed(failure, subject)),
            other => Err(unexpected(&other)),
        }
    }
}

impl fmt::Debug for Sandbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sandbox").field("id", &self.id).finish_non_exhaustive()
    }
}

fn request_of(command: Command) -> ExecRequest {
    let keep_bytes = match command.output {
        Output::Kept { limit_bytes } => Some(limit_bytes as u64),
        Output::Streamed => None,
    };
    ExecRequest {
        id: command.id.0,
        argv: command.argv,
        directory: command.directory,
        environment: command.environment,
        time_limit_ms: command.time_limit.map(|limit| u64::try_from(limit.as_millis()).unwrap_or(u64::MAX)),
        terminal: command.terminal.map(|size| (size.columns, size.rows)),
        stdin: command.stdin == Stdin::Piped,
        keep_bytes,
    }
}

fn kind(kind: protocol::FileKind) -> FileKind {
    match kind {
        protocol::FileKind::File => FileKind::File,
        protocol::FileKind::Folder => FileKind::Folder,
        protocol::FileKind::Link => FileKind::Link,
        protocol::FileKind::Special => FileKind::Special,
    }
}

/// A runner's refusal in the caller's terms; `subject` is the path, program or command it is about.
fn failed(failure: Failure, subject: &str) -> SandboxError {
    let subject = subject.to_owned();
    match failure {
        Failure::NotFound => SandboxError::NotFound { path: subject },
        Failure::NotAFile => SandboxError::NotAFile { path: subject },
        Failure::TooLarge { size_bytes } => SandboxError::TooLarge { path: subject, size_bytes, max_bytes: 0 },
        Failure::CannotStart { reason } => SandboxError::CannotStart { program: subject, reason },
        Failure::NotAttachable => SandboxError::NotAttachable(subject),
        Failure::UnknownCommand => SandboxError::UnknownCommand(subject),
        Failure::Invalid { reason } => SandboxError::Invalid(reason),
        Failure::System { reason } => SandboxError::Inside { what: subject, reason },
    }
}

fn unexpected(item: &Item) -> SandboxError {
    let what = match item {
        Item::Data(_) => "data",
        Item::Event(_) => "another event",
    };
    SandboxError::Protocol(ProtocolError::Message(format!("{what} came in place of an answer")))
}
