//! The tunnels of one connection: what came and was not read, what may be sent, what the runner must still be told.
//!
//! A runner is untrusted. It opens tunnels, but no more than [`MAX_TUNNELS`] at once, each with the next number; what
//! comes past a tunnel's window, after its end, or for one that was never opened closes the stream. What is said to it
//! waits as flags of its tunnel until the writer asks, so a runner that takes nothing costs nothing more.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::{Buf, BytesMut};
use carrel_runner::protocol::{
    CHUNK_BYTES, FIRST_WINDOW_BYTES, MAX_TUNNELS, ProtocolError, TUNNEL_BIT, WIDE_WINDOW_BYTES, Window, Windows, Word,
    encode_data, encode_word,
};
use tokio::io::ReadBuf;
use tokio::sync::Notify;

use super::too_much;

/// Frames that may wait for the writer before those who write to tunnels wait.
const OUT_BYTES: usize = 256 << 10;
/// Above this many tunnels, those counted that are over and that somebody still reads, new ones are refused.
const MAX_HELD: usize = 2 * MAX_TUNNELS;

/// All tunnels of a connection.
#[derive(Default)]
pub(crate) struct Lines {
    lines: HashMap<u32, Line>,
    /// The highest number so far, without its bit.
    last: u32,
    /// How many the runner may believe to be open.
    open: usize,
    windows: Windows,
    out: Vec<u8>,
    /// Tunnels with something to tell the runner; each is there once at most.
    unsaid: Vec<u32>,
    /// Tunnels whose writer waits for room in `out`.
    blocked: Vec<u32>,
    receivers: u64,
    receiver: Option<Receiver>,
    is_closed: bool,
}

/// Who hears of new tunnels.
struct Receiver {
    number: u64,
    arrivals: VecDeque<u32>,
    arrived: Arc<Notify>,
}

struct Line {
    /// Who heard of it first, and may cut it.
    receiver: u64,
    inbox: VecDeque<BytesMut>,
    window: Window,
    reader: Option<Waker>,
    has_got_end: bool,
    credit: u32,
    writer: Option<Waker>,
    is_blocked: bool,
    has_ended: bool,
    due: Due,
    is_unsaid: bool,
    /// Whether the runner may believe it to be open.
    is_open: bool,
    /// Whether somebody has it or will get it.
    is_held: bool,
    /// Whether nothing more can come or go.
    is_broken: bool,
    /// Whether that is our doing, and what came is thrown away.
    is_cut: bool,
}

/// What the runner must be told of a tunnel.
#[derive(Default)]
struct Due {
    credit: u32,
    end: bool,
    reset: bool,
}

impl Lines {
    /// Takes the runner's word.
    pub(super) fn word(&mut self, number: u32, word: Word) -> Result<(), ProtocolError> {
        if word == Word::Open {
            return self.open(number);
        }
        self.check(number)?;
        let Some(line) = self.lines.get_mut(&number).filter(|line| line.is_open) else { return Ok(()) };
        match word {
            Word::Open => {}
            Word::Credit(bytes) => {
                let credit = line.credit.checked_add(bytes).filter(|credit| *credit <= WIDE_WINDOW_BYTES);
                line.credit = credit.ok_or_else(|| too_much("credit"))?;
                wake(&mut line.writer);
            }
            Word::End => {
                if std::mem::replace(&mut line.has_got_end, true) {
                    return Err(too_much("ends"));
                }
                wake(&mut line.reader);
                if line.has_ended && !line.due.end {
                    self.forget(number);
                }
            }
            Word::Reset => {
                line.is_broken = true;
                wake(&mut line.reader);
                wake(&mut line.writer);
                self.forget(number);
            }
        }
        Ok(())
    }

    /// Takes bytes of a program. For a tunnel that is over they are late, not wrong.
    pub(super) fn data(&mut self, number: u32, bytes: &[u8]) -> Result<(), ProtocolError> {
        self.check(number)?;
        let Some(line) = self.lines.get_mut(&number).filter(|line| line.is_open) else { return Ok(()) };
        if line.has_got_end {
            return Err(too_much("bytes"));
        }
        if !line.is_held || line.is_broken || bytes.is_empty() {
            return Ok(());
        }
        line.window.arrive(bytes.len()).map_err(|_| too_much("bytes"))?;
        match line.inbox.back_mut() {
            Some(before) if before.len() + bytes.len() <= CHUNK_BYTES => before.extend_from_slice(bytes),
            _ => line.inbox.push_back(BytesMut::from(bytes)),
        }
        wake(&mut line.reader);
        Ok(())
    }

    /// Hands what is to be said to the writer, in place of what it has sent.
    pub(super) fn take_out(&mut self, sent: &mut Vec<u8>) {
        for number in std::mem::take(&mut self.unsaid) {
            self.say(number);
        }
        sent.clear();
        if self.open == 0 {
            sent.shrink_to(CHUNK_BYTES);
        }
        std::mem::swap(&mut self.out, sent);
        for number in std::mem::take(&mut self.blocked) {
            if let Some(line) = self.lines.get_mut(&number) {
                line.is_blocked = false;
                wake(&mut line.writer);
            }
        }
    }

    /// Whether there is something to be said.
    pub(crate) fn has_words(&self) -> bool {
        !self.unsaid.is_empty()
    }

    /// The stream is closed: everybody who waits is told.
    pub(super) fn close(&mut self) {
        self.is_closed = true;
        for line in self.lines.values_mut() {
            line.is_broken = true;
            wake(&mut line.reader);
            wake(&mut line.writer);
        }
        if let Some(receiver) = &self.receiver {
            receiver.arrived.notify_one();
        }
    }

    /// From now on this receiver hears of new tunnels, and of those nobody has taken yet.
    pub(crate) fn receive(&mut self) -> (u64, Arc<Notify>) {
        self.receivers += 1;
        let (number, arrived) = (self.receivers, Arc::new(Notify::new()));
        let earlier = self.receiver.take();
        if let Some(earlier) = &earlier {
            earlier.arrived.notify_one();
        }
        let arrivals = earlier.map(|earlier| earlier.arrivals).unwrap_or_default();
        for arrival in &arrivals {
            if let Some(line) = self.lines.get_mut(arrival) {
                line.receiver = number;
            }
        }
        self.receiver = Some(Receiver { number, arrivals, arrived: Arc::clone(&arrived) });
        (number, arrived)
    }

    /// The next new tunnel for a receiver; nothing more will come after `Err`.
    pub(crate) fn next(&mut self, receiver: u64) -> Result<Option<u32>, ()> {
        match &mut self.receiver {
            Some(current) if current.number == receiver && !self.is_closed => Ok(current.arrivals.pop_front()),
            _ => Err(()),
        }
    }

    /// A receiver is gone: new tunnels are refused, and those it handed out are cut.
    pub(crate) fn leave(&mut self, receiver: u64) {
        if let Some(current) = self.receiver.take_if(|current| current.number == receiver) {
            for number in current.arrivals {
                self.drop_line(number);
            }
        }
        let cut: Vec<u32> =
            self.lines.iter().filter(|(_, line)| line.receiver == receiver && line.is_held).map(|(n, _)| *n).collect();
        for number in cut {
            self.break_off(number);
        }
    }

    /// Reads what came.
    pub(crate) fn poll_read(
        &mut self,
        number: u32,
        context: &Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Some(line) = self.lines.get_mut(&number).filter(|line| !line.is_cut) else {
            return Poll::Ready(Err(broken()));
        };
        let mut taken = 0;
        while into.remaining() > 0
            && let Some(first) = line.inbox.front_mut()
        {
            let bytes = first.len().min(into.remaining());
            into.put_slice(&first[..bytes]);
            first.advance(bytes);
            taken += bytes;
            if first.is_empty() {
                line.inbox.pop_front();
            }
        }
        if taken > 0 {
            let credit = line.window.take(taken, &mut self.windows);
            if credit > 0 && line.is_open && !line.has_got_end {
                line.due.credit += credit;
                self.tell(number);
            }
            return Poll::Ready(Ok(()));
        }
        if line.has_got_end || into.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        if line.is_broken {
            return Poll::Ready(Err(broken()));
        }
        line.reader = Some(context.waker().clone());
        Poll::Pending
    }

    /// Takes bytes for the program, as far as credit and the stream allow.
    pub(crate) fn poll_write(&mut self, number: u32, context: &Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let Some(line) = self.lines.get_mut(&number) else { return Poll::Ready(Err(broken())) };
        if line.has_ended || line.is_broken {
            return Poll::Ready(Err(broken()));
        }
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let is_full = self.out.len() >= OUT_BYTES;
        if is_full && !std::mem::replace(&mut line.is_blocked, true) {
            self.blocked.push(number);
        }
        if is_full || line.credit == 0 {
            line.writer = Some(context.waker().clone());
            return Poll::Pending;
        }
        let room = (line.credit as usize).min(OUT_BYTES - self.out.len());
        let bytes = &bytes[..bytes.len().min(room)];
        for chunk in bytes.chunks(CHUNK_BYTES) {
            encode_data(&mut self.out, number, chunk);
        }
        // At most the credit.
        line.credit -= bytes.len() as u32;
        Poll::Ready(Ok(bytes.len()))
    }

    /// Nothing more will be written.
    pub(crate) fn end(&mut self, number: u32) -> io::Result<()> {
        let line = self.lines.get_mut(&number).ok_or_else(broken)?;
        if !std::mem::replace(&mut line.has_ended, true) && line.is_open {
            line.due.end = true;
            self.tell(number);
        }
        Ok(())
    }

    /// Whoever had it lets it go.
    pub(crate) fn drop_line(&mut self, number: u32) {
        if let Some(line) = self.lines.get_mut(&number) {
            line.is_held = false;
        }
        self.break_off(number);
    }

    fn check(&self, number: u32) -> Result<(), ProtocolError> {
        let known = number & TUNNEL_BIT != 0 && number & !TUNNEL_BIT <= self.last && number != TUNNEL_BIT;
        if known { Ok(()) } else { Err(ProtocolError::Message(format!("tunnel {number} was never opened"))) }
    }

    fn open(&mut self, number: u32) -> Result<(), ProtocolError> {
        if self.last + 1 == TUNNEL_BIT || number != TUNNEL_BIT | (self.last + 1) {
            return Err(ProtocolError::Message(format!("tunnel {number} was opened out of turn")));
        }
        if self.open >= MAX_TUNNELS {
            return Err(ProtocolError::Message(format!("more than {MAX_TUNNELS} tunnels were opened")));
        }
        self.last += 1;
        self.open += 1;
        let line = Line::new(&mut self.windows);
        let has_room = self.lines.len() < MAX_HELD;
        let line = self.lines.entry(number).insert_entry(line).into_mut();
        match &mut self.receiver {
            Some(receiver) if has_room && !self.is_closed => {
                line.receiver = receiver.number;
                receiver.arrivals.push_back(number);
                receiver.arrived.notify_one();
            }
            _ => self.drop_line(number),
        }
        Ok(())
    }

    /// Ends both directions at once. What was ended properly before is left to arrive.
    fn break_off(&mut self, number: u32) {
        let Some(line) = self.lines.get_mut(&number) else { return };
        line.inbox.clear();
        line.window.close(&mut self.windows);
        (line.is_broken, line.is_cut) = (true, true);
        wake(&mut line.reader);
        wake(&mut line.writer);
        if line.is_open {
            line.due.reset = !(line.has_ended && line.has_got_end);
            self.tell(number);
        } else if !line.is_held {
            self.lines.remove(&number);
        }
    }

    /// Puts it where the writer looks.
    fn tell(&mut self, number: u32) {
        if let Some(line) = self.lines.get_mut(&number)
            && !std::mem::replace(&mut line.is_unsaid, true)
        {
            self.unsaid.push(number);
            // A runner that opens, breaks off and takes nothing leaves numbers here that are nobody's.
            if self.unsaid.len() > 2 * MAX_HELD {
                self.unsaid.retain(|number| self.lines.contains_key(number));
            }
        }
    }

    fn say(&mut self, number: u32) {
        let Some(line) = self.lines.get_mut(&number) else { return };
        line.is_unsaid = false;
        let due = std::mem::take(&mut line.due);
        if !line.is_open {
            return;
        }
        if due.credit > 0 && !due.reset {
            encode_word(&mut self.out, number, Word::Credit(due.credit));
        }
        if due.end {
            encode_word(&mut self.out, number, Word::End);
        }
        if due.reset {
            encode_word(&mut self.out, number, Word::Reset);
        }
        if due.reset || (line.has_ended && line.has_got_end) {
            self.forget(number);
        }
    }

    /// The runner believes it to be open no longer.
    fn forget(&mut self, number: u32) {
        let Some(line) = self.lines.get_mut(&number) else { return };
        if std::mem::take(&mut line.is_open) {
            self.open -= 1;
        }
        if !line.is_held {
            line.window.close(&mut self.windows);
            self.lines.remove(&number);
        }
    }
}

impl Line {
    fn new(windows: &mut Windows) -> Self {
        Self {
            receiver: 0,
            inbox: VecDeque::new(),
            window: Window::open(windows),
            reader: None,
            has_got_end: false,
            credit: FIRST_WINDOW_BYTES,
            writer: None,
            is_blocked: false,
            has_ended: false,
            due: Due::default(),
            is_unsaid: false,
            is_open: true,
            is_held: true,
            is_broken: false,
            is_cut: false,
        }
    }
}

fn wake(waker: &mut Option<Waker>) {
    if let Some(waker) = waker.take() {
        waker.wake();
    }
}

fn broken() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionReset, "the tunnel was broken off")
}
