//! The data file.

use carrel_egress::packages::{InvalidKnown, Known, PackageHosts, Tool, hosts, read};

/// The hosts when no index answers.
async fn alone(tool: Tool, known: &Known) -> PackageHosts {
    let found = read(format!("{tool}\there\t\n").as_bytes());
    hosts(&found, known, |_, _, _| async { Err("not here".to_owned()) }).await
}

#[tokio::test]
async fn the_data_file_that_comes_along_has_a_default_for_every_tool_but_apt() {
    let known = Known::built_in();

    for tool in Tool::ALL.iter().filter(|tool| **tool != Tool::Apt) {
        assert!(!alone(*tool, known).await.rules.is_empty(), "{tool}");
    }
    assert_eq!(alone(Tool::Apt, known).await.rules, []);
}

#[tokio::test]
async fn an_administrators_data_file_takes_its_place() {
    let text = r#"
        [tool.pip]
        default = ["https://mirror.example.com/simple"]
        also = ["sums.example.com"]
        [index."mirror.example.com"]
        also = ["cdn.example.com"]
    "#;

    let hosts = alone(Tool::Pip, &Known::parse(text).expect("a data file")).await;

    let rules: Vec<String> = hosts.rules.iter().map(ToString::to_string).collect();
    assert_eq!(rules, ["cdn.example.com", "mirror.example.com", "sums.example.com"]);
}

#[test]
fn a_data_file_that_says_what_there_is_not_is_refused_by_name() {
    for (text, words) in [
        ("[tool.conda]\n", "the tool `conda`; the tools are npm, pnpm"),
        ("[tool.pip]\nindex = []\n", "unknown field `index`"),
        ("[tool.pip]\ndefault = [\"pypi.org\"]\n", "`pypi.org` of pip is no address"),
        ("[tool.pip]\ndefault = [\"ftp://pypi.org\"]\n", "neither http nor https"),
        ("[index.\"10.0.0.1\"]\n", "is an address, not a name"),
        ("[hosts]\n", "unknown field `hosts`"),
    ] {
        let error = Known::parse(text).expect_err(text).to_string();
        assert!(error.contains(words), "{error}");
    }
    assert!(matches!(Known::parse(&"#".repeat(300 << 10)), Err(InvalidKnown::TooLarge(_))));
}
