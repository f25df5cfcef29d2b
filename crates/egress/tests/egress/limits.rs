//! Bounds and deadlines.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::world::{DEADLINE, UP, World, read_all};

/// A world whose deadlines are short.
async fn impatient() -> World {
    let mut builder = World::builder().await;
    let limits = &mut builder.options.limits;
    limits.connections = 2;
    limits.head = Duration::from_millis(300);
    limits.handshake = Duration::from_millis(500);
    limits.idle = Duration::from_millis(500);
    limits.tunnel_idle = Duration::from_millis(500);
    builder.build()
}

#[tokio::test]
async fn a_head_that_is_not_sent_in_time_is_refused() {
    let mut world = impatient().await;

    for head in ["G", "GET http://up.test/ HTTP/1.1\r\nHost: up", "CONNECT up.test:443 HTTP/1.1\r\n"] {
        let answer = world.say(head.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 408 "), "{head:?}: {answer}");
        world.assert_refused("in time", head);
    }
}

#[tokio::test]
async fn a_body_that_stops_coming_ends_the_request() {
    let mut world = impatient().await;
    let at = format!("{UP}:{}", world.plain.port());

    for rest in [
        "Content-Length: 100\r\n\r\nhalf",
        "Transfer-Encoding: chunked\r\n\r\n5\r\nhe",
        "Transfer-Encoding: chunked\r\n\r\n",
    ] {
        let answer = world.say(format!("POST http://{at}/ HTTP/1.1\r\nHost: {at}\r\n{rest}").as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 408 "), "{rest:?}: {answer}");
        assert!(world.decisions().last().is_some_and(|decision| !decision.allowed));
        assert!(world.plain.requests().is_empty());
    }
}

#[tokio::test]
async fn a_tunnel_in_which_no_greeting_comes_is_closed() {
    let mut world = impatient().await;
    let at = format!("{UP}:{}", world.secure.port());

    for bytes in [&b""[..], b"\x16", b"\x16\x03\x01\x01\x00\x01\x00"] {
        let mut stream = world.tunnel(&at).await.expect("a tunnel");
        stream.write_all(bytes).await.expect("written");
        read_all(&mut stream).await;
        world.assert_refused("in time", &format!("{bytes:?}"));
    }
}

#[tokio::test]
async fn a_tunnel_in_which_nothing_moves_is_closed() {
    let world = impatient().await;

    let mut stream = world.tls(UP, &["http/1.1"]).await;

    // The end comes without TLS's farewell.
    let end = timeout(DEADLINE, stream.read_u8()).await.expect("in time");
    assert!(end.is_err());
}

#[tokio::test]
async fn a_server_that_takes_no_connection_is_given_up() {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind("127.0.0.1:0".parse().expect("an address")).expect("bound");
    // Room for one that waits. Whoever comes when it is taken gets no answer at all.
    let listener = socket.listen(0).expect("it listens");
    let address = listener.local_addr().expect("bound");
    let _waits = TcpStream::connect(address).await.expect("there is room");
    let mut builder = World::builder().await;
    builder.options.limits.connect = Duration::from_millis(500);
    builder.options.private_hosts.push(format!("{UP}:{}", address.port()).parse().expect("a host and a port"));
    let mut world = builder.build();
    let at = format!("{UP}:{}", address.port());

    let request = format!("GET http://{at}/ HTTP/1.1\r\nHost: {at}\r\nConnection: close\r\n\r\n");
    let answer = world.say(request.as_bytes()).await;

    assert!(answer.starts_with("HTTP/1.1 502 ") && answer.contains("cannot connect to"), "{answer}");
    world.assert_refused("cannot connect to", "no connection");
}

#[tokio::test]
async fn one_connection_too_many_is_turned_away_and_told() {
    let mut world = impatient().await;
    let mut held = [world.connect(), world.connect()];
    for stream in &mut held {
        stream.write_all(b"G").await.expect("written");
    }
    tokio::task::yield_now().await;

    let answer = world.say(b"GET http://up.test/ HTTP/1.1\r\nHost: up.test\r\n\r\n").await;

    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("2 connections already"), "{answer}");
    world.assert_refused("which is the limit", "a third connection");
}

#[tokio::test]
async fn what_nobody_records_is_not_let_through() {
    let world = World::new().await;
    let (sender, receiver) = mpsc::channel(1);
    drop(receiver);
    let builder = World::builder().await;
    let session = world.egress.session(builder.policy, sender);
    let at = format!("{UP}:{}", world.plain.port());
    let (mut ours, theirs) = tokio::io::duplex(64 << 10);
    tokio::spawn(async move { session.serve(theirs).await });

    let request = format!("GET http://{at}/ HTTP/1.1\r\nHost: {at}\r\nConnection: close\r\n\r\n");
    ours.write_all(request.as_bytes()).await.expect("written");

    assert!(read_all(&mut ours).await.starts_with("HTTP/1.1 503 "));
    assert_eq!(world.plain.bytes(), 0);
}
