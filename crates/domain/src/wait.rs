//! What a task waits for when it is neither its agent's work nor its sandbox's: who owes it something, and until when.

use jiff::Timestamp;

use crate::EventBody;

/// So many jobs before one are not counted any further.
pub const MANY: u32 = 100;

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// A worker, which takes the attempts in the order they were asked for.
    Worker {
        /// How many are before it, [`MANY`] at most.
        before: u32,
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
        let wait = std::time::Duration::from_millis(*wait_ms);
        let until = at.checked_add(wait).unwrap_or(Timestamp::MAX);
        Some(Self::Model { retry: *retry, retries: *retries, until })
    }

    /// The same in words.
    #[must_use]
    pub fn words(&self, now: Timestamp) -> String {
        match self {
            Self::Worker { before: 0 } => "waiting for a free worker: it is the next".to_owned(),
            Self::Worker { before } if *before >= MANY => {
                format!("waiting for a free worker: {MANY} or more before it")
            }
            Self::Worker { before } => format!("waiting for a free worker: {before} before it"),
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

    #[test]
    fn a_wait_says_what_it_is_for_and_how_long() {
        let at = |second| Timestamp::from_second(second).expect("a time");
        let body = EventBody::ModelRetrying { reason: "503".to_owned(), wait_ms: 12_000, retry: 3, retries: 8 };

        let wait = Wait::since(&body, at(100)).expect("a wait");

        assert_eq!(wait.words(at(100)), "waiting for the model: retry 3 of 8 in 12 s");
        assert_eq!(wait.words(at(112)), "waiting for the model: retry 3 of 8 is under way");
        assert_eq!(Wait::Worker { before: 3 }.words(at(0)), "waiting for a free worker: 3 before it");
        assert_eq!(Wait::since(&EventBody::Warning { message: String::new() }, at(0)), None);
    }

    #[test]
    fn a_retry_that_was_stored_before_its_end_was_known_is_read() {
        let stored = r#"{"type":"model.retrying","data":{"reason":"503","wait_ms":1,"retry":2}}"#;

        let body: EventBody = serde_json::from_str(stored).expect("readable");

        assert!(matches!(body, EventBody::ModelRetrying { retry: 2, retries: 0, .. }));
    }
}
