//! The rules of the house that no compiler knows: who may use what, and how a file looks. Each rule is a line of
//! `ARCHITECTURE.md` or `CONTRIBUTING.md`.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::run::say;

/// The longest file, in lines.
const MAX_LINES: usize = 500;

/// Which crate may depend on which others: calls go down only.
const MAY_DEPEND_ON: &[(&str, &[&str])] = &[
    ("domain", &[]),
    ("runner", &[]),
    ("wire", &["domain"]),
    ("store", &["domain"]),
    ("identity", &["domain", "store"]),
    ("forge", &["domain"]),
    ("egress", &["domain"]),
    ("image", &["domain"]),
    ("sandbox", &["domain", "runner"]),
    ("agent", &["domain", "sandbox"]),
    ("control", &["domain", "store", "sandbox", "agent", "forge", "egress", "image"]),
    ("api", &["domain", "wire", "store", "identity", "control"]),
    ("testkit", &["domain", "wire"]),
];

/// A power, the text that gives its use away, and the crates that have it.
struct Power {
    what: &'static str,
    text: &'static str,
    crates: &'static [&'static str],
}

const POWERS: &[Power] = &[
    Power { what: "unsafe code", text: "unsafe {", crates: &["runner"] },
    Power { what: "namespaces and mounts", text: "nix::mount", crates: &["runner"] },
    Power { what: "namespaces and mounts", text: "nix::sched", crates: &["runner"] },
    Power { what: "SQL", text: "sea_orm::", crates: &["store"] },
    Power { what: "the HTTP server", text: "axum::", crates: &["api", "testkit", "carrel"] },
    Power {
        what: "HTTP requests",
        text: "reqwest::",
        crates: &["agent", "egress", "image", "testkit", "carrel", "xtask"],
    },
    Power { what: "TLS interception", text: "rcgen::", crates: &["egress"] },
    Power { what: "environment variables", text: "env::var", crates: &["carrel", "xtask"] },
    Power { what: "git", text: "Command::new(\"git\")", crates: &["forge", "testkit", "carrel", "xtask"] },
    Power { what: "the state of attempts", text: ".advance_attempt(", crates: &["control", "store"] },
    Power { what: "the state of publications", text: ".advance_publication(", crates: &["control", "store"] },
    // The agent reads it where a server says to wait until a date, the sandbox notes when a layer was kept.
    Power { what: "the time", text: "Timestamp::now", crates: &["agent", "sandbox", "carrel", "xtask"] },
];

/// Text that has no place in any source file.
const NOWHERE: &[(&str, &str)] = &[
    ("todo!(", "finish it, or leave it out"),
    ("unimplemented!(", "finish it, or leave it out"),
    ("#[ignore]", "a test runs or is not there"),
    ("TODO", "finish it, or open an issue"),
    ("FIXME", "finish it, or open an issue"),
];

/// The one reason to ignore a test: another one runs it, in a process or on a network of its own.
const INNER: &str = "run by the test above";

/// Checks every rule and lists what breaks one.
pub(crate) fn tidy(root: &Path) -> Result<()> {
    let mut found = Vec::new();
    for file in sources(&root.join("crates"))? {
        let text = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        let shown = file.strip_prefix(root).unwrap_or(&file).display().to_string();
        found.extend(check_file(&shown, &text).into_iter().map(|problem| format!("{shown}: {problem}")));
    }
    found.extend(check_dependencies(root)?);
    for problem in &found {
        say(problem);
    }
    if found.is_empty() { Ok(()) } else { bail!("{} rules are broken", found.len()) }
}

fn check_file(path: &str, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let parts: Vec<&str> = path.split('/').collect();
    let (name, is_source) = (parts.get(1).copied().unwrap_or_default(), parts.get(2) == Some(&"src"));
    // The rules are quoted here.
    if path == "crates/xtask/src/tidy.rs" {
        return found;
    }
    let lines = text.lines().count();
    if lines > MAX_LINES {
        found.push(format!("{lines} lines; past {MAX_LINES} a file is split by subject"));
    }
    if is_source && !text.starts_with("//!") && !path.ends_with("/tests.rs") {
        found.push("does not open with `//!`: what it owns and what it leaves to others".to_owned());
    }
    for (text_of, remedy) in NOWHERE {
        if text.contains(text_of) {
            found.push(format!("has `{text_of}`: {remedy}"));
        }
    }
    let ignored =
        text.match_indices("#[ignore = \"").filter(|(at, found)| !text[at + found.len()..].starts_with(INNER));
    found.extend(ignored.map(|_| format!("has an ignored test: it runs, or is `{INNER}…`, or is not there")));
    let code = code_only(text);
    if is_source {
        for power in POWERS.iter().filter(|power| !power.crates.contains(&name) && code.contains(power.text)) {
            found.push(format!("uses {}, which only {} may", power.what, power.crates.join(", ")));
        }
    }
    if name == "domain"
        && is_source
        && (code.contains("async ") || code.contains("std::fs") || code.contains("std::net"))
    {
        found.push("the domain does no I/O and has no async code".to_owned());
    }
    let is_test = parts.get(2) == Some(&"tests");
    if is_test && (code.contains("thread::sleep") || code.contains("time::sleep(")) {
        found.push("a test sleeps; wait for what it waits for".to_owned());
    }
    found
}

/// The text without comments, and without the test modules of source files.
fn code_only(text: &str) -> String {
    let tests = text.find("#[cfg(test)]\nmod tests {").unwrap_or(text.len());
    let lines = text[..tests].lines().filter(|line| !line.trim_start().starts_with("//"));
    lines.collect::<Vec<_>>().join("\n")
}

fn check_dependencies(root: &Path) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for (name, allowed) in MAY_DEPEND_ON {
        let file = root.join("crates").join(name).join("Cargo.toml");
        let text = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        let manifest: toml::Table = toml::from_str(&text)?;
        let dependencies = manifest.get("dependencies").and_then(toml::Value::as_table);
        let ours = dependencies.into_iter().flat_map(toml::Table::keys).filter_map(|key| key.strip_prefix("carrel-"));
        for other in ours.filter(|other| !allowed.contains(other)) {
            found.push(format!("crates/{name} depends on crates/{other}: calls go down only"));
        }
    }
    Ok(found)
}

fn sources(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() && !path.ends_with("target") {
            files.extend(sources(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::check_file;

    #[test]
    fn a_crate_without_a_power_may_not_use_it() {
        let text = "//! A file.\nfn f() { std::env::var(\"HOME\"); }\n";

        assert_eq!(check_file("crates/control/src/a.rs", text).len(), 1);
        assert!(check_file("crates/carrel/src/a.rs", text).is_empty());
    }

    #[test]
    fn a_file_says_what_it_owns_and_is_not_too_long() {
        assert_eq!(check_file("crates/api/src/a.rs", "fn f() {}\n").len(), 1);
        let long = format!("//! A file.\n{}", "\n".repeat(600));
        assert_eq!(check_file("crates/api/src/a.rs", &long).len(), 1);
    }

    #[test]
    fn comments_and_test_modules_are_not_code() {
        let text = "//! A file.\n// env::var\n#[cfg(test)]\nmod tests {\n    fn f() { std::env::var(\"X\"); }\n}\n";

        assert!(check_file("crates/api/src/a.rs", text).is_empty());
    }
}
