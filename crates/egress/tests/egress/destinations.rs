//! Ways to reach a destination that policy does not name.

use carrel_domain::Internet;

use crate::world::{OTHER, UP, World};

/// Plain requests and tunnels to this authority are both refused by a rule, with these words.
async fn assert_both_refused(world: &mut World, authority: &str, words: &str) {
    assert_both(world, authority, 403, words).await;
}

/// Plain requests and tunnels to this authority are both refused because it cannot be read in exactly one way. A rule or
/// an address that is refused would say something else, so it is the reading that is tested.
async fn assert_both_unread(world: &mut World, authority: &str) {
    assert_both(world, authority, 400, "").await;
}

async fn assert_both(world: &mut World, authority: &str, status: u16, words: &str) {
    let requests = [
        format!("GET http://{authority}/ HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\n\r\n"),
        format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n"),
    ];
    for request in requests {
        let answer = world.say(request.as_bytes()).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{request:?}: {answer:?}");
        assert!(answer.contains("carrel: "), "{request:?}: {answer:?}");
        world.assert_refused(words, &request);
    }
}

#[tokio::test]
async fn a_host_that_no_rule_names_is_refused_with_the_way_to_allow_it() {
    let mut world = World::new().await;
    let at = format!("{OTHER}:{}", world.plain.port());

    let answer = world
        .say(format!("GET http://{at}/secret-path HTTP/1.1\r\nHost: {at}\r\nConnection: close\r\n\r\n").as_bytes())
        .await;

    assert!(answer.starts_with("HTTP/1.1 403 Forbidden\r\n"), "{answer}");
    assert!(
        answer.contains("carrel: other.test is not allowed by the environment `api` (agent phase). To allow it: carrel environment edit api --allow-domain other.test\n"),
        "{answer}"
    );
    let decisions = world.decisions();
    assert_eq!(decisions[0].host, OTHER);
    assert!(!format!("{decisions:?}").contains("secret-path"));
}

#[tokio::test]
async fn names_that_only_look_allowed_are_refused() {
    let mut world = World::new().await;
    let port = world.plain.port();
    for host in [
        // A rule is about whole labels.
        "xup.test",
        "a.up.test",
        "up.test.evil.org",
        "test",
        OTHER,
        // Resolvers over HTTPS are hosts like others.
        "cloudflare-dns.com",
        "dns.google",
    ] {
        // By the rules, and not only for its port, which is listed for the allowed host alone.
        assert_both_refused(&mut world, &format!("{host}:{port}"), "by the environment").await;
        assert_both_refused(&mut world, &format!("{host}:443"), "by the environment").await;
    }
}

#[tokio::test]
async fn text_that_is_no_host_in_exactly_one_way_is_refused() {
    let mut builder = World::builder().await;
    builder.policy.network.internet = Internet::All;
    let mut world = builder.build();
    let port = world.plain.port();
    for host in [
        "up.test.",
        "up..test",
        ".up.test",
        "up.test%00.other.test",
        "up%2etest",
        "up.test%20",
        "up.test@other.test",
        "user:password@up.test",
        "up.test\\.other.test",
        "up.test;other.test",
        "up.test,other.test",
        "-up.test",
        "xn--",
        "\"up.test\"",
        "2130706433",
        "0x7f000001",
        "0x7f.0.0.1",
        "0177.0.0.1",
        "127.1",
        "127.0.1",
        "127.0.0.1.",
        "127.000.000.001",
        "[::ffff:127.0.0.1%251]",
        "::1",
        "[::1",
    ] {
        assert_both_unread(&mut world, &format!("{host}:{port}")).await;
    }
}

#[tokio::test]
async fn a_password_in_an_address_is_not_told() {
    let mut world = World::new().await;
    let at = format!("me:hunter2@{UP}:{}", world.plain.port());

    for request in
        [format!("GET http://{at}/?hunter2 HTTP/1.1\r\nHost: {at}\r\n\r\n"), format!("CONNECT {at} HTTP/1.1\r\n\r\n")]
    {
        world.say(request.as_bytes()).await;
        let decisions = world.decisions();
        assert!(decisions.len() == 1 && !format!("{decisions:?}").contains("hunter2"), "{decisions:?}");
    }
}

#[tokio::test]
async fn bytes_that_no_host_has_are_refused() {
    let mut builder = World::builder().await;
    builder.policy.network.internet = Internet::All;
    let mut world = builder.build();
    let port = world.plain.port();
    for host in
        ["up.test\0.other.test", "up\u{3002}test", "пример.test", "up.test\u{200b}", "up.test\u{85}", "up.test\t"]
    {
        assert_both_unread(&mut world, &format!("{host}:{port}")).await;
    }
}

#[tokio::test]
async fn addresses_are_no_names_whatever_their_spelling() {
    let mut world = World::new().await;
    let port = world.plain.port();
    for host in
        ["127.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "[0:0:0:0:0:ffff:7f00:1]", "169.254.169.254", "203.0.113.1"]
    {
        assert_both_refused(&mut world, &format!("{host}:{port}"), "is an address").await;
    }
}

#[tokio::test]
async fn names_whose_addresses_are_not_public_are_refused_even_where_all_is_allowed() {
    let mut builder = World::builder().await;
    builder.policy.network.internet = Internet::All;
    let rows: [(&str, &[&str]); 14] = [
        ("loopback.test", &["127.0.0.1"]),
        ("metadata.google.internal", &["169.254.169.254"]),
        ("metadata6.test", &["fd00:ec2::254"]),
        ("wire.test", &["168.63.129.16"]),
        ("private.test", &["10.0.0.1"]),
        ("carrier.test", &["100.100.100.200"]),
        ("mapped.test", &["::ffff:127.0.0.1"]),
        ("nat64.test", &["64:ff9b::7f00:1"]),
        ("six.test", &["2002:7f00:1::"]),
        ("unspecified.test", &["0.0.0.0"]),
        ("multicast.test", &["224.0.0.1"]),
        ("broadcast.test", &["255.255.255.255"]),
        ("linklocal.test", &["fe80::1"]),
        // Half of a rebinding.
        ("rebinding.test", &["203.0.113.1", "127.0.0.1"]),
    ];
    for (host, addresses) in rows {
        builder.host(host, addresses);
    }
    let mut world = builder.build();

    for (host, _) in rows {
        for port in [80, 443] {
            assert_both_refused(&mut world, &format!("{host}:{port}"), "only public addresses").await;
        }
    }
    assert_both_refused(&mut world, "localhost:80", "only public addresses").await;
}

#[tokio::test]
async fn other_ports_than_those_of_the_web_are_refused() {
    let mut world = World::new().await;
    for port in [22, 25, 53, 853, 3128, 5432, 8080, 8443, 65535] {
        assert_both_refused(&mut world, &format!("{UP}:{port}"), "only the ports 80 and 443").await;
    }
    for text in ["", "0", "00443", "+443", "443x", "65536", "443:443", "-1"] {
        assert_both_unread(&mut world, &format!("{UP}:{text}")).await;
    }
}

#[tokio::test]
async fn a_redirect_is_a_new_request_and_judged_like_one() {
    let mut world = World::new().await;
    let (good, bad) = (format!("{UP}:{}", world.plain.port()), format!("{OTHER}:{}", world.plain.port()));

    let request =
        format!("GET http://{good}/redirect?http://{bad}/ HTTP/1.1\r\nHost: {good}\r\nConnection: close\r\n\r\n");
    let answer = world.say(request.as_bytes()).await;
    let follow =
        world.say(format!("GET http://{bad}/ HTTP/1.1\r\nHost: {bad}\r\nConnection: close\r\n\r\n").as_bytes()).await;

    assert!(answer.starts_with("HTTP/1.1 302 ") && answer.contains(&format!("location: http://{bad}/")), "{answer}");
    assert!(follow.starts_with("HTTP/1.1 403 "), "{follow}");
    assert_eq!(world.plain.requests().len(), 1);
    let allowed: Vec<bool> = world.decisions().iter().map(|decision| decision.allowed).collect();
    assert_eq!(allowed, [true, false]);
}

#[tokio::test]
async fn addresses_that_are_not_of_a_proxys_kind_are_refused() {
    let mut world = World::new().await;
    let at = format!("{UP}:{}", world.plain.port());
    for target in [
        format!("https://{at}/"),
        format!("ftp://{at}/"),
        format!("HTTP://{at}/"),
        format!("//{at}/"),
        "/".to_owned(),
        "*".to_owned(),
        at.clone(),
        format!("http:/{at}/"),
        format!("http://{at}/#fragment"),
    ] {
        let request = format!("GET {target} HTTP/1.1\r\nHost: {at}\r\n\r\n");
        let answer = world.say(request.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{request:?}: {answer}");
        world.assert_refused("", &request);
    }
}
