//! The stream to one runner: many channels over one socket, everything that comes in bounded.
//!
//! A reader task sorts frames into per-channel queues, a writer task sends; both end with the last handle. A runner
//! is untrusted: data past a channel's budget, events past its queue, or frames for a channel never opened close the
//! stream. Nothing a consumer leaves unread makes the others wait. Tunnels, which the runner opens, are in `lines`.

mod lines;
mod stream;

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use carrel_runner::protocol::{
    self, CHUNK_BYTES, CONNECTION, Decoder, Event, Frame, FromRunner, INPUT_WINDOW_BYTES, OUTPUT_WINDOW_BYTES,
    ProtocolError, Request, TUNNEL_BIT, ToRunner, encode_control, encode_data,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::SandboxError;
use lines::Lines;
use stream::{Incoming, read_all, write_all};

/// How long a runner may take to greet, and to answer anything that is not a command's own course.
pub(crate) const ANSWER_WITHIN: Duration = Duration::from_secs(60);
/// Entries of one channel that may wait unread; neighbouring data is joined, so an honest runner stays far below.
const QUEUE_ENTRIES: usize = 8192;
/// Output taken by a consumer is told to the runner in portions of this size.
const CREDIT_BYTES: u64 = OUTPUT_WINDOW_BYTES / 4;

/// The stream to a runner; it closes when the last clone of the [`Arc`] goes.
pub(crate) struct Connection {
    shared: Arc<Shared>,
    frames: mpsc::Sender<Vec<u8>>,
    _closes: DropGuard,
}

/// What the tasks of a connection and its handles share.
pub(crate) struct Shared {
    state: Mutex<State>,
    lines: Mutex<Lines>,
    has_notes: Notify,
    closed: CancellationToken,
}

#[derive(Default)]
struct State {
    routes: HashMap<u32, Route>,
    last_channel: u32,
    /// Small messages of callers that cannot wait: credit, and that nobody listens any more.
    notes: Vec<ToRunner>,
    closed: Option<Option<ProtocolError>>,
}

/// What is known of a channel's consumer.
struct Route {
    queue: VecDeque<Queued>,
    budget: u64,
    arrived: Arc<Notify>,
    stdin: Arc<Semaphore>,
    stdin_under_way: u64,
}

/// What came on a channel.
pub(crate) enum Item {
    /// Bytes.
    Data(Bytes),
    /// An event.
    Event(Event),
}

enum Queued {
    Data(BytesMut),
    Event(Event),
}

/// The consumer's end of a channel. Dropping it closes the channel.
pub(crate) struct Channel {
    number: u32,
    connection: Arc<Connection>,
    arrived: Arc<Notify>,
    stdin: Arc<Semaphore>,
    taken: u64,
    detaches: bool,
}

/// The way to the process at the other end of a channel. Of a channel that is closed, what is said goes nowhere.
#[derive(Clone)]
pub(crate) struct Speaker {
    number: u32,
    connection: Arc<Connection>,
    stdin: Arc<Semaphore>,
}

impl Connection {
    /// Takes a stream to a runner and waits for its greeting.
    pub(crate) async fn open<S>(stream: S, tasks: &TaskTracker) -> Result<Arc<Self>, SandboxError>
    where
        S: AsyncRead + AsyncWrite + Send + 'static,
    {
        let (reader, writer) = tokio::io::split(stream);
        let mut incoming = Incoming { reader, decoder: Decoder::default() };
        tokio::time::timeout(ANSWER_WITHIN, incoming.greeting()).await.map_err(|_| SandboxError::TimedOut {
            what: "the runner's greeting",
            seconds: ANSWER_WITHIN.as_secs(),
        })??;
        let closed = CancellationToken::new();
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            lines: Mutex::default(),
            has_notes: Notify::new(),
            closed: closed.clone(),
        });
        let (frames, outgoing) = mpsc::channel(16);
        tasks.spawn(read_all(incoming, Arc::clone(&shared)));
        tasks.spawn(write_all(writer, outgoing, Arc::clone(&shared)));
        Ok(Arc::new(Self { shared, frames, _closes: closed.drop_guard() }))
    }

    /// What the tunnels of this connection go through.
    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Whether the stream still stands.
    pub(crate) fn is_open(&self) -> bool {
        !self.shared.closed.is_cancelled()
    }

    /// Opens a channel with a request. The runner may send `budget` bytes on it.
    pub(crate) async fn request(self: &Arc<Self>, request: Request, budget: u64) -> Result<Channel, SandboxError> {
        let detaches = matches!(request, Request::Exec(_));
        let channel = self.register(budget, detaches)?;
        self.send(&ToRunner { channel: channel.number, request }).await?;
        Ok(channel)
    }

    fn register(self: &Arc<Self>, budget: u64, detaches: bool) -> Result<Channel, SandboxError> {
        let mut state = self.shared.state();
        if state.closed.is_some() {
            return Err(state.why_closed());
        }
        let next = state.last_channel + 1;
        if next == TUNNEL_BIT {
            return Err(SandboxError::Disconnected);
        }
        state.last_channel = next;
        let number = state.last_channel;
        let arrived = Arc::new(Notify::new());
        let stdin = Arc::new(Semaphore::new(INPUT_WINDOW_BYTES as usize));
        let route = Route {
            queue: VecDeque::new(),
            budget,
            arrived: Arc::clone(&arrived),
            stdin: Arc::clone(&stdin),
            stdin_under_way: 0,
        };
        state.routes.insert(number, route);
        Ok(Channel { number, connection: Arc::clone(self), arrived, stdin, taken: 0, detaches })
    }

    async fn send(&self, message: &ToRunner) -> Result<(), SandboxError> {
        let mut frame = Vec::new();
        encode_control(&mut frame, message).map_err(|error| match error {
            ProtocolError::Length { bytes } => {
                SandboxError::Invalid(format!("a request of {bytes} bytes is too long; put large content into a file"))
            }
            error => SandboxError::Protocol(error),
        })?;
        self.send_frame(frame).await
    }

    async fn send_frame(&self, frame: Vec<u8>) -> Result<(), SandboxError> {
        match self.frames.send(frame).await {
            Ok(()) => Ok(()),
            Err(_) => Err(self.shared.state().why_closed()),
        }
    }
}

impl Channel {
    /// What comes next; `None` when the stream is closed. Nothing is lost when the wait is cancelled.
    pub(crate) async fn next(&mut self) -> Option<Item> {
        loop {
            let arrived = self.arrived.notified();
            {
                let mut state = self.connection.shared.state();
                let closed = state.closed.is_some();
                let queued = state.routes.get_mut(&self.number).and_then(|route| route.queue.pop_front());
                match queued {
                    Some(Queued::Event(event)) => return Some(Item::Event(event)),
                    Some(Queued::Data(bytes)) => {
                        self.taken += bytes.len() as u64;
                        if self.detaches && self.taken >= CREDIT_BYTES {
                            state.grant(self.number, std::mem::take(&mut self.taken));
                            self.connection.shared.has_notes.notify_one();
                        }
                        return Some(Item::Data(bytes.freeze()));
                    }
                    None if closed => return None,
                    None => {}
                }
            }
            arrived.await;
        }
    }

    /// The next event of an operation that answers once, in time.
    pub(crate) async fn answer(&mut self, what: &'static str) -> Result<Item, SandboxError> {
        match tokio::time::timeout(ANSWER_WITHIN, self.next()).await {
            Ok(Some(item)) => Ok(item),
            Ok(None) => Err(self.why_closed()),
            Err(_) => Err(SandboxError::TimedOut { what, seconds: ANSWER_WITHIN.as_secs() }),
        }
    }

    /// Why [`Channel::next`] gave nothing.
    pub(crate) fn why_closed(&self) -> SandboxError {
        self.connection.shared.state().why_closed()
    }

    /// Sends bytes of a file: the socket holds them back.
    pub(crate) async fn send(&self, bytes: &[u8]) -> Result<(), SandboxError> {
        for chunk in bytes.chunks(CHUNK_BYTES) {
            let mut frame = Vec::with_capacity(chunk.len() + 16);
            encode_data(&mut frame, self.number, chunk);
            self.connection.send_frame(frame).await?;
        }
        Ok(())
    }

    /// The way to the process at the other end, for somebody else than who listens.
    pub(crate) fn speaker(&self) -> Speaker {
        let (connection, stdin) = (Arc::clone(&self.connection), Arc::clone(&self.stdin));
        Speaker { number: self.number, connection, stdin }
    }
}

impl Speaker {
    /// Sends input of a process: what it has not taken yet holds it back.
    pub(crate) async fn send_stdin(&self, bytes: &[u8]) -> Result<(), SandboxError> {
        for chunk in bytes.chunks(CHUNK_BYTES) {
            let room = self.stdin.acquire_many(chunk.len() as u32).await;
            let Ok(room) = room else { return Err(self.why_no_input()) };
            room.forget();
            if let Some(route) = self.connection.shared.state().routes.get_mut(&self.number) {
                route.stdin_under_way += chunk.len() as u64;
            }
            let mut frame = Vec::with_capacity(chunk.len() + 16);
            encode_data(&mut frame, self.number, chunk);
            self.connection.send_frame(frame).await?;
        }
        Ok(())
    }

    /// Sends a word about this channel's command.
    pub(crate) async fn tell(&self, request: Request) -> Result<(), SandboxError> {
        self.connection.send(&ToRunner { channel: self.number, request }).await
    }

    fn why_no_input(&self) -> SandboxError {
        let state = self.connection.shared.state();
        if state.closed.is_some() { state.why_closed() } else { SandboxError::StdinClosed }
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        let mut state = self.connection.shared.state();
        if let Some(route) = state.routes.remove(&self.number) {
            // Whoever still has input for it must not wait for room that nobody gives any more.
            route.stdin.close();
        }
        if self.detaches && state.closed.is_none() {
            state.notes.push(ToRunner { channel: self.number, request: Request::Detach });
            self.connection.shared.has_notes.notify_one();
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // Every change under this lock is complete before anything that could panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The tunnels.
    pub(crate) fn lines(&self) -> MutexGuard<'_, Lines> {
        // As above.
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes the writer.
    pub(crate) fn has_something_to_say(&self) {
        self.has_notes.notify_one();
    }

    /// Sorts the frames that came.
    fn sort_all(&self, decoder: &mut Decoder) -> Result<(), ProtocolError> {
        while let Some(frame) = decoder.next_frame()? {
            match frame {
                Frame::Tunnel(number, word) => {
                    let mut lines = self.lines();
                    lines.word(number, word)?;
                    if lines.has_words() {
                        self.has_something_to_say();
                    }
                }
                Frame::Data(number, bytes) if number & TUNNEL_BIT != 0 => self.lines().data(number, bytes)?,
                Frame::Data(channel, bytes) => self.state().sort(channel, Queued::Data(BytesMut::from(bytes)))?,
                Frame::Control(payload) => {
                    let FromRunner { channel, event } = protocol::message(payload)?;
                    self.state().sort(channel, Queued::Event(event))?;
                }
            }
        }
        Ok(())
    }

    fn close(&self, why: Option<ProtocolError>) {
        let mut state = self.state();
        if state.closed.is_none() {
            if let Some(error) = &why {
                tracing::warn!(%error, "closed the stream to a runner that broke its protocol");
            }
            state.closed = Some(why);
        }
        for route in state.routes.values() {
            route.stdin.close();
            route.arrived.notify_one();
        }
        drop(state);
        self.lines().close();
        self.closed.cancel();
    }
}

impl State {
    fn why_closed(&self) -> SandboxError {
        match &self.closed {
            Some(Some(error)) => SandboxError::Protocol(error.clone()),
            _ => SandboxError::Disconnected,
        }
    }

    fn grant(&mut self, channel: u32, bytes: u64) {
        if let Some(route) = self.routes.get_mut(&channel) {
            route.budget += bytes;
            self.notes.push(ToRunner { channel, request: Request::Credit { bytes } });
        }
    }

    /// Sorts what came into its channel's queue. What is for a channel that was closed meanwhile is late, not wrong.
    fn sort(&mut self, channel: u32, queued: Queued) -> Result<(), ProtocolError> {
        if channel == CONNECTION || channel > self.last_channel {
            return Err(ProtocolError::Message(format!("channel {channel} was never opened")));
        }
        match self.routes.get_mut(&channel) {
            Some(route) => route.take(queued),
            None => Ok(()),
        }
    }
}

impl Route {
    fn take(&mut self, queued: Queued) -> Result<(), ProtocolError> {
        match queued {
            Queued::Event(Event::StdinTaken { bytes }) => return self.stdin_taken(bytes),
            Queued::Event(Event::StdinClosed) => self.stdin.close(),
            Queued::Event(Event::Dropped { bytes }) => match self.queue.back_mut() {
                Some(Queued::Event(Event::Dropped { bytes: before })) => *before = before.saturating_add(bytes),
                _ => self.queue.push_back(Queued::Event(Event::Dropped { bytes })),
            },
            Queued::Event(event) => self.queue.push_back(Queued::Event(event)),
            Queued::Data(bytes) => {
                self.budget = self.budget.checked_sub(bytes.len() as u64).ok_or_else(|| too_much("bytes"))?;
                match self.queue.back_mut() {
                    Some(Queued::Data(before)) if before.len() + bytes.len() <= CHUNK_BYTES => {
                        before.extend_from_slice(&bytes);
                    }
                    _ => self.queue.push_back(Queued::Data(bytes)),
                }
            }
        }
        self.arrived.notify_one();
        if self.queue.len() > QUEUE_ENTRIES { Err(too_much("events")) } else { Ok(()) }
    }

    fn stdin_taken(&mut self, bytes: u64) -> Result<(), ProtocolError> {
        self.stdin_under_way = self.stdin_under_way.checked_sub(bytes).ok_or_else(|| too_much("credit"))?;
        // What was under way is at most the window.
        self.stdin.add_permits(bytes as usize);
        Ok(())
    }
}

fn too_much(what: &str) -> ProtocolError {
    ProtocolError::Message(format!("a channel got more {what} than it has room for"))
}
