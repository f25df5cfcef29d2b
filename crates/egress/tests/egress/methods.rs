//! Where requests may only read.

use crate::world::{API, OTHER, UP, World};

/// Requests that would change something, or hide that they do.
const WRITES: [(&str, &str, &str); 15] = [
    ("POST", "Content-Length: 2\r\n\r\nhi", "POST"),
    ("PUT", "Content-Length: 0\r\n\r\n", "PUT"),
    ("PATCH", "Content-Length: 0\r\n\r\n", "PATCH"),
    ("DELETE", "\r\n", "DELETE"),
    ("PROPFIND", "\r\n", "PROPFIND"),
    ("MERGE", "\r\n", "MERGE"),
    ("TRACE", "\r\n", "TRACE"),
    ("GET", "X-HTTP-Method-Override: DELETE\r\n\r\n", "x-http-method-override"),
    ("GET", "x-http-method-override: POST\r\nX-A: 1\r\n\r\n", "x-http-method-override"),
    ("GET", "X-Method-Override: PUT\r\n\r\n", "x-method-override"),
    ("GET", "X-HTTP-Method: MERGE\r\n\r\n", "x-http-method"),
    ("GET", "Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n", "WebSocket"),
    ("GET", "Connection: upgrade, keep-alive\r\nUpgrade: WebSocket\r\n\r\n", "WebSocket"),
    ("GET", "Content-Length: 4\r\n\r\nbody", "a body"),
    ("HEAD", "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "a body"),
];

#[tokio::test]
async fn plain_requests_that_do_more_than_read_are_refused() {
    let mut world = World::read_only().await;
    let at = format!("{UP}:{}", world.plain.port());

    for (method, rest, words) in WRITES {
        let request = format!("{method} http://{at}/ HTTP/1.1\r\nHost: {at}\r\nConnection: close\r\n{rest}");
        let answer = world.say(request.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 403 "), "{request}: {answer}");
        assert!(
            method == "TRACE" || method == "HEAD" || answer.contains("carrel environment edit api --methods all"),
            "{answer}"
        );
        world.assert_refused(words, &request);
    }
}

#[tokio::test]
async fn requests_in_tls_that_do_more_than_read_are_refused() {
    let mut world = World::read_only().await;
    let at = format!("{UP}:{}", world.secure.port());

    for (method, rest, words) in WRITES {
        let request = format!("{method} / HTTP/1.1\r\nHost: {at}\r\nConnection: close\r\n{rest}");
        let answer = world.say_inside(UP, request.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 403 "), "{request}: {answer}");
        let decisions = world.decisions();
        assert!(decisions.len() == 2 && !decisions[1].allowed && decisions[1].reason.contains(words), "{decisions:?}");
        assert!(world.secure.requests().is_empty(), "{request}");
    }
}

#[tokio::test]
async fn a_request_to_be_told_what_was_sent_is_refused_even_where_all_methods_are_allowed() {
    // An answer to TRACE repeats the request: also the value of a secret, in whatever form.
    let mut world = World::new().await;
    let (plain, secure) = (format!("{UP}:{}", world.plain.port()), format!("{API}:{}", world.secure.port()));
    let mut streams = world.http2(API).await;
    let in_a_stream = http::Request::builder().method("TRACE").uri(format!("https://{secure}/"));

    let answers = [
        world
            .say(format!("TRACE http://{plain}/ HTTP/1.1\r\nHost: {plain}\r\nConnection: close\r\n\r\n").as_bytes())
            .await,
        world
            .say_inside(API, format!("TRACE / HTTP/1.1\r\nHost: {secure}\r\nConnection: close\r\n\r\n").as_bytes())
            .await,
    ];
    let answer = streams.send_request(in_a_stream.body(<_>::default()).expect("a request")).await.expect("an answer");

    for answer in answers {
        assert!(
            answer.starts_with("HTTP/1.1 403 ") && answer.contains("the method TRACE is not let through"),
            "{answer}"
        );
    }
    assert_eq!(answer.status(), http::StatusCode::FORBIDDEN);
    assert_eq!(world.decisions().iter().filter(|decision| !decision.allowed).count(), 3);
    assert!(world.plain.requests().is_empty() && world.secure.requests().is_empty());
}

#[tokio::test]
async fn reading_works_in_the_clear_and_in_tls() {
    let world = World::read_only().await;

    for method in ["GET", "HEAD", "OPTIONS"] {
        let at = format!("{UP}:{}", world.plain.port());
        let request = format!("{method} http://{at}/ HTTP/1.1\r\nHost: {at}\r\nConnection: close\r\n\r\n");
        assert!(world.say(request.as_bytes()).await.starts_with("HTTP/1.1 200 OK"), "{method}");
        let request = format!("{method} / HTTP/1.1\r\nHost: {UP}:{}\r\nConnection: close\r\n\r\n", world.secure.port());
        assert!(world.say_inside(UP, request.as_bytes()).await.starts_with("HTTP/1.1 200 OK"), "{method}");
    }
}

#[tokio::test]
async fn requests_in_opened_tls_are_for_the_host_of_the_tunnel() {
    let mut world = World::read_only().await;
    let (port, plain) = (world.secure.port(), world.plain.port());

    for (what, request) in [
        ("another host", format!("GET / HTTP/1.1\r\nHost: {OTHER}:{port}\r\n\r\n")),
        ("another port", format!("GET / HTTP/1.1\r\nHost: {UP}:{plain}\r\n\r\n")),
        ("no port, which means 443", format!("GET / HTTP/1.1\r\nHost: {UP}\r\n\r\n")),
        ("no host", "GET / HTTP/1.1\r\n\r\n".to_owned()),
        ("two hosts", format!("GET / HTTP/1.1\r\nHost: {UP}:{port}\r\nHost: {OTHER}:{port}\r\n\r\n")),
        ("a whole address", format!("GET https://{OTHER}:{port}/ HTTP/1.1\r\nHost: {UP}:{port}\r\n\r\n")),
        ("a tunnel in the tunnel", format!("CONNECT {UP}:{port} HTTP/1.1\r\nHost: {UP}:{port}\r\n\r\n")),
        ("a host with a user", format!("GET / HTTP/1.1\r\nHost: x@{UP}:{port}\r\n\r\n")),
        ("a port with a dot", format!("GET / HTTP/1.1\r\nHost: {UP}:{port}.\r\n\r\n")),
    ] {
        let answer = world.say_inside(UP, request.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 4"), "{what}: {answer}");
        let decisions = world.decisions();
        assert!(decisions.len() == 2 && !decisions[1].allowed, "{what}: {decisions:?}");
        assert!(world.secure.requests().is_empty(), "{what}");
    }
}
