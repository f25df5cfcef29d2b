//! What has to work.

use crate::world::{API, DEADLINE, OTHER, UP, World};

use carrel_egress::OpenTls;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

#[tokio::test]
async fn plain_requests_go_through_and_each_is_told() {
    let mut world = World::new().await;
    let at = format!("{UP}:{}", world.plain.port());

    let requests = format!(
        "GET http://{at}/one?q=1 HTTP/1.1\r\nHost: {at}\r\nProxy-Authorization: Basic eDp5\r\nConnection: x-mine\r\nX-Mine: 1\r\n\r\n\
         POST http://{at}/two HTTP/1.1\r\nHost: {at}\r\nContent-Length: 5\r\n\r\nhello\
         POST http://{at}/three HTTP/1.1\r\nHost: {at}\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nA\r\n0123456789\r\n0\r\n\r\n\
         HEAD http://{at}/four HTTP/1.1\r\nHost: {at}\r\nConnection: close\r\n\r\n"
    );
    let answer = world.say(requests.as_bytes()).await;

    for words in ["GET /one 0", "POST /two 5", "POST /three 13"] {
        assert!(answer.contains(words), "{answer}");
    }
    assert!(answer.ends_with("\r\n\r\n"), "an answer to HEAD has no body: {answer}");
    let seen = world.plain.requests();
    assert_eq!(seen.iter().map(|seen| seen.path.as_str()).collect::<Vec<_>>(), ["/one?q=1", "/two", "/three", "/four"]);
    assert!(seen.iter().all(|seen| seen.authority == at));
    for header in ["proxy-authorization", "x-mine", "via", "x-forwarded-for", "forwarded"] {
        assert!(!seen[0].headers.contains_key(header), "{header}");
    }
    let decisions = world.decisions();
    assert_eq!(decisions.len(), 4);
    assert!(
        decisions.iter().all(|decision| decision.allowed && decision.host == UP && !decision.reason.contains("/one"))
    );
}

#[tokio::test]
async fn requests_of_one_connection_are_judged_one_by_one() {
    let mut world = World::new().await;
    let (good, bad) = (format!("{UP}:{}", world.plain.port()), format!("{OTHER}:{}", world.plain.port()));

    let requests = format!(
        "GET http://{good}/1 HTTP/1.1\r\nHost: {good}\r\n\r\nGET http://{bad}/2 HTTP/1.1\r\nHost: {bad}\r\n\r\n\
         GET http://{good}/3 HTTP/1.1\r\nHost: {good}\r\nConnection: close\r\n\r\n"
    );
    let answer = world.say(requests.as_bytes()).await;

    assert!(answer.contains("GET /1 0") && answer.contains("GET /3 0") && answer.contains("403 Forbidden"), "{answer}");
    let allowed: Vec<bool> = world.decisions().iter().map(|decision| decision.allowed).collect();
    assert_eq!(allowed, [true, false, true]);
    assert_eq!(world.plain.requests().len(), 2);
}

#[tokio::test]
async fn tls_that_no_rule_looks_into_stays_sealed() {
    let mut world = World::new().await;

    let stream = world.tls(UP, &["http/1.1"]).await;

    let issuer = stream.get_ref().1.peer_certificates().expect("certificates")[0].to_vec();
    assert!(!contains(&issuer, b"opened by Carrel"));
    let decisions = world.decisions();
    assert!(
        matches!(decisions.as_slice(), [decision] if decision.allowed && decision.method.as_deref() == Some("CONNECT"))
    );
}

#[tokio::test]
async fn tls_that_a_rule_looks_into_is_opened_and_works() {
    for protocol in ["http/1.1", "h2"] {
        let mut world = World::new().await;
        let stream = world.tls(API, &[protocol]).await;
        let certificate = stream.get_ref().1.peer_certificates().expect("certificates")[0].to_vec();
        assert!(contains(&certificate, b"opened by Carrel"));
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(protocol.as_bytes()));
        drop(stream);
        world.decisions();

        if protocol == "h2" {
            let uri = format!("https://{API}:{}/deep", world.secure.port());
            let request = http::Request::post(uri).body(http_body_util::Full::from("12345")).expect("a request");
            let answer = world.http2(API).await.send_request(request).await.expect("an answer");
            assert_eq!(answer.status(), 200);
        } else {
            let at = format!("{API}:{}", world.secure.port());
            let request =
                format!("POST /deep HTTP/1.1\r\nHost: {at}\r\nContent-Length: 5\r\nConnection: close\r\n\r\n12345");
            let answer = world.say_inside(API, request.as_bytes()).await;
            assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.contains("POST /deep 5"), "{answer}");
        }

        let methods: Vec<Option<String>> = world.decisions().into_iter().map(|decision| decision.method).collect();
        // That the first tunnel was opened may be told as late as here.
        assert!(methods.ends_with(&[Some("CONNECT".to_owned()), Some("POST".to_owned())]), "{methods:?}");
        let requests = world.secure.requests();
        let seen = requests.last().expect("seen");
        assert_eq!((seen.method.as_str(), seen.body.as_ref()), ("POST", &b"12345"[..]));
    }
}

#[tokio::test]
async fn plain_http_in_a_tunnel_is_judged_request_by_request() {
    let mut world = World::read_only().await;
    let at = format!("{UP}:{}", world.plain.port());
    let mut stream = world.tunnel(&at).await.expect("a tunnel");

    let requests =
        format!("GET /1 HTTP/1.1\r\nHost: {at}\r\n\r\nPOST /2 HTTP/1.1\r\nHost: {at}\r\nConnection: close\r\n\r\n");
    stream.write_all(requests.as_bytes()).await.expect("written");
    let answer = crate::world::read_all(&mut stream).await;

    assert!(answer.contains("GET /1 0") && answer.contains("403 Forbidden"), "{answer}");
    let allowed: Vec<bool> = world.decisions().iter().map(|decision| decision.allowed).collect();
    assert_eq!(allowed, [true, true, false]);
    assert_eq!(world.plain.requests().len(), 1);
}

#[tokio::test]
async fn what_one_connection_leaves_behind_serves_the_next_and_is_judged_anew() {
    let mut world = World::new().await;
    let (good, bad) = (format!("{UP}:{}", world.plain.port()), format!("{OTHER}:{}", world.plain.port()));

    for number in 0..3 {
        let request = format!("GET http://{good}/{number} HTTP/1.1\r\nHost: {good}\r\nConnection: close\r\n\r\n");
        assert!(world.say(request.as_bytes()).await.contains(&format!("GET /{number} 0")));
    }
    let request = format!("GET http://{bad}/ HTTP/1.1\r\nHost: {bad}\r\nConnection: close\r\n\r\n");
    let refused = world.say(request.as_bytes()).await;

    assert!(refused.starts_with("HTTP/1.1 403 "), "{refused}");
    assert_eq!((world.plain.requests().len(), world.plain.connections()), (3, 1));
    let allowed: Vec<bool> = world.decisions().iter().map(|decision| decision.allowed).collect();
    assert_eq!(allowed, [true, true, true, false]);
}

#[tokio::test]
async fn websockets_work_where_all_methods_are_allowed() {
    let mut builder = World::builder().await;
    builder.options.open_tls = OpenTls::Always;
    let world = builder.build();
    let ports = [(false, world.plain.port()), (true, world.secure.port())];

    for (is_secure, port) in ports {
        let target = if is_secure { "/ws".to_owned() } else { format!("http://{UP}:{port}/ws") };
        let request = format!(
            "GET {target} HTTP/1.1\r\nHost: {UP}:{port}\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\r\n"
        );
        let mut stream: Box<dyn Duplex> =
            if is_secure { Box::new(world.tls(UP, &["http/1.1"]).await) } else { Box::new(world.connect()) };
        stream.write_all(request.as_bytes()).await.expect("written");
        stream.flush().await.expect("flushed");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(timeout(DEADLINE, stream.read_u8()).await.expect("in time").expect("an answer"));
        }
        let head = String::from_utf8_lossy(&head).into_owned();
        assert!(head.starts_with("HTTP/1.1 101 ") && head.contains("x-seen: yes"), "{head}");

        stream.write_all(b"\x81\x05hello").await.expect("written");
        stream.flush().await.expect("flushed");
        let mut echo = [0; 7];
        timeout(DEADLINE, stream.read_exact(&mut echo)).await.expect("in time").expect("an echo");
        assert_eq!(&echo, b"\x81\x05hello");
    }
}

#[tokio::test]
async fn a_large_body_comes_through_whole_on_every_road() {
    let world = World::new().await;
    let plain = format!("{UP}:{}", world.plain.port());

    let request = format!("GET http://{plain}/big HTTP/1.1\r\nHost: {plain}\r\nConnection: close\r\n\r\n");
    assert_eq!(body_length(&world.say(request.as_bytes()).await), 1 << 20);
    for host in [UP, API] {
        let request = format!("GET /big HTTP/1.1\r\nHost: {host}:{}\r\nConnection: close\r\n\r\n", world.secure.port());
        // Where values are taken out, chunks delimit the body, so it is a little longer.
        assert!(body_length(&world.say_inside(host, request.as_bytes()).await) >= 1 << 20, "{host}");
    }
}

#[tokio::test]
async fn a_client_that_waits_to_be_told_to_go_on_is_told() {
    let world = World::new().await;
    let at = format!("{UP}:{}", world.plain.port());
    let mut stream = world.connect();
    let head = format!(
        "PUT http://{at}/x HTTP/1.1\r\nHost: {at}\r\nContent-Length: 2\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.expect("written");

    let mut go_on = [0; 25];
    timeout(DEADLINE, stream.read_exact(&mut go_on)).await.expect("in time").expect("an answer");
    stream.write_all(b"ok").await.expect("written");

    assert_eq!(&go_on, b"HTTP/1.1 100 Continue\r\n\r\n");
    assert!(crate::world::read_all(&mut stream).await.contains("PUT /x 2"));
}

/// A stream of either kind.
trait Duplex: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin {}

impl<S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin> Duplex for S {}

fn contains(bytes: &[u8], text: &[u8]) -> bool {
    bytes.windows(text.len()).any(|part| part == text)
}

fn body_length(answer: &str) -> usize {
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    assert!(head.starts_with("HTTP/1.1 200 OK"), "{head}");
    body.len()
}
