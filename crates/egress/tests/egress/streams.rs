//! HTTP/2 inside opened TLS: the same rules for every stream.

use std::convert::Infallible;

use bytes::Bytes;
use carrel_egress::Decision;
use futures::stream;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::http2;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::mpsc;

use crate::world::{API, OTHER, PLACEHOLDER, Spawner, UP, VALUE, World};

async fn text(response: Response<Incoming>) -> String {
    let bytes = response.into_body().collect().await.expect("a body").to_bytes();
    String::from_utf8_lossy(&bytes).into_owned()
}

fn request(method: &str, authority: &str, header: Option<(&str, &str)>, body: &'static str) -> Request<Full<Bytes>> {
    let mut builder = Request::builder().method(method).uri(format!("https://{authority}/x"));
    if let Some((name, value)) = header {
        builder = builder.header(name, value);
    }
    builder.body(Full::from(body)).expect("a request")
}

/// What was decided of requests. That the tunnel was opened is told beside them.
fn requests_told(world: &mut World) -> Vec<Decision> {
    let is_request = |decision: &Decision| decision.method.as_deref() != Some("CONNECT");
    world.decisions().into_iter().filter(is_request).collect()
}

#[tokio::test]
async fn a_stream_that_is_refused_is_not_reset_while_its_body_still_comes() {
    // Clients that find their stream reset do not tell of the answer they have.
    let world = World::read_only().await;
    let io = TokioIo::new(world.tls(UP, &["h2"]).await);
    let (mut sender, connection) = http2::handshake(Spawner, io).await.expect("HTTP/2");
    tokio::spawn(connection);
    let uri = format!("https://{UP}:{}/x", world.secure.port());
    let (body, pieces) = mpsc::channel::<Result<Frame<Bytes>, Infallible>>(1);
    let pieces = StreamBody::new(stream::unfold(pieces, async |mut pieces| Some((pieces.recv().await?, pieces))));
    let post = Request::post(&uri).body(BodyExt::boxed_unsync(pieces)).expect("a request");

    let first = sender.send_request(post).await.expect("an answer");
    let is_first_refused = first.status() == StatusCode::FORBIDDEN && text(first).await.starts_with("carrel: ");
    let again = Request::post(&uri).body(Full::default().boxed_unsync()).expect("a request");
    let second = sender.send_request(again).await.expect("an answer");

    assert!(is_first_refused && second.status() == StatusCode::FORBIDDEN);
    assert!(!body.is_closed(), "the first stream was reset before the second was answered");
}

#[tokio::test]
async fn each_stream_is_judged_by_itself() {
    let mut world = World::read_only().await;
    let at = format!("{UP}:{}", world.secure.port());
    let mut sender = world.http2(UP).await;

    for (what, method, authority, header, body) in [
        ("POST", "POST", at.as_str(), None, "x"),
        ("POST without a body", "POST", &at, None, ""),
        ("DELETE", "DELETE", &at, None, ""),
        ("TRACE", "TRACE", &at, None, ""),
        ("an override", "GET", &at, Some(("x-http-method-override", "POST")), ""),
        ("another override", "GET", &at, Some(("x-method-override", "POST")), ""),
        ("GET with a body", "GET", &at, None, "x"),
        ("another authority", "GET", OTHER, None, ""),
        ("the authority without its port", "GET", UP, None, ""),
        ("another host beside it", "GET", &at, Some(("host", OTHER)), ""),
    ] {
        let answer = sender.send_request(request(method, authority, header, body)).await.expect("an answer");
        assert_eq!(answer.status(), StatusCode::FORBIDDEN, "{what}");
        assert!(text(answer).await.starts_with("carrel: "), "{what}");
        let decisions = requests_told(&mut world);
        assert!(matches!(decisions.as_slice(), [decision] if !decision.allowed), "{what}: {decisions:?}");
        assert!(world.secure.requests().is_empty(), "{what}");
    }
    let answer = sender.send_request(request("GET", &at, None, "")).await.expect("an answer");
    assert_eq!(text(answer).await, "GET /x 0");
    assert!(matches!(requests_told(&mut world).as_slice(), [decision] if decision.allowed));
}

#[tokio::test]
async fn a_stream_that_names_its_host_twice_or_opens_a_tunnel_is_refused() {
    let mut world = World::new().await;
    let at = format!("{API}:{}", world.secure.port());
    let mut sender = world.http2(API).await;
    let mut two_hosts = request("GET", &at, Some(("host", &at)), "");
    two_hosts.headers_mut().append("host", http::HeaderValue::from_static(OTHER));
    let tunnel = Request::connect(at.as_str()).body(Full::default()).expect("a request");

    for (asked, status) in [(two_hosts, StatusCode::BAD_REQUEST), (tunnel, StatusCode::FORBIDDEN)] {
        let answer = sender.send_request(asked).await.expect("an answer");
        assert_eq!(answer.status(), status);
        assert_eq!(refusals(&mut world), 1);
    }
    assert!(world.secure.requests().is_empty());
}

/// How many refusals were told, of tunnels in tunnels as well.
fn refusals(world: &mut World) -> usize {
    world.decisions().iter().filter(|decision| !decision.allowed).count()
}

#[tokio::test]
async fn headers_without_end_are_refused_in_streams_as_well() {
    let world = World::new().await;
    let at = format!("{API}:{}", world.secure.port());
    let long = "a".repeat(10_000);
    let mut asked = request("GET", &at, None, "");
    for number in 0..10 {
        let name = http::HeaderName::try_from(format!("x-{number}")).expect("a name");
        asked.headers_mut().insert(name, long.parse().expect("a value"));
    }

    let answer = world.http2(API).await.send_request(asked).await;

    assert!(answer.is_err() || answer.is_ok_and(|answer| answer.status().is_client_error()), "no success");
    assert!(world.secure.requests().is_empty());
}

#[tokio::test]
async fn so_many_streams_are_offered_and_no_more() {
    let world = World::new().await;
    let mut stream = world.tls(API, &["h2"]).await;
    // The preface of HTTP/2, and settings that say nothing (RFC 9113, sections 3.4 and 6.5).
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.expect("written");

    let mut head = [0; 9];
    stream.read_exact(&mut head).await.expect("settings come first");
    let mut settings = vec![0; usize::from(u16::from_be_bytes([head[1], head[2]]))];
    stream.read_exact(&mut settings).await.expect("all of them");

    let most = settings.chunks(6).find(|setting| setting[..2] == [0, 3]).expect("the most streams at once");
    assert_eq!(most[2..], 128_u32.to_be_bytes());
}

#[tokio::test]
async fn many_streams_at_once_all_come_through() {
    let world = World::read_only().await;
    let at = format!("{UP}:{}", world.secure.port());
    let sender = world.http2(UP).await;

    let answers = (0..200).map(|_| {
        let (mut sender, request) = (sender.clone(), request("GET", &at, None, ""));
        async move { text(sender.send_request(request).await.expect("an answer")).await }
    });

    assert!(futures::future::join_all(answers).await.iter().all(|answer| answer == "GET /x 0"));
    assert_eq!(world.secure.requests().len(), 200);
}

#[tokio::test]
async fn secrets_are_put_in_and_taken_out_in_streams_as_well() {
    let world = World::new().await;
    let at = format!("{API}:{}", world.secure.port());
    let mut sender = world.http2(API).await;
    let bearer = format!("Bearer {PLACEHOLDER}");
    let mut asked = request("GET", &at, Some(("authorization", &bearer)), "");
    *asked.uri_mut() = format!("https://{at}/leak?key={PLACEHOLDER}").parse().expect("a URI");

    let answer = sender.send_request(asked).await.expect("an answer");

    assert_eq!(answer.headers()["x-echo"], bearer.as_str());
    let body = text(answer).await;
    assert!(body.contains(&bearer) && !body.contains(VALUE) && !body.contains("s3cr3t"), "{body}");
    let seen = &world.secure.requests()[0];
    assert_eq!(seen.headers["authorization"], format!("Bearer {VALUE}").as_str());
}

#[tokio::test]
async fn a_value_that_comes_back_behind_the_body_is_taken_out() {
    let world = World::new().await;
    let at = format!("{API}:{}", world.secure.port());
    let bearer = format!("Bearer {PLACEHOLDER}");
    let mut asked = request("GET", &at, Some(("authorization", &bearer)), "");
    *asked.uri_mut() = format!("https://{at}/trailers").parse().expect("a URI");
    asked.headers_mut().insert("te", http::HeaderValue::from_static("trailers"));

    let answer = world.http2(API).await.send_request(asked).await.expect("an answer");

    let body = answer.into_body().collect().await.expect("a body");
    assert_eq!(body.trailers().expect("they come through")["x-echo"], bearer.as_str());
    assert_eq!(world.secure.requests()[0].headers["authorization"], format!("Bearer {VALUE}").as_str());
}
