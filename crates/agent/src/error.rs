//! How an agent's run can end without an answer. Each variant is something a caller can act on.

use std::time::Duration;

use carrel_sandbox::SandboxError;

use crate::JournalClosed;

/// Why there is no answer. `Display` is for a person.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// It was cancelled; every process in the sandbox is dead.
    #[error("the agent was cancelled")]
    Cancelled,
    /// The model could not be asked, or refused.
    #[error("{reason}")]
    Model {
        /// What went wrong, in the server's own words where it has some, and what to do.
        reason: String,
        /// Whether trying again may help.
        retryable: bool,
    },
    /// The conversation does not fit into the model's context window, by the word of its server.
    #[error("{reason}")]
    ContextFull {
        /// What the server said, and what to do.
        reason: String,
    },
    /// The sandbox did not do what every sandbox must.
    #[error("the sandbox could not {action}: {source}")]
    Sandbox {
        /// What it should have done, such as `run a command`.
        action: &'static str,
        /// What it said.
        #[source]
        source: SandboxError,
    },
    /// A limit was reached.
    #[error("{0}")]
    Limit(Limit),
    /// What happened can no longer be recorded, so nothing more may happen: another worker has the attempt, or the
    /// service is stopping.
    #[error(transparent)]
    Journal(#[from] JournalClosed),
}

/// A limit an agent ran into.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Limit {
    /// Too many requests to the model.
    #[error("the agent took {steps} steps without coming to an end; give it a smaller task, or raise the step limit")]
    Steps {
        /// How many it may take.
        steps: u32,
    },
    /// Too much time.
    #[error(
        "the agent did not come to an end within {}; give it a smaller task, or raise the time limit",
        shown(*wall_clock)
    )]
    WallClock {
        /// How long it may take.
        wall_clock: Duration,
    },
    /// The same call again and again, to no effect, and the model did not heed the hint.
    #[error("the agent called `{tool}` {times} times in a row with the same arguments and the same result")]
    Repetition {
        /// The tool.
        tool: String,
        /// How often.
        times: u32,
    },
}

/// A time limit for a person.
fn shown(time: Duration) -> String {
    let seconds = time.as_secs();
    if seconds < 120 || !seconds.is_multiple_of(60) {
        format!("{seconds} s")
    } else {
        format!("{} minutes", seconds / 60)
    }
}
