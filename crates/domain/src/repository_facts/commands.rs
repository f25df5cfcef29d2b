//! The commands that a repository's files tell of: what its manifests define, and what goes without saying where one of a
//! known kind is. Nothing is run to find out, so they are candidates.

use super::{Entry, Kind, Look, depth, join, name};

/// What names of scripts and targets begin with that somebody who changes code wants to know.
const WORDS: &[&str] = &[
    "test",
    "tests",
    "build",
    "lint",
    "check",
    "typecheck",
    "type",
    "types",
    "tsc",
    "format",
    "fmt",
    "verify",
    "e2e",
    "unit",
    "integration",
    "ci",
    "coverage",
    "compile",
    "clippy",
    "mypy",
    "ruff",
    "pytest",
    "all",
    "install",
    "setup",
    "bootstrap",
];

/// How many scripts, targets or sessions of one file are told.
const OF_ONE_FILE: usize = 8;

/// How many folders beneath the root are told of.
const FOLDERS: usize = 6;

/// The longest name of a script or target; what is longer is none that one types.
const NAME_BYTES: usize = 40;

/// The longest part of a line-by-line file that is looked at, in lines.
const LINES: usize = 5_000;

/// Whether a file of this name is worth reading.
pub(super) fn is_read(name: &str) -> bool {
    const READ: &[&str] = &[
        "package.json",
        "deno.json",
        "Makefile",
        "makefile",
        "GNUmakefile",
        "justfile",
        "Justfile",
        ".justfile",
        "Cargo.toml",
        "pyproject.toml",
        "setup.cfg",
        "tox.ini",
        "noxfile.py",
        "composer.json",
        "Gemfile",
        "Rakefile",
        "Taskfile.yml",
    ];
    READ.contains(&name)
}

/// Commands with the file that tells of them, those of the root first.
pub(super) fn found(look: &Look) -> Vec<(String, String)> {
    let mut folders: Vec<(&str, &[Entry])> = look.near_root().collect();
    folders.sort_by_key(|(path, _)| (depth(path), path.to_owned()));
    let mut commands = Vec::new();
    let mut told = 0;
    for (path, entries) in folders {
        if told > FOLDERS || !can_be_entered(path) {
            continue;
        }
        let folder = Folder { look, path, entries };
        let before = commands.len();
        folder.commands(&mut commands);
        told += usize::from(commands.len() > before && !path.is_empty());
    }
    commands
}

struct Folder<'a> {
    look: &'a Look,
    path: &'a str,
    entries: &'a [Entry],
}

impl Folder<'_> {
    fn has(&self, name: &str) -> bool {
        self.entries.iter().any(|entry| entry.name == name && entry.kind != Kind::Folder)
    }

    fn has_folder(&self, name: &str) -> bool {
        self.entries.iter().any(|entry| entry.name == name && entry.kind == Kind::Folder)
    }

    /// The first of these that is here.
    fn first<'n>(&self, names: &[&'n str]) -> Option<&'n str> {
        names.iter().copied().find(|name| self.has(name))
    }

    fn text(&self, name: &str) -> Option<String> {
        let bytes = self.look.files.get(&join(self.path, name))?.as_ref()?;
        Some(String::from_utf8_lossy(bytes).into_owned())
    }

    fn commands(&self, into: &mut Vec<(String, String)>) {
        let mut tell = |command: String, because: &str| {
            let command = if self.path.is_empty() { command } else { format!("cd {} && {command}", self.path) };
            if !into.iter().any(|(known, _)| *known == command) {
                into.push((command, join(self.path, because)));
            }
        };
        self.node(&mut tell);
        self.targets(&mut tell);
        self.python(&mut tell);
        self.compiled(&mut tell);
        self.others(&mut tell);
    }

    fn node(&self, tell: &mut impl FnMut(String, &str)) {
        let manager = match self.first(&["pnpm-lock.yaml", "yarn.lock", "bun.lock", "bun.lockb"]) {
            Some("pnpm-lock.yaml") => "pnpm",
            Some("yarn.lock") => "yarn",
            Some(_) => "bun",
            None => "npm",
        };
        for script in self.keys_of("package.json", "scripts") {
            tell(format!("{manager} run {script}"), "package.json");
        }
        for task in self.keys_of("deno.json", "tasks") {
            tell(format!("deno task {task}"), "deno.json");
        }
        for script in self.keys_of("composer.json", "scripts") {
            tell(format!("composer run {script}"), "composer.json");
        }
    }

    /// The keys of an object in a file of JSON, those worth telling.
    fn keys_of(&self, file: &str, key: &str) -> Vec<String> {
        let Some(parsed) = self.text(file).and_then(|text| serde_json::from_str::<serde_json::Value>(&text).ok())
        else {
            return Vec::new();
        };
        let Some(object) = parsed[key].as_object() else { return Vec::new() };
        chosen(object.iter().filter(|(_, value)| !value.is_null()).map(|(key, _)| key.as_str()))
    }

    /// Make, just and go-task, whose targets stand at the beginning of a line.
    fn targets(&self, tell: &mut impl FnMut(String, &str)) {
        let make = ["GNUmakefile", "makefile", "Makefile"];
        let just = ["justfile", "Justfile", ".justfile"];
        for (program, files) in [("make", make), ("just", just)] {
            let Some((file, text)) = files.iter().find_map(|file| Some((file, self.text(file)?))) else { continue };
            let targets: Vec<&str> = text.lines().take(LINES).filter_map(target).collect();
            for target in chosen(targets.into_iter()) {
                tell(format!("{program} {target}"), file);
            }
        }
        if let Some(text) = self.text("Taskfile.yml") {
            let indented = |line| str::strip_prefix(line, "  ").filter(|rest: &&str| !rest.starts_with(' '));
            let tasks: Vec<&str> = text.lines().take(LINES).filter_map(indented).filter_map(target).collect();
            for task in chosen(tasks.into_iter()) {
                tell(format!("task {task}"), "Taskfile.yml");
            }
        }
    }

    fn python(&self, tell: &mut impl FnMut(String, &str)) {
        let project = self.text("pyproject.toml").unwrap_or_default();
        let has = |table: &str| {
            let headers = project.lines().take(LINES).filter_map(|line| line.trim().strip_prefix('['));
            headers.into_iter().any(|header| {
                let rest = header.trim_start_matches('[').strip_prefix(table);
                rest.is_some_and(|rest| rest.starts_with([']', '.']))
            })
        };
        let configured = self.text("setup.cfg").is_some_and(|text| text.contains("[tool:pytest]"));
        let pytest = [
            ("pyproject.toml", has("tool.pytest")),
            ("pytest.ini", self.has("pytest.ini")),
            ("setup.cfg", configured),
            ("conftest.py", self.has("conftest.py")),
        ];
        if let Some((file, _)) = pytest.iter().find(|(_, is_there)| *is_there) {
            tell("pytest".to_owned(), file);
        }
        let tox = self.has("tox.ini").then_some("tox.ini").or(has("tool.tox").then_some("pyproject.toml"));
        if let Some(file) = tox {
            tell("tox".to_owned(), file);
        }
        for session in self.text("noxfile.py").map(|text| sessions(&text)).unwrap_or_default() {
            tell(format!("nox -s {session}"), "noxfile.py");
        }
        if has("tool.ruff") || self.first(&["ruff.toml", ".ruff.toml"]).is_some() {
            tell("ruff check".to_owned(), self.first(&["ruff.toml", ".ruff.toml"]).unwrap_or("pyproject.toml"));
        }
        if has("tool.mypy") || self.has("mypy.ini") {
            tell("mypy".to_owned(), self.first(&["mypy.ini"]).unwrap_or("pyproject.toml"));
        }
        if self.has("manage.py") {
            tell("python manage.py test".to_owned(), "manage.py");
        }
    }

    fn compiled(&self, tell: &mut impl FnMut(String, &str)) {
        let cargo = self.text("Cargo.toml");
        if self.has("Cargo.toml") {
            let all = if cargo.is_some_and(|text| text.lines().any(|line| line.trim() == "[workspace]")) {
                " --workspace"
            } else {
                ""
            };
            tell(format!("cargo build{all}"), "Cargo.toml");
            tell(format!("cargo test{all}"), "Cargo.toml");
        }
        if self.has("go.mod") {
            tell("go build ./...".to_owned(), "go.mod");
            tell("go test ./...".to_owned(), "go.mod");
        }
        if let Some(file) = self.first(&[".golangci.yml", ".golangci.yaml", ".golangci.toml"]) {
            tell("golangci-lint run".to_owned(), file);
        }
        let gradle = self.first(&["build.gradle", "build.gradle.kts", "settings.gradle", "settings.gradle.kts"]);
        if let Some(file) = gradle {
            let program = if self.has("gradlew") { "./gradlew" } else { "gradle" };
            tell(format!("{program} build"), file);
            tell(format!("{program} test"), file);
        }
        if self.has("pom.xml") {
            let program = if self.has("mvnw") { "./mvnw" } else { "mvn" };
            tell(format!("{program} test"), "pom.xml");
        }
        if self.has("CMakeLists.txt") {
            tell("cmake -B build && cmake --build build && ctest --test-dir build".to_owned(), "CMakeLists.txt");
        }
        if self.has("meson.build") {
            tell("meson setup build && meson test -C build".to_owned(), "meson.build");
        }
        if self.has("Package.swift") {
            tell("swift test".to_owned(), "Package.swift");
        }
        let ending = |wanted: &str| self.entries.iter().find(|entry| entry.name.ends_with(wanted));
        if let Some(entry) = ending(".sln").or_else(|| ending(".csproj")) {
            tell("dotnet test".to_owned(), &name(&entry.name));
        }
    }

    fn others(&self, tell: &mut impl FnMut(String, &str)) {
        if let Some(gems) = self.text("Gemfile") {
            if self.has_folder("spec") && gems.contains("rspec") || self.has(".rspec") {
                tell("bundle exec rspec".to_owned(), "Gemfile");
            }
            if self.has("Rakefile") {
                tell("bundle exec rake".to_owned(), "Rakefile");
            }
            if gems.contains("rubocop") {
                tell("bundle exec rubocop".to_owned(), "Gemfile");
            }
        }
        if let Some(file) = self.first(&["phpunit.xml", "phpunit.xml.dist"]) {
            tell("vendor/bin/phpunit".to_owned(), file);
        }
        if self.has("mix.exs") {
            tell("mix test".to_owned(), "mix.exs");
        }
        if self.has(".pre-commit-config.yaml") {
            tell("pre-commit run --all-files".to_owned(), ".pre-commit-config.yaml");
        }
    }
}

/// Whether a folder can be named in a command as it is.
fn can_be_entered(path: &str) -> bool {
    path.len() <= NAME_BYTES
        && !path.starts_with('-')
        && path.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte))
}

/// The name of a target whose rule begins on this line; assignments are none.
fn target(line: &str) -> Option<&str> {
    let (head, rest) = line.split_once(':')?;
    let mut words = head.split_ascii_whitespace();
    // Recipes of just have their parameters behind the name, and a make rule may have several targets.
    let (first, second) = (words.next()?, words.next().unwrap_or_default());
    let is_assigned = rest.starts_with('=') || rest.starts_with(":=") || matches!(second, "=" | "?=" | "+=" | "!=");
    (!is_assigned && !line.starts_with([' ', '\t', '.', '@', '#'])).then_some(first)
}

/// The sessions that a noxfile defines: functions beneath a decorator.
fn sessions(text: &str) -> Vec<String> {
    let mut is_session = false;
    let mut names = Vec::new();
    for line in text.lines().take(LINES) {
        if line.starts_with("@nox.session") || line.starts_with("@session") {
            is_session = true;
        } else if let Some(rest) = line.strip_prefix("def ").filter(|_| is_session) {
            names.push(rest.split('(').next().unwrap_or_default());
            is_session = false;
        }
    }
    names.into_iter().filter(|name| is_typed(name)).take(OF_ONE_FILE).map(str::to_owned).collect()
}

/// The names worth telling, those about tests first; none that would have to be quoted.
fn chosen<'n>(names: impl Iterator<Item = &'n str>) -> Vec<String> {
    let word = |name: &str| name.split([':', '-', '_', '.']).next().unwrap_or_default().to_owned();
    let mut chosen: Vec<&str> = names.filter(|name| is_typed(name) && WORDS.contains(&word(name).as_str())).collect();
    chosen.sort_by_key(|name| (WORDS.iter().position(|known| *known == word(name)), name.len(), *name));
    chosen.dedup();
    chosen.into_iter().take(OF_ONE_FILE).map(str::to_owned).collect()
}

/// Whether a name can be typed as it is.
fn is_typed(name: &str) -> bool {
    (1..=NAME_BYTES).contains(&name.len())
        && name.starts_with(|first: char| first.is_ascii_alphanumeric())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.:".contains(&byte))
}
