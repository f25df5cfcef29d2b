//! `exec_command` and `write_stdin`: their calls turned into commands, and what commands print into results.

use carrel_domain::EventBody;
use carrel_sandbox::{Command, ExitStatus, Output, SandboxError, TerminalSize};
use tokio::time::Instant;

use super::chunks::{Chunk, chunk_id, continues};
use super::session::{End, KEPT_BYTES, Session, command_id};
use super::{EXEC, Outcome, Pending, STDIN, Tools, arguments, as_patch, is_about_the_request};
use crate::AgentError;
use crate::output::keep::Taken;

/// The size of a model's terminal: wide enough that few lines are broken.
const TERMINAL: TerminalSize = TerminalSize { columns: 160, rows: 48 };

/// What interrupts a command, as a terminal sends it.
const INTERRUPT: &str = "\u{3}";

impl Tools {
    /// Runs a command until it ends or its time to answer is over.
    pub(super) async fn exec_command(&self, pending: &Pending) -> Result<Outcome, AgentError> {
        let exec = match arguments::Exec::parse(&pending.call.input) {
            Ok(exec) => exec,
            Err(problem) => return Ok(Outcome::refused(EXEC, problem)),
        };
        if let Some(heredoc) = as_patch(&exec.cmd) {
            let folder = match (exec.workdir, heredoc.folder) {
                (Some(workdir), Some(folder)) => Some(super::patch::join(&workdir, &folder)),
                (workdir, folder) => folder.or(workdir),
            };
            return self.apply_patch(&heredoc.patch, folder.as_deref(), pending).await;
        }
        let began = Instant::now();
        let session = match self.start(pending.position, &exec).await? {
            Ok(session) => session,
            Err(outcome) => return Ok(outcome),
        };
        self.report(pending, pending.position, &session, began, exec.yield_time(), exec.output_tokens()).await
    }

    /// Writes to a running command, or only waits for it.
    pub(super) async fn write_stdin(&self, pending: &Pending) -> Result<Outcome, AgentError> {
        let write = match arguments::Write::parse(&pending.call.input) {
            Ok(write) => write,
            Err(problem) => return Ok(Outcome::refused(STDIN, problem)),
        };
        let id = write.session();
        let no_session = || {
            Ok(Outcome::refused(
                STDIN,
                "there is no such session: it has ended and its end was reported, or it never was",
            ))
        };
        let Some(session) = self.find(id).await? else { return no_session() };
        // Calls of one answer run side by side: those to one command go in their order.
        let _in_turn = session.turn.lock().await;
        if self.sessions.get(id).is_none() {
            return no_session();
        }
        let began = Instant::now();
        let mut events = Vec::new();
        if !write.chars.is_empty() {
            let done = if write.chars == INTERRUPT && !session.has_input {
                session.kill().await
            } else if !session.has_input {
                return Ok(Outcome::refused(
                    STDIN,
                    "the command has no input; start it again with `tty` set to true to be able to write to it",
                ));
            } else {
                session.write(write.chars.clone().into_bytes()).await
            };
            match done {
                Ok(()) => {
                    events.push(EventBody::CommandInput { command_id: command_id(id).0, text: write.chars.clone() });
                }
                Err(error) if is_about_the_request(&error) || matches!(error, SandboxError::UnknownCommand(_)) => {
                    return Ok(Outcome::refused(STDIN, error.to_string()));
                }
                Err(source) => return Err(AgentError::Sandbox { action: "write to a command", source }),
            }
        }
        let mut outcome = self.report(pending, id, &session, began, write.yield_time(), write.output_tokens()).await?;
        outcome.events.extend(events);
        if write.chars.is_empty() {
            // Waiting is no circle.
            outcome.result = None;
        }
        Ok(outcome)
    }

    /// Starts a command. A command that cannot be is an answer to the model.
    async fn start(&self, position: usize, exec: &arguments::Exec) -> Result<Result<Session, Outcome>, AgentError> {
        let shell = match exec.shell.as_deref() {
            None | Some("") => "bash",
            Some(shell) => shell,
        };
        let login = if exec.login.unwrap_or(true) { "-lc" } else { "-c" };
        let directory = super::patch::join(&self.workspace, exec.workdir.as_deref().unwrap_or_default());
        let mut command = Command::new(command_id(position), [shell, login, exec.cmd.as_str()])
            .directory(directory.clone())
            .output(Output::Kept { limit_bytes: KEPT_BYTES })
            // A repository without a `.gitignore` would get them into its patch.
            .variable("PYTHONPYCACHEPREFIX", "/tmp/pycache")
            .variable("PAGER", "cat")
            .variable("GIT_PAGER", "cat");
        command = if exec.tty.unwrap_or(false) {
            command.terminal(TERMINAL)
        } else {
            command.variable("TERM", "dumb").variable("NO_COLOR", "1")
        };
        match self.sessions.start(position, command, &exec.cmd).await {
            Ok(session) => Ok(Ok(session)),
            Err(AgentError::Sandbox { source, .. }) if is_about_the_request(&source) => {
                Ok(Err(Outcome::refused(EXEC, format!("{source} (workdir: {directory:.200})"))))
            }
            Err(error) => Err(error),
        }
    }

    /// The session of this id: of this run, or one that was left running before a resumption.
    async fn find(&self, id: usize) -> Result<Option<Session>, AgentError> {
        if let Some(session) = self.sessions.get(id) {
            return Ok(Some(session));
        }
        let arguments = self.left_running.get(&id).filter(|_| !self.is_cut_off(id));
        let Some(Ok(exec)) = arguments.map(|arguments| arguments::Exec::parse(arguments)) else {
            return Ok(None);
        };
        let _one_listener = self.attaching.lock().await;
        match self.sessions.get(id) {
            Some(session) => Ok(Some(session)),
            None => Ok(self.start(id, &exec).await?.ok()),
        }
    }

    /// Waits, and says where the command stands.
    async fn report(
        &self,
        pending: &Pending,
        id: usize,
        session: &Session,
        began: Instant,
        yield_time: std::time::Duration,
        tokens: usize,
    ) -> Result<Outcome, AgentError> {
        let end = session.wait(began + yield_time).await;
        let chunk = chunk_id(pending.position);
        let taken = session.take(tokens.min(self.max_tokens), &chunk);
        self.chunks.insert(chunk.clone(), Chunk { command: id, from: taken.begins, is_here: true });
        let state = match end {
            None => format!("Process running with session ID {id}"),
            Some(End::Ended(status)) => {
                self.sessions.forget(id);
                format!("Process exited with code {}", exit_code(status))
            }
            Some(End::Lost) => {
                let source = SandboxError::Disconnected;
                return Err(AgentError::Sandbox { action: "follow a command", source });
            }
        };
        Ok(result(&chunk, began.elapsed().as_secs_f64(), &state, &taken))
    }
}

/// A result in the form that models were trained to read.
fn result(chunk_id: &str, wall_seconds: f64, state: &str, taken: &Taken) -> Outcome {
    let Taken { text, original_tokens, begins } = taken;
    // The note on what was left out names the chunk, which is another each time.
    let result = format!("{state}\n{}", text.replace(chunk_id, ""));
    let text = format!(
        "Chunk ID: {chunk_id}\nWall time: {wall_seconds:.4} seconds\n{state}\nOriginal token count: {original_tokens}\n{}Output:\n{text}",
        continues(*begins)
    );
    Outcome { result: Some(result), ..Outcome::plain(text) }
}

/// A shell's number for how a command ended.
fn exit_code(status: ExitStatus) -> i32 {
    match status {
        ExitStatus::Exited(code) => code,
        ExitStatus::Signalled(signal) => 128 + signal,
        ExitStatus::TimedOut => 124,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::ends::Position;

    #[test]
    fn a_result_has_the_form_that_models_know() {
        let begins = Position { bytes: 0, lines: 0 };
        let taken = Taken { text: "hi\n".to_owned(), original_tokens: 1, begins };

        assert_eq!(
            result("0a1b2c", 0.25, "Process exited with code 0", &taken).text,
            "Chunk ID: 0a1b2c\nWall time: 0.2500 seconds\nProcess exited with code 0\nOriginal token count: 1\nOutput:\nhi\n"
        );
    }

    #[test]
    fn a_result_that_goes_on_says_where() {
        let taken = Taken { text: "hi\n".to_owned(), original_tokens: 1, begins: Position { bytes: 40, lines: 3 } };

        let text = result("0a1b2c", 0.25, "Process running with session ID 2", &taken).text;

        assert!(
            text.ends_with("Original token count: 1\nOutput continues at line 4, byte 40\nOutput:\nhi\n"),
            "{text}"
        );
    }
}
