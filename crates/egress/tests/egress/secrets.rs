//! Network secrets: their values reach their own hosts over HTTPS, and nobody else.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::world::{API, PLACEHOLDER, UP, VALUE, World};

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
