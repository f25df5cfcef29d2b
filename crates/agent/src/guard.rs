//! Notices an agent that goes round in circles: the same call with the same result, again and again; a few calls in
//! turn; polls of a command that says nothing; the same words without a call.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};

use crate::Limit;

/// After so many of the same, the model is told.
const TOLD_AFTER: u32 = 5;

/// After so many, it is stopped.
const STOPPED_AFTER: u32 = 10;

/// The longest circle that is noticed, in calls.
const LONGEST_CIRCLE: usize = 4;

/// A command that says nothing may be waited for: each poll takes seconds, and a build may be silent for an hour.
const SILENT_TOLD_AFTER: u32 = 60;
const SILENT_STOPPED_AFTER: u32 = 720;

/// Keeps in mind what was called last.
#[derive(Debug, Default)]
pub(crate) struct Guard {
    /// The last calls with their results, the latest at the end.
    last: VecDeque<u64>,
    /// For each length of a circle, how many calls in a row were the same as the one so long before.
    same: [u32; LONGEST_CIRCLE],
    /// Polls in a row of a command that said nothing.
    silent: u32,
    /// What the model knows of the circle that it is in.
    hint: Hint,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Hint {
    /// Nothing.
    #[default]
    None,
    /// It is told with the results of its last calls, which it has not been shown.
    Given,
    /// It was told, and went on all the same.
    Seen,
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
    /// Takes note of a request: what was told so far is seen with it.
    pub(crate) fn asked(&mut self) {
        if self.hint == Hint::Given {
            self.hint = Hint::Seen;
        }
    }

    /// Takes note of a call and its result. White space makes no difference: a patch that is indented otherwise fails all
    /// the same.
    pub(crate) fn saw(&mut self, tool: &str, input: &str, result: &str) -> Verdict {
        let mut hasher = DefaultHasher::new();
        tool.hash(&mut hasher);
        for text in [input, result] {
            text.split_whitespace().for_each(|word| word.hash(&mut hasher));
            0xff_u8.hash(&mut hasher);
        }
        self.silent = 0;
        let seen = hasher.finish();
        for length in 1..=LONGEST_CIRCLE {
            let before = self.last.len().checked_sub(length).map(|at| self.last[at]);
            let same = &mut self.same[length - 1];
            *same = if before == Some(seen) { *same + 1 } else { 0 };
        }
        if self.last.len() == LONGEST_CIRCLE {
            self.last.pop_front();
        }
        self.last.push_back(seen);
        if self.same.iter().all(|same| *same == 0) {
            self.hint = Hint::None;
        }
        self.judge(tool)
    }

    /// Takes note of a poll of a command: waiting is no circle, but it has an end.
    pub(crate) fn waited(&mut self, tool: &str, is_silent: bool) -> Verdict {
        self.silent = if is_silent { self.silent + 1 } else { 0 };
        match self.silent {
            SILENT_TOLD_AFTER => Verdict::Tell(format!(
                "Note: the command has said nothing for {SILENT_TOLD_AFTER} polls. If it hangs, interrupt it and find out why."
            )),
            SILENT_STOPPED_AFTER.. => {
                Verdict::Stop(Limit::Repetition { tool: tool.to_owned(), calls: 1, times: self.silent })
            }
            _ => Verdict::Fine,
        }
    }

    /// The shortest circle decides: a call that is always the same is also one of two.
    fn judge(&mut self, tool: &str) -> Verdict {
        for length in 1..=LONGEST_CIRCLE {
            let (same, calls) = (self.same[length - 1], length as u32);
            if same == 0 || same % calls != 0 {
                continue;
            }
            // The first time round is not a repetition of anything.
            let rounds = same / calls + 1;
            // Many calls of one answer were all made before it could be told.
            if rounds >= STOPPED_AFTER && self.hint == Hint::Seen {
                return Verdict::Stop(Limit::Repetition { tool: tool.to_owned(), calls, times: rounds });
            }
            if rounds >= TOLD_AFTER && self.hint == Hint::None {
                self.hint = Hint::Given;
                let what = match length {
                    1 => format!("this was the same call with the same result {rounds} times in a row"),
                    _ => format!("the last {length} calls were made {rounds} times in a row, with the same results"),
                };
                return Verdict::Tell(format!(
                    "Note: {what}. It will not change. Try something else, or end with what you have found out."
                ));
            }
            return Verdict::Fine;
        }
        Verdict::Fine
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The verdicts on these results in turn, so many times.
    fn circle(results: &[&str], rounds: usize) -> Vec<Verdict> {
        let mut guard = Guard::default();
        let calls = std::iter::repeat_n(results, rounds).flatten();
        let mut call = |result: &&str| {
            guard.asked();
            guard.saw("exec_command", "{}", result)
        };
        calls.map(&mut call).collect()
    }

    #[test]
    fn a_model_in_a_circle_is_told_once_and_then_stopped() {
        let verdicts = circle(&["same"], 10);

        assert!(verdicts[..4].iter().all(|verdict| *verdict == Verdict::Fine));
        assert!(matches!(&verdicts[4], Verdict::Tell(_)));
        assert!(verdicts[5..9].iter().all(|verdict| *verdict == Verdict::Fine));
        let limit = Limit::Repetition { tool: "exec_command".to_owned(), calls: 1, times: 10 };
        assert_eq!(verdicts[9], Verdict::Stop(limit));
    }

    #[test]
    fn a_model_is_not_stopped_before_it_was_told() {
        let mut guard = Guard::default();
        guard.asked();

        let verdicts: Vec<Verdict> = (0..50).map(|_| guard.saw("x", "{}", "same")).collect();
        guard.asked();

        assert_eq!(verdicts.iter().filter(|verdict| **verdict != Verdict::Fine).count(), 1);
        assert!(matches!(&verdicts[4], Verdict::Tell(_)));
        assert!(matches!(guard.saw("x", "{}", "same"), Verdict::Stop(_)));
    }

    #[test]
    fn a_circle_that_was_left_is_told_of_anew() {
        let mut guard = Guard::default();
        let mut round = |result: &str| {
            (0..5).map(|_| (guard.asked(), guard.saw("x", "{}", result)).1).filter(|one| *one != Verdict::Fine).count()
        };

        assert_eq!((round("a"), round("b")), (1, 1));
    }

    #[test]
    fn circles_of_up_to_four_calls_are_noticed() {
        for results in [&["a", "b"][..], &["a", "b", "c"], &["a", "b", "c", "d"], &["a", "a", "b"]] {
            let verdicts = circle(results, 10);

            let told = verdicts.iter().filter(|verdict| matches!(verdict, Verdict::Tell(_))).count();
            assert_eq!(told, 1, "{results:?}");
            assert!(matches!(&verdicts[results.len() * 5 - 1], Verdict::Tell(note) if note.contains("5 times")));
            assert!(matches!(verdicts.last(), Some(Verdict::Stop(_))), "{results:?}");
        }
    }

    #[test]
    fn a_circle_of_five_and_other_results_are_progress() {
        let mut guard = Guard::default();

        assert!((0..100).all(|number| guard.saw("x", "{}", &number.to_string()) == Verdict::Fine));
        assert!(circle(&["a", "b", "c", "d", "e"], 20).iter().all(|verdict| *verdict == Verdict::Fine));
    }

    #[test]
    fn white_space_makes_no_difference() {
        let mut guard = Guard::default();

        let mut call = |n: usize| {
            guard.asked();
            guard.saw("x", &" ".repeat(n), &format!("no{}file", "\t".repeat(n)))
        };
        let verdicts: Vec<_> = (1..=10).map(&mut call).collect();

        assert!(matches!(verdicts[9], Verdict::Stop(_)));
    }

    #[test]
    fn waiting_for_a_silent_command_is_no_circle_but_has_an_end() {
        let mut guard = Guard::default();
        let mut verdicts: Vec<_> = (1..=720).map(|_| guard.waited("write_stdin", true)).collect();

        assert!(matches!(verdicts.pop(), Some(Verdict::Stop(_))));
        assert!(matches!(verdicts.remove(59), Verdict::Tell(_)));
        assert!(verdicts.iter().all(|verdict| *verdict == Verdict::Fine));
        assert_eq!(guard.waited("write_stdin", false), Verdict::Fine);
        assert_eq!(guard.waited("write_stdin", true), Verdict::Fine);
    }
}
