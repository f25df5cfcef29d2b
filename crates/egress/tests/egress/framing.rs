//! Requests that two servers could read differently.

use crate::world::{OTHER, UP, World};

#[tokio::test]
async fn a_request_that_could_be_read_in_two_ways_is_refused() {
    let mut world = World::new().await;
    let at = format!("{UP}:{}", world.plain.port());
    let other = format!("{OTHER}:{}", world.plain.port());
    let smuggled = format!("GET http://{at}/smuggled HTTP/1.1\r\nHost: {at}\r\n\r\n");
    let rows = [
        ("two lengths", "Content-Length: 0\r\nContent-Length: 5\r\n", "more than once"),
        ("two equal lengths", "Content-Length: 5\r\nContent-Length: 5\r\n", "more than once"),
        ("a list of lengths", "Content-Length: 5, 5\r\n", "no number"),
        ("a signed length", "Content-Length: +5\r\n", "no number"),
        ("a negative length", "Content-Length: -1\r\n", "no number"),
        ("a hexadecimal length", "Content-Length: 0x5\r\n", "no number"),
        ("a huge length", "Content-Length: 99999999999999999999\r\n", "no number"),
        ("an empty length", "Content-Length: \r\n", "no number"),
        ("a length and chunks", "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "both"),
        ("chunks and a length", "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", "both"),
        ("two codings", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "more than once"),
        ("another coding", "Transfer-Encoding: gzip, chunked\r\n", "another transfer-encoding"),
        ("a coding that hides", "Transfer-Encoding: xchunked\r\n", "another transfer-encoding"),
        ("a coding with a tab inside", "Transfer-Encoding: chunked\t,\r\n", "another transfer-encoding"),
        ("a space before the colon", "Content-Length : 5\r\n", "no name of a header"),
        ("a folded line", "X-A: 1\r\n Content-Length: 5\r\n", "folded"),
        ("a bare line feed", "X-A: 1\nContent-Length: 5\r\n", "without a carriage return"),
        ("a bare carriage return", "X-A: 1\rContent-Length: 5\r\n", "stands alone"),
        ("a NUL", "X-A: a\0b\r\n", "NUL"),
        ("a control character", "X-A: a\u{1}b\r\n", "control characters"),
        ("no colon", "X-A\r\n", "no colon"),
        ("no name", ": x\r\n", "no name of a header"),
        ("a connection that drops the length", "Content-Length: 5\r\nConnection: content-length\r\n", "would take"),
        ("a connection that drops the host", "Connection: close, Host\r\n", "would take"),
        ("an expectation", "Expect: 200-ok\r\n", "expects"),
        ("a list of an expectation", "Expect: 100-continue, 200-ok\r\n", "expects"),
    ];
    for (what, headers, words) in rows {
        let request = format!("POST http://{at}/ HTTP/1.1\r\nHost: {at}\r\n{headers}\r\n{smuggled}");
        let answer = world.say(request.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{what}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{what}: {answer}");
        world.assert_refused(words, what);
    }
    for (what, head, words) in [
        ("no host", format!("GET http://{at}/ HTTP/1.1\r\n\r\n"), "no host header"),
        ("two hosts", format!("GET http://{at}/ HTTP/1.1\r\nHost: {at}\r\nHost: {at}\r\n\r\n"), "two host headers"),
        (
            "fronting by the host header",
            format!("GET http://{at}/ HTTP/1.1\r\nHost: {other}\r\n\r\n"),
            "has the host header",
        ),
        ("fronting of a tunnel", format!("CONNECT {at} HTTP/1.1\r\nHost: {other}\r\n\r\n"), "has the host header"),
        (
            "a tunnel with a body",
            format!("CONNECT {at} HTTP/1.1\r\nHost: {at}\r\nContent-Length: 3\r\n\r\nabc"),
            "has a body",
        ),
        ("a tunnel without a port", format!("CONNECT {UP} HTTP/1.1\r\nHost: {UP}\r\n\r\n"), "no port"),
        ("a tunnel to a user", format!("CONNECT me@{at} HTTP/1.1\r\nHost: {at}\r\n\r\n"), "has a user"),
        ("a tunnel to an address with a path", format!("CONNECT http://{at}/ HTTP/1.1\r\nHost: {at}\r\n\r\n"), ""),
        ("HTTP/0.9", format!("GET http://{at}/\r\n\r\n"), "first line"),
        ("HTTP/2 by prior knowledge", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(), "HTTP/2 without TLS"),
        ("HTTP/3", format!("GET http://{at}/ HTTP/3\r\nHost: {at}\r\n\r\n"), "neither"),
        ("lower case", format!("GET http://{at}/ http/1.1\r\nHost: {at}\r\n\r\n"), "neither"),
        ("two spaces", format!("GET  http://{at}/ HTTP/1.1\r\nHost: {at}\r\n\r\n"), "first line"),
        ("a space in the path", format!("GET http://{at}/a b HTTP/1.1\r\nHost: {at}\r\n\r\n"), "first line"),
        ("a tab for a space", format!("GET\thttp://{at}/ HTTP/1.1\r\nHost: {at}\r\n\r\n"), "first line"),
        ("an empty line first", format!("\r\n\r\nGET http://{at}/ HTTP/1.1\r\nHost: {at}\r\n\r\n"), "empty line"),
        ("a method in small letters", format!("get http://{at}/ HTTP/1.1\r\nHost: {at}\r\n\r\n"), "no method"),
        ("a path beyond ASCII", format!("GET http://{at}/\u{e9} HTTP/1.1\r\nHost: {at}\r\n\r\n"), "visible ASCII"),
        ("a DEL in the path", format!("GET http://{at}/a\u{7f} HTTP/1.1\r\nHost: {at}\r\n\r\n"), "visible ASCII"),
        (
            "a WebSocket with a body",
            format!(
                "GET http://{at}/ws HTTP/1.1\r\nHost: {at}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                 Content-Length: 5\r\n\r\nhello"
            ),
            "has a body",
        ),
        ("a method that is none", format!("G(T http://{at}/ HTTP/1.1\r\nHost: {at}\r\n\r\n"), "no method"),
        ("TLS to the proxy", "\u{16}\u{3}\u{1}\n\r\n".to_owned(), ""),
        ("SOCKS", "\u{5}\u{1}\u{0}\n".to_owned(), ""),
        ("SSH", "SSH-2.0-OpenSSH_9.2\r\n\r\n".to_owned(), "first line"),
        (
            "chunks in HTTP/1.0",
            format!("POST http://{at}/ HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
            "another transfer-encoding",
        ),
    ] {
        let answer = world.say(head.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 400 ") || answer.starts_with("HTTP/1.0 400 "), "{what}: {answer}");
        world.assert_refused(words, what);
    }
}

#[tokio::test]
async fn chunks_that_could_be_read_in_two_ways_never_become_a_whole_request() {
    let mut world = World::new().await;
    let at = format!("{UP}:{}", world.plain.port());
    for (what, chunks) in [
        ("an extension", "5;a=b\r\nhello\r\n0\r\n\r\n"),
        ("a prefix", "0x5\r\nhello\r\n0\r\n\r\n"),
        ("a sign", "+5\r\nhello\r\n0\r\n\r\n"),
        ("a space", "5 \r\nhello\r\n0\r\n\r\n"),
        ("a bare line feed", "5\nhello\r\n0\r\n\r\n"),
        ("a chunk that is longer", "5\r\nhello world\r\n0\r\n\r\n"),
        ("a size that overflows", "FFFFFFFFFFFFFFFFF\r\nhello\r\n0\r\n\r\n"),
        ("no size", "\r\nhello\r\n0\r\n\r\n"),
    ] {
        let request = format!("POST http://{at}/ HTTP/1.1\r\nHost: {at}\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}");
        let answer = world.say(request.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 400 ") && answer.matches("HTTP/1.1").count() == 1, "{what}: {answer}");
        let decisions = world.decisions();
        assert!(
            decisions.last().is_some_and(|decision| !decision.allowed && decision.reason.contains("chunk")),
            "{what}"
        );
        assert!(world.plain.requests().is_empty(), "{what}");
    }
}

#[tokio::test]
async fn heads_without_end_are_refused() {
    let mut world = World::new().await;
    let at = format!("{UP}:{}", world.plain.port());
    let long = format!("GET http://{at}/ HTTP/1.1\r\nHost: {at}\r\nX-A: {}\r\n\r\n", "a".repeat(70_000));
    let many = format!("GET http://{at}/ HTTP/1.1\r\nHost: {at}\r\n{}\r\n", "X-A: 1\r\n".repeat(200));

    for (what, request, words) in [("one long header", long, "64 KiB"), ("many headers", many, "128")] {
        let answer = world.say(request.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{what}: {answer}");
        world.assert_refused(words, what);
    }
}

#[tokio::test]
async fn an_offer_to_switch_to_http2_in_the_clear_is_passed_over() {
    let world = World::new().await;
    let at = format!("{UP}:{}", world.plain.port());

    let request = format!(
        "GET http://{at}/plain HTTP/1.1\r\nHost: {at}\r\nConnection: Upgrade, HTTP2-Settings, close\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n"
    );
    let answer = world.say(request.as_bytes()).await;

    assert!(answer.contains("GET /plain 0"), "{answer}");
    let seen = &world.plain.requests()[0];
    assert!(!seen.headers.contains_key("upgrade") && !seen.headers.contains_key("http2-settings"));
}

#[tokio::test]
async fn a_server_that_switches_protocols_unasked_gets_no_tunnel() {
    let world = World::new().await;
    let at = format!("{UP}:{}", world.plain.port());

    let answer = world
        .say(format!("GET http://{at}/switch HTTP/1.1\r\nHost: {at}\r\nConnection: close\r\n\r\nmore").as_bytes())
        .await;

    assert!(answer.starts_with("HTTP/1.1 502 ") && answer.contains("without being asked"), "{answer}");
    assert!(!world.plain.saw("more"));
}

#[tokio::test]
async fn trailers_without_end_are_refused() {
    let mut world = World::new().await;
    let at = format!("{UP}:{}", world.plain.port());
    let trailers = format!("X-A: {}\r\n", "a".repeat(1000)).repeat(10);

    let head = format!("POST http://{at}/ HTTP/1.1\r\nHost: {at}\r\nTransfer-Encoding: chunked\r\n\r\n");
    let answer = world.say(format!("{head}5\r\nhello\r\n0\r\n{trailers}\r\n").as_bytes()).await;

    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("trailers of a request are too long"), "{answer}");
    assert!(world.decisions().last().is_some_and(|decision| !decision.allowed));
    assert!(world.plain.requests().is_empty());
}

#[tokio::test]
async fn what_a_terminal_would_obey_is_not_repeated() {
    let mut world = World::new().await;
    let at = format!("{UP}:{}", world.plain.port());

    for (method, name) in [("GET", "\u{1b}]0;title\u{7}"), ("\u{1b}[2J", "X-A"), ("GET", "X\u{202e}A")] {
        let request = format!("{method} http://{at}/ HTTP/1.1\r\nHost: {at}\r\n{name}: x\r\n\r\n");
        let answer = world.say(request.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
        for said in std::iter::once(answer).chain(world.decisions().into_iter().map(|decision| decision.reason)) {
            assert!(!said.contains(['\u{1b}', '\u{7}', '\u{202e}']), "{said:?}");
        }
    }
}

#[tokio::test]
async fn what_is_between_a_server_and_us_is_not_told_to_programs() {
    let world = World::new().await;
    let at = format!("{UP}:{}", world.plain.port());

    let request = format!("GET http://{at}/between HTTP/1.1\r\nHost: {at}\r\nConnection: close\r\n\r\n");
    let answer = world.say(request.as_bytes()).await.to_ascii_lowercase();

    assert!(answer.starts_with("http/1.1 200 ok") && answer.contains("x-kept: 1"), "{answer}");
    for name in ["proxy-authenticate:", "keep-alive:", "x-mine:", "upgrade:", "trailer:"] {
        assert!(!answer.contains(name), "{name} {answer}");
    }
}
