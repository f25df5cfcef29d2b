//! Which commands run tests, and what test runners say in the end.

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

/// The part of a shell command that runs tests, as far as that can be told from its words.
pub(super) fn test_in(command: &str) -> Option<&str> {
    let parts = command.split(['\n', ';', '|', '&', '(', ')']).map(str::trim);
    // Of `2>&1` that is what is left.
    let mut parts = parts.map(|part| part.strip_suffix(" 2>").unwrap_or(part).trim_end());
    parts.find(|part| {
        let words: Vec<&str> = part.split_whitespace().collect();
        runs_tests(&words)
    })
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
    let line = plain.lines().rev().map(|line| line.trim().trim_matches(['=', '-', ' '])).find(|line| counts(line))?;
    Some(line.chars().take(MAX_SUMMARY).collect())
}

/// Whether a summary says that tests failed: the command's exit code may be that of what stands behind a pipe or `||`.
pub(super) fn tells_of_failures(summary: &str) -> bool {
    let lower = summary.to_ascii_lowercase();
    if lower.starts_with("failed") || lower.contains("result: failed") {
        return true;
    }
    // `failures=2` and `Failures: 2` as well as `2 failed`.
    ["failed", "failures", "failure", "failing", "errors", "error"].iter().any(|word| {
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
    is_count || lower.starts_with("ran ") && lower.contains(" test") || lower.starts_with("ok  \t")
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
            assert!(test_in(command).is_some(), "{command}");
        }
    }

    #[test]
    fn a_summary_tells_of_failures_whatever_the_exit_code() {
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
        assert_eq!(test_in("cargo test 2>&1 | tail -3"), Some("cargo test"));
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
            assert!(test_in(command).is_none(), "{command}");
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
