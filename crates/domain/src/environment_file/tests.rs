use super::*;
use crate::{EnvironmentSpec, HostName, Internet, ResourceLimits, SecretKind, SecretName};

fn read(text: &str) -> RepositorySettings {
    parse(text).expect("a file that is read").with_scripts(&[])
}

fn name(text: &str) -> VariableName {
    text.parse().expect("a name")
}

#[test]
fn every_key_of_the_file_is_read() {
    let settings = read(
        r#"
        image = "registry.example.com/team/image:1"
        setup_script = "make deps\n"
        maintenance_script = "make deps-update"
        [variables]
        LEVEL = "debug"
        [network]
        allow_domains = ["example.com", "*.example.org"]
        [limits]
        cpu_millis = 2000
        memory_bytes = 1073741824
        processes = 100
        disk_bytes = 1
        wall_clock_s = 600
        setup_s = 60
        output_bytes = 1000000
        "#,
    );

    let domains = ["example.com", "*.example.org"].map(|rule| rule.parse().expect("a rule"));
    let expected = RepositorySettings {
        source: ".carrel/environment.toml",
        image: Some(Image::Oci("registry.example.com/team/image:1".to_owned())),
        setup: Some(Setup::Script("make deps\n".to_owned())),
        maintenance_script: Some("make deps-update".to_owned()),
        variables: BTreeMap::from([(name("LEVEL"), "debug".to_owned())]),
        requested_domains: domains.to_vec(),
        limits: RequestedLimits {
            cpu_millis: NonZeroU32::new(2000),
            memory_bytes: NonZeroU64::new(1 << 30),
            processes: NonZeroU32::new(100),
            disk_bytes: NonZeroU64::new(1),
            wall_clock_s: NonZeroU32::new(600),
            setup_s: NonZeroU32::new(60),
            output_bytes: NonZeroU64::new(1_000_000),
        },
        warnings: Vec::new(),
    };
    assert_eq!(settings, expected);
}

#[test]
fn an_empty_file_says_nothing() {
    assert_eq!(read(""), RepositorySettings { source: PATH, ..RepositorySettings::default() });
}

#[test]
fn setup_is_automatic_none_or_a_script() {
    assert_eq!(read("setup = 'automatic'").setup, Some(Setup::Automatic));
    assert_eq!(read("setup = 'none'").setup, Some(Setup::Nothing));
    assert_eq!(read("image = 'host'").image, Some(Image::Host));
}

#[test]
fn scripts_in_files_of_their_own_are_put_in_and_a_missing_one_is_said() {
    let text = "setup_script_file = 'scripts/setup.sh'\nmaintenance_script_file = 'scripts/gone.sh'";
    let file = parse(text).expect("a file");

    let paths: Vec<String> = file.script_files().map(str::to_owned).collect();
    let settings = file.with_scripts(&[("scripts/setup.sh".to_owned(), "true".to_owned())]);

    assert_eq!(paths, ["scripts/setup.sh", "scripts/gone.sh"]);
    assert_eq!(settings.setup, Some(Setup::Script("true".to_owned())));
    assert_eq!(settings.maintenance_script, None);
    assert!(settings.warnings[0].contains("`scripts/gone.sh`, which is not there"), "{:?}", settings.warnings);
}

#[test]
fn what_means_nothing_is_refused_with_its_line_and_what_is_allowed() {
    for (text, expected) in [
        ("\nimag = 'x'", "line 2: unknown field `imag`, expected one of `image`, `setup`"),
        ("[network]\ninternet = 'all'", "line 2: unknown field `internet`, expected `allow_domains`"),
        ("[limits]\nmemory = 1", "line 2: unknown field `memory`, expected one of `cpu_millis`"),
        ("[limits]\nprocesses = 0", "line 2: invalid value: integer `0`"),
        ("[limits]\nprocesses = -1", "line 2: invalid value: integer `-1`"),
        ("setup = 'yes'", "line 1: unknown variant `yes`, expected `automatic` or `none`"),
        ("setup = 'none'\nsetup_script = 'x'", "line 2: only one of `setup`, `setup_script` and `setup_script_file`"),
        ("maintenance_script_file = 'a'\n\nmaintenance_script = 'x'", "line 3: only one of `maintenance_script`"),
        ("\n\nimage = '/srv/root'", "line 3: a repository cannot choose a folder of the host"),
        ("image = 'a b'", "line 1: `a b` is no reference to an image"),
        ("[variables]\n'A B' = 'x'", "`A B` is no name for a variable"),
        ("[variables]\nA = 7", "line 2: invalid type: integer `7`, expected a string"),
        ("[variables]\nB = 'x'\nA = \"\\u0000\"", "line 3: the value of A has a NUL"),
        (
            "[network]\nallow_domains = ['https://a.example.com']",
            "line 2: `https://a.example.com` is more than a host name",
        ),
        ("image = 'a'\nimage = 'b'", "line 2: duplicate key"),
        ("image", "line 1:"),
    ] {
        let error = parse(text).expect_err(text).to_string();
        assert!(error.starts_with("`.carrel/environment.toml`"), "{error}");
        assert!(error.contains(expected), "{text:?}: {error}");
    }
}

#[test]
fn a_script_file_is_a_path_inside_the_repository() {
    for path in
        ["", "/etc/passwd", "../x", "a/../../x", "./x", "a//x", "a/", ".git/config", "a/.GIT/x", "a\\b", "a\\u0000"]
    {
        let text = format!("setup_script_file = \"{}\"", path.replace("a\\b", "a\\\\b"));
        assert!(parse(&text).is_err(), "{path:?}");
    }
}

#[test]
fn files_that_are_too_large_are_refused() {
    let variables: String = (0..201).map(|number| format!("V{number} = ''\n")).collect();
    let domains: String = (0..101).map(|number| format!("'h{number}.example.com',")).collect();

    assert!(parse(&"#".repeat(MAX_BYTES + 1)).is_err());
    assert!(parse(&format!("[variables]\n{variables}")).is_err());
    assert!(parse(&format!("[variables]\nA = '{}'", "x".repeat(MAX_VALUE_BYTES + 1))).is_err());
    assert!(parse(&format!("network.allow_domains = [{domains}]")).is_err());
}

#[test]
fn a_message_repeats_no_control_characters_of_the_file() {
    let error = parse("'\\u001b' = 1\n\"\\u001b[2J\" = 1").expect_err("no keys").to_string();

    assert!(!error.contains('\u{1b}'), "{error:?}");
}

#[test]
fn the_environment_comes_first_then_the_file_then_the_devcontainer_then_the_default() {
    let stored = EnvironmentSpec { setup: Some(Setup::Nothing), ..EnvironmentSpec::default() };
    let file = read("image = 'debian:12'\nsetup_script = 'a'");
    let devcontainer = RepositorySettings {
        source: ".devcontainer.json",
        image: Some(Image::Host),
        setup: Some(Setup::Automatic),
        maintenance_script: Some("b".to_owned()),
        ..RepositorySettings::default()
    };

    let settled = settle(&stored, Some(&file), Some(&devcontainer));
    let of_nobody = settle(&EnvironmentSpec::default(), None, None);

    assert_eq!(settled.image, Image::Oci("debian:12".to_owned()));
    assert_eq!((settled.setup, settled.maintenance_script), (Setup::Nothing, Some("b".to_owned())));
    let expected = [("image", PATH), ("setup", "environment"), ("maintenance_script", ".devcontainer.json")];
    assert_eq!(settled.sources, expected.map(|(key, source)| (key.to_owned(), source.to_owned())));
    assert_eq!((of_nobody.image, of_nobody.setup, of_nobody.maintenance_script), (Image::Host, Setup::Automatic, None));
    assert_eq!(of_nobody.sources[0], ("image".to_owned(), "default".to_owned()));
}

#[test]
fn variables_are_merged_by_name_and_a_secrets_name_stays_the_secrets() {
    let secret = SecretName { name: name("TOKEN"), kind: SecretKind::Setup, version: 1, hosts: Vec::<HostName>::new() };
    let stored = EnvironmentSpec {
        variables: BTreeMap::from([(name("A"), "stored".to_owned())]),
        secrets: vec![secret],
        ..EnvironmentSpec::default()
    };
    let file = read("[variables]\nA = 'file'\nB = 'file'\nTOKEN = 'file'");
    let devcontainer = RepositorySettings {
        source: ".devcontainer.json",
        variables: ["A", "B", "C"].map(|key| (name(key), "devcontainer".to_owned())).into(),
        ..RepositorySettings::default()
    };

    let settled = settle(&stored, Some(&file), Some(&devcontainer));

    let expected = [("A", "stored"), ("B", "file"), ("C", "devcontainer")];
    assert_eq!(settled.variables, expected.map(|(key, value)| (name(key), value.to_owned())).into());
    assert!(settled.sources.contains(&("variables.C".to_owned(), ".devcontainer.json".to_owned())));
    assert!(settled.warnings[0].contains("TOKEN, which is the name of a secret"), "{:?}", settled.warnings);
}

#[test]
fn a_variable_that_is_the_sandboxes_own_does_not_count() {
    let file = read("[variables]\nHTTPS_PROXY = 'http://proxy.corp:3128'\nLANG = 'C'");

    let settled = settle(&EnvironmentSpec::default(), Some(&file), None);

    let names: Vec<String> = settled.variables.keys().map(ToString::to_string).collect();
    assert_eq!(names, ["LANG"]);
    assert!(settled.warnings[0].contains("sets HTTPS_PROXY, which does not count"), "{:?}", settled.warnings);
}

#[test]
fn limits_can_only_be_lowered() {
    let stored = EnvironmentSpec::default();
    let file = read(
        "[limits]\ncpu_millis = 500\nmemory_bytes = 9000000000\nprocesses = 10\nwall_clock_s = 60\nsetup_s = 1200\noutput_bytes = 5",
    );

    let settled = settle(&stored, Some(&file), None);

    let expected = ResourceLimits {
        cpu_millis: Some(500),
        processes: 10,
        wall_clock_s: Some(60),
        output_bytes: 5,
        ..ResourceLimits::default()
    };
    assert_eq!(settled.limits, expected);
    assert_eq!(settled.warnings.len(), 1);
    assert!(settled.warnings[0].contains("memory_bytes to 9000000000; the environment allows 4294967296"));
}

#[test]
fn domains_are_asked_for_and_never_allowed_by_that() {
    let mut stored = EnvironmentSpec::default();
    stored.allow("example.com".parse().expect("a rule"));
    let file = read("network.allow_domains = ['example.com', 'evil.example.org', 'evil.example.org']");

    let settled = settle(&stored, Some(&file), None);
    stored.agent_network.internet = Internet::All;
    let open = settle(&stored, Some(&file), None);

    assert_eq!(settled.unmet_domains, ["evil.example.org".parse().expect("a rule")]);
    assert_eq!(open.unmet_domains, []);
}

#[test]
fn a_repository_shapes_the_sandbox_by_its_image_and_its_variables() {
    let stored = EnvironmentSpec { image: Some(Image::Host), ..EnvironmentSpec::default() };
    let shaped = |stored: &EnvironmentSpec, text| settle(stored, Some(&read(text)), None).is_shaped_by_repository();

    assert!(shaped(&EnvironmentSpec::default(), "image = 'evil/image'"));
    assert!(shaped(&stored, "variables.PIP_INDEX_URL = 'https://evil.example.com/'"));
    assert!(!shaped(&stored, "image = 'evil/image'\nsetup_script = 'true'\nlimits.processes = 7"));
    assert!(!settle(&EnvironmentSpec::default(), None, None).is_shaped_by_repository());
}
