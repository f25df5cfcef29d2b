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
    /// Too many tokens, sent and produced ones together.
    #[error(
        "the agent used up its {tokens} tokens without coming to an end; give it a smaller task, or raise the token limit"
    )]
    Tokens {
        /// How many it may use.
        tokens: u64,
    },
    /// Too much money.
    #[error(
        "the agent used up its {} without coming to an end; give it a smaller task, or raise the cost limit",
        usd(*cost_usd_micros)
    )]
    Cost {
        /// Millionths of a US dollar.
        cost_usd_micros: u64,
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
    /// What the person or the organization may spend, as whoever counts says.
    #[error("{reason}")]
    Budget {
        /// Whose, how much, and the way out.
        reason: String,
    },
    /// The same call again and again, to no effect, and the model did not heed the hint.
    #[error(
        "the agent went round in a circle: {}, {times} times in a row, with the same results",
        circle(tool, *calls)
    )]
    Repetition {
        /// The tool of the last call.
        tool: String,
        /// How many calls the circle has.
        calls: u32,
        /// How often.
        times: u32,
    },
}

impl Limit {
    /// The name of its kind in events.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Steps { .. } => "steps",
            Self::Tokens { .. } => "tokens",
            Self::Cost { .. } => "cost",
            Self::WallClock { .. } => "wall clock",
            Self::Budget { .. } => "budget",
            Self::Repetition { .. } => "repetition",
        }
    }

    /// That it is all but reached, for people and the model.
    pub(crate) fn reached(&self) -> String {
        match self {
            Self::Steps { steps } => format!("the limit of {steps} steps is all but reached"),
            Self::Tokens { tokens } => format!("the limit of {tokens} tokens is all but reached"),
            Self::Cost { cost_usd_micros } => format!("the limit of {} is all but reached", usd(*cost_usd_micros)),
            Self::WallClock { wall_clock } => format!("the time of {} is all but over", shown(*wall_clock)),
            Self::Budget { .. } | Self::Repetition { .. } => self.to_string(),
        }
    }
}

/// Money for a person.
fn usd(micros: u64) -> String {
    format!("{} USD", carrel_domain::budget::usd(micros))
}

/// What was called again and again.
fn circle(tool: &str, calls: u32) -> String {
    match calls {
        0 | 1 => format!("the same call of `{tool}`"),
        _ => format!("the same {calls} calls, the last of them of `{tool}`"),
    }
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
