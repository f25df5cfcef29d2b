//! Which attempt to look at first, and why: by the first thing in which one of them is better than all others, or as the
//! first of the best where they do not differ.

use std::collections::BTreeSet;

use super::Tally;
use crate::PatchSummary;

/// What counts of an attempt.
#[derive(Debug, Clone, Default)]
pub struct Contender {
    /// The number by which people know it.
    pub number: u32,
    /// Whether it has a result.
    pub is_ready: bool,
    /// What it changed.
    pub patch: Option<PatchSummary>,
    /// What it did.
    pub tally: Tally,
    /// Citations in its answer that do not hold.
    pub failing_citations: u32,
    /// Tokens it took, sent and produced.
    pub tokens: u64,
}

/// Which attempt to look at first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suggestion {
    /// Its place among those compared; `None` when none has a result.
    pub winner: Option<usize>,
    /// Why, in one sentence.
    pub reason: String,
}

/// Something in which attempts differ: the higher number is better.
struct Measure {
    of: fn(&Contender, &[Contender]) -> i64,
    /// Why the only one with the highest number is suggested.
    because: &'static str,
}

/// In the order in which they count.
const MEASURES: [Measure; 7] = [
    Measure { of: |one, _| i64::from(one.is_ready), because: "it is the only one that came to a result" },
    Measure { of: |one, _| i64::from(one.patch.is_some()), because: "it is the only one that changed anything" },
    Measure { of: tests, because: "its tests end better than those of the others" },
    Measure { of: agreement, because: "it changes the files that most of the others change as well" },
    Measure {
        of: |one, _| -i64::from(one.tally.warnings),
        because: "it is as good as others, with the fewest warnings",
    },
    Measure {
        of: |one, _| -i64::from(one.failing_citations),
        because: "it is as good as others, and more of its citations hold",
    },
    Measure { of: size, because: "it is as good as others, with the smallest change" },
];

/// Compares attempts at one request. Attempts that are still at work are not ready; ask again when all have ended.
#[must_use]
pub fn suggest(contenders: &[Contender]) -> Suggestion {
    if contenders.len() < 2 {
        return Suggestion { winner: None, reason: "there is nothing to compare".to_owned() };
    }
    if !contenders.iter().any(|one| one.is_ready) {
        return Suggestion { winner: None, reason: "none of the attempts came to a result".to_owned() };
    }
    let mut best: Vec<usize> = (0..contenders.len()).collect();
    for Measure { of, because } in MEASURES {
        let score = |at: usize| of(&contenders[at], contenders);
        let highest = best.iter().map(|at| score(*at)).max().unwrap_or_default();
        best.retain(|at| score(*at) == highest);
        if let [winner] = best[..] {
            return Suggestion { winner: Some(winner), reason: (*because).to_owned() };
        }
    }
    // Alike in everything that says how good they are: what they cost decides only among those.
    let least = best.iter().map(|at| contenders[*at].tokens).min();
    best.retain(|at| Some(contenders[*at].tokens) == least);
    let reason = match &best[..] {
        [_] => "it is as good as others, and took the fewest tokens".to_owned(),
        tied => format!("there is no clear winner, and it is the first of the best: {}", named(tied, contenders)),
    };
    Suggestion { winner: best.first().copied(), reason }
}

/// Those that are alike, by their numbers, at least two: `attempts 1, 2 and 4 do not differ in what can be counted`.
fn named(tied: &[usize], contenders: &[Contender]) -> String {
    let numbers: Vec<String> = tied.iter().map(|at| contenders[*at].number.to_string()).collect();
    let (last, before) = numbers.split_last().map_or(("", &[][..]), |(last, before)| (last.as_str(), before));
    format!("attempts {} and {last} do not differ in what can be counted", before.join(", "))
}

/// Tests that end well are best, and none at all better than some that fail.
fn tests(one: &Contender, _: &[Contender]) -> i64 {
    match one.tally.passes() {
        Some(true) => 2,
        None => 1,
        Some(false) => 0,
    }
}

/// How many attempts, it among them, change the same files.
fn agreement(one: &Contender, all: &[Contender]) -> i64 {
    let files = |one: &Contender| -> BTreeSet<String> {
        one.patch.iter().flat_map(|patch| &patch.files).map(|file| file.path.clone()).collect()
    };
    let mine = files(one);
    i64::try_from(all.iter().filter(|other| other.is_ready && files(other) == mine).count()).unwrap_or(i64::MAX)
}

fn size(one: &Contender, _: &[Contender]) -> i64 {
    let lines = one.patch.as_ref().map_or(0, |patch| patch.additions.saturating_add(patch.deletions));
    -i64::try_from(lines).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::FileChange;
    use crate::comparison::TestRun;
    use crate::patch::ChangeKind;

    fn attempt(tests: &[bool], files: &[&str], lines: u64) -> Contender {
        let test = |passed: &bool| TestRun { command: "pytest".to_owned(), passed: *passed, summary: None };
        let change = |path: &&str| FileChange {
            path: (*path).to_owned(),
            old_path: None,
            kind: ChangeKind::Modified,
            additions: lines,
            deletions: 0,
            binary: false,
        };
        let files: Vec<FileChange> = files.iter().map(change).collect();
        let patch = PatchSummary { files, additions: lines, deletions: 0, size_bytes: 1 };
        let tally = Tally { tests: tests.iter().map(test).collect(), ..Tally::default() };
        let patch = (lines > 0).then_some(patch);
        Contender { number: 0, is_ready: true, patch, tally, failing_citations: 0, tokens: 10 }
    }

    fn winner(contenders: &[Contender], because: &str) -> Option<usize> {
        let numbered = |(number, one): (u32, &Contender)| Contender { number, ..one.clone() };
        let contenders: Vec<Contender> = (1..).zip(contenders).map(numbered).collect();
        let Suggestion { winner, reason } = suggest(&contenders);
        assert!(reason.contains(because), "{reason}");
        winner
    }

    #[test]
    fn results_beat_failures_and_passing_tests_beat_everything_else() {
        let (good, bad, untested) =
            (attempt(&[true], &["a"], 50), attempt(&[true, false], &["a"], 1), attempt(&[], &["a"], 1));
        let failed = Contender { is_ready: false, ..good.clone() };

        assert_eq!(winner(&[failed.clone(), bad.clone()], "came to a result"), Some(1));
        assert_eq!(winner(&[bad.clone(), untested.clone(), good], "tests"), Some(2));
        assert_eq!(winner(&[bad, untested], "tests"), Some(1));
        assert_eq!(winner(&[failed.clone(), failed], "none of the attempts"), None);
    }

    #[test]
    fn among_equals_agreement_then_warnings_then_size_then_tokens_decide() {
        let one = || attempt(&[true], &["a"], 10);
        let warned = Contender { tally: Tally { warnings: 1, ..one().tally }, ..one() };
        let costly = Contender { tokens: 99, ..one() };

        assert_eq!(winner(&[attempt(&[true], &["b"], 1), one(), warned.clone()], "warnings"), Some(1));
        assert_eq!(winner(&[one(), attempt(&[true], &["b"], 1), costly], "fewest tokens"), Some(0));
        assert_eq!(winner(&[one(), warned], "warnings"), Some(0));
        assert_eq!(winner(&[one(), attempt(&[true], &["a"], 9)], "smallest change"), Some(1));
        assert_eq!(winner(&[attempt(&[], &[], 0), one()], "changed anything"), Some(1));
        assert_eq!(winner(&[one()], "nothing to compare"), None);
    }

    #[test]
    fn where_the_best_do_not_differ_the_first_of_them_is_suggested_and_they_are_named() {
        let (good, bad) = (|| attempt(&[true], &["a"], 10), || attempt(&[false], &["a"], 10));

        assert_eq!(winner(&[good(), good()], "attempts 1 and 2 do not differ"), Some(0));
        let (told, costly) = ("no clear winner, and it is the first of the best: attempts 2, 3 and 5 ", good());
        let costly = Contender { tokens: 99, ..costly };
        assert_eq!(winner(&[bad(), good(), good(), costly, good()], told), Some(1));
    }
}
