//! Network secrets: their values reach their own hosts over HTTPS, and nobody else.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use carrel_egress::OpenTls;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

use crate::world::{API, DEADLINE, PLACEHOLDER, UP, VALUE, World};

fn request(world: &World, path: &str, headers: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: {API}:{}\r\nConnection: close\r\n{headers}\r\n", world.secure.port())
}

#[tokio::test]
async fn a_placeholder_becomes_the_value_in_headers_and_in_the_address() {
    let world = World::new().await;
    let basic = STANDARD.encode(format!("me:{PLACEHOLDER}"));
    let headers = format!(
        "Authorization: Basic {basic}\r\nX-Token: a {PLACEHOLDER} b {PLACEHOLDER}\r\nAccept-Encoding: gzip\r\n"
    );

    let answer =
        world.say_inside(API, request(&world, &format!("/x/{PLACEHOLDER}?k={PLACEHOLDER}"), &headers).as_bytes()).await;

    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    let seen = &world.secure.requests()[0];
    assert_eq!(seen.headers["authorization"], format!("Basic {}", STANDARD.encode(format!("me:{VALUE}"))).as_str());
    assert_eq!(seen.headers["x-token"], format!("a {VALUE} b {VALUE}").as_str());
    assert_eq!(seen.headers["accept-encoding"], "identity");
    let encoded = "s3cr3t%2Fvalue%2Bof%3Dthe%26server";
    assert_eq!(seen.path, format!("/x/{encoded}?k={encoded}"));
}

#[tokio::test]
async fn a_value_that_comes_back_is_taken_out_in_every_form() {
    let mut world = World::new().await;
    let basic = STANDARD.encode(format!("me:{PLACEHOLDER}"));

    for headers in [format!("Authorization: Bearer {PLACEHOLDER}\r\n"), format!("Authorization: Basic {basic}\r\n")] {
        let asked = request(&world, &format!("/leak?k={PLACEHOLDER}"), &headers);
        let answer = world.say_inside(API, asked.as_bytes()).await;

        assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.contains(PLACEHOLDER), "{answer}");
        for form in [VALUE, "s3cr3t", "s3cr3t%2F", &STANDARD.encode(format!("me:{VALUE}"))] {
            assert!(!answer.contains(form), "{form} in {answer}");
        }
    }
    let told = format!("{:?}", world.decisions());
    assert!(!told.contains(VALUE) && !told.contains(PLACEHOLDER), "{told}");
}

#[tokio::test]
async fn a_body_is_sent_as_it_is() {
    let world = World::new().await;
    let head = format!("POST /x HTTP/1.1\r\nHost: {API}:{}\r\nConnection: close\r\n", world.secure.port());

    let asked = format!("{head}Content-Length: {}\r\n\r\n{PLACEHOLDER}", PLACEHOLDER.len());
    world.say_inside(API, asked.as_bytes()).await;

    assert_eq!(world.secure.requests()[0].body.as_ref(), PLACEHOLDER.as_bytes());
}

#[tokio::test]
async fn a_placeholder_over_plain_http_is_refused_even_to_its_own_host() {
    let mut world = World::new().await;
    let at = format!("{API}:{}", world.plain.port());
    let basic = STANDARD.encode(format!("{PLACEHOLDER}:"));
    for (what, path, header) in [
        ("a header", String::new(), format!("Authorization: Bearer {PLACEHOLDER}\r\n")),
        ("another header", String::new(), format!("X-A: x{PLACEHOLDER}x\r\n")),
        ("basic credentials", String::new(), format!("Authorization: basic {basic}\r\n")),
        ("the path", format!("{PLACEHOLDER}/x"), String::new()),
        ("the query", format!("?a={PLACEHOLDER}"), String::new()),
    ] {
        let asked = format!("GET http://{at}/{path} HTTP/1.1\r\nHost: {at}\r\nConnection: close\r\n{header}\r\n");
        let answer = world.say(asked.as_bytes()).await;
        assert!(
            answer.starts_with("HTTP/1.1 403 ") && answer.contains("TOKEN is sent over HTTPS only"),
            "{what}: {answer}"
        );
        world.assert_refused("HTTPS only", what);
    }
}

#[tokio::test]
async fn a_placeholder_to_another_host_is_refused() {
    let mut world = World::new().await;
    let plain = format!("{UP}:{}", world.plain.port());
    let asked = format!("GET http://{plain}/?{PLACEHOLDER} HTTP/1.1\r\nHost: {plain}\r\nConnection: close\r\n\r\n");
    let answer = world.say(asked.as_bytes()).await;
    assert!(answer.contains("the secret TOKEN is not for up.test but for api.test"), "{answer}");
    world.assert_refused("is not for up.test", "plain");

    let mut world = World::read_only().await;
    let asked =
        format!("GET /?{PLACEHOLDER} HTTP/1.1\r\nHost: {UP}:{}\r\nConnection: close\r\n\r\n", world.secure.port());
    let answer = world.say_inside(UP, asked.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 403 ") && answer.contains("is not for up.test"), "{answer}");
    assert!(world.secure.requests().is_empty());
    assert!(world.decisions().last().is_some_and(|decision| !decision.allowed));
}

#[tokio::test]
async fn a_host_of_a_secret_is_not_asked_for_parts_of_an_answer() {
    let world = World::new().await;
    let headers =
        "Range: bytes=0-3\r\nIf-Range: \"a\"\r\nRequest-Range: bytes=0-3\r\nX-MS-Range: bytes=0-3\r\nX-A: b\r\n";

    world.say_inside(API, request(&world, "/x", headers).as_bytes()).await;

    let seen = &world.secure.requests()[0];
    for name in ["range", "if-range", "request-range", "x-ms-range"] {
        assert!(!seen.headers.contains_key(name), "{name}: {seen:?}");
    }
    assert_eq!(seen.headers["x-a"], "b");
}

#[tokio::test]
async fn another_host_is_asked_for_parts_of_an_answer_and_may_encode_it() {
    let mut builder = World::builder().await;
    builder.options.open_tls = OpenTls::Always;
    let world = builder.build();
    let head = format!("Host: {UP}:{}\r\nConnection: close\r\nRange: bytes=0-3\r\n\r\n", world.secure.port());

    let answer = world.say_inside(UP, format!("GET /encoded?gzip HTTP/1.1\r\n{head}").as_bytes()).await;

    assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.ends_with("encoded"), "{answer}");
    assert_eq!(world.secure.requests()[0].headers["range"], "bytes=0-3");
}

#[tokio::test]
async fn an_answer_in_which_a_value_could_not_be_seen_is_refused() {
    let mut world = World::new().await;
    for encoding in ["gzip", "identity,br", "Deflate"] {
        let answer = world.say_inside(API, request(&world, &format!("/encoded?{encoding}"), "").as_bytes()).await;

        let named = encoding.trim_start_matches("identity,");
        let words = format!("carrel: api.test answers in the encoding `{named}`");
        assert!(answer.starts_with("HTTP/1.1 502 ") && answer.contains(&words), "{answer}");
        assert!(!answer.contains("encoded") && !answer.contains("content-encoding"), "{answer}");
        let told = world.decisions();
        assert!(told.last().is_some_and(|last| !last.allowed && last.reason.contains(named)), "{told:?}");
    }

    let plain = world.say_inside(API, request(&world, "/encoded?identity", "").as_bytes()).await;
    let head = request(&world, "/encoded?gzip", "").replacen("GET", "HEAD", 1);
    let without_a_body = world.say_inside(API, head.as_bytes()).await;

    assert!(plain.starts_with("HTTP/1.1 200 OK") && plain.contains("encoded"), "{plain}");
    assert!(without_a_body.starts_with("HTTP/1.1 200 OK"), "{without_a_body}");
}

#[tokio::test]
async fn an_encoded_answer_is_refused_in_streams_as_well() {
    let world = World::new().await;
    let mut sender = world.http2(API).await;
    let uri = format!("https://{API}:{}/encoded?gzip", world.secure.port());
    let asked = http::Request::get(uri).header("range", "bytes=0-3").body(<_>::default()).expect("a request");

    let answer = sender.send_request(asked).await.expect("an answer");

    assert_eq!(answer.status(), http::StatusCode::BAD_GATEWAY);
    assert!(!world.secure.requests()[0].headers.contains_key("range"));
}

#[tokio::test]
async fn a_websocket_to_a_host_of_a_secret_is_refused_with_the_way_out() {
    let mut world = World::new().await;
    let asked = request(&world, "/ws", "Upgrade: websocket\r\n").replacen("close", "Upgrade", 1);

    let mut stream = world.tls(API, &["http/1.1"]).await;
    stream.write_all(asked.as_bytes()).await.expect("written");
    stream.shutdown().await.expect("no more is asked");
    let mut answer = String::new();
    timeout(DEADLINE, stream.read_to_string(&mut answer)).await.expect("in time").expect("an answer");

    assert!(answer.starts_with("HTTP/1.1 403 ") && answer.contains("a WebSocket to api.test is not let"), "{answer}");
    assert!(answer.contains("To allow it: take api.test from the hosts of the secret TOKEN"), "{answer}");
    assert!(world.secure.requests().is_empty());
    assert!(world.decisions().last().is_some_and(|decision| !decision.allowed));
}
