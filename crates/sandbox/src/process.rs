//! One command as its listener sees it. Dropping it stops listening; the command goes on.

use std::time::Duration;

use carrel_runner::protocol::{EndedEvent, Event, Request};

use crate::connection::{Channel, Item};
use crate::sandbox::Sandbox;
use crate::{CommandId, Finished, ProcessEvent, SandboxError};

/// A command in a sandbox.
pub struct Process {
    id: CommandId,
    sandbox: Sandbox,
    channel: Channel,
    is_over: bool,
}

impl Process {
    pub(crate) fn new(id: CommandId, sandbox: Sandbox, channel: Channel) -> Self {
        Self { id, sandbox, channel, is_over: false }
    }

    /// The command's id.
    pub fn id(&self) -> &CommandId {
        &self.id
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

    /// Gives it input; waits while it takes none.
    pub async fn write_stdin(&self, bytes: &[u8]) -> Result<(), SandboxError> {
        self.channel.send_stdin(bytes).await
    }

    /// Ends its input.
    pub async fn close_stdin(&self) -> Result<(), SandboxError> {
        self.channel.tell(Request::StdinEnd).await
    }

    /// Ends it with everything it started; on return none of that lives. [`Process::next`] still tells how it ended.
    pub async fn kill(&self) -> Result<(), SandboxError> {
        self.sandbox.kill(&self.id).await
    }

    /// Why [`Process::next`] gave nothing before the end.
    pub(crate) fn why_closed(&self) -> SandboxError {
        self.channel.why_closed()
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
