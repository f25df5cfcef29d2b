//! The sandbox's only way out: a program's connections to its proxy address, and what arrives of them here.

mod world;

use std::io::ErrorKind;
use std::time::Duration;

use carrel_sandbox::{Finished, Sandbox, Tunnel, Tunnels};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;
use world::{World, run, said, script};

const SOON: Duration = Duration::from_secs(30);
const LARGE_BYTES: usize = 100 << 20;

/// A Perl program with a function that connects to the proxy address.
fn program(text: &str) -> String {
    let lines = r#"
        use strict; use Socket; use IO::Handle; $| = 1;
        sub dial {
            socket(my $to, PF_INET, SOCK_STREAM, 0) or die "socket: $!";
            connect($to, sockaddr_in(3128, inet_aton("127.0.0.1"))) or die "connect: $!";
            $to->autoflush(1); binmode $to; return $to;
        }
    "#;
    format!("perl -e '{lines}\n{text}' 2>&1")
}

async fn next(tunnels: &mut Tunnels) -> Tunnel {
    timeout(SOON, tunnels.next()).await.expect("somebody connects in time").expect("the stream stands")
}

async fn read_all(tunnel: &mut Tunnel) -> std::io::Result<Vec<u8>> {
    let mut all = Vec::new();
    timeout(SOON, tunnel.read_to_end(&mut all)).await.expect("it ends in time").map(|_| all)
}

/// Gives back to each connection what it says, until it ends, for as long as there are connections.
async fn echo(mut tunnels: Tunnels) {
    while let Some(mut tunnel) = tunnels.next().await {
        tokio::spawn(async move {
            let mut buffer = vec![0; 64 << 10];
            while let Ok(bytes @ 1..) = tunnel.read(&mut buffer).await {
                if tunnel.write_all(&buffer[..bytes]).await.is_err() {
                    return;
                }
            }
            let _gone = tunnel.shutdown().await;
        });
    }
}

fn in_background(sandbox: &Sandbox, text: String) -> tokio::task::JoinHandle<Finished> {
    let sandbox = sandbox.clone();
    tokio::spawn(async move { run(&sandbox, &text).await })
}

fn output(finished: &Finished) -> String {
    String::from_utf8_lossy(&finished.output).trim_end().to_owned()
}

#[tokio::test]
async fn both_directions_of_a_connection_end_by_themselves() {
    let world = World::new().await;
    let sandbox = world.sandbox().await;
    let mut tunnels = sandbox.tunnels();

    let asks_first = program(r#"my $to = dial(); print $to "question"; shutdown($to, 1); print <$to>;"#);
    let asks_first = in_background(&sandbox, asks_first);
    let mut tunnel = next(&mut tunnels).await;
    assert_eq!(read_all(&mut tunnel).await.expect("its end is proper"), b"question");
    tunnel.write_all(b"answer").await.expect("it still listens");
    tunnel.shutdown().await.expect("ended");
    drop(tunnel);
    assert_eq!(output(&asks_first.await.expect("it ends")), "answer");

    let answers_last = program(r#"my $to = dial(); my @all = <$to>; print $to "got @all";"#);
    let answers_last = in_background(&sandbox, answers_last);
    let mut tunnel = next(&mut tunnels).await;
    tunnel.write_all(b"all there is").await.expect("it listens");
    tunnel.shutdown().await.expect("ended");
    assert_eq!(read_all(&mut tunnel).await.expect("its end is proper"), b"got all there is");
    answers_last.await.expect("it ends");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_megabytes_arrive_as_they_were_sent_each_way() {
    let world = World::new().await;
    let sandbox = world.sandbox().await;
    let mut tunnels = sandbox.tunnels();
    let content: Vec<u8> = (0..LARGE_BYTES as u64 / 8)
        .flat_map(|number| number.wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(21).to_be_bytes())
        .collect();

    let keeps_and_returns = program(
        r#"my $to = dial(); open(my $file, "+>", "/tmp/large"); my $buffer;
           while (sysread($to, $buffer, 1 << 18)) { syswrite($file, $buffer) }
           seek($file, 0, 0);
           while (sysread($file, $buffer, 1 << 18)) { print $to $buffer }"#,
    );
    let finished = in_background(&sandbox, keeps_and_returns);
    let mut tunnel = next(&mut tunnels).await;
    tunnel.write_all(&content).await.expect("it reads");
    tunnel.shutdown().await.expect("ended");
    let returned = read_all(&mut tunnel).await.expect("it returns all");

    assert_eq!(returned.len(), content.len());
    assert!(returned == content, "the bytes are the same");
    assert_eq!(output(&finished.await.expect("it ends")), "");
}

#[tokio::test]
async fn nobody_who_does_not_read_holds_others_up_or_fills_memory() {
    let world = World::new().await;
    let sandbox = world.sandbox().await;
    let mut tunnels = sandbox.tunnels();

    // Three connections: one we do not read, one that does not read us, and one that works meanwhile.
    let busy = program(
        r#"my ($unread, $deaf, $working) = (dial(), dial(), dial());
           print $_ "x" for ($unread, $deaf, $working);
           $unread->blocking(0); my $taken = 1;
           while (defined(my $count = syswrite($unread, "y" x 65536))) { $taken += $count }
           print $working "ping\n"; my $pong = <$working>; print "$pong$taken";
           # Until the other side has sent what there is room for.
           print $working "wait\n"; <$working>;"#,
    );
    let finished = in_background(&sandbox, busy);
    let (mut unread, mut deaf, mut working) =
        (next(&mut tunnels).await, next(&mut tunnels).await, next(&mut tunnels).await);
    for tunnel in [&mut unread, &mut deaf, &mut working] {
        assert_eq!(tunnel.read_u8().await.expect("it speaks"), b'x');
    }
    let mut line = [0; 5];
    timeout(SOON, working.read_exact(&mut line)).await.expect("in time").expect("it asks");
    working.write_all(b"pong\n").await.expect("it reads");
    timeout(SOON, working.read_exact(&mut line)).await.expect("in time").expect("it asks again");
    let chunk = vec![0; 64 << 10];
    let mut given = 0;
    while let Ok(written) = timeout(Duration::from_millis(500), deaf.write(&chunk)).await {
        given += written.expect("it stands");
    }
    working.write_all(b"done\n").await.expect("it reads");

    let text = output(&finished.await.expect("it ends"));
    let taken: usize = text.strip_prefix("pong\n").and_then(|text| text.parse().ok()).expect("a number");
    // A socket's own buffers take a few megabytes, the windows half of one.
    assert!(taken > 64 << 10 && taken < 16 << 20, "{taken}");
    assert!(given > 64 << 10 && given < 16 << 20, "{given}");
}

#[tokio::test]
async fn five_hundred_connections_work_at_once_and_those_past_the_limit_are_closed() {
    let world = World::new().await;
    let sandbox = world.sandbox().await;
    tokio::spawn(echo(sandbox.tunnels()));

    let many = program(
        r#"my @all = map { dial() } 1 .. 600; my ($served, $closed) = (0, 0);
           $SIG{PIPE} = "IGNORE";
           for my $to (@all) { print $to "ping\n" }
           for my $to (@all) { my $line = <$to>; defined($line) ? $served++ : $closed++ }
           # They close one after the other; until the first has, there is no room.
           @all = (); my $more;
           until (defined $more) { my $again = dial(); print $again "more\n"; $more = <$again> }
           print "$served $closed $more";"#,
    );

    assert_eq!(said(&sandbox, &many).await, "512 88 more");
}

#[tokio::test]
async fn without_a_receiver_connections_are_closed_at_once() {
    let world = World::new().await;
    let sandbox = world.sandbox().await;
    let try_once = program(r#"my $to = dial(); my $line = <$to>; print defined($line) ? "open" : "closed";"#);

    assert_eq!(said(&sandbox, &try_once).await, "closed", "nobody ever listened");
    drop(sandbox.tunnels());
    assert_eq!(said(&sandbox, &try_once).await, "closed", "nobody listens any more");
    let (mut earlier, mut later) = (sandbox.tunnels(), sandbox.tunnels());
    assert!(earlier.next().await.is_none(), "only the later one hears");
    let dialled = in_background(&sandbox, try_once);
    next(&mut later).await.write_all(b"here\n").await.expect("written");
    assert!(["open", "closed"].contains(&output(&dialled.await.expect("it ends")).as_str()));
}

#[tokio::test]
async fn a_receiver_that_goes_cuts_what_it_handed_out_and_a_dropped_tunnel_is_a_reset() {
    let world = World::new().await;
    let sandbox = world.sandbox().await;
    let ends_how = program(
        r#"my $to = dial(); print $to "x"; my $bytes = sysread($to, my $got, 100);
           $bytes = sysread($to, $got, 100) if $bytes; print defined($bytes) ? "ended" : $!;"#,
    );

    let mut tunnels = sandbox.tunnels();
    let finished = in_background(&sandbox, ends_how.clone());
    let mut tunnel = next(&mut tunnels).await;
    assert_eq!(tunnel.read_u8().await.expect("it speaks"), b'x');
    tunnel.write_all(b"half").await.expect("written");
    drop(tunnels);
    let error = read_all(&mut tunnel).await.expect_err("it was cut");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    assert_eq!(output(&finished.await.expect("it ends")), "Connection reset by peer");

    let mut tunnels = sandbox.tunnels();
    let finished = in_background(&sandbox, ends_how.clone());
    let mut tunnel = next(&mut tunnels).await;
    assert_eq!(tunnel.read_u8().await.expect("it speaks"), b'x');
    drop(tunnel);
    assert_eq!(output(&finished.await.expect("it ends")), "Connection reset by peer");

    let finished = in_background(&sandbox, ends_how);
    let mut tunnel = next(&mut tunnels).await;
    tunnel.write_all(b"whole").await.expect("written");
    tunnel.shutdown().await.expect("ended");
    drop(tunnel);
    assert_eq!(output(&finished.await.expect("it ends")), "ended", "what was ended before is no reset");
}

#[tokio::test]
async fn a_program_that_breaks_off_is_an_error_here_and_not_an_end() {
    let world = World::new().await;
    let sandbox = world.sandbox().await;
    let mut tunnels = sandbox.tunnels();

    let breaks_off = program(
        r#"my $to = dial(); print $to "half"; sysread($to, my $go, 1);
           setsockopt($to, SOL_SOCKET, SO_LINGER, pack("ii", 1, 0)); close($to);"#,
    );
    let finished = in_background(&sandbox, breaks_off);
    let mut tunnel = next(&mut tunnels).await;
    let mut half = [0; 4];
    timeout(SOON, tunnel.read_exact(&mut half)).await.expect("in time").expect("it speaks");
    tunnel.write_all(b"g").await.expect("it listens");

    let error = read_all(&mut tunnel).await.expect_err("it broke off");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    finished.await.expect("it ends");
}

#[tokio::test]
async fn tunnels_end_with_their_controller_and_a_new_one_gets_new_ones_while_commands_live_on() {
    let world = World::new().await;
    let sandbox = world.sandbox().await;
    let mut tunnels = sandbox.tunnels();
    let lives_on = script(&program(
        r#"my $to = dial(); print $to "x"; my $bytes = sysread($to, my $got, 100);
           print defined($bytes) ? "ended" : $!, "\n";
           my $line; until (defined $line) { my $to = dial(); print $to "again\n"; $line = <$to>; }
           print $line;"#,
    ));
    let process = sandbox.exec(lives_on.clone()).await.expect("it starts");
    let mut tunnel = next(&mut tunnels).await;
    assert_eq!(tunnel.read_u8().await.expect("it speaks"), b'x');
    let id = sandbox.id();

    drop((process, sandbox));

    assert!(timeout(SOON, tunnels.next()).await.expect("in time").is_none(), "a receiver keeps no stream open");
    read_all(&mut tunnel).await.expect_err("it ended with the stream");
    let sandbox = world.sandboxes.attach(id).await.expect("it is there");
    tokio::spawn(echo(sandbox.tunnels()));
    let finished = timeout(SOON, sandbox.run(lives_on)).await.expect("in time").expect("it lived on");
    assert_eq!(output(&finished), "Connection reset by peer\nagain");
}

#[test]
fn all_of_this_holds_where_the_service_is_an_ordinary_user() {
    world::as_ordinary_user();
}
