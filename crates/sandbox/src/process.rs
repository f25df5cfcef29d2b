//! One command as its listener sees it. Dropping it stops listening; the command goes on, unless it is a terminal that
//! nobody can attach to again.

use std::time::Duration;

use carrel_runner::protocol::{EndedEvent, Event, Request};

use crate::connection::{Channel, Item, Speaker};
use crate::sandbox::Sandbox;
use crate::{CommandId, Finished, ProcessEvent, SandboxError, TerminalSize};

/// A command in a sandbox.
pub struct Process {
    input: ProcessInput,
    sandbox: Sandbox,
    channel: Channel,
    is_over: bool,
}

/// The way into a command, for somebody who does not listen to it. Clones are the same way.
#[derive(Clone)]
pub struct ProcessInput {
    id: CommandId,
    speaker: Speaker,
}

impl Process {
    pub(crate) fn new(id: CommandId, sandbox: Sandbox, channel: Channel) -> Self {
        let input = ProcessInput { id, speaker: channel.speaker() };
        Self { input, sandbox, channel, is_over: false }
    }

    /// The command's id.
    pub fn id(&self) -> &CommandId {
        &self.input.id
    }

    /// What happened next. `None` after [`ProcessEvent::Ended`], when another listener attached, or when the
    /// connection is lost. Nothing is lost when the wait is cancelled.
    pub async fn next(&mut self) -> Option<ProcessEvent> {
        while !self.is_over {
            match self.channel.next().await {
                Some(Item::Data(bytes)) => return Some(ProcessEvent::Output(bytes)),
                Some(Item::Event(Event::Dropped { bytes })) => return Some(ProcessEvent::Dropped(bytes)),
                Some(Item::Event(Event::Ended(ended))) => {
                    self.is_over = true;
                    return Some(ProcessEvent::Ended(finished(ended)));
                }
                // Anything else a runner might say here changes nothing.
                Some(Item::Event(Event::Replaced)) | None => self.is_over = true,
                Some(Item::Event(_)) => {}
            }
        }
        None
    }

    /// The way into it, to write while somebody else waits for [`Process::next`].
    pub fn input(&self) -> ProcessInput {
        self.input.clone()
    }

    /// Gives it input; waits while it takes none.
    pub async fn write_stdin(&self, bytes: &[u8]) -> Result<(), SandboxError> {
        self.input.write(bytes).await
    }

    /// Ends its input.
    pub async fn close_stdin(&self) -> Result<(), SandboxError> {
        self.input.close().await
    }

    /// Ends it with everything it started; on return none of that lives. [`Process::next`] still tells how it ended.
    pub async fn kill(&self) -> Result<(), SandboxError> {
        self.sandbox.kill(&self.input.id).await
    }

    /// Why [`Process::next`] gave nothing before the end.
    pub(crate) fn why_closed(&self) -> SandboxError {
        self.channel.why_closed()
    }
}

impl ProcessInput {
    /// Gives it input; waits while it takes none.
    pub async fn write(&self, bytes: &[u8]) -> Result<(), SandboxError> {
        self.speaker.send_stdin(bytes).await
    }

    /// Ends its input.
    pub async fn close(&self) -> Result<(), SandboxError> {
        self.speaker.tell(Request::StdinEnd).await
    }

    /// Gives its terminal another size. Of a command without a terminal, or that is over, it means nothing.
    pub async fn resize(&self, size: TerminalSize) -> Result<(), SandboxError> {
        let TerminalSize { columns, rows } = size;
        self.speaker.tell(Request::Resize { command: self.id.0.clone(), columns, rows }).await
    }
}

fn finished(ended: EndedEvent) -> Finished {
    Finished {
        status: ended.status.into(),
        output: Vec::new(),
        dropped_bytes: ended.dropped_bytes,
        duration: Duration::from_micros(ended.duration_us),
        stderr: ended.stderr,
    }
}
