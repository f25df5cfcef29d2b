//! Which commands run tests, what test runners say in the end, and whether these tests passed: by the exit code where it is
//! theirs, else by what they say.

/// The longest summary, in characters.
const MAX_SUMMARY: usize = 160;

/// Words that stand before a command and change nothing about what it is.
const BEFORE: &[&str] = &[
    "sudo", "time", "env", "nice", "exec", "command", "nohup", "xvfb-run", "uv", "poetry", "pipenv", "pdm", "hatch",
    "rye", "bundle", "npx", "bunx", "npm", "pnpm", "yarn", "bun", "pnpx", "dlx", "run", "--", "-a",
];

/// Programs that do nothing but run tests.
const RUNNERS: &[&str] = &[
    "pytest",
    "py.test",
    "tox",
    "nox",
    "nose2",
    "vitest",
    "jest",
    "mocha",
    "ava",
    "ctest",
    "rspec",
    "phpunit",
    "bats",
    "pest",
    "busted",
    "prove",
    "gotestsum",
    "cargo-nextest",
    "minitest",
    "tap",
];

/// Programs that run tests when one of these words comes with them.
const WITH: &[(&str, &[&str])] = &[
    ("cargo", &["test", "t", "nextest", "miri"]),
    ("npm", &["test", "t", "tst"]),
    ("yarn", &["test"]),
    ("pnpm", &["test", "t"]),
    ("bun", &["test"]),
    ("deno", &["test"]),
    ("node", &["--test"]),
    ("go", &["test"]),
    ("mvn", &["test", "verify", "integration-test"]),
    ("mvnw", &["test", "verify", "integration-test"]),
    ("gradle", &["test", "check"]),
    ("gradlew", &["test", "check"]),
    ("make", &["test", "tests", "check"]),
    ("just", &["test", "tests", "check"]),
    ("rake", &["test", "spec"]),
    ("dotnet", &["test"]),
    ("swift", &["test"]),
    ("zig", &["test"]),
    ("mix", &["test"]),
    ("sbt", &["test"]),
    ("composer", &["test"]),
    ("meson", &["test"]),
    ("bazel", &["test"]),
    ("rails", &["test"]),
    ("php", &["test"]),
    ("artisan", &["test"]),
];

/// What separates the commands of a line.
const SEPARATORS: [char; 6] = ['\n', ';', '|', '&', '(', ')'];

/// A command that runs tests, as far as that can be told from its words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TestCommand<'c> {
    /// The part of the command line that runs them.
    pub(super) part: &'c str,
    /// Whether a line that ends with zero says that they passed: nothing behind them hides how they ended.
    pub(super) is_told_by_exit_code: bool,
}

/// How tests ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TestEnd {
    /// They passed.
    Passed,
    /// Some failed, or they could not be run.
    Failed,
    /// The runner found none to run.
    NoneRan,
    /// What stands behind them on their line hides how they ended, and no runner says it.
    Hidden,
}

impl<'c> TestCommand<'c> {
    /// The first part of a command line that runs tests.
    #[must_use]
    pub fn of(line: &'c str) -> Option<Self> {
        let mut at = 0;
        line.split_inclusive(SEPARATORS).find_map(|piece| {
            let from = at + piece.len() - piece.trim_start().len();
            at += piece.len();
            let part = piece.trim_end_matches(SEPARATORS).trim();
            // Of `2>&1` that is what is left.
            let part = part.strip_suffix(" 2>").unwrap_or(part).trim_end();
            let words: Vec<&str> = part.split_whitespace().collect();
            runs_tests(&words).then(|| Self { part, is_told_by_exit_code: !hides(line, &line[from + part.len()..]) })
        })
    }

    /// How its tests ended, by the exit code of its line, if it was seen, and the end of what was printed.
    #[must_use]
    pub fn end(self, exit_code: Option<i32>, printed: &str) -> TestEnd {
        ended(self.is_told_by_exit_code, exit_code, printed)
    }
}

/// See [`TestCommand::end`].
pub(super) fn ended(is_told_by_exit_code: bool, exit_code: Option<i32>, printed: &str) -> TestEnd {
    let plain = without_colours(printed);
    let counted: Vec<&str> = summaries(&plain).collect();
    let failed = match (is_told_by_exit_code, exit_code) {
        (true, Some(0)) => counted.first().is_some_and(|last| tells_of_failures(last)),
        (true, _) => true,
        // Of several runners behind each other each has a line.
        (false, _) => counted.iter().any(|line| tells_of_failures(line)),
    };
    match () {
        () if failed => TestEnd::Failed,
        () if !counted.is_empty() && counted.iter().all(|line| tells_of_none(line)) => TestEnd::NoneRan,
        () if is_told_by_exit_code || !counted.is_empty() => TestEnd::Passed,
        () => TestEnd::Hidden,
    }
}

/// Whether what follows on a line decides its exit code.
fn hides(line: &str, after: &str) -> bool {
    let after = after.replace(">&", ">").replace("&>", ">").replace("&&", " ");
    let after = after.trim_end_matches([' ', '\t', '\n', ';', ')', '}']);
    let is_pipe = after.contains("||") || after.contains('|') && !line.contains("pipefail");
    let ends_at_failures = line.starts_with("set -e") || line.contains("set -eu") || line.contains("set -eo");
    is_pipe || after.contains('&') || after.contains([';', '\n']) && !ends_at_failures
}

fn runs_tests(words: &[&str]) -> bool {
    let Some((first, rest)) = words.split_first() else { return false };
    let name = first.rsplit('/').next().unwrap_or(first);
    if RUNNERS.contains(&name) {
        return true;
    }
    if name.starts_with("python") {
        let module = rest.iter().position(|word| *word == "-m").and_then(|at| rest.get(at + 1));
        return module.is_some_and(|module| matches!(*module, "pytest" | "unittest" | "nose2" | "doctest"))
            || rest.first().is_some_and(|word| *word == "manage.py") && rest.get(1) == Some(&"test");
    }
    if name == "timeout" {
        // Its options and its time stand before the command.
        let is_time = |word: &str| word.starts_with(|first: char| first.is_ascii_digit());
        return rest.iter().enumerate().any(|(at, word)| is_time(word) && runs_tests(&rest[at + 1..]));
    }
    let wanted = WITH.iter().find(|(known, _)| *known == name).map_or(&[][..], |(_, wanted)| *wanted);
    // `npm run test:unit` and `cargo +nightly test` as well.
    if !wanted.is_empty() && rest.iter().any(|word| wanted.contains(word) || word.split(':').next() == Some("test")) {
        return true;
    }
    let is_variable = first.split_once('=').is_some_and(|(name, _)| !name.is_empty() && !name.starts_with('-'));
    (is_variable || BEFORE.contains(&name)) && runs_tests(rest)
}

/// The last line of a test runner's output that counts tests, in one form for all: no colours, no frames.
pub(super) fn summary(tail: &str) -> Option<String> {
    let plain = without_colours(tail);
    Some(summaries(&plain).next()?.chars().take(MAX_SUMMARY).collect())
}

/// The lines that count tests, the last first.
fn summaries(plain: &str) -> impl Iterator<Item = &str> {
    plain.lines().rev().map(|line| line.trim().trim_matches(['=', '-', ' '])).filter(|line| counts(line))
}

/// Whether a summary says that tests failed.
fn tells_of_failures(summary: &str) -> bool {
    let lower = summary.to_ascii_lowercase();
    lower.starts_with("failed")
        || lower.contains("result: failed")
        || has_some(&lower, &["failed", "failures", "failure", "failing", "errors", "error"])
}

/// Whether a summary says that there was no test to run.
fn tells_of_none(summary: &str) -> bool {
    let lower = summary.to_ascii_lowercase();
    lower.starts_with("ran 0 test")
        || lower.contains("no tests ran")
        || lower.contains("no tests to run")
        || lower.contains("0 passed; 0 failed")
}

/// Whether a lower-case text counts more than none of one of these: `failures=2` and `Failures: 2` as well as `2 failed`.
fn has_some(lower: &str, words: &[&str]) -> bool {
    words.iter().any(|word| {
        lower.match_indices(word).any(|(at, _)| {
            let (before, after) = (lower[..at].trim_end(), &lower[at + word.len()..]);
            let digits: String = match after.strip_prefix([':', '=']) {
                Some(after) => after.trim_start().chars().take_while(char::is_ascii_digit).collect(),
                None => before[before.trim_end_matches(|one: char| one.is_ascii_digit()).len()..].to_owned(),
            };
            digits.bytes().any(|digit| digit != b'0')
        })
    })
}

/// Whether a line tells how many tests passed or failed.
fn counts(line: &str) -> bool {
    let lower = line.to_ascii_lowercase();
    let words = ["passed", "failed", "failures", "passing", "failing", "tests run", "examples,", "assertions"];
    let is_count = words.iter().any(|word| lower.contains(word)) && lower.contains(|one: char| one.is_ascii_digit());
    is_count
        || lower.contains("no tests ran")
        || lower.starts_with("ran ") && lower.contains(" test")
        || lower.starts_with("ok  \t")
}

/// A text without terminal sequences.
fn without_colours(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        if character == '\u{1b}' {
            // The last character of a sequence is a letter.
            let _end = characters.find(char::is_ascii_alphabetic);
        } else {
            plain.push(character);
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_that_run_tests_are_known() {
        for command in [
            "cargo test",
            "cargo +nightly test -p x",
            "cargo nextest run",
            "cd sub && cargo test --lib 2>&1 | tail -5",
            "RUST_BACKTRACE=1 cargo test",
            "python -m pytest -q tests/test_a.py",
            "python3.11 -W error -m unittest discover",
            "/workspace/.venv/bin/pytest",
            "uv run pytest -x",
            "poetry run python -m pytest",
            "timeout -k 5 60s npm test",
            "npm run test:unit",
            "yarn test --watch=false",
            "npx vitest run",
            "pnpm exec jest",
            "node --test",
            "go test ./...",
            "./gradlew test",
            "mvn -q -o verify",
            "make -j4 check",
            "bundle exec rspec",
            "vendor/bin/phpunit",
            "(cd build; ctest)",
            "python manage.py test",
            "set -e\nmake test",
        ] {
            assert!(TestCommand::of(command).is_some(), "{command}");
        }
    }

    #[test]
    fn a_summary_tells_of_failures() {
        for failed in [
            "FAILED (errors=1)",
            "FAILED (failures=2, errors=1)",
            "1 failed, 12 passed in 0.12s",
            "test result: FAILED. 3 passed; 1 failed; 0 ignored",
            "Tests run: 5, Failures: 1, Errors: 0, Skipped: 0",
            "Tests: 1 failed, 4 passed, 5 total",
            "12 passing, 2 failing",
            "10 examples, 3 failures",
        ] {
            assert!(tells_of_failures(failed), "{failed}");
        }
        for passed in [
            "12 passed in 0.12s",
            "test result: ok. 3 passed; 0 failed; 0 ignored",
            "Tests run: 5, Failures: 0, Errors: 0, Skipped: 0",
            "Ran 3 tests in 0.001s",
            "10 examples, 0 failures",
            "10 examples, 0 failures, 2 pending",
        ] {
            assert!(!tells_of_failures(passed), "{passed}");
        }
    }

    #[test]
    fn an_exit_code_tells_of_tests_only_where_nothing_behind_them_hides_it() {
        for (line, is_told) in [
            ("cargo test", true),
            ("cd x && cargo test -p a 2>&1", true),
            ("cat x; cargo test > log 2>&1 && echo well\n", true),
            ("(cd build; ctest)", true),
            ("set -o pipefail; cargo test | tail -3", true),
            ("set -euo pipefail\npytest | tail -3\necho done", true),
            ("cargo test 2>&1 | tail -3", false),
            ("pytest || true", false),
            ("set -o pipefail; pytest | tail || true", false),
            ("pytest; python3 other.py", false),
            ("pytest\necho $?", false),
            ("pytest &", false),
        ] {
            let found = TestCommand::of(line).expect(line);
            assert_eq!(found.is_told_by_exit_code, is_told, "{line}");
        }
        assert_eq!(TestCommand::of("ls; cargo test 2>&1 | tail -3").map(|test| test.part), Some("cargo test"));
    }

    #[test]
    fn tests_ended_as_their_exit_code_says_or_else_as_their_runner_says() {
        let end = |line: &str, code: i32, printed: &str| TestCommand::of(line).expect(line).end(Some(code), printed);

        assert_eq!(end("pytest", 0, ""), TestEnd::Passed);
        assert_eq!(end("pytest", 5, "no tests ran in 0.01s\n"), TestEnd::Failed);
        assert_eq!(end("pytest | tail -1", 0, "3 passed in 0.01s\n"), TestEnd::Passed);
        assert_eq!(end("pytest | grep -c FAILED", 1, "3 passed in 0.01s\n0\n"), TestEnd::Passed);
        assert_eq!(end("pytest | tail -1", 0, "1 failed, 3 passed in 0.01s\n"), TestEnd::Failed);
        assert_eq!(end("pytest a; pytest b", 0, "1 failed in 0.01s\n3 passed in 0.1s\n"), TestEnd::Failed);
        assert_eq!(end("make test", 0, "2 failed, 3 passed\nmake: [test] Error 1 (ignored)\n"), TestEnd::Failed);
        assert_eq!(end("pytest || true", 0, "E   SyntaxError\n"), TestEnd::Hidden);
        for none in
            ["Ran 0 tests in 0.000s\n\nOK\n", "no tests ran in 0.01s\n", "test result: ok. 0 passed; 0 failed;\n"]
        {
            assert_eq!(end("cargo test", 0, none), TestEnd::NoneRan, "{none}");
        }
        assert_eq!(
            end("cargo test", 0, "test result: ok. 9 passed; 0 failed\ntest result: ok. 0 passed; 0 failed\n"),
            TestEnd::Passed
        );
        assert_eq!(TestCommand::of("pytest").expect("a test").end(None, ""), TestEnd::Failed);
    }

    #[test]
    fn other_commands_are_not_taken_for_tests() {
        for command in [
            "",
            "ls tests",
            "cat test.py",
            "cargo build",
            "grep -rn test .",
            "git commit -m 'make test'",
            "python test.py",
            "echo cargo test",
            "npm install jest",
            "test -f pytest",
            "timeout",
            "cargo",
        ] {
            assert!(TestCommand::of(command).is_none(), "{command}");
        }
    }

    #[test]
    fn what_a_runner_says_in_the_end_is_found() {
        for (tail, expected) in [
            ("running 2 tests\n\ntest result: ok. 2 passed; 0 failed\n\n", "test result: ok. 2 passed; 0 failed"),
            ("....\n\u{1b}[32m===== \u{1b}[1m4 passed\u{1b}[0m in 0.03s =====\u{1b}[0m\n", "4 passed in 0.03s"),
            ("Tests:       1 failed, 3 passed, 4 total\nTime: 1 s\n", "Tests:       1 failed, 3 passed, 4 total"),
            ("Ran 3 tests in 0.001s\n\nOK\n", "Ran 3 tests in 0.001s"),
            ("5 examples, 1 failure\n", "5 examples, 1 failure"),
        ] {
            assert_eq!(summary(tail).as_deref(), Some(expected), "{tail}");
        }
        assert_eq!(summary("nothing of the kind\n"), None);
        assert!(summary(&format!("{} 1 passed", "x".repeat(9999))).is_some_and(|text| text.len() == MAX_SUMMARY));
    }
}
