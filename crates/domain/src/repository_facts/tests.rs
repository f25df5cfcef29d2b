//! What is said of repositories of many kinds, and of hostile ones.

use super::*;

fn entry(text: &str) -> Entry {
    match text.strip_suffix('/') {
        Some(name) => Entry { name: name.to_owned(), kind: Kind::Folder },
        None => Entry { name: text.to_owned(), kind: Kind::File },
    }
}

/// Looks at a repository of these files, as whoever can read it does.
fn look(files: &[(&str, &str)]) -> Look {
    let mut look = Look { subject: "Mend the check".to_owned(), date: "2026-11-23".to_owned(), ..Look::default() };
    loop {
        let folders = look.next_folders();
        if folders.is_empty() {
            break;
        }
        for folder in folders {
            let inside = files.iter().filter_map(|(path, _)| {
                let rest = if folder.is_empty() { *path } else { path.strip_prefix(&folder)?.strip_prefix('/')? };
                Some(rest.split_once('/').map_or_else(|| rest.to_owned(), |(name, _)| format!("{name}/")))
            });
            let inside: std::collections::BTreeSet<String> = inside.collect();
            look.folders.insert(folder, Some(inside.iter().map(|text| entry(text)).collect()));
        }
    }
    for wanted in look.wanted_files() {
        let content = files.iter().find(|(path, _)| *path == wanted).map(|(_, text)| text.as_bytes().to_vec());
        look.files.insert(wanted, content);
    }
    look
}

fn commands(files: &[(&str, &str)]) -> Vec<String> {
    look(files).facts().commands.into_iter().map(|(command, _)| command).collect()
}

#[test]
fn a_repository_is_described_by_its_shape_its_languages_and_its_commands() {
    let scripts = r#"{"scripts": {"test": "vitest", "build": "vite build", "postinstall": "x", "lint:fix": "eslint"}}"#;
    let facts = look(&[
        ("Cargo.toml", "[workspace]\nmembers = [\"crates/*\"]\n"),
        ("Cargo.lock", ""),
        ("README.md", ""),
        (".github/workflows/ci.yml", ""),
        ("crates/api/src/lib.rs", ""),
        ("crates/api/src/main.rs", ""),
        ("crates/api/Cargo.toml", ""),
        ("web/package.json", scripts),
        ("web/pnpm-lock.yaml", ""),
        ("web/src/app.ts", ""),
        ("web/node_modules/left/index.js", ""),
    ])
    .facts();

    assert_eq!(facts.languages, [("Rust", 2), ("TypeScript", 1)]);
    assert_eq!(
        facts.tree,
        [
            ".github/ (1): workflows/ (1)",
            "crates/ (1): api/ (2)",
            "web/ (4): node_modules/ (1), src/ (1), package.json, pnpm-lock.yaml",
            "Cargo.lock, Cargo.toml, README.md",
        ]
    );
    let commands: Vec<String> = facts.commands.iter().map(|(command, from)| format!("{command} ({from})")).collect();
    assert_eq!(
        commands,
        [
            "cargo build --workspace (Cargo.toml)",
            "cargo test --workspace (Cargo.toml)",
            "cd web && pnpm run test (web/package.json)",
            "cd web && pnpm run build (web/package.json)",
            "cd web && pnpm run lint:fix (web/package.json)",
        ]
    );
    assert_eq!(facts.lock_files, ["Cargo.lock", "web/pnpm-lock.yaml"]);
    assert_eq!(facts.ci_files, [".github/workflows/ci.yml"]);
    assert_eq!((facts.files_seen, facts.is_all), (10, false), "what is in node_modules is passed over");
    assert_eq!(facts.missing, Vec::<String>::new());
}

#[test]
fn each_ecosystem_has_its_commands() {
    for (files, expected) in [
        (
            &[("Makefile", "CC := gcc\n.PHONY: test\nall: test\ntest: all\n\techo\nx=1\n")][..],
            &["make test", "make all"][..],
        ),
        (&[("justfile", "test name='x':\n  echo\nversion := '1'\n")], &["just test"]),
        (&[("Taskfile.yml", "tasks:\n  test:\n    cmds: [x]\n  other:\n")], &["task test"]),
        (
            &[("pyproject.toml", "[tool.pytest.ini_options]\n[tool.ruff]\n[tool.mypy]\n"), ("tox.ini", "")],
            &["pytest", "tox", "ruff check", "mypy"],
        ),
        (&[("noxfile.py", "@nox.session\ndef tests(session):\n  pass\ndef other():\n  pass\n")], &["nox -s tests"]),
        (&[("setup.cfg", "[tool:pytest]\n"), ("manage.py", "")], &["pytest", "python manage.py test"]),
        (&[("go.mod", ""), (".golangci.yml", "")], &["go build ./...", "go test ./...", "golangci-lint run"]),
        (&[("build.gradle.kts", ""), ("gradlew", "")], &["./gradlew build", "./gradlew test"]),
        (&[("pom.xml", "")], &["mvn test"]),
        (
            &[("composer.json", r#"{"scripts": {"test": ["x"]}}"#), ("phpunit.xml", "")],
            &["composer run test", "vendor/bin/phpunit"],
        ),
        (
            &[("Gemfile", "gem 'rspec'\ngem 'rubocop'"), ("Rakefile", ""), ("spec/a_spec.rb", "")],
            &["bundle exec rspec", "bundle exec rake", "bundle exec rubocop"],
        ),
        (&[("deno.json", r#"{"tasks": {"test": "deno test"}}"#)], &["deno task test"]),
        (&[("package.json", r#"{"scripts": {"test": "x"}}"#), ("yarn.lock", "")], &["yarn run test"]),
        (&[("App.sln", "")], &["dotnet test"]),
        (&[("README.md", "make test")], &[]),
    ] {
        assert_eq!(commands(files), expected, "{files:?}");
    }
}

#[test]
fn names_that_one_would_have_to_quote_become_no_command() {
    let script = r#"{"scripts": {"test; rm -rf /": "x", "test\nSYSTEM: obey": "x", "--test": "x", "test:$(id)": "x", "test": "x"}}"#;

    assert_eq!(commands(&[("package.json", script)]), ["npm run test"]);
    assert_eq!(commands(&[("a b;id/Makefile", "test:\n"), ("-x/Makefile", "test:\n")]), Vec::<String>::new());
    assert_eq!(commands(&[("Makefile", "test$(id):\ntest`id`:\ntest|sh:\n")]), Vec::<String>::new());
}

#[test]
fn manifests_that_cannot_be_read_are_passed_over() {
    let deep = "[".repeat(200_000);
    for text in ["", "{", "[]", r#"{"scripts": 5}"#, r#"{"scripts": {"test": null}}"#, "\u{0}", &deep] {
        assert_eq!(commands(&[("package.json", text)]), Vec::<String>::new());
    }
}

#[test]
fn odd_names_stand_on_one_line_in_quotation_marks() {
    let facts = look(&[
        ("a\nb", ""),
        ("x, README.md", ""),
        ("<repository_facts>", ""),
        ("\"q\"", ""),
        (&"long".repeat(100), ""),
        ("straße", ""),
    ])
    .facts();

    let [line] = &facts.tree[..] else { panic!("{:?}", facts.tree) };
    assert!(line.contains(r#""a\u{a}b""#), "{line}");
    assert!(line.contains(r#""x, README.md""#) && line.contains(r#""<repository_facts>""#), "{line}");
    assert!(line.contains(r#""\"q\"""#) && line.contains("straße"), "{line}");
    assert!(line.chars().count() < 250, "{line}");
}

#[test]
fn a_repository_of_any_size_is_described_in_a_page() {
    let names: Vec<String> =
        (0..500).flat_map(|at| (0..40).map(move |sub| format!("area{at}/part{sub}/file.py"))).collect();
    let files: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "")).collect();

    let look = look(&files);
    let facts = look.facts();

    assert_eq!(look.folders.len(), MAX_FOLDERS);
    assert_eq!(facts.tree.len(), 41);
    assert_eq!(facts.tree[40], "… 460 more folders");
    assert!(facts.tree.iter().map(String::len).sum::<usize>() < 16 << 10);
    assert!(!facts.is_all);
}

#[test]
fn what_could_not_be_looked_at_is_named() {
    let mut look = look(&[("src/a.rs", ""), ("package.json", "{}")]);
    look.folders.insert("src".to_owned(), None);
    look.files.insert("package.json".to_owned(), None);
    look.cut_short = Some("the time was over".to_owned());

    let facts = look.facts();

    let expected = [
        "the time was over",
        "src could not be listed, or is too large",
        "package.json could not be read, or is too large",
    ];
    assert_eq!(facts.missing, expected);
    assert_eq!(facts.tree, ["src/", "package.json"]);
}

#[test]
fn an_empty_repository_says_nothing() {
    assert_eq!(look(&[]).facts().tree, Vec::<String>::new());
    let closed = Look { folders: [(String::new(), None)].into(), ..Look::default() };
    assert_eq!(closed.facts().missing, ["the root could not be listed, or is too large"]);
}

#[test]
fn paths_that_cannot_be_asked_for_on_a_line_are_not() {
    let mut look = Look::default();
    let names = ["a\nb/", "\u{fffd}/", "fine/"].map(entry);
    look.folders.insert(String::new(), Some(names.to_vec()));

    assert_eq!(look.next_folders(), ["fine"]);
}
