//! Tests of `head`. What is refused stands in the egress suite; here is what has to be understood.

use super::*;

fn head(text: &str) -> Head {
    let end = find_end(text.as_bytes(), 0).expect("plain").expect("an end");
    read(&text.as_bytes()[..end]).expect("a head")
}

#[test]
fn an_end_is_found_wherever_the_bytes_are_cut() {
    let text = b"GET / HTTP/1.1\r\nHost: a\r\n\r\nbody\n\n";
    for cut in 0..text.len() {
        let early = find_end(&text[..cut], 0).expect("plain so far");
        let end = match early {
            Some(end) => end,
            None => find_end(text, cut).expect("plain").expect("an end"),
        };
        assert_eq!(end, 27, "cut at {cut}");
    }
}

#[test]
fn what_is_between_neighbours_is_taken_out() {
    let head = head(
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: close, X-One\r\nX-One: 1\r\nX-Two: 2\r\nProxy-Authorization: x\r\n\
         Proxy-Whatever: x\r\nTE: trailers\r\nUpgrade: h2c\r\nKeep-Alive: 5\r\nTrailer: x\r\n\r\n",
    );

    assert_eq!(head.headers.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["x-two"]);
    assert_eq!((head.host.as_deref(), head.keeps_alive, head.is_websocket), (Some("a"), false, false));
}

#[test]
fn a_connection_is_kept_as_its_version_says() {
    for (text, expected) in [
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", true),
        ("GET / HTTP/1.1\r\nHost: a\r\nConnection: Close\r\n\r\n", false),
        ("GET / HTTP/1.0\r\n\r\n", false),
        ("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", true),
    ] {
        assert_eq!(head(text).keeps_alive, expected, "{text}");
    }
}

#[test]
fn bodies_are_delimited_in_three_ways() {
    for (field, expected) in [
        ("", Framing::Empty),
        ("Content-Length: 0\r\n", Framing::Length(0)),
        ("Content-Length: 0017\r\n", Framing::Length(17)),
        ("Transfer-Encoding: Chunked\r\n", Framing::Chunked),
    ] {
        assert_eq!(head(&format!("POST / HTTP/1.1\r\nHost: a\r\n{field}\r\n")).framing, expected, "{field}");
    }
}

proptest::proptest! {
    #[test]
    fn no_bytes_make_it_panic_and_none_are_read_past_the_end(
        fields in "(GET|POST) http://a/[ -~\\r\\n]{0,40} HTTP/1.[01]\\r\\n(Host: a\\r\\n)?([ -~\\r\\n\\t]{0,30}\\r\\n){0,4}\\r\\n",
        rest: Vec<u8>,
    ) {
        let mut bytes = fields.into_bytes();
        bytes.extend(rest);
        if let Ok(Some(end)) = find_end(&bytes, 0) {
            proptest::prop_assert!(bytes[..end].ends_with(b"\r\n\r\n"));
            proptest::prop_assert!(!bytes[..end - 1].windows(4).any(|part| part == b"\r\n\r\n"));
            if let Ok(head) = read(&bytes[..end]) {
                proptest::prop_assert!(head.target.bytes().all(|byte| byte.is_ascii_graphic()));
                proptest::prop_assert!(HOP_BY_HOP.iter().all(|name| !head.headers.contains_key(*name)));
            }
        }
    }
}
