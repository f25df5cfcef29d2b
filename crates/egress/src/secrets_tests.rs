//! Tests of `secrets`: values are found however an answer is cut.

use carrel_domain::Secret;

use super::*;

const PLACEHOLDER: &str = "carrel-secret-0000";

fn take_out(value: &str) -> TakeOut {
    let secret = NetworkSecret {
        name: "TOKEN".into(),
        placeholder: PLACEHOLDER.into(),
        value: Secret::new(value),
        hosts: vec!["api.example".parse().expect("a name")],
    };
    let target = crate::target::Target::parse("api.example:443", None).expect("a target");
    let origin = Origin { scheme: Scheme::Https, target };
    Secrets::new(vec![secret]).take_out(&origin).expect("a secret for it")
}

fn passed(take_out: &TakeOut, pieces: &[&[u8]]) -> String {
    let mut held = BytesMut::new();
    let mut out = Vec::new();
    for piece in pieces {
        held.extend_from_slice(piece);
        out.extend_from_slice(&take_out.0.take_out(&mut held, false));
    }
    out.extend_from_slice(&take_out.0.take_out(&mut held, true));
    String::from_utf8(out).expect("text")
}

#[test]
fn a_value_is_found_wherever_an_answer_is_cut() {
    let take_out = take_out("hunter2hunter3");
    let text = b"a hunter2 b hunter2hunter3 c hunter2hunter2hunter3 d hunter2hunter";
    let expected = format!("a hunter2 b {PLACEHOLDER} c hunter2{PLACEHOLDER} d hunter2hunter");

    for first in 0..text.len() {
        for second in first..text.len() {
            assert_eq!(passed(&take_out, &[&text[..first], &text[first..second], &text[second..]]), expected);
        }
    }
}

#[test]
fn what_cannot_be_the_beginning_of_a_value_is_not_held_back() {
    let take_out = take_out("hunter2hunter3");
    let mut held = BytesMut::from(&b"data: tick\n\n"[..]);

    assert_eq!(take_out.0.take_out(&mut held, false).as_ref(), b"data: tick\n\n");
}

#[test]
fn a_value_is_found_in_base64_and_percent_encoded() {
    let take_out = take_out("hunter2/hunter3");
    let encoded = STANDARD.encode("me:hunter2/hunter3!");

    let text = passed(&take_out, &[encoded.as_bytes(), b" hunter2%2Fhunter3 hunter2%2fhunter3"]);

    assert!(!text.contains("hunter2") && !text.contains(&encoded) && text.contains(PLACEHOLDER), "{text}");
}

#[test]
fn an_encoding_is_seen_however_it_is_said() {
    for (name, value, expected) in [
        ("content-encoding", "", None),
        ("content-encoding", "Identity , identity", None),
        ("transfer-encoding", "chunked", None),
        ("content-type", "gzip", None),
        ("content-encoding", "gzip", Some("gzip")),
        ("content-encoding", "identity, Zstd", Some("Zstd")),
        ("content-encoding", "chunked", Some("chunked")),
        ("transfer-encoding", "gzip, chunked", Some("gzip")),
        ("content-encoding", "\u{e9}", Some("?")),
    ] {
        let mut headers = HeaderMap::new();
        headers.append(header::CONTENT_ENCODING, HeaderValue::from_static("identity"));
        headers.append(name, HeaderValue::from_str(value).expect("a value"));

        let found = encoding(&headers);

        assert_eq!(found.is_some(), expected.is_some(), "{name}: {value}: {found:?}");
        assert!(expected == Some("?") || found.as_deref() == expected, "{name}: {value}: {found:?}");
    }
}

#[test]
fn a_secret_whose_placeholder_is_a_word_is_not_used() {
    let secret = NetworkSecret {
        name: "TOKEN".into(),
        placeholder: "token".into(),
        value: Secret::new("value"),
        hosts: vec!["api.example".parse().expect("a name")],
    };

    let secrets = Secrets::new(vec![secret]);

    assert!(!secrets.are_for(&"api.example".parse().expect("a host")));
}
