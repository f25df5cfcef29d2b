//! What a task waits for when it is neither its agent's work nor its sandbox's: who owes it something, and until when.

use std::time::Duration;

use jiff::Timestamp;

use crate::{BudgetOwner, EventBody};

/// So many jobs before one are not counted any further.
pub const MANY: u32 = 100;

/// What is waited for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wait {
    /// A worker. Persons and organizations take turns; each one's attempts are taken by priority and age.
    Worker {
        /// How many of the same person are before it, [`MANY`] at most.
        before: u32,
    },
    /// The worker that has the files it goes on with, and is not heard of just now. Others do without them when it is gone.
    Home {
        /// What people know its machine by.
        name: String,
        /// When it was heard of last.
        seen_at: Timestamp,
        /// When it is expected back, if it was stopped.
        returns_by: Option<Timestamp>,
    },
    /// An attempt of the same owner, which has as many running as it may.
    Place {
        /// Whose limit it is.
        owner: BudgetOwner,
        /// What the owner is called.
        name: String,
        /// How many run.
        running: u32,
        /// How many may.
        most: u32,
    },
    /// The next try, after something around the attempt did not work.
    Rest {
        /// What did not work.
        reason: String,
        /// When it is tried again.
        until: Timestamp,
    },
    /// The model, which did not answer.
    Model {
        /// 1 for the first retry.
        retry: u32,
        /// How often it is tried again before the attempt gives up; 0 when nobody said.
        retries: u32,
        /// When it is asked again.
        until: Timestamp,
    },
}

impl Wait {
    /// What is waited for from this event on, if anything.
    #[must_use]
    pub fn since(body: &EventBody, at: Timestamp) -> Option<Self> {
        let EventBody::ModelRetrying { wait_ms, retry, retries, .. } = body else { return None };
        let wait = Duration::from_millis(*wait_ms);
        let until = at.checked_add(wait).unwrap_or(Timestamp::MAX);
        Some(Self::Model { retry: *retry, retries: *retries, until })
    }

    /// The same in words, where a worker that has said nothing for so long counts as gone.
    #[must_use]
    pub fn words(&self, now: Timestamp, gone_after: Duration) -> String {
        match self {
            Self::Worker { before: 0 } => "waiting for a free worker: the next of this person's".to_owned(),
            Self::Worker { before } if *before >= MANY => {
                format!("waiting for a free worker: {MANY} or more of this person's before it")
            }
            Self::Worker { before } => format!("waiting for a free worker: {before} of this person's before it"),
            Self::Home { name, returns_by: Some(by), .. } => {
                format!("waiting for the worker `{name}`, which was stopped and is expected back by {by:.0}")
            }
            Self::Home { name, seen_at, returns_by: None } => {
                let gone_at = seen_at.checked_add(gone_after).unwrap_or(Timestamp::MAX);
                format!(
                    "waiting for the worker `{name}`, which was not heard of since {seen_at:.0}; from {gone_at:.0} on it counts as \
                     gone, and others take over"
                )
            }
            Self::Place { owner, name, running, most } => {
                let raised = match owner {
                    BudgetOwner::Organization(_) => format!("carrel budget set --attempts {}", most.saturating_add(1)),
                    BudgetOwner::Person(id) => {
                        format!("carrel budget set --person {id} --attempts {}", most.saturating_add(1))
                    }
                };
                format!(
                    "queued: {running} of {most} attempts of {name} are running; it can begin when one of them ends, or when \
                     an owner raises the limit (`{raised}`)"
                )
            }
            Self::Rest { reason, until } => {
                let left = until.duration_since(now).as_secs_f64().max(0.0);
                format!("going on in {:.0} s: {reason}", left.ceil())
            }
            Self::Model { retry, retries, until } => {
                let of = if *retries == 0 { String::new() } else { format!(" of {retries}") };
                let left = until.duration_since(now).as_secs_f64();
                if left > 0.0 {
                    format!("waiting for the model: retry {retry}{of} in {:.0} s", left.ceil())
                } else {
                    format!("waiting for the model: retry {retry}{of} is under way")
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GONE_AFTER: Duration = Duration::from_mins(1);

    #[test]
    fn a_wait_says_what_it_is_for_and_how_long() {
        let at = |second| Timestamp::from_second(second).expect("a time");
        let body = EventBody::ModelRetrying { reason: "503".to_owned(), wait_ms: 12_000, retry: 3, retries: 8 };

        let wait = Wait::since(&body, at(100)).expect("a wait");

        assert_eq!(wait.words(at(100), GONE_AFTER), "waiting for the model: retry 3 of 8 in 12 s");
        assert_eq!(wait.words(at(112), GONE_AFTER), "waiting for the model: retry 3 of 8 is under way");
        let worker = Wait::Worker { before: 3 };
        assert_eq!(worker.words(at(0), GONE_AFTER), "waiting for a free worker: 3 of this person's before it");
        let away = Wait::Home { name: "one".to_owned(), seen_at: at(0), returns_by: Some(at(60)) };
        assert_eq!(
            away.words(at(9), GONE_AFTER),
            "waiting for the worker `one`, which was stopped and is expected back by 1970-01-01T00:01:00Z"
        );
        let silent = Wait::Home { name: "one".to_owned(), seen_at: at(0), returns_by: None };
        assert!(
            silent
                .words(at(9), GONE_AFTER)
                .contains("not heard of since 1970-01-01T00:00:00Z; from 1970-01-01T00:01:00Z on")
        );
        let rest = Wait::Rest { reason: "the disk is full".to_owned(), until: at(90) };
        assert_eq!(rest.words(at(0), GONE_AFTER), "going on in 90 s: the disk is full");
        assert_eq!(rest.words(at(91), GONE_AFTER), "going on in 0 s: the disk is full");
        assert_eq!(Wait::since(&EventBody::Warning { message: String::new() }, at(0)), None);
    }

    #[test]
    fn a_limit_says_whose_it_is_and_who_can_raise_it() {
        let owner = BudgetOwner::Person(crate::UserId::from_uuid(uuid::Uuid::from_u128(7)));
        let wait = Wait::Place { owner, name: "Ada".to_owned(), running: 4, most: 4 };

        let words = wait.words(Timestamp::UNIX_EPOCH, GONE_AFTER);

        assert!(words.starts_with("queued: 4 of 4 attempts of Ada are running"), "{words}");
        assert!(words.contains("--person 00000000-0000-0000-0000-000000000007 --attempts 5"), "{words}");
    }

    #[test]
    fn a_retry_that_was_stored_before_its_end_was_known_is_read() {
        let stored = r#"{"type":"model.retrying","data":{"reason":"503","wait_ms":1,"retry":2}}"#;

        let body: EventBody = serde_json::from_str(stored).expect("readable");

        assert!(matches!(body, EventBody::ModelRetrying { retry: 2, retries: 0, .. }));
    }
}
