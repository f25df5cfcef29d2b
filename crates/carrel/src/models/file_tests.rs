//! The file of models as people write it, right and wrong.

use std::ffi::OsString;

use super::*;

const WHOLE: &str = r#"
default = "sonnet"

[providers.openai]
protocol = "responses"
base_url = "https://models.example.com/openai/v1"
key_variable = "AZURE_KEY"
key_header = "api-key"
query = { api-version = "2026-01-01" }
headers = { x-team = "tools" }
header_variables = { x-gate = "GATE" }
retries = 2
timeout_seconds = 2.5

[providers.anthropic]
protocol = "messages"
base_url = "https://api.anthropic.com"
key = "sk-ant-inline"

[[models]]
name = "big"
provider = "openai"
id = "gpt-5"
context_window = 400000
max_output_tokens = 128000
price = { input = 1.25, cached_input = 0.125, output = 10 }
efforts = ["low", "high"]
effort = "high"
images = false
parallel_calls = false
freeform_patch = false
stream_usage = false

[[models]]
name = "sonnet"
provider = "anthropic"
id = "claude-sonnet-4-5"
price = { input = 3.0, output = 15.0 }
thinking = "adaptive"
"#;

fn read(text: &str) -> Result<(Configured, bool), String> {
    let known = [("AZURE_KEY", "azure-secret"), ("GATE", "gate-secret")];
    parse(text, &|name| known.iter().find(|(known, _)| *known == name).map(|(_, value)| OsString::from(value)))
}

fn wrong(from: &str, to: &str) -> String {
    assert!(WHOLE.contains(from), "{from}");
    read(&WHOLE.replace(from, to)).expect_err("a problem")
}

#[test]
fn everything_that_is_said_is_taken() {
    let (configured, has_key) = read(WHOLE).expect("models");

    let (name, big) = &configured.models[0];
    let endpoint = &big.endpoint;
    assert!(has_key && name == "big" && configured.default.as_deref() == Some("sonnet"));
    assert_eq!(endpoint.base_url.as_str(), "https://models.example.com/openai/v1?api-version=2026-01-01");
    assert_eq!((endpoint.name.as_str(), endpoint.retries), ("gpt-5", 2));
    let timeouts = [endpoint.timeouts.first_byte, endpoint.timeouts.idle];
    assert_eq!((timeouts, endpoint.stream_usage), ([Duration::from_millis(2500); 2], false));
    assert!(wrong("timeout_seconds = 2.5", "timeout_seconds = 0").contains("between 0.001 and 3600"));
    assert_eq!(endpoint.key, Some(Secret::new("azure-secret")));
    assert_eq!((endpoint.key_from.as_str(), endpoint.key_header.as_deref()), ("AZURE_KEY", Some("api-key")));
    assert_eq!((endpoint.context_window, endpoint.max_output_tokens), (Some(400_000), Some(128_000)));
    let price = Price { input: 1_250_000, cached_input: 125_000, cache_write: 1_250_000, output: 10_000_000 };
    assert_eq!(endpoint.price, Some(price));
    assert_eq!((&big.efforts[..], big.default_effort()), (&["low".to_owned(), "high".to_owned()][..], Some("high")));
    assert!(!endpoint.images && !endpoint.parallel_calls && !big.knows_freeform_patch() && big.reasons());
    assert_eq!(endpoint.headers.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["x-team", "x-gate"]);
    let (_, sonnet) = &configured.models[1];
    assert_eq!((sonnet.endpoint.protocol, sonnet.endpoint.thinking), (Protocol::Messages, Thinking::Adaptive));
    assert_eq!(
        sonnet.endpoint.price.map(|price| (price.cached_input, price.cache_write)),
        Some((3_000_000, 3_750_000))
    );
}

#[test]
fn every_key_is_known_as_a_secret() {
    let (configured, _) = read(WHOLE).expect("models");

    for secret in ["azure-secret", "gate-secret", "sk-ant-inline"] {
        assert!(configured.secrets.contains(&Secret::new(secret)), "{secret}");
    }
}

#[test]
fn what_is_wrong_is_named_with_its_place_and_without_a_key() {
    for (from, to, expected) in [
        ("key = \"sk-ant-inline\"", "key = \"sk-ant-inline\"\nkye = 1", "unknown field `kye`"),
        ("protocol = \"messages\"", "protocol = \"grpc\"", "`grpc` is no protocol"),
        (
            "provider = \"anthropic\"",
            "provider = \"other\"",
            "provider `other` that is not there; there are anthropic, openai",
        ),
        ("default = \"sonnet\"", "default = \"opus\"", "the default `opus` is none of its models"),
        ("effort = \"high\"", "effort = \"extreme\"", "its effort `extreme` is none of low, high"),
        ("key_variable = \"AZURE_KEY\"", "key_variable = \"NONE\"", "the variable NONE is not set"),
        ("key_variable = \"AZURE_KEY\"", "key_variable = \"AZURE_KEY\"\nkey = \"x\"", "more than one of"),
        ("https://api.anthropic.com", "file:///etc/passwd", "base_url is no http or https URL"),
        ("https://api.anthropic.com", "https://u:p@host", "has a credential in it"),
        ("input = 3.0", "input = -1", "the price -1"),
        ("name = \"sonnet\"", "name = \"big\"", "one that another has"),
        ("freeform_patch = false", "freeform_patch = false\nreasoning = false", "reasoning is off"),
        ("thinking = \"adaptive\"", "freeform_patch = true", "only there with the protocol `responses`"),
        ("x-team = \"tools\"", "\"x team\" = \"tools\"", "the header `x team`"),
    ] {
        let problem = wrong(from, to);
        assert!(problem.contains(expected), "{problem}");
        assert!(!problem.contains("sk-ant"), "{problem}");
    }
}

#[test]
fn a_broken_line_is_told_by_its_number_only() {
    let problem = wrong("key = \"sk-ant-inline\"", "key = \"sk-ant-inline");

    assert!(problem.starts_with("line ") && !problem.contains("sk-ant"), "{problem}");
}

#[test]
fn the_file_beside_the_documentation_is_one_that_is_understood() {
    let page = include_str!("../../../../docs/models.md");
    let example = page.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).expect("an example");

    let read = parse(example, &|name| Some(OsString::from(format!("key-of-{name}"))));

    let (configured, has_key) = read.expect("models");
    assert!(configured.models.len() >= 3 && !has_key);
}
