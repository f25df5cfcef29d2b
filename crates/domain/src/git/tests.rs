//! What git's names may and may not be.

use proptest::prelude::*;

use super::*;

#[test]
fn branch_names_that_git_takes_are_taken() {
    for name in ["main", "feature/x", "release-1.2", "it's", "a$(b)", "ünïcode", "user@host", "x\"y"] {
        assert_eq!(name.parse::<BranchName>().map(String::from), Ok(name.to_owned()));
    }
}

#[test]
fn branch_names_that_could_mislead_a_program_or_a_person_are_refused() {
    for name in [
        "",
        "-x",
        "--upload-pack=x",
        "a b",
        "a\u{a0}b",
        "a\u{3000}b",
        "a\u{200b}b",
        "a\u{202e}b",
        "a\tb",
        "a\nb",
        "a..b",
        "a~b",
        "a^b",
        "a:b",
        "a?b",
        "a*b",
        "a[b",
        "a\\b",
        "/a",
        "a/",
        "a//b",
        ".a",
        "a/.b",
        "a.lock",
        "a.",
        "a@{b",
        "@",
        "HEAD",
        "refs/heads/a",
    ] {
        assert!(name.parse::<BranchName>().is_err(), "{name:?}");
    }
}

#[test]
fn an_invisible_character_is_named_in_the_error() {
    let error = "main\u{3000}".parse::<BranchName>().expect_err("an ideographic space");

    assert_eq!(
        error.to_string(),
        "the branch name `main\\u{3000}` has U+3000 at position 5, which is not allowed there"
    );
}

#[test]
fn repositories_are_paths_urls_or_the_short_form_of_ssh() {
    for (text, name) in [
        ("/srv/code/acme api", "acme-api"),
        ("/srv/code/api/.git", "api"),
        ("/srv/code/api.git", "api"),
        ("https://example.com/acme/api.git", "api"),
        ("ssh://git@example.com:2222/acme/api", "api"),
        ("git@example.com:acme/api.git", "api"),
        ("file:///srv/code/api", "api"),
        ("http://[::1]:8080/acme/api", "api"),
        ("/", "repository"),
    ] {
        let location = text.parse::<RepositoryLocation>().unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(location.name(), name, "{text}");
    }
}

#[test]
fn repositories_that_would_run_something_or_hold_a_credential_are_refused() {
    for text in [
        "",
        "-oProxyCommand=x",
        "ext::sh -c id",
        "fd::17",
        "relative/path",
        "ftp://example.com/x",
        "https://",
        "https://example.com",
        "https://token@example.com/a/b",
        "https://u:p@example.com/a/b",
        "ssh://-oProxyCommand=x/y",
        "-x@host:path",
        "host:-path",
        "u@-host:path",
        "https://example.com/a?b",
        "javascript://x/y",
        "https://exa mple.com/x",
        "/a\nb",
        "git@host:",
    ] {
        assert!(text.parse::<RepositoryLocation>().is_err(), "{text:?}");
    }
}

#[test]
fn a_password_in_a_url_is_not_repeated_in_the_error() {
    let error = "https://me:hunter22@example.com/a/b".parse::<RepositoryLocation>().expect_err("a credential");

    assert!(!error.to_string().contains("hunter22"), "{error}");
}

#[test]
fn paths_that_any_file_system_takes_for_git_metadata_are_unsafe() {
    for path in [
        ".git/config",
        "a/.GIT/hooks/x",
        "git~1/x",
        ".git./x",
        ".git /x",
        ".g\u{200c}it/x",
        "..",
        "a/../b",
        "/etc/passwd",
        "a//b",
        "",
        ".git::$INDEX_ALLOCATION/x",
        "a\\.git\\x",
    ] {
        assert!(!is_safe_repository_path(path), "{path:?}");
    }
    for path in [".gitignore", ".github/workflows/x.yml", "a b/c", "git/x", "ä.txt", "...", "a..b"] {
        assert!(is_safe_repository_path(path), "{path:?}");
    }
}

proptest! {
    #[test]
    fn no_accepted_name_can_be_taken_for_an_option_or_split_a_line(text in "\\PC{0,40}") {
        if let Ok(name) = text.parse::<BranchName>() {
            prop_assert!(!name.as_str().starts_with('-'));
            prop_assert!(!name.as_str().chars().any(|character| character.is_whitespace() || character.is_control()));
        }
        if let Ok(location) = text.parse::<RepositoryLocation>() {
            prop_assert!(!location.to_string().starts_with('-'));
            prop_assert!(!location.name().contains('/') && !location.name().starts_with('.'));
        }
    }

    #[test]
    fn what_was_taken_once_is_taken_again_from_its_written_form(
        text in prop_oneof!["/\\PC{0,20}", "https://[a-z]{1,5}/\\PC{1,400}", "file:///[a-z%0-9A-F]{1,20}", "[a-z]{1,5}@[a-z]{1,5}:\\PC{1,20}"]
    ) {
        if let Ok(location) = text.parse::<RepositoryLocation>() {
            prop_assert_eq!(location.to_string().parse(), Ok(location));
        }
    }
}
