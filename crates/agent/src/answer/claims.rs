//! The claims of a Testing section, held against the commands that ran: what is said to have passed must have ended with
//! zero, tests must have passed by all that their runner says, and what is said to have run must have run.

use std::collections::{BTreeMap, BTreeSet};

use carrel_domain::citation::{Reference, Source, citations};
use carrel_domain::comparison::{TestCommand, TestEnd};

use super::evidence::{Evidence, Ran};
use super::sections::section;

/// What marks a claim that something passed.
const PASSED: char = '✅';

/// How much of a claim is repeated, in characters.
const SHOWN_CHARS: usize = 160;

/// What is wrong with the claims of an answer. `chunks` has the pieces of output by the names that citations give them.
pub(super) fn faults(answer: &str, evidence: &Evidence, chunks: &BTreeMap<String, String>) -> Vec<String> {
    let claims = section(answer, "Testing").unwrap_or_default();
    let claims = claims.into_iter().filter_map(Claim::of);
    claims.filter_map(|claim| claim.fault(evidence, chunks)).collect()
}

/// A line that says that something passed.
struct Claim<'t> {
    line: &'t str,
    /// What stands between backticks.
    commands: Vec<&'t str>,
    /// The pieces of output it cites.
    cited: Vec<String>,
}

impl<'t> Claim<'t> {
    fn of(line: &'t str) -> Option<Self> {
        let bare = line.trim_start_matches([' ', '\t', '-', '*', '•']);
        if !bare.starts_with(PASSED) {
            return None;
        }
        let cited = citations(line).into_iter().filter_map(|citation| match citation.reference {
            Some(Reference { source: Source::Output(name), .. }) => Some(name),
            _ => None,
        });
        Some(Self { line, commands: code_spans(line), cited: cited.collect() })
    }

    /// What is wrong with it.
    fn fault(&self, evidence: &Evidence, chunks: &BTreeMap<String, String>) -> Option<String> {
        let cited: BTreeSet<&str> = self.cited.iter().filter_map(|name| chunks.get(name)).map(String::as_str).collect();
        let is_meant = |ran: &&Ran| {
            ran.chunks.iter().any(|chunk| cited.contains(chunk.as_str()))
                || self.commands.iter().any(|command| is_about(command, &ran.command))
        };
        let meant: Vec<&Ran> = evidence.commands().iter().filter(is_meant).collect();
        let line: String = self.line.trim().chars().take(SHOWN_CHARS).collect();
        let Some(last) = meant.last() else {
            // What is cited from an earlier turn was held against its record then.
            let is_known = self.cited.iter().any(|name| chunks.contains_key(name));
            return (!is_known).then(|| {
                format!("its section Testing says that something passed which is no command of this turn: “{line}”")
            });
        };
        if meant.iter().any(|ran| fault_of(ran).is_none()) {
            return None;
        }
        fault_of(last).map(|fault| format!("its section Testing says that something passed {fault}: “{line}”"))
    }
}

/// Why a command did not pass.
fn fault_of(ran: &Ran) -> Option<String> {
    let end = TestCommand::of(&ran.command).map(|test| test.end(ran.exit_code, &ran.tail));
    match (ran.exit_code, end) {
        (None, _) => Some("whose end was never seen".to_owned()),
        (Some(0), None | Some(TestEnd::Passed)) | (Some(_), Some(TestEnd::Passed)) => None,
        (_, Some(TestEnd::NoneRan)) => Some("which ran no test".to_owned()),
        (_, Some(TestEnd::Hidden)) => Some(
            "although what follows the tests on their command line hides how they ended, and their output does not say it"
                .to_owned(),
        ),
        (Some(0), Some(TestEnd::Failed)) => Some("although its output tells of failures".to_owned()),
        (Some(code), _) => Some(format!("which ended with exit code {code}")),
    }
}

/// Whether the command that is named is the one that ran: word for word in any order, or one within the other.
fn is_about(named: &str, ran: &str) -> bool {
    let (named, ran) = (words(named), words(ran));
    if named.is_empty() {
        return false;
    }
    let (named_set, ran_set): (BTreeSet<&str>, BTreeSet<&str>) =
        (named.iter().copied().collect(), ran.iter().copied().collect());
    named_set.is_subset(&ran_set) || format!(" {} ", named.join(" ")).contains(&format!(" {} ", ran.join(" ")))
}

fn words(command: &str) -> Vec<&str> {
    command.split([' ', '\t', '\n', ';', '&', '|', '(', ')', '"', '\'']).filter(|word| !word.is_empty()).collect()
}

/// What stands between backticks on a line.
fn code_spans(line: &str) -> Vec<&str> {
    let ticks = line.split('`').collect::<Vec<_>>();
    let inside = ticks.iter().enumerate().filter(|(at, _)| at % 2 == 1 && at + 1 < ticks.len());
    inside.map(|(_, span)| span.trim()).filter(|span| !span.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults_of(testing: &str, commands: &[(&str, &str, i32, &str)]) -> Vec<String> {
        let known = commands.iter().map(|(_, chunk, ..)| ((*chunk).to_owned(), (*chunk).to_owned())).collect();
        faults(
            &format!("**Summary**\n- x\n\n**Testing**\n{testing}"),
            &super::super::evidence::tests::of(commands),
            &known,
        )
    }

    #[test]
    fn what_ended_with_zero_may_be_said_to_have_passed() {
        let ran = [(
            "cd /workspace/x && cargo test -p api 2>&1 | tail -5",
            "aaaaaa",
            0,
            "test result: ok. 12 passed; 0 failed",
        )];
        for line in [
            "- ✅ `cargo test -p api`",
            "✅ `cargo test -p api` passed (12 tests)",
            "* ✅ `tail -5`",
            "✅ all tests of the API 【aaaaaa†L1-L5】",
            "✅ `cd /workspace/x && cargo test -p api 2>&1 | tail -5`",
        ] {
            assert_eq!(faults_of(line, &ran), [""; 0], "{line}");
        }
    }

    #[test]
    fn what_failed_or_never_ran_may_not() {
        let ran = [
            ("npm test", "aaaaaa", 1, ""),
            ("npm run lint", "bbbbbb", 2, ""),
            ("pytest -q | tail -1", "cccccc", 0, "1 failed, 2 passed in 0.1s"),
            ("make check || true", "dddddd", 0, "no such target"),
            ("python -m unittest", "eeeeee", 0, "Ran 0 tests in 0.000s\n\nOK"),
        ];
        for (line, expected) in [
            ("✅ `npm test`", "ended with exit code 1: “✅ `npm test`”"),
            ("- ✅ the linter 【bbbbbb†L1】", "ended with exit code 2"),
            ("✅ `npm run build`", "no command of this turn"),
            ("✅ everything works", "no command of this turn"),
            ("✅ `pytest -q`", "although its output tells of failures"),
            ("✅ `make check`", "hides how they ended"),
            ("✅ `python -m unittest`", "which ran no test"),
        ] {
            let told = faults_of(line, &ran);
            assert!(told.len() == 1 && told[0].contains(expected), "{line}: {told:?}");
        }
    }

    #[test]
    fn a_command_that_failed_first_and_passed_later_has_passed() {
        assert_eq!(faults_of("✅ `make`", &[("make", "aaaaaa", 2, ""), ("make", "bbbbbb", 0, "")]), [""; 0]);
    }

    #[test]
    fn what_is_said_to_have_failed_is_believed() {
        assert_eq!(faults_of("❌ `make check`\n⚠️ `npm ci` (no network)\nNothing else was run.", &[]), [""; 0]);
    }

    #[test]
    fn a_claim_outside_the_section_is_none() {
        assert_eq!(faults("✅ done\n**Summary**\n✅ `x`", &Evidence::default(), &BTreeMap::new()), [""; 0]);
    }
}
