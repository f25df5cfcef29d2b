//! HTTP/2 inside opened TLS: the same rules for every stream.

use bytes::Bytes;
use carrel_egress::Decision;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;

use crate::world::{API, OTHER, PLACEHOLDER, UP, VALUE, World};

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
