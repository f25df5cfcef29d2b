use super::*;

/// Directory, tool and command of each step.
fn planned(steps: &[Step]) -> Vec<(&str, &str, &str)> {
    steps.iter().map(|step| (step.directory.as_str(), step.tool, step.command.as_str())).collect()
}

#[test]
fn each_lock_file_calls_for_the_command_that_takes_it_as_it_is() {
    for (files, tool, command) in [
        (&["package-lock.json"][..], "npm", "npm ci"),
        (&["npm-shrinkwrap.json", "package-lock.json"], "npm", "npm ci"),
        (&["yarn.lock"], "yarn", "yarn install --frozen-lockfile"),
        (&["yarn.lock", ".yarnrc.yml"], "yarn", "yarn install --immutable"),
        (&["pnpm-lock.yaml"], "pnpm", "pnpm install --frozen-lockfile"),
        (
            &["requirements.txt"],
            "pip3",
            "PIP_BREAK_SYSTEM_PACKAGES=1 pip3 install --disable-pip-version-check -r requirements.txt",
        ),
        (&["Pipfile.lock"], "pipenv", "pipenv sync --dev"),
        (&["poetry.lock"], "poetry", "poetry install --no-interaction"),
        (&["uv.lock"], "uv", "uv sync --locked"),
        (&["Cargo.lock"], "cargo", "cargo fetch --locked"),
        (&["go.mod"], "go", "go mod download"),
        (&["go.sum", "go.work", "go.mod"], "go", "go mod download"),
        (&["pom.xml"], "mvn", "mvn -B -q dependency:go-offline"),
        (&["pom.xml", "core/pom.xml"], "mvn", "mvn -B -q -fn dependency:go-offline"),
        (&["pom.xml", "mvnw"], "java", "sh ./mvnw -B -q dependency:go-offline"),
        (&["Gemfile.lock"], "bundle", "BUNDLE_FROZEN=true bundle install"),
    ] {
        assert_eq!(planned(&plan(files)), [("", tool, command)], "{files:?}");
    }
}

#[test]
fn gradle_resolves_every_configuration_of_every_project_by_its_wrapper_or_by_itself() {
    let [wrapped, plain] = [&["gradlew", "build.gradle"][..], &["settings.gradle.kts"]].map(plan);

    assert_eq!((wrapped[0].tool, plain[0].tool), ("java", "gradle"));
    assert!(wrapped[0].command.contains("\nsh ./gradlew --no-daemon"), "{}", wrapped[0].command);
    assert!(plain[0].command.contains("\ngradle --no-daemon"), "{}", plain[0].command);
    assert!(plain[0].command.contains("carrelResolveAll"));
}

#[test]
fn a_repository_without_lock_files_calls_for_nothing() {
    assert_eq!(plan(&["README.md", "package.json", "Cargo.toml", "pyproject.toml", "src/main.rs"]), []);
    assert_eq!(plan(&[]), []);
}

#[test]
fn one_package_manager_serves_a_folder() {
    let steps = plan(&["package-lock.json", "yarn.lock", "pnpm-lock.yaml"]);

    assert_eq!(planned(&steps), [("", "pnpm", "pnpm install --frozen-lockfile")]);
    assert_eq!(steps[0].because, "pnpm-lock.yaml");
}

#[test]
fn ecosystems_stand_beside_each_other() {
    let steps = plan(&["package-lock.json", "requirements.txt", "Cargo.lock", "go.mod", "pom.xml", "Gemfile.lock"]);

    let tools: Vec<&str> = steps.iter().map(|step| step.tool).collect();
    assert_eq!(tools, ["npm", "pip3", "cargo", "go", "mvn", "bundle"]);
}

#[test]
fn folders_count_only_where_the_root_has_nothing_of_their_ecosystem() {
    let steps =
        plan(&["Cargo.lock", "web/package-lock.json", "tools/Cargo.lock", "api/package-lock.json", "web/a/yarn.lock"]);

    let expected = [("api", "npm", "npm ci"), ("web", "npm", "npm ci"), ("", "cargo", "cargo fetch --locked")];
    assert_eq!(planned(&steps), expected);
    assert_eq!(steps[0].because, "api/package-lock.json");
}

#[test]
fn other_peoples_projects_are_left_alone() {
    let files =
        ["node_modules/package-lock.json", "vendor/go.mod", ".github/package-lock.json", "a\nb/go.mod", "/go.mod"];

    assert_eq!(plan(&files), []);
}

#[test]
fn names_of_folders_never_become_part_of_a_command() {
    let steps = plan(&["$(reboot)/package-lock.json", "; rm -rf ~/Cargo.lock"]);

    let expected = [("$(reboot)", "npm", "npm ci"), ("; rm -rf ~", "cargo", "cargo fetch --locked")];
    assert_eq!(planned(&steps), expected);
}

#[test]
fn a_repository_of_many_projects_has_twenty_steps_at_most() {
    let files: Vec<String> = (0..100).map(|number| format!("project-{number:03}/go.mod")).collect();

    let steps = plan(&files.iter().map(String::as_str).collect::<Vec<_>>());

    assert_eq!(steps.len(), 20);
    assert_eq!(steps[19].directory, "project-019");
}

#[test]
fn another_tool_stands_in_for_one_that_is_not_in_the_image() {
    let steps = plan(&["pnpm-lock.yaml", "poetry.lock", "requirements.txt"]);
    let with = |tools: &'static [&str]| {
        let done: Vec<Option<Step>> = steps.iter().map(|step| step.with(|tool| tools.contains(&tool))).collect();
        done.into_iter().map(|step| step.map(|step| step.because)).collect::<Vec<_>>()
    };

    assert_eq!(with(&["pnpm", "poetry", "pip"]), [Some("pnpm-lock.yaml".to_owned()), Some("poetry.lock".to_owned())]);
    assert_eq!(with(&["pip"]), [None, Some("requirements.txt".to_owned())]);
    let corepack = steps[0].with(|tool| tool == "corepack").expect("a way");
    assert_eq!(corepack.command, "COREPACK_ENABLE_DOWNLOAD_PROMPT=0 corepack pnpm install --frozen-lockfile");
    assert_eq!(steps[1].tools().collect::<Vec<_>>(), ["poetry", "pip3", "pip", "uv"]);
}
