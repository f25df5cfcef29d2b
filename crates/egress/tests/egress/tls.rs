//! What is sent in tunnels beside honest TLS.

use std::sync::Arc;

use carrel_domain::Internet;
use carrel_egress::OpenTls;
use rustls::pki_types::ServerName;
use tokio::io::AsyncWriteExt as _;

use crate::world::{API, DEADLINE, OTHER, UP, WRONG, World, read_all};

/// A fatal alert and nothing else.
fn is_alert(answer: &[u8], description: u8) -> bool {
    answer == [21, 3, 3, 0, 2, 2, description]
}

/// A greeting as rustls makes it: for a name, or for an address, which has none.
fn greeting(world: &World, host: &str) -> Vec<u8> {
    let name = ServerName::try_from(host.to_owned()).expect("a name");
    let config = Arc::new(world.client_tls(&["h2", "http/1.1"]));
    let mut connection = rustls::ClientConnection::new(config, name).expect("a client");
    let mut bytes = Vec::new();
    connection.write_tls(&mut bytes).expect("a greeting");
    bytes
}

/// The same with one more extension, all lengths put right.
fn with_extension(greeting: &[u8], kind: u16, body: &[u8]) -> Vec<u8> {
    let mut bytes = greeting.to_vec();
    let mut at = 5 + 4 + 2 + 32;
    at += 1 + usize::from(bytes[at]);
    at += 2 + usize::from(u16::from_be_bytes([bytes[at], bytes[at + 1]]));
    at += 1 + usize::from(bytes[at]);
    let added = u16::try_from(4 + body.len()).expect("short");
    for position in [3, 7, at] {
        let length = u16::from_be_bytes([bytes[position], bytes[position + 1]]) + added;
        bytes[position..position + 2].copy_from_slice(&length.to_be_bytes());
    }
    bytes.extend_from_slice(&kind.to_be_bytes());
    bytes.extend_from_slice(&(added - 4).to_be_bytes());
    bytes.extend_from_slice(body);
    bytes
}

async fn say_in_tunnel(world: &World, bytes: &[u8]) -> Vec<u8> {
    use tokio::io::AsyncReadExt as _;

    let mut stream = world.tunnel(&format!("{UP}:{}", world.secure.port())).await.expect("a tunnel");
    let _ = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    tokio::time::timeout(DEADLINE, stream.read_to_end(&mut answer)).await.expect("in time").expect("an end");
    answer
}

#[tokio::test]
async fn a_tunnel_carries_tls_for_its_own_host_or_nothing() {
    let mut world = World::new().await;
    let honest = greeting(&world, UP);
    let mut name = Vec::new();
    for part in [&[0, 12, 0, 0, 9][..], b"evil.test"] {
        name.extend_from_slice(part);
    }
    // Two names in the one list that there is.
    let mut names = vec![0, 24];
    for host in [UP, "evil.test"] {
        names.extend_from_slice(&[0, 0, u8::try_from(host.len()).expect("short")]);
        names.extend_from_slice(host.as_bytes());
    }
    names[1] = u8::try_from(names.len() - 2).expect("short");
    // What rustls offers: TLS 1.3 and 1.2.
    let versions = [0, 43, 0, 5, 4, 3, 4, 3, 3];
    let at_versions = honest.windows(versions.len()).position(|part| part == versions).expect("versions") + 5;
    let at_name = honest.windows(UP.len()).position(|part| part == UP.as_bytes()).expect("a name");
    let changed = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = honest.clone();
        change(&mut bytes);
        bytes
    };
    let rows: Vec<(&str, Vec<u8>, u8)> = vec![
        ("the name of another host", greeting(&world, OTHER), 112),
        ("the name of another allowed host", greeting(&world, API), 112),
        ("no name", greeting(&world, "192.0.2.1"), 112),
        ("two names", with_extension(&honest, 0, &name), 50),
        ("two names in one list", with_extension(&greeting(&world, "192.0.2.1"), 0, &names), 112),
        (
            "no newer version than TLS 1.1",
            changed(&|bytes| bytes[at_versions..at_versions + 4].copy_from_slice(&[3, 2, 3, 1])),
            70,
        ),
        ("a NUL in the name", changed(&|bytes| bytes[at_name + 2] = 0), 112),
        ("a name that is an address", changed(&|bytes| bytes[at_name..at_name + 7].copy_from_slice(b"1.2.3.4")), 112),
        ("a dot at the end", changed(&|bytes| bytes[at_name + 6] = b'.'), 112),
        ("a space in the name", changed(&|bytes| bytes[at_name + 2] = b' '), 112),
        ("a name of another kind", changed(&|bytes| bytes[at_name - 3] = 1), 112),
        ("TLS 1.0", changed(&|bytes| bytes[10] = 1), 70),
        ("SSL 3", changed(&|bytes| bytes[10] = 0), 70),
        ("another message first", changed(&|bytes| bytes[5] = 2), 50),
        ("a greeting longer than its record", changed(&|bytes| bytes[8] = bytes[8].wrapping_sub(1)), 50),
        ("a huge greeting", changed(&|bytes| bytes[6] = 1), 50),
        ("an empty record", vec![22, 3, 1, 0, 0], 50),
    ];
    for (what, bytes, alert) in rows {
        let answer = say_in_tunnel(&world, &bytes).await;
        assert!(is_alert(&answer, alert), "{what}: {answer:?}");
        world.assert_refused("", what);
    }
}

#[tokio::test]
async fn what_is_neither_tls_nor_http_goes_no_further() {
    let mut world = World::new().await;
    for (what, bytes) in [
        ("SSH", &b"SSH-2.0-OpenSSH_9.2\r\n\r\n"[..]),
        ("SMTP", b"EHLO evil\r\n\r\n"),
        ("SOCKS", b"\x05\x01\x00\n"),
        ("git", b"0032git-upload-pack /project.git\0host=up.test\0\n"),
        ("SSLv2", b"\x80\x2e\x01\x00\x02\n"),
        ("DNS over TCP", b"\x00\x1d\xaa\xaa\x01\x00\x00\x01\n"),
        ("HTTP/2 by prior knowledge", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
        ("another TLS record", b"\x17\x03\x03\x00\x02ab\n"),
        ("garbage", b"\xff\xfe\xfd\n"),
    ] {
        let answer = say_in_tunnel(&world, bytes).await;
        assert!(answer.starts_with(b"HTTP/1.1 400 "), "{what}: {}", String::from_utf8_lossy(&answer));
        let decisions = world.decisions();
        assert!(decisions.last().is_some_and(|decision| !decision.allowed), "{what}: {decisions:?}");
        assert_eq!(world.secure.bytes(), 0, "{what}");
    }
}

#[tokio::test]
async fn bytes_that_follow_connect_at_once_are_judged_as_if_they_came_later() {
    let mut world = World::new().await;
    let at = format!("{UP}:{}", world.secure.port());
    let mut bytes = format!("CONNECT {at} HTTP/1.1\r\nHost: {at}\r\n\r\n").into_bytes();
    bytes.extend(greeting(&world, OTHER));

    let answer = world.say(&bytes).await;

    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with('p'), "an alert's last byte is 112: {answer:?}");
    world.assert_refused("is for other.test", "garbage after CONNECT");
}

#[tokio::test]
async fn a_name_that_may_be_hidden_is_opened_where_names_decide() {
    for (internet, is_opened) in [(Internet::Off, true), (Internet::All, false)] {
        let mut builder = World::builder().await;
        builder.policy.network.internet = internet;
        let mut world = builder.build();
        let bytes = with_extension(&greeting(&world, UP), 0xfe0d, &[0; 40]);
        let mut stream = world.tunnel(&format!("{UP}:{}", world.secure.port())).await.expect("a tunnel");

        stream.write_all(&bytes).await.expect("written");
        stream.shutdown().await.expect("the program is done");
        read_all(&mut stream).await;

        // Sealed, the server gets the very greeting; opened, it gets one of ours, which hides nothing.
        assert_eq!(world.secure.saw(&String::from_utf8_lossy(&[0; 40])), !is_opened, "{internet:?}");
        assert!(!world.decisions().is_empty());
    }
}

#[tokio::test]
async fn a_greeting_in_many_small_records_is_read_like_one() {
    let mut world = World::new().await;
    let fragment = |greeting: &[u8]| -> Vec<u8> {
        greeting[5..]
            .chunks(10)
            .flat_map(|part| [&[22, 3, 1, 0, u8::try_from(part.len()).expect("short")][..], part].concat())
            .collect()
    };

    let answer = say_in_tunnel(&world, &fragment(&greeting(&world, OTHER))).await;
    assert!(is_alert(&answer, 112), "{answer:?}");
    world.assert_refused("is for other.test", "fragments");

    let mut stream = world.tunnel(&format!("{UP}:{}", world.secure.port())).await.expect("a tunnel");
    stream.write_all(&fragment(&greeting(&world, UP))).await.expect("written");
    stream.shutdown().await.expect("the program is done");
    assert!(!read_all(&mut stream).await.is_empty(), "the server greets back");
}

#[tokio::test]
async fn a_server_that_does_not_prove_its_name_is_not_spoken_to() {
    let mut builder = World::builder().await;
    builder.options.open_tls = OpenTls::Always;
    let mut world = builder.build();

    let request = format!("GET /secret HTTP/1.1\r\nHost: {WRONG}:{}\r\nConnection: close\r\n\r\n", world.secure.port());
    let answer = world.say_inside(WRONG, request.as_bytes()).await;

    assert!(answer.starts_with("HTTP/1.1 502 ") && answer.contains("no TLS connection to wrong.test"), "{answer}");
    assert!(world.secure.requests().is_empty());
    assert!(world.decisions().last().is_some_and(|decision| !decision.allowed));
}

#[tokio::test]
async fn fronting_inside_tls_is_seen_where_all_tls_is_opened() {
    let mut builder = World::builder().await;
    builder.options.open_tls = OpenTls::Always;
    let mut world = builder.build();

    let request = format!("GET / HTTP/1.1\r\nHost: {OTHER}:{}\r\n\r\n", world.secure.port());
    let answer = world.say_inside(UP, request.as_bytes()).await;

    assert!(answer.starts_with("HTTP/1.1 403 ") && answer.contains("is for the host `other.test"), "{answer}");
    assert!(world.secure.requests().is_empty());
    assert!(world.decisions().last().is_some_and(|decision| !decision.allowed));
}

#[tokio::test]
async fn a_program_that_does_not_trust_the_authority_is_told_of_in_an_event() {
    let mut world = World::read_only().await;
    let stream = world.tunnel(&format!("{UP}:{}", world.secure.port())).await.expect("a tunnel");
    let mut config = world.client_tls(&["http/1.1"]);
    config = rustls::ClientConfig::builder_with_provider(Arc::clone(config.crypto_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();

    let name = ServerName::try_from(UP).expect("a name");
    let refused = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream).await;

    assert!(refused.is_err());
    let decision = tokio::time::timeout(DEADLINE, async {
        loop {
            if let Some(decision) = world.decisions().pop() {
                return decision;
            }
            tokio::task::yield_now().await;
        }
    });
    let decision = decision.await.expect("told");
    assert!(!decision.allowed && decision.reason.contains("has to be opened"), "{decision:?}");
}
