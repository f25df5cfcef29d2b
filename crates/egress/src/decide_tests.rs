//! Tests of `decide`.

use carrel_domain::NetworkPolicy;

use super::*;
use crate::policy::Phase;

fn rules(texts: &[&str]) -> Vec<DomainRule> {
    texts.iter().map(|text| text.parse().expect("a rule")).collect()
}

fn policy(internet: Internet) -> SessionPolicy {
    SessionPolicy {
        model: None,
        network: NetworkPolicy { internet, domains: rules(&[".own.example"]), methods: Methods::All },
        packages: rules(&["packages.example"]),
        secrets: Vec::new(),
        environment: "api".into(),
        phase: Phase::Setup,
    }
}

fn verdict(internet: Internet, private_hosts: &[&str], target: &str) -> Result<String, String> {
    let policy = policy(internet);
    let common = rules(&["common.example"]);
    let private_hosts: Vec<PrivateHost> = private_hosts.iter().map(|text| text.parse().expect("a host")).collect();
    let rules = Rules { policy: &policy, common: &common, private_hosts: &private_hosts };
    let target = Target::parse(target, Some(443)).expect("a target");
    rules.destination(&target).map_err(|refused| refused.body())
}

#[test]
fn each_preset_holds_the_ones_before_it() {
    let hosts = ["a.own.example", "packages.example", "common.example", "any.example"];
    for (internet, allowed) in [
        (Internet::Off, [true, false, false, false]),
        (Internet::Packages, [true, true, false, false]),
        (Internet::Common, [true, true, true, false]),
        (Internet::All, [true, true, true, true]),
    ] {
        assert_eq!(hosts.map(|host| verdict(internet, &[], host).is_ok()), allowed, "{internet:?}");
    }
}

#[test]
fn what_allows_a_host_is_named() {
    let reason = |host| verdict(Internet::Common, &[], host).expect("allowed");

    assert_eq!(reason("own.example"), "the rule `.own.example`");
    assert_eq!(reason("packages.example"), "`packages.example` of the preset `packages`");
    assert_eq!(reason("common.example"), "`common.example` of the preset `common`");
    assert_eq!(verdict(Internet::All, &[], "any.example").expect("allowed"), "the preset `all`");
}

#[test]
fn a_refusal_says_how_to_allow_it_in_its_phase() {
    let said = verdict(Internet::Off, &[], "any.example").expect_err("refused");

    assert_eq!(
        said,
        "carrel: any.example is not allowed by the environment `api` (setup phase). \
         To allow it: carrel environment edit api --setup-allow-domain any.example\n"
    );
}

#[test]
fn the_way_out_of_a_host_on_another_port_allows_both() {
    let said = |listed: &[&str]| verdict(Internet::Off, listed, "any.example:8080").expect_err("refused");

    let allow = "carrel environment edit api --setup-allow-domain any.example";
    let list = "an administrator lists `any.example:8080` in CARREL_PRIVATE_HOSTS of the service";
    assert!(said(&[]).contains("only the ports 80 and 443 are"), "{}", said(&[]));
    assert!(said(&[]).ends_with(&format!("To allow it: {list}, and then: {allow}\n")), "{}", said(&[]));
    assert!(said(&["any.example:8080"]).ends_with(&format!("To allow it: {allow}\n")), "the port is allowed already");
}

#[test]
fn only_listed_ports_beside_those_of_the_web_are_allowed_and_a_list_allows_no_host() {
    for (listed, target, expected) in [
        (None, "own.example:80", true),
        (None, "own.example:443", true),
        (None, "own.example:8443", false),
        (Some("own.example"), "own.example:8443", false),
        (Some("own.example:8443"), "own.example:8443", true),
        (Some("own.example:8443"), "own.example:22", false),
        (Some("any.example:8443"), "any.example:8443", false),
    ] {
        let listed: Vec<&str> = listed.into_iter().collect();
        assert_eq!(verdict(Internet::Off, &listed, target).is_ok(), expected, "{listed:?} {target}");
    }
}

#[test]
fn an_address_is_allowed_where_all_is_and_an_administrator_lists_it() {
    for (internet, listed, expected) in [
        (Internet::All, None, false),
        (Internet::All, Some("10.0.0.1"), true),
        (Internet::All, Some("10.0.0.2"), false),
        (Internet::Common, Some("10.0.0.1"), false),
    ] {
        let listed: Vec<&str> = listed.into_iter().collect();
        assert_eq!(verdict(internet, &listed, "10.0.0.1").is_ok(), expected, "{internet:?} {listed:?}");
    }
}
