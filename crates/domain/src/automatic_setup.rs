//! Automatic setup: from the names of the files in a repository to the commands that install what its lock files name.
//!
//! In each folder and each ecosystem one package manager is chosen, from its lock file. Folders below the root count only
//! where the root has nothing of that ecosystem: workspaces and multi-module builds are installed from their root. The
//! order among several lock files is that of Nixpacks (`get_package_manager` in its Node provider: pnpm, Yarn, npm), and
//! for Python what pins most precisely comes first, as in Render's native environment: uv, Poetry, Pipenv, pip. Each
//! command takes the lock file as it is and fails where it does not fit, as a continuous build would.

use std::collections::{BTreeMap, BTreeSet};

/// Most steps of one setup. More first-level folders than that are not projects of one repository.
const MAX_STEPS: usize = 20;

/// A command of automatic setup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The program that must be in the image for it.
    pub tool: &'static str,
    /// What bash is given. It has no text of the repository in it.
    pub command: String,
    /// The file that calls for it, as a path in the repository.
    pub because: String,
    /// Where it is run: a folder of the repository, empty for its root. It comes from the repository; it is a path, and
    /// must never become part of a shell's text.
    pub directory: String,
    /// What does instead when the tool is not in the image, the best first.
    pub otherwise: Vec<Way>,
}

/// One way to do a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Way {
    /// The program that must be in the image for it.
    pub tool: &'static str,
    /// What bash is given.
    pub command: String,
    /// The file that calls for it, as a path in the repository.
    pub because: String,
}

impl Step {
    /// The step done by the first of its ways whose tool is there; `None`: there is none in the image.
    #[must_use]
    pub fn with(&self, is_there: impl Fn(&str) -> bool) -> Option<Self> {
        if is_there(self.tool) {
            return Some(Self { otherwise: Vec::new(), ..self.clone() });
        }
        let way = self.otherwise.iter().find(|way| is_there(way.tool))?.clone();
        let Way { tool, command, because } = way;
        Some(Self { tool, command, because, directory: self.directory.clone(), otherwise: Vec::new() })
    }

    /// The programs that any of its ways needs.
    pub fn tools(&self) -> impl Iterator<Item = &'static str> + '_ {
        std::iter::once(self.tool).chain(self.otherwise.iter().map(|way| way.tool))
    }
}

/// Package managers of which a folder needs one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Ecosystem {
    Node,
    Python,
    Cargo,
    Go,
    Java,
    Ruby,
}

const ALL: [Ecosystem; 6] =
    [Ecosystem::Node, Ecosystem::Python, Ecosystem::Cargo, Ecosystem::Go, Ecosystem::Java, Ecosystem::Ruby];

/// The steps that the files of a repository call for, root first, then its folders by name. Of the paths only those at the
/// root and one folder below are looked at; 20 steps at most.
#[must_use]
pub fn plan(files: &[&str]) -> Vec<Step> {
    let mut folders: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for path in files {
        match path.split_once('/') {
            None => folders.entry("").or_default().insert(path),
            Some((folder, file)) if !file.contains('/') && !is_foreign(folder) => {
                folders.entry(folder).or_default().insert(file)
            }
            Some(_) => false,
        };
    }
    let nothing = BTreeSet::new();
    let root = folders.remove("").unwrap_or_default();
    let mut steps = Vec::new();
    for ecosystem in ALL {
        if let Some(step) = step("", ecosystem, &root, &folders) {
            steps.push(step);
            continue;
        }
        let below = folders
            .keys()
            .filter_map(|folder| step(folder, ecosystem, folders.get(folder).unwrap_or(&nothing), &BTreeMap::new()));
        steps.extend(below);
    }
    steps.truncate(MAX_STEPS);
    steps
}

/// Folders that hold other people's projects, or none.
fn is_foreign(folder: &str) -> bool {
    folder.is_empty()
        || folder.starts_with('.')
        || matches!(folder, "node_modules" | "vendor" | "third_party" | "target" | "dist" | "build")
        || folder.chars().any(char::is_control)
}

/// The step of one folder, if it has a file of that ecosystem.
fn step(
    folder: &str,
    ecosystem: Ecosystem,
    files: &BTreeSet<&str>,
    below: &BTreeMap<&str, BTreeSet<&str>>,
) -> Option<Step> {
    let ways = match ecosystem {
        Ecosystem::Node => node(files),
        Ecosystem::Python => python(files),
        Ecosystem::Cargo => one(files, "Cargo.lock", "cargo", "cargo fetch --locked"),
        Ecosystem::Go => go(files),
        Ecosystem::Java => java(files, below),
        // Bundler takes `--frozen` no more; the variable means the same since 1.x.
        Ecosystem::Ruby => one(files, "Gemfile.lock", "bundle", "BUNDLE_FROZEN=true bundle install"),
    };
    let mut ways = ways.into_iter().map(|mut way| {
        if !folder.is_empty() {
            way.because = format!("{folder}/{}", way.because);
        }
        way
    });
    let Way { tool, command, because } = ways.next()?;
    Some(Step { tool, command, because, directory: folder.to_owned(), otherwise: ways.collect() })
}

fn way(file: &str, tool: &'static str, command: &str) -> Way {
    Way { tool, command: command.to_owned(), because: file.to_owned() }
}

fn one(files: &BTreeSet<&str>, file: &str, tool: &'static str, command: &str) -> Vec<Way> {
    files.contains(file).then(|| way(file, tool, command)).into_iter().collect()
}

/// pnpm, Yarn, npm. Corepack stands in for the first two where an image brings Node alone; it asks before its first
/// download unless it is told not to.
fn node(files: &BTreeSet<&str>) -> Vec<Way> {
    const COREPACK: &str = "COREPACK_ENABLE_DOWNLOAD_PROMPT=0 corepack ";
    let installs = |file, tool, arguments: &str| {
        let command = format!("{tool} {arguments}");
        vec![way(file, tool, &command), way(file, "corepack", &format!("{COREPACK}{command}"))]
    };
    if files.contains("pnpm-lock.yaml") {
        return installs("pnpm-lock.yaml", "pnpm", "install --frozen-lockfile");
    }
    if files.contains("yarn.lock") {
        // Yarn 2 and later keep their settings there, and call the same thing by another name.
        let is_berry = files.contains(".yarnrc.yml");
        return installs(
            "yarn.lock",
            "yarn",
            if is_berry { "install --immutable" } else { "install --frozen-lockfile" },
        );
    }
    let locks = ["npm-shrinkwrap.json", "package-lock.json"];
    locks.iter().flat_map(|lock| one(files, lock, "npm", "npm ci")).take(1).collect()
}

/// uv, Poetry, Pipenv, pip. A project that has several of their files is installed by the first that is in the image.
///
/// Requirements go where the shell's own `python3` finds them, as in Codex and Render: into the active virtual environment
/// or else the interpreter's own folders, and no `.venv` appears that the agent would have to know of. The variable lets
/// pip do that where a distribution calls its interpreter externally managed (PEP 668): the sandbox is nobody's system.
fn python(files: &BTreeSet<&str>) -> Vec<Way> {
    const PIP: &str = "install --disable-pip-version-check -r requirements.txt";
    let mut ways = one(files, "uv.lock", "uv", "uv sync --locked");
    ways.extend(one(files, "poetry.lock", "poetry", "poetry install --no-interaction"));
    ways.extend(one(files, "Pipfile.lock", "pipenv", "pipenv sync --dev"));
    for tool in ["pip3", "pip"] {
        ways.extend(one(files, "requirements.txt", tool, &format!("PIP_BREAK_SYSTEM_PACKAGES=1 {tool} {PIP}")));
    }
    ways.extend(one(
        files,
        "requirements.txt",
        "uv",
        "uv pip install --system --break-system-packages -r requirements.txt",
    ));
    ways
}

fn go(files: &BTreeSet<&str>) -> Vec<Way> {
    let file = ["go.work", "go.mod"].into_iter().find(|file| files.contains(file));
    file.map(|file| way(file, "go", "go mod download")).into_iter().collect()
}

/// Gradle and Maven, by their wrappers where there are any. A wrapper needs not be marked executable, so a shell runs it.
fn java(files: &BTreeSet<&str>, below: &BTreeMap<&str, BTreeSet<&str>>) -> Vec<Way> {
    const GRADLE_FILES: [&str; 4] = ["settings.gradle", "settings.gradle.kts", "build.gradle", "build.gradle.kts"];
    if files.contains("gradlew") {
        return vec![way("gradlew", "java", &gradle("sh ./gradlew"))];
    }
    if let Some(file) = GRADLE_FILES.into_iter().find(|file| files.contains(file)) {
        return vec![way(file, "gradle", &gradle("gradle"))];
    }
    if !files.contains("pom.xml") {
        return Vec::new();
    }
    // Modules that need each other are not in any repository before they were built: what can be had is had, and what
    // cannot is said in the output (https://issues.apache.org/jira/browse/MDEP-82).
    let has_modules = below.values().any(|files| files.contains("pom.xml"));
    let arguments = if has_modules { "-B -q -fn dependency:go-offline" } else { "-B -q dependency:go-offline" };
    if files.contains("mvnw") {
        return vec![way("mvnw", "java", &format!("sh ./mvnw {arguments}"))];
    }
    vec![way("pom.xml", "mvn", &format!("mvn {arguments}"))]
}

/// Gradle has no task that resolves everything: `dependencies` is about one project and downloads no archives. So an init
/// script adds a task to every project that resolves each configuration, as far as it can be, without building.
fn gradle(program: &str) -> String {
    format!(
        r#"script=$(mktemp -d)/resolve.gradle
cat >"$script" <<'END'
allprojects {{
  tasks.create('carrelResolveAll') {{
    doLast {{
      def all = project.configurations.toList() + project.buildscript.configurations.toList()
      all.findAll {{ it.canBeResolved }}.each {{ one ->
        try {{ one.incoming.artifactView {{ it.lenient(true) }}.files.files }}
        catch (Exception problem) {{ logger.warn("${{project.path}}: ${{one.name}}: ${{problem.message}}") }}
      }}
    }}
  }}
}}
END
{program} --no-daemon --console=plain --quiet -Dorg.gradle.configuration-cache=false --init-script "$script" carrelResolveAll"#
    )
}

#[cfg(test)]
mod tests;
