//! Notices an agent that goes round in circles: the same call with the same result, again and again.

use std::hash::{DefaultHasher, Hash, Hasher};

use crate::Limit;

/// After so many, the model is told.
const TOLD_AFTER: u32 = 5;

/// After so many, it is stopped.
const STOPPED_AFTER: u32 = 10;

/// Counts like calls in a row.
#[derive(Debug, Default)]
pub(crate) struct Guard {
    last: Option<u64>,
    times: u32,
}

/// What is to be done about a call.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nothing.
    Fine,
    /// The model is to be told this, with the result.
    Tell(String),
    /// The agent is to be stopped.
    Stop(Limit),
}

impl Guard {
    /// Takes note of a call and its result.
    pub(crate) fn saw(&mut self, tool: &str, input: &str, result: &str) -> Verdict {
        let mut hasher = DefaultHasher::new();
        (tool, input, result).hash(&mut hasher);
        let seen = hasher.finish();
        self.times = if self.last == Some(seen) { self.times + 1 } else { 1 };
        self.last = Some(seen);
        match self.times {
            TOLD_AFTER => Verdict::Tell(format!(
                "Note: this was the same call with the same result {TOLD_AFTER} times in a row. It will not change. Try something else, or end with what you have found out."
            )),
            STOPPED_AFTER.. => Verdict::Stop(Limit::Repetition { tool: tool.to_owned(), times: self.times }),
            _ => Verdict::Fine,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_in_a_circle_is_told_once_and_then_stopped() {
        let mut guard = Guard::default();
        let verdicts: Vec<_> = (1..=10).map(|_| guard.saw("exec_command", "{}", "same")).collect();

        assert!(verdicts[..4].iter().all(|verdict| *verdict == Verdict::Fine));
        assert!(matches!(&verdicts[4], Verdict::Tell(_)));
        assert!(verdicts[5..9].iter().all(|verdict| *verdict == Verdict::Fine));
        assert_eq!(verdicts[9], Verdict::Stop(Limit::Repetition { tool: "exec_command".to_owned(), times: 10 }));
    }

    #[test]
    fn another_result_is_progress() {
        let mut guard = Guard::default();

        assert!((0..100).all(|number| guard.saw("x", "{}", &(number % 2).to_string()) == Verdict::Fine));
    }
}
