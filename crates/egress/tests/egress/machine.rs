//! What takes a machine of its own to try: names whose meaning changes, this machine under an address that looks public,
//! and the ports of the web. It is a network namespace with an address of our choice on it, and a name server of ours.

use std::io::ErrorKind;
use std::net::{TcpListener, UdpSocket};
use std::process::Command;
use std::thread;

use carrel_domain::Internet;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

use crate::world::{DEADLINE, UP, World};

/// Of the documentation's addresses, which count as public ones. This machine has it.
const OWN: &str = "203.0.113.9";
/// Nobody has it.
const PUBLIC: [u8; 4] = [203, 0, 113, 10];
const LOOPBACK: [u8; 4] = [127, 0, 0, 1];
/// Makes a machine with one address beside loopback and a name server on itself, and becomes a program there.
const MACHINE: &str = r#"
set -e
mount --bind "$1" /etc/resolv.conf
shift
ip link set lo up
ip address add 203.0.113.9/32 dev lo
exec "$@"
"#;

/// Runs the test of that name on a machine of its own.
fn on_a_machine_of_its_own(test: &str) {
    let servers = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(servers.path(), "nameserver 127.0.0.1\noptions timeout:2 attempts:1\n").expect("written");
    let mut machine = Command::new("unshare");
    machine.args(["--map-root-user", "--mount", "--net", "/bin/sh", "-c", MACHINE, "sh"]).arg(servers.path());
    machine.arg(std::env::current_exe().expect("a program")).args(["--exact", test, "--ignored"]);

    let ended = machine.output().expect("unshare is there");

    let said = String::from_utf8_lossy(&ended.stdout);
    assert!(ended.status.success() && said.contains("1 passed"), "{said}\n{}", String::from_utf8_lossy(&ended.stderr));
}

#[test]
fn a_name_that_means_something_else_a_moment_later_leads_nowhere_else() {
    on_a_machine_of_its_own("machine::a_name_is_resolved_once");
}

#[tokio::test]
#[ignore = "run by the test above, on a machine of its own"]
async fn a_name_is_resolved_once() {
    let (server, questions) = (listening_on(80), name_server(&[PUBLIC, LOOPBACK]));
    let mut builder = World::builder().await;
    builder.policy.network.internet = Internet::All;
    builder.options.private_hosts.clear();
    let mut world = builder.build();

    for _ in 0..3 {
        let answer = world
            .say(b"GET http://rebinding.example/ HTTP/1.1\r\nHost: rebinding.example\r\nConnection: close\r\n\r\n")
            .await;
        // The public address, which nobody has here, or the other one, which is refused.
        assert!(answer.starts_with("HTTP/1.1 502 ") || answer.starts_with("HTTP/1.1 403 "), "{answer}");
    }

    assert!(questions.try_recv().is_ok(), "the name server was asked");
    assert!(world.decisions().iter().all(|decision| !decision.allowed));
    assert_eq!(server.accept().expect_err("nobody connects").kind(), ErrorKind::WouldBlock);
}

#[test]
fn only_tls_goes_through_a_tunnel_to_the_port_of_tls() {
    on_a_machine_of_its_own("machine::what_is_no_tls_is_refused_on_port_443");
}

#[tokio::test]
#[ignore = "run by the test above, on a machine of its own"]
async fn what_is_no_tls_is_refused_on_port_443() {
    let server = listening_on(443);
    let mut builder = World::builder().await;
    builder.options.private_hosts.push(UP.parse().expect("a host"));
    let mut world = builder.build();

    // Plain HTTP is understood in tunnels, but to other ports.
    let mut stream = world.tunnel("up.test:443").await.expect("a tunnel");
    stream.write_all(b"GET / HTTP/1.1\r\nHost: up.test:443\r\n\r\n").await.expect("written");
    stream.shutdown().await.expect("no more is asked");
    let mut answer = Vec::new();
    timeout(DEADLINE, stream.read_to_end(&mut answer)).await.expect("in time").expect("an end");

    assert_eq!(answer, [21, 3, 3, 0, 2, 2, 50], "an alert");
    world.assert_refused("is no TLS", "plain HTTP");
    let (mut stream, _) = server.accept().expect("it was connected to");
    assert_eq!(std::io::Read::read(&mut stream, &mut [0; 16]).expect("an end"), 0, "and sent nothing");
}

#[test]
fn this_machine_is_not_reached_by_an_address_of_its_own_that_looks_public() {
    on_a_machine_of_its_own("machine::an_own_address_is_refused");
}

#[tokio::test]
#[ignore = "run by the test above, on a machine of its own"]
async fn an_own_address_is_refused() {
    let server = listening_on(80);
    let mut builder = World::builder().await;
    builder.policy.network.internet = Internet::All;
    builder.host("own.example", &[OWN]);
    let mut world = builder.build();

    let answer = world.say(b"GET http://own.example/ HTTP/1.1\r\nHost: own.example\r\nConnection: close\r\n\r\n").await;

    assert!(answer.starts_with("HTTP/1.1 403 ") && answer.contains("this machine's own"), "{answer}");
    world.assert_refused("this machine's own", "an own address");
    assert_eq!(server.accept().expect_err("nobody connects").kind(), ErrorKind::WouldBlock);
}

/// Listens on every address there is.
fn listening_on(port: u16) -> TcpListener {
    let listener = TcpListener::bind(("0.0.0.0", port)).expect("a machine of its own");
    listener.set_nonblocking(true).expect("set");
    listener
}

/// Answers each question for an address with the next of these; tells of each.
fn name_server(addresses: &'static [[u8; 4]]) -> std::sync::mpsc::Receiver<()> {
    let (tell, told) = std::sync::mpsc::channel();
    let socket = UdpSocket::bind("127.0.0.1:53").expect("a machine of its own");
    thread::spawn(move || {
        let mut addresses = addresses.iter().cycle();
        let mut question = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut question) {
            let Some(answer) = answer(&question[..length], &mut addresses) else { continue };
            let _gone = (socket.send_to(&answer, from), tell.send(()));
        }
    });
    told
}

/// A name server's answer (RFC 1035, section 4): one address to a question for IPv4, none to any other.
fn answer<'a>(question: &[u8], addresses: &mut impl Iterator<Item = &'a [u8; 4]>) -> Option<Vec<u8>> {
    let name = question.get(12..)?.iter().position(|byte| *byte == 0)?;
    let end = 12 + name + 5;
    let is_for_ipv4 = question.get(end - 4..end - 2)? == [0, 1];
    let mut answer = question.get(..end)?.to_vec();
    answer[2..12].copy_from_slice(&[0x81, 0x80, 0, 1, 0, u8::from(is_for_ipv4), 0, 0, 0, 0]);
    if is_for_ipv4 {
        // The name of the question, an address, of the internet, good for no time at all, four bytes.
        answer.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4]);
        answer.extend_from_slice(addresses.next()?);
    }
    Some(answer)
}
