//! One shell: started, kept in touch with whoever looks at it, and ended with everything it started.

use std::time::Duration;

use carrel_sandbox::{Command, ExitStatus, Output, Process, ProcessEvent, Sandbox, SandboxError, Stdin, TerminalSize};
use tokio::sync::Notify;
use uuid::Uuid;

use super::{TerminalInput, TerminalOutput, Viewer};

/// How long a terminal stays open while nothing goes in and nothing comes out.
const IDLE: Duration = Duration::from_secs(60 * 60);

/// How long a terminal stays open at all.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// How a terminal ended.
pub(crate) enum End {
    /// The shell ended by itself, with this exit code.
    Exited(i32),
    /// There is nothing to serve, or nobody to serve it to, and why.
    Failed(String),
    /// Whoever looked at it has gone.
    Left,
}

/// A shell that runs.
pub(crate) struct Shell(Process);

impl Shell {
    /// Starts a login shell in the folder: on a terminal of this size, or, without one, on pipes, its errors among its
    /// output as they come.
    pub(crate) async fn start(
        sandbox: &Sandbox,
        directory: &str,
        size: Option<TerminalSize>,
    ) -> Result<Self, SandboxError> {
        let id = format!("terminal.{}", Uuid::now_v7());
        let command = match size {
            Some(size) => Command::new(id, ["bash", "-l"]).terminal(size),
            None => Command::new(id, ["bash", "-c", "exec bash -l 2>&1"]).stdin(Stdin::Piped),
        };
        // Streamed: a viewer who does not look holds the programs back, not the service's memory.
        let command = command.directory(directory).output(Output::Streamed).time_limit(LONGEST);
        Ok(Self(sandbox.exec(command).await?))
    }

    /// Carries between the shell and who looks at it, and ends what is left of it. Nothing, when the sandbox is gone.
    pub(crate) async fn serve(mut self, viewer: &mut Viewer) -> Option<End> {
        let way_in = self.0.input();
        let moved = Notify::new();
        let Viewer { input, output } = viewer;
        if output.send(TerminalOutput::Started).await.is_err() {
            self.end().await;
            return Some(End::Left);
        }
        let process = &mut self.0;
        let reading = async {
            loop {
                match process.next().await {
                    Some(ProcessEvent::Output(bytes)) => {
                        moved.notify_one();
                        if output.send(TerminalOutput::Bytes(bytes)).await.is_err() {
                            return Some(End::Left);
                        }
                    }
                    Some(ProcessEvent::Dropped(_)) => {}
                    Some(ProcessEvent::Ended(finished)) => return Some(ended(finished.status)),
                    None => return None,
                }
            }
        };
        let writing = async {
            while let Some(word) = input.recv().await {
                moved.notify_one();
                let taken = match word {
                    TerminalInput::Bytes(bytes) => way_in.write(&bytes).await,
                    TerminalInput::Resize(size) => way_in.resize(size).await,
                    TerminalInput::End => way_in.close().await,
                };
                match taken {
                    Ok(()) | Err(SandboxError::StdinClosed) => {}
                    // Whoever reads hears of it too, and of what was said before.
                    Err(_) => std::future::pending::<()>().await,
                }
            }
        };
        let idling = async { while tokio::time::timeout(IDLE, moved.notified()).await.is_ok() {} };
        let end = tokio::select! {
            biased;
            end = reading => end,
            () = writing => Some(End::Left),
            () = idling => Some(End::Failed("nothing has moved in it for an hour, so it was closed".to_owned())),
        };
        self.end().await;
        end
    }

    /// Ends the shell and everything it started.
    pub(crate) async fn end(self) {
        if let Err(error) = self.0.kill().await {
            // Its sandbox is gone, or will not answer: dropping it hangs it up all the same.
            tracing::debug!(%error, "a terminal's shell could not be ended");
        }
    }
}

fn ended(status: ExitStatus) -> End {
    match status {
        ExitStatus::Exited(code) => End::Exited(code),
        ExitStatus::Signalled(signal) => End::Exited(128 + signal),
        ExitStatus::TimedOut => End::Failed("it was open for a day, so it was closed".to_owned()),
    }
}
