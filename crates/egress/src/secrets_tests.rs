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
