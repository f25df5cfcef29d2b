//! The door to an attempt's model: open only where there is one, with the network off, for plain requests of a bounded
//! length; and nothing behind it is reached by any other road.

use std::time::Duration;

use bytes::Bytes;
use carrel_domain::NetworkPolicy;
use carrel_egress::{MODEL_HOST, ModelAnswer, ModelDoor, ModelRequest, SessionPolicy};
use tokio::io::{AsyncWriteExt as _, DuplexStream};
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

/// A world in which 2000 bytes are held of all sandboxes, and a door behind which nobody answers.
async fn with_little_room() -> (World, SessionPolicy, mpsc::Receiver<ModelRequest>) {
    let mut builder = World::builder().await;
    let limits = &mut builder.options.limits;
    limits.model_bodies_bytes = 2000;
    limits.model_wait = Duration::from_millis(200);
    limits.model_body = Duration::from_secs(1);
    let (door, behind) = ModelDoor::new();
    builder.policy.model = Some(door);
    let policy = builder.policy.clone();
    (builder.build(), policy, behind)
}

/// Says something in another sandbox, whose connection stays open for as long as the answer is not dropped.
async fn say_elsewhere(world: &World, policy: &SessionPolicy, request: &str) -> DuplexStream {
    let (mut ours, theirs) = tokio::io::duplex(256 << 10);
    let (decisions, mut told) = mpsc::channel(10);
    let session = world.egress.session(policy.clone(), decisions);
    tokio::spawn(async move { session.serve(theirs).await });
    tokio::spawn(async move { while told.recv().await.is_some() {} });
    ours.write_all(request.as_bytes()).await.expect("written");
    ours
}

#[tokio::test]
async fn a_body_is_read_only_when_there_is_room_for_it_among_those_of_all_sandboxes() {
    let (world, policy, mut behind) = with_little_room().await;
    let request = post(MODEL_HOST, &"x".repeat(900));

    let _first = say_elsewhere(&world, &policy, &request).await;
    let first = behind.recv().await.expect("there is room");
    let _second = say_elsewhere(&world, &policy, &request).await;
    let _held = behind.recv().await.expect("there is room");
    let third = read_all(&mut say_elsewhere(&world, &policy, &request).await).await;

    assert!(third.starts_with("HTTP/1.1 503 ") && third.contains("retry-after: 5"), "{third}");
    assert!(third.ends_with(r#"ask again later"}}"#) && third.contains(r#""type":"overloaded_error""#), "{third}");
    drop(first);
    let _fourth = say_elsewhere(&world, &policy, &request).await;
    assert!(behind.recv().await.is_some(), "there is room again");
}

#[tokio::test]
async fn no_sandbox_alone_takes_the_room_of_all_others() {
    let (mut world, policy, mut behind) = with_little_room().await;
    let request = post(MODEL_HOST, &"x".repeat(600));

    let mut first = world.connect();
    first.write_all(request.as_bytes()).await.expect("written");
    let _held = behind.recv().await.expect("there is room");
    let second = world.say(request.as_bytes()).await;
    let _other = say_elsewhere(&world, &policy, &request).await;

    assert!(second.starts_with("HTTP/1.1 503 "), "{second}");
    assert!(world.decisions().iter().any(|decision| decision.reason.contains("too many requests to models")));
    assert!(behind.recv().await.is_some(), "another sandbox has room");
}

#[tokio::test]
async fn a_body_that_says_no_length_gives_back_what_it_does_not_need() {
    let (world, _, mut behind) = with_little_room().await;
    let chunked = format!(
        "POST http://{MODEL_HOST}/v1/responses HTTP/1.1\r\nHost: {MODEL_HOST}\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{{}}\r\n0\r\n\r\n"
    );

    let asked = async {
        let first = behind.recv().await.expect("it was asked");
        let second = behind.recv().await.expect("there is room beside it");
        (first.body, second.body)
    };
    let (bodies, _, _) = tokio::join!(asked, world.say(chunked.as_bytes()), world.say(chunked.as_bytes()));

    assert_eq!(bodies, (Bytes::from("{}"), Bytes::from("{}")));
}

#[tokio::test]
async fn a_body_that_trickles_in_is_not_waited_for() {
    let (world, _, mut behind) = with_little_room().await;
    let half = format!(
        "POST http://{MODEL_HOST}/v1/responses HTTP/1.1\r\nHost: {MODEL_HOST}\r\nContent-Length: 900\r\n\r\nhalf"
    );

    let answer = world.say(half.as_bytes()).await;
    let whole = post(MODEL_HOST, &"x".repeat(900));
    let (again, ()) = tokio::join!(world.say(whole.as_bytes()), async {
        drop(behind.recv().await.expect("the room is free again"));
    });

    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!(again.starts_with("HTTP/1.1 502 "), "{again}");
}
