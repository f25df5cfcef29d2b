//! A runner is untrusted: whatever it says is an error, never a crash, a hang or memory without bound.

mod world;

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::thread::{self, JoinHandle};

use carrel_domain::SandboxId;
use carrel_runner::protocol::{Event, FromRunner, VERSION, encode_control, encode_data};
use carrel_sandbox::{Sandbox, SandboxError};
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
    let chatter = (0..20_000).flat_map(|_| event(1, Event::Started)).collect::<Vec<u8>>();
    let unopened = [event(77, Event::Done), data(77, b"x"), vec![0xff; 16], b"\0\0\0\x02\x09x".to_vec()];
    for words in [flood, credit, chatter].into_iter().chain(unopened) {
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
