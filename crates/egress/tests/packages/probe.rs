//! The probe run by a real shell: against the tools of this machine with configured mirrors, and against programs that
//! answer as tools do that may not be here.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::Command;

use carrel_egress::packages::{Found, PROBE, Tool, read};
use tempfile::TempDir;

use super::{DEFAULT, indexes};

/// A home folder, and the variables that the probe is given.
struct Image {
    folder: TempDir,
    variables: Vec<(&'static str, String)>,
}

impl Image {
    /// With the tools of this machine.
    fn of_this_machine() -> Self {
        let folder = TempDir::new().expect("a folder");
        let path = std::env::var("PATH").expect("a path to look for tools in");
        let home = folder.path().display().to_string();
        Self { folder, variables: vec![("PATH", path), ("HOME", home)] }
    }

    /// With nothing but what the probe itself needs.
    fn without_tools() -> Self {
        let image = Self::of_this_machine();
        let bin = image.folder.path().join("bin");
        fs::create_dir(&bin).expect("a folder");
        for program in ["head", "cut", "grep", "sed", "sort", "env", "timeout", "sh"] {
            let real = ["/usr/bin", "/bin"].map(|folder| Path::new(folder).join(program));
            let real = real.iter().find(|real| real.exists()).expect("a tool of every system");
            symlink(real, bin.join(program)).expect("a link");
        }
        let path = bin.display().to_string();
        image.variable("PATH", &path)
    }

    fn variable(mut self, name: &'static str, value: &str) -> Self {
        self.variables.retain(|(other, _)| *other != name);
        self.variables.push((name, value.to_owned()));
        self
    }

    fn file(self, path: &str, text: &str) -> Self {
        let path = self.folder.path().join(path);
        fs::create_dir_all(path.parent().expect("below the folder")).expect("a folder");
        fs::write(path, text).expect("a file");
        self
    }

    /// A program that plays a tool.
    fn program(self, name: &str, script: &str) -> Self {
        let path = self.folder.path().join("bin").join(name);
        let image = self.file(&format!("bin/{name}"), &format!("#!/bin/sh\n{script}\n"));
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("a program");
        image
    }

    /// What the probe prints when it is asked about these tools; none means all.
    fn output(&self, shell: &[&str], tools: &[Tool]) -> Vec<u8> {
        let mut command = Command::new(shell[0]);
        command.args(&shell[1..]).arg("-c").arg(PROBE).arg("probe").args(tools.iter().map(|tool| tool.name()));
        command.env_clear().envs(self.variables.iter().cloned()).output().expect("a shell").stdout
    }

    fn found(&self, tools: &[Tool]) -> Found {
        read(&self.output(&["/bin/sh"], tools))
    }
}

#[test]
fn npm_says_the_mirror_and_the_scope_of_its_settings() {
    let image = Image::of_this_machine()
        .file(".npmrc", "@acme:registry=https://acme.example.com/npm/\n//acme.example.com/npm/:_authToken=hunter2\n")
        .variable("npm_config_registry", "https://npm.example.com/all/");

    let output = image.output(&["/bin/sh"], &[Tool::Npm]);

    let found = read(&output);
    assert_eq!(indexes(&found, Tool::Npm), ["https://npm.example.com/all/", "https://acme.example.com/npm/"]);
    assert!(!String::from_utf8_lossy(&output).contains("hunter2"));
}

#[test]
fn npm_says_its_default_by_itself() {
    let found = Image::of_this_machine().found(&[Tool::Npm]);

    assert_eq!(indexes(&found, Tool::Npm), ["https://registry.npmjs.org/"]);
}

#[test]
fn pip_says_the_index_that_is_in_force_from_files_and_variables() {
    let image = Image::of_this_machine()
        .file(".config/pip/pip.conf", "[global]\nindex-url = https://pypi.example.com/simple\n")
        .variable("PIP_EXTRA_INDEX_URL", "https://a.example.com/simple https://b.example.com/simple");

    let found = image.found(&[Tool::Pip]);

    let expected = ["https://pypi.example.com/simple", "https://a.example.com/simple", "https://b.example.com/simple"];
    assert_eq!(indexes(&found, Tool::Pip), expected);
}

#[test]
fn cargos_configuration_is_read_without_its_tokens() {
    let config = "[source.crates-io]\nreplace-with = 'mirror'\n[source.mirror]\nregistry = 'sparse+https://crates.example.com/'\n\
        [registries.acme]\nindex = 'sparse+https://acme.example.com/'\ntoken = 'hunter2'\n";
    let image = Image::of_this_machine().file("cargo/config.toml", config);
    let home = image.folder.path().join("cargo").display().to_string();
    let image = image.variable("CARGO_HOME", &home);

    let output = image.output(&["/bin/sh"], &[Tool::Cargo]);

    let found = read(&output);
    assert_eq!(indexes(&found, Tool::Cargo), ["https://acme.example.com/", "https://crates.example.com/"]);
    assert!(!String::from_utf8_lossy(&output).contains("hunter2"));
}

#[test]
fn apt_says_the_hosts_of_both_forms_of_its_sources() {
    let image = Image::of_this_machine()
        .file(
            "etc/sources.list",
            "deb [trusted=yes] http://deb.example.com/debian bookworm main\n# deb http://off.example.com/ x main\n",
        )
        .file(
            "etc/sources.list.d/a.sources",
            "Types: deb\nURIs: https://user:hunter2@extra.example.com/debian\nSuites: bookworm\nComponents: main\n",
        )
        .file(
            "etc/sources.list.d/b.sources",
            "Enabled: no\nTypes: deb\nURIs: https://disabled.example.com/\nSuites: x\nComponents: main\n",
        );
    let root = image.folder.path().display().to_string();
    let config = format!(
        "Dir::Etc::sourcelist \"{root}/etc/sources.list\";\nDir::Etc::sourceparts \"{root}/etc/sources.list.d\";\n"
    );
    let image = image.file("apt.conf", &config).variable("APT_CONFIG", &format!("{root}/apt.conf"));

    let found = image.found(&[Tool::Apt]);

    assert_eq!(indexes(&found, Tool::Apt), ["http://deb.example.com/", "https://extra.example.com/"]);
}

#[test]
fn the_other_tools_are_asked_as_they_answer() {
    let image = Image::without_tools()
        .program("yarn", "case \"$*\" in --version) echo 4.5.0;; *npmRegistryServer) echo https://yarn.example.com;; *) echo '{}';; esac")
        .program("pnpm", "case \"$*\" in *get*) echo https://pnpm.example.com/;; *) echo '@a:registry=https://a.example.com/';; esac")
        .program("uv", "exit 1")
        .file(".config/uv/uv.toml", "index-url = \"https://uv.example.com/simple\"\n")
        .program("poetry", "echo 'repositories.acme.url = \"https://poetry.example.com/simple\"'")
        .program("go", "case \"$2\" in GOPROXY) echo https://go.example.com,direct;; *) echo off;; esac")
        .program("mvn", "echo 'Maven home: /nowhere'")
        .file(".m2/settings.xml", "<settings><mirrors><mirror>\n<mirrorOf>*</mirrorOf>\n<url>https://maven.example.com/</url>\n</mirror></mirrors></settings>\n")
        .file(".gradle/init.d/mirror.gradle", "repositories { maven { url 'https://gradle.example.com/' } }\n")
        .program("gem", "printf '*** CURRENT SOURCES ***\\n\\nhttps://gem.example.com/\\n'")
        .program("bundle", "echo 'mirror.https://rubygems.org/=https://bundler.example.com/'")
        .program("composer", "echo '[repositories.packagist.org.url] https://composer.example.com'")
        .program("dotnet", "echo 'E https://nuget.example.com/v3/index.json'");

    let found = image.found(&[]);

    for (tool, expected) in [
        (Tool::Yarn, &["https://yarn.example.com/"][..]),
        (Tool::Pnpm, &["https://pnpm.example.com/", "https://a.example.com/"]),
        (Tool::Uv, &["https://uv.example.com/simple"]),
        (Tool::Poetry, &["https://poetry.example.com/simple", DEFAULT]),
        (Tool::Go, &["https://go.example.com/"]),
        (Tool::Maven, &["https://maven.example.com/"]),
        (Tool::Gem, &["https://gem.example.com/"]),
        (Tool::Bundler, &["https://bundler.example.com/"]),
        (Tool::Composer, &["https://composer.example.com/"]),
        (Tool::Nuget, &["https://nuget.example.com/v3/index.json"]),
    ] {
        assert_eq!(indexes(&found, tool), expected, "{tool}");
    }
    assert_eq!(indexes(&found, Tool::Gradle)[0], "https://gradle.example.com/");
    assert_eq!(found.notes, Vec::<String>::new());
}

#[test]
fn tools_that_are_missing_say_nothing_in_every_shell() {
    let image = Image::without_tools();

    for shell in [&["/bin/sh"][..], &["/bin/bash"], &["/bin/bash", "--posix"]] {
        assert_eq!(String::from_utf8_lossy(&image.output(shell, &[])), "", "{shell:?}");
    }
}

#[test]
fn a_tool_that_fails_is_taken_at_its_default() {
    let found = Image::without_tools().program("npm", "echo 'npm ERR!' >&2; exit 1").found(&[Tool::Npm]);

    assert_eq!(indexes(&found, Tool::Npm), [DEFAULT]);
}

#[test]
fn settings_of_the_folder_it_is_started_in_are_not_heard() {
    let image = Image::of_this_machine().file("repository/.npmrc", "registry=https://evil.example.com/\n");

    let mut command = Command::new("/bin/sh");
    command.arg("-c").arg(PROBE).args(["probe", "npm"]).current_dir(image.folder.path().join("repository"));
    let output = command.env_clear().envs(image.variables.iter().cloned()).output().expect("a shell").stdout;

    assert_eq!(indexes(&read(&output), Tool::Npm), ["https://registry.npmjs.org/"]);
}
