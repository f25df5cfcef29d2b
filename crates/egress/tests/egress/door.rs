//! The door to an attempt's model: open only where there is one, with the network off, for plain requests of a bounded
//! length; and nothing behind it is reached by any other road.

use bytes::Bytes;
use carrel_domain::NetworkPolicy;
use carrel_egress::{MODEL_HOST, ModelAnswer, ModelDoor, ModelRequest};
use tokio::io::AsyncWriteExt as _;
use tokio::sync::mpsc;

use crate::world::{World, read_all};

/// A world with the network off and somebody who answers behind the door: what was asked comes out of the receiver.
async fn with_model() -> (World, mpsc::UnboundedReceiver<(String, String, Bytes)>) {
    let mut builder = World::builder().await;
    builder.policy.network = NetworkPolicy::default();
    let (door, mut behind) = ModelDoor::new();
    builder.policy.model = Some(door);
    let (seen, asked) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Some(ModelRequest { method, path, body, answer, .. }) = behind.recv().await {
            let (pieces, receiver) = mpsc::channel(4);
            let head = ModelAnswer { status: 200, content_type: "text/event-stream".to_owned(), body: receiver };
            answer.send(head).expect("somebody waits");
            for piece in [Some(Bytes::from("data: a\n\n")), Some(Bytes::from("data: b\n\n")), None] {
                pieces.send(piece).await.expect("somebody reads");
            }
            seen.send((method, path, body)).expect("the test listens");
        }
    });
    (builder.build(), asked)
}

fn post(host: &str, body: &str) -> String {
    format!(
        "POST http://{host}/v1/responses HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

#[tokio::test]
async fn a_request_reaches_the_model_though_the_network_is_off() {
    let (mut world, mut asked) = with_model().await;

    let answer = world.say(post(MODEL_HOST, "{}").as_bytes()).await;

    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.contains("data: a\n\n") && answer.contains("data: b\n\n"), "{answer}");
    let seen = asked.recv().await.expect("it was asked");
    assert_eq!(seen, ("POST".to_owned(), "/v1/responses".to_owned(), Bytes::from("{}")));
    assert_eq!(world.decisions(), [], "what the model is asked is told by what it answers");
}

#[tokio::test]
async fn a_client_that_tunnels_plain_requests_reaches_it_as_well() {
    let (world, mut asked) = with_model().await;
    let mut stream = world.tunnel(&format!("{MODEL_HOST}:80")).await.expect("a tunnel");

    let request = format!(
        "POST /v1/responses HTTP/1.1\r\nHost: {MODEL_HOST}\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{{}}"
    );
    stream.write_all(request.as_bytes()).await.expect("written");
    let answer = read_all(&mut stream).await;

    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert_eq!(asked.recv().await.expect("it was asked").1, "/v1/responses");
}

#[tokio::test]
async fn what_makes_no_sense_at_the_door_is_refused_and_told() {
    let other_port = format!("{MODEL_HOST}:8080");
    let long = format!(
        "POST http://{MODEL_HOST}/v1/responses HTTP/1.1\r\nHost: {MODEL_HOST}\r\nContent-Length: 99999999\r\n\r\n"
    );
    for (request, status) in [(post(&other_port, "{}"), "403"), (long, "413")] {
        let (mut world, mut asked) = with_model().await;

        let answer = world.say(request.as_bytes()).await;

        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
        assert!(asked.try_recv().is_err(), "it was let through");
        assert!(world.decisions().iter().any(|decision| !decision.allowed && decision.host == MODEL_HOST));
    }
}

#[tokio::test]
async fn a_sandbox_without_an_agent_inside_has_no_door() {
    let mut world = World::new().await;

    let answer = world.say(post(MODEL_HOST, "{}").as_bytes()).await;

    assert!(answer.starts_with("HTTP/1.1 403 ") && answer.contains("none does here"), "{answer}");
    assert_eq!(world.decisions().len(), 1);
}
