//! One agent's run at a turn, and the states it goes through.
//!
//! ```text
//! Queued -> Preparing -> SettingUp -> Running -> Collecting -> Ready
//!    |          |            |           |           |
//!    +----------+------------+-----------+-----------+--> Failed { stage, reason, retryable }
//!    +----------+------------+-----------+-----------+--> Cancelled { by }
//! ```
//!
//! A transition consumes the state and is refused when the diagram has no such arrow. Only `carrel-control` stores one.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::comparison::Tally;
use crate::{
    AttemptId, AttemptLimits, CitationsCheck, CommitOid, EnvironmentId, OrganizationId, PatchSummary, TaskId, Turn,
    TurnId, Usage, UserId,
};

/// An attempt as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// Which one.
    pub id: AttemptId,
    /// Whose.
    pub organization: OrganizationId,
    /// Its task.
    pub task: TaskId,
    /// The turn it answers.
    pub turn: TurnId,
    /// Counted from 1 within its turn: 1 to 4 are asked for with it, further ones are retries.
    pub number: u32,
    /// The attempt it makes again, if it is a retry.
    pub retry: Option<Retry>,
    /// Where it stands.
    pub state: AttemptState,
    /// Goes up with every change: what a compare-and-set compares.
    pub version: i64,
    /// The environment it is pinned to.
    pub environment: EnvironmentId,
    /// That environment's version.
    pub environment_version: i64,
    /// The name of the model it is pinned to.
    pub model: String,
    /// How hard that model is asked to think, if it knows such a thing.
    pub effort: Option<String>,
    /// The name of the agent that works on it inside the sandbox; `None` for Carrel's own.
    pub agent: Option<String>,
    /// The commit it starts from, once that is known.
    pub base: Option<CommitOid>,
    /// What it may use, as whoever asked for it says.
    pub limits: AttemptLimits,
    /// Tokens so far.
    pub usage: Usage,
    /// Who asked for it to be stopped, until that has happened.
    pub cancel_requested_by: Option<CancelledBy>,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When it left the queue.
    pub started_at: Option<Timestamp>,
    /// When it reached its last state.
    pub ended_at: Option<Timestamp>,
}

/// What a retry makes again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    /// An attempt of the same turn that failed or was stopped.
    pub of: AttemptId,
    /// Whether it goes on from that attempt's conversation and files, or begins anew.
    pub resumes: bool,
}

impl Attempt {
    /// The attempt whose conversation and files this one goes on from. `turn` is its own.
    #[must_use]
    pub fn goes_on_from(&self, turn: &Turn) -> Option<AttemptId> {
        match self.retry {
            Some(Retry { of, resumes: true }) => Some(of),
            Some(Retry { resumes: false, .. }) | None => turn.from_attempt,
        }
    }
}

/// Where an attempt stands. Each variant holds what is true only then.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum AttemptState {
    /// Waits for a worker.
    Queued,
    /// The mirror is fetched, the base commit pinned, the sandbox launched and the commit checked out.
    Preparing,
    /// The environment's scripts run.
    SettingUp,
    /// The agent works.
    Running,
    /// The agent is done; its changes become a patch.
    Collecting {
        /// What the agent said in the end.
        answer: String,
        /// What was found out about that.
        #[serde(default, skip_serializing_if = "AnswerNotes::is_empty")]
        notes: AnswerNotes,
    },
    /// There is a result.
    Ready(Outcome),
    /// It ended without one.
    Failed {
        /// The stage it failed in.
        stage: Stage,
        /// Why, in words for a person.
        reason: String,
        /// Whether trying again may help.
        retryable: bool,
    },
    /// Somebody stopped it.
    Cancelled {
        /// Who.
        by: CancelledBy,
    },
}

/// What an attempt leaves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// The agent's last message, markdown, untrusted.
    pub answer: String,
    /// What it changed; `None` in ask mode and when nothing changed.
    pub patch: Option<PatchSummary>,
    /// What was found out about the answer.
    #[serde(default, skip_serializing_if = "AnswerNotes::is_empty")]
    pub notes: AnswerNotes,
    /// What it did, in numbers.
    #[serde(default, skip_serializing_if = "Tally::is_empty")]
    pub tally: Tally,
}

/// What was found out about an answer, beside its text.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AnswerNotes {
    /// Which of its citations hold.
    pub citations: CitationsCheck,
    /// What it claims and the record of the attempt does not bear out: text with untrusted parts.
    pub faults: Vec<String>,
    /// What the agent suggests to ask next, at most three: plain text, untrusted.
    pub suggestions: Vec<String>,
    /// Why the agent could hear nothing more after it, if so: what a person said since is not answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_word: Option<String>,
}

impl AnswerNotes {
    /// Whether there is nothing to tell.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.citations.is_empty() && self.faults.is_empty() && self.suggestions.is_empty() && self.last_word.is_none()
    }
}

/// Where an attempt stands, without what belongs to that: what a list needs of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// It waits for a worker.
    Queued,
    /// It is worked on.
    UnderWay,
    /// There is a result.
    Ready,
    /// It ended without one.
    Failed,
    /// Somebody stopped it.
    Cancelled,
}

/// The stages an attempt can fail in, named as the states are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Before a worker took it.
    Queued,
    /// While the sandbox was made ready.
    Preparing,
    /// While the environment's scripts ran.
    SettingUp,
    /// While the agent worked.
    Running,
    /// While the patch was collected.
    Collecting,
}

/// Who stopped an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "id", rename_all = "snake_case")]
pub enum CancelledBy {
    /// A person.
    User(UserId),
}

/// An arrow the diagram does not have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the {noun} is {from} and cannot become {to}")]
pub struct ImpossibleTransition {
    pub(crate) noun: &'static str,
    pub(crate) from: &'static str,
    pub(crate) to: &'static str,
}

impl AttemptState {
    /// The state as one word, as every interface shows it.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Preparing => "preparing",
            Self::SettingUp => "setting_up",
            Self::Running => "running",
            Self::Collecting { .. } => "collecting",
            Self::Ready(_) => "ready",
            Self::Failed { .. } => "failed",
            Self::Cancelled { .. } => "cancelled",
        }
    }

    /// Where it stands.
    #[must_use]
    pub const fn standing(&self) -> Standing {
        match self {
            Self::Queued => Standing::Queued,
            Self::Preparing | Self::SettingUp | Self::Running | Self::Collecting { .. } => Standing::UnderWay,
            Self::Ready(_) => Standing::Ready,
            Self::Failed { .. } => Standing::Failed,
            Self::Cancelled { .. } => Standing::Cancelled,
        }
    }

    /// The patch it has led to, if it has.
    #[must_use]
    pub const fn patch(&self) -> Option<&PatchSummary> {
        match self {
            Self::Ready(outcome) => outcome.patch.as_ref(),
            _ => None,
        }
    }

    /// The stage it is in; `None` once it has ended.
    #[must_use]
    pub const fn stage(&self) -> Option<Stage> {
        match self {
            Self::Queued => Some(Stage::Queued),
            Self::Preparing => Some(Stage::Preparing),
            Self::SettingUp => Some(Stage::SettingUp),
            Self::Running => Some(Stage::Running),
            Self::Collecting { .. } => Some(Stage::Collecting),
            Self::Ready(_) | Self::Failed { .. } | Self::Cancelled { .. } => None,
        }
    }

    /// Whether what a person says still reaches the agent: it has not given its last answer.
    #[must_use]
    pub const fn hears(&self) -> bool {
        matches!(self, Self::Queued | Self::Preparing | Self::SettingUp | Self::Running)
    }

    /// Whether it has ended without a result, so that it can be made again.
    #[must_use]
    pub const fn can_be_retried(&self) -> bool {
        matches!(self, Self::Failed { .. } | Self::Cancelled { .. })
    }

    /// Whether nothing more will happen.
    #[must_use]
    pub const fn has_ended(&self) -> bool {
        self.stage().is_none()
    }

    /// The next state, if the diagram has that arrow.
    ///
    /// # Errors
    /// When it has not.
    pub fn advance(self, next: Self) -> Result<Self, ImpossibleTransition> {
        let allowed = match (&self, &next) {
            (Self::Queued, Self::Preparing)
            | (Self::Preparing, Self::SettingUp)
            | (Self::SettingUp, Self::Running)
            | (Self::Running, Self::Collecting { .. })
            | (Self::Collecting { .. }, Self::Ready(_)) => true,
            (_, Self::Failed { stage, .. }) => self.stage() == Some(*stage),
            (_, Self::Cancelled { .. }) => !self.has_ended(),
            _ => false,
        };
        let (noun, from, to) = ("attempt", self.word(), next.word());
        if allowed { Ok(next) } else { Err(ImpossibleTransition { noun, from, to }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn states() -> Vec<AttemptState> {
        vec![
            AttemptState::Queued,
            AttemptState::Preparing,
            AttemptState::SettingUp,
            AttemptState::Running,
            AttemptState::Collecting { answer: "done".to_owned(), notes: AnswerNotes::default() },
            AttemptState::Ready(Outcome {
                answer: "done".to_owned(),
                patch: None,
                notes: AnswerNotes::default(),
                tally: Tally::default(),
            }),
            AttemptState::Failed { stage: Stage::Running, reason: "no model".to_owned(), retryable: true },
            AttemptState::Cancelled { by: CancelledBy::User(UserId::from_uuid(uuid::Uuid::from_u128(1))) },
        ]
    }

    #[test]
    fn every_arrow_of_the_diagram_and_no_other_is_there() {
        let arrows: Vec<(&str, &str)> = states()
            .iter()
            .flat_map(|from| states().into_iter().map(move |to| (from.clone(), to)))
            .filter_map(|(from, to)| from.clone().advance(to).ok().map(|to| (from.word(), to.word())))
            .collect();

        assert_eq!(
            arrows,
            [
                ("queued", "preparing"),
                ("queued", "cancelled"),
                ("preparing", "setting_up"),
                ("preparing", "cancelled"),
                ("setting_up", "running"),
                ("setting_up", "cancelled"),
                ("running", "collecting"),
                ("running", "failed"),
                ("running", "cancelled"),
                ("collecting", "ready"),
                ("collecting", "cancelled"),
            ]
        );
    }

    #[test]
    fn a_state_is_stored_under_its_word_and_read_back_whole() {
        for state in states() {
            let stored = serde_json::to_value(&state).expect("a state is plain data");
            assert_eq!(stored["state"], state.word());
            assert_eq!(serde_json::from_value::<AttemptState>(stored).expect("what was stored"), state);
        }
    }

    #[test]
    fn a_result_of_before_answers_were_checked_is_read() {
        let stored = r#"{"state":"ready","answer":"done","patch":null}"#;

        let state: AttemptState = serde_json::from_str(stored).expect("readable");

        let outcome =
            Outcome { answer: "done".to_owned(), patch: None, notes: AnswerNotes::default(), tally: Tally::default() };
        assert_eq!(state, AttemptState::Ready(outcome));
        assert_eq!(serde_json::to_string(&state).expect("plain data"), stored);
    }
}
