//! A runner is untrusted: whatever it says is an error, never a crash, a hang or memory without bound.

mod world;

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::thread::{self, JoinHandle};

use carrel_domain::SandboxId;
use carrel_runner::protocol::{
    Event, FIRST_WINDOW_BYTES, FromRunner, MAX_TUNNELS, TUNNEL_BIT, VERSION, WIDE_WINDOW_BYTES, Word, encode_control,
    encode_data, encode_word,
};
use carrel_sandbox::{Command, Sandbox, SandboxError};
use world::{World, new_id};

/// Stands where a runner would, and says this to the first who connects; reads until the other side closes.
fn impostor(world: &World, words: Vec<u8>) -> (SandboxId, JoinHandle<()>) {
    let id = new_id();
    let folder = world.folder.path().join("sandboxes").join(id.to_string());
    fs::create_dir(&folder).expect("made");
    let listener = UnixListener::bind(folder.join("runner.sock")).expect("bound");
    let speaker = thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("somebody connects");
        let _closed_on_us = stream.write_all(&words);
        drain(&mut stream);
    });
    (id, speaker)
}

fn drain(stream: &mut UnixStream) {
    let mut buffer = [0; 4096];
    while stream.read(&mut buffer).is_ok_and(|bytes| bytes > 0) {}
}

fn hello() -> Vec<u8> {
    event(0, Event::Hello { version: VERSION })
}

fn event(channel: u32, event: Event) -> Vec<u8> {
    let mut frame = Vec::new();
    encode_control(&mut frame, &FromRunner { channel, event }).expect("short");
    frame
}

fn data(channel: u32, bytes: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    encode_data(&mut frame, channel, bytes);
    frame
}

fn word(channel: u32, word: Word) -> Vec<u8> {
    let mut frame = Vec::new();
    encode_word(&mut frame, channel, word);
    frame
}

#[tokio::test]
async fn a_false_greeting_is_refused() {
    let world = World::new().await;
    let garbage = b"\0\0\0\x05\x01nope".to_vec();
    for words in [event(0, Event::Hello { version: 99 }), event(1, Event::Done), data(0, b"x"), garbage, vec![0xff; 16]]
    {
        let (id, speaker) = impostor(&world, words.clone());

        let refused = world.sandboxes.attach(id).await;

        assert!(matches!(refused, Err(SandboxError::Protocol(_))), "{words:?}: {refused:?}");
        speaker.join().expect("it ends");
    }
}

#[tokio::test]
async fn words_out_of_place_close_the_stream() {
    let world = World::new().await;
    let flood = (0..40).flat_map(|_| data(1, &[0; 60_000])).collect::<Vec<u8>>();
    let credit = event(1, Event::StdinTaken { bytes: u64::MAX });
    let unopened = [event(77, Event::Done), data(77, b"x"), vec![0xff; 16], b"\0\0\0\x02\x09x".to_vec()];
    for words in [flood, credit].into_iter().chain(unopened) {
        let (sandbox, speaker) = greeted(&world, words.clone()).await;

        // The channel of this request has number 1 and a budget of 1,000 bytes.
        let read = sandbox.read_file("/file", 1000).await;

        assert!(matches!(read, Err(SandboxError::Protocol(_))), "{:?}: {read:?}", &words[..words.len().min(60)]);
        let after = sandbox.stat("/").await;
        assert!(matches!(after, Err(SandboxError::Protocol(_))), "{after:?}");
        drop(sandbox);
        speaker.join().expect("it ends");
    }
}

#[tokio::test]
async fn a_runner_that_chatters_past_a_reader_who_waits_is_cut_off() {
    let world = World::new().await;
    let chatter = (0..20_000).flat_map(|_| event(1, Event::Started)).collect::<Vec<u8>>();
    let (sandbox, speaker) = greeted(&world, chatter).await;

    let _unread = sandbox.exec(Command::new("command", ["true"])).await.expect("it says that it started");

    let after = sandbox.stat("/").await;
    assert!(matches!(after, Err(SandboxError::Protocol(_))), "{after:?}");
    drop(sandbox);
    speaker.join().expect("it ends");
}

#[tokio::test]
async fn tunnels_out_of_place_close_the_stream_and_cut_the_others() {
    let world = World::new().await;
    let (one, two) = (TUNNEL_BIT | 1, TUNNEL_BIT | 2);
    let open = word(one, Word::Open);
    let after_open = |words: &[Vec<u8>]| [open.clone(), words.concat()].concat();
    let wide = vec![0; FIRST_WINDOW_BYTES as usize];
    let all = [
        ("opened out of turn", word(two, Word::Open)),
        ("opened twice", after_open(std::slice::from_ref(&open))),
        ("opened with a controller's number", word(1, Word::Open)),
        ("too many", (1..=MAX_TUNNELS as u32 + 1).flat_map(|n| word(TUNNEL_BIT | n, Word::Open)).collect()),
        ("bytes for one never opened", after_open(&[data(two, b"x")])),
        ("bytes for number zero", after_open(&[data(TUNNEL_BIT, b"x")])),
        ("a word for one never opened", after_open(&[word(two, Word::End)])),
        ("a word about a command", after_open(&[word(1, Word::End)])),
        ("an event on a tunnel", after_open(&[event(one, Event::Done)])),
        ("more bytes than the window", after_open(&[data(one, &wide), data(one, b"x")])),
        ("bytes after the end", after_open(&[word(one, Word::End), data(one, b"x")])),
        ("two ends", after_open(&[word(one, Word::End), word(one, Word::End)])),
        ("more credit than there is", after_open(&[word(one, Word::Credit(WIDE_WINDOW_BYTES))])),
        ("credit that wraps", after_open(&[word(one, Word::Credit(u32::MAX))])),
        ("a word that is none", after_open(&[b"\0\0\0\x0a\x03\x80\0\0\x01\x09\0\0\0\0".to_vec()])),
    ];
    for (what, words) in all {
        let (sandbox, speaker) = greeted(&world, words).await;
        let mut tunnels = sandbox.tunnels();

        let read = sandbox.read_file("/file", 1000).await;

        assert!(matches!(read, Err(SandboxError::Protocol(_))), "{what}: {read:?}");
        assert!(tunnels.next().await.is_none(), "{what}: nothing is handed out any more");
        drop((sandbox, tunnels));
        speaker.join().expect("it ends");
    }
}

#[tokio::test]
async fn a_runner_that_opens_and_leaves_without_end_costs_nothing() {
    let world = World::new().await;
    // Nobody receives: each is refused, and what still comes for it is late, not wrong.
    let churn = (1..=20_000_u32).flat_map(|number| {
        let number = TUNNEL_BIT | number;
        [word(number, Word::Open), data(number, &[0; 50]), word(number, Word::Reset)].concat()
    });
    let words: Vec<u8> = churn.chain(event(1, Event::Done)).collect();
    let (sandbox, speaker) = greeted(&world, words).await;

    let answered = sandbox.remove_file("/file").await;

    assert!(answered.is_ok(), "{answered:?}");
    drop(sandbox);
    tokio::task::spawn_blocking(|| speaker.join()).await.expect("joined").expect("it ends");
}

#[tokio::test]
async fn a_runner_that_hangs_up_is_a_lost_connection() {
    let world = World::new().await;
    let (sandbox, speaker) = greeted(&world, Vec::new()).await;

    let lost = sandbox.stat("/").await;

    assert!(matches!(lost, Err(SandboxError::Disconnected)), "{lost:?}");
    speaker.join().expect("it ends");
}

/// An impostor that greets properly, waits for the first request, and then says this. Without words it hangs up.
async fn greeted(world: &World, words: Vec<u8>) -> (Sandbox, JoinHandle<()>) {
    let id = new_id();
    let folder = world.folder.path().join("sandboxes").join(id.to_string());
    fs::create_dir(&folder).expect("made");
    let listener = UnixListener::bind(folder.join("runner.sock")).expect("bound");
    let speaker = thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("somebody connects");
        stream.write_all(&hello()).expect("sent");
        let mut request = [0; 4096];
        let _first_request = stream.read(&mut request);
        if !words.is_empty() {
            let _closed_on_us = stream.write_all(&words);
            drain(&mut stream);
        }
    });
    (world.sandboxes.attach(id).await.expect("it greets"), speaker)
}
