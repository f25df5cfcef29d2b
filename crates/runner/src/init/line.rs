//! One tunnel as the runner sees it: a program's connection on one side, a channel on the other.
//!
//! Each direction ends by itself. The tunnel is over when both have ended and the program was given all there was, or
//! at once when either side breaks it off.

use std::collections::VecDeque;
use std::io::{ErrorKind, Write};
use std::net::{Shutdown, TcpStream};

use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags};
use nix::sys::socket::{setsockopt, sockopt};

use super::connection::Connection;
use super::tunnel::Misconduct;
use crate::protocol::{CHUNK_BYTES, FIRST_WINDOW_BYTES, WIDE_WINDOW_BYTES, Window, Windows, Word};

/// What is to become of a tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    /// Nothing, until there is news.
    Waits,
    /// There may be something to carry to the controller.
    CanRead,
    /// It is over.
    Over,
    /// It was broken off: the program is told by a reset of its connection.
    Broken,
}

/// A tunnel.
pub(super) struct Line {
    number: u32,
    stream: TcpStream,
    /// What the controller still takes.
    credit: u32,
    is_readable: bool,
    hung_up: bool,
    has_sent_end: bool,
    /// What the program was not yet given.
    queue: VecDeque<u8>,
    is_writable: bool,
    has_got_end: bool,
    is_shut: bool,
    /// The controller hears nothing more of it: it is over once the program was given all there is.
    is_left: bool,
    pub(super) window: Window,
    /// Whether it stands in the queue of those that can be read.
    pub(super) is_queued: bool,
}

impl Line {
    /// Takes a program's connection.
    pub(super) fn open(
        number: u32,
        stream: TcpStream,
        reports: &Epoll,
        windows: &mut Windows,
    ) -> Result<Self, std::io::Error> {
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        let changes = EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT | EpollFlags::EPOLLRDHUP | EpollFlags::EPOLLET;
        reports.add(&stream, EpollEvent::new(changes, u64::from(number)))?;
        Ok(Self {
            number,
            stream,
            credit: FIRST_WINDOW_BYTES,
            is_readable: true,
            hung_up: false,
            has_sent_end: false,
            queue: VecDeque::new(),
            is_writable: true,
            has_got_end: false,
            is_shut: false,
            is_left: false,
            window: Window::open(windows),
            is_queued: false,
        })
    }

    /// Notes what the socket reports.
    pub(super) fn report(
        &mut self,
        events: EpollFlags,
        connection: &mut Connection,
        windows: &mut Windows,
    ) -> Progress {
        if events.contains(EpollFlags::EPOLLERR) {
            return self.break_off(connection);
        }
        if events.contains(EpollFlags::EPOLLOUT) {
            self.is_writable = true;
            let progress = self.write(connection, windows);
            if progress != Progress::Waits {
                return progress;
            }
        }
        if events.intersects(EpollFlags::EPOLLRDHUP | EpollFlags::EPOLLHUP) {
            self.hung_up = true;
        }
        if self.hung_up || events.contains(EpollFlags::EPOLLIN) {
            self.is_readable = true;
        }
        self.wants_read()
    }

    /// Carries one piece from the program to the controller.
    pub(super) fn read(&mut self, connection: &mut Connection) -> Progress {
        if self.wants_read() == Progress::Waits {
            return Progress::Waits;
        }
        let room = (self.credit as usize).min(CHUNK_BYTES);
        match connection.send_read(self.number, room, &mut self.stream) {
            Ok(0) => {
                self.has_sent_end = true;
                connection.send_word(self.number, Word::End);
                self.outcome()
            }
            Ok(bytes) => {
                // At most a chunk.
                self.credit -= bytes as u32;
                // A short read has emptied the socket. What follows is reported, but for an end that was already.
                self.is_readable = bytes == room || self.hung_up;
                self.wants_read()
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.is_readable = false;
                Progress::Waits
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => Progress::CanRead,
            Err(_broken) => self.break_off(connection),
        }
    }

    /// Takes bytes for the program.
    pub(super) fn take(
        &mut self,
        bytes: &[u8],
        connection: &mut Connection,
        windows: &mut Windows,
    ) -> Result<Progress, Misconduct> {
        if self.has_got_end {
            return Err(Misconduct);
        }
        self.window.arrive(bytes.len()).map_err(|_| Misconduct)?;
        let mut given = 0;
        while self.queue.is_empty() && self.is_writable && given < bytes.len() {
            match self.stream.write(&bytes[given..]) {
                Ok(count) => given += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.is_writable = false,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_broken) => return Ok(self.break_off(connection)),
            }
        }
        self.queue.extend(&bytes[given..]);
        self.grant(given, connection, windows);
        Ok(Progress::Waits)
    }

    /// The controller takes more.
    pub(super) fn credit(&mut self, bytes: u32) -> Result<Progress, Misconduct> {
        let credit = self.credit.checked_add(bytes).filter(|credit| *credit <= WIDE_WINDOW_BYTES);
        self.credit = credit.ok_or(Misconduct)?;
        Ok(self.wants_read())
    }

    /// The controller has nothing more for the program.
    pub(super) fn end(&mut self, connection: &mut Connection, windows: &mut Windows) -> Result<Progress, Misconduct> {
        if std::mem::replace(&mut self.has_got_end, true) {
            return Err(Misconduct);
        }
        Ok(self.write(connection, windows))
    }

    /// The controller has left the tunnel. What it had ended properly is still given to the program.
    pub(super) fn reset(&mut self) -> Progress {
        self.is_left = true;
        if !self.has_got_end {
            return Progress::Broken;
        }
        self.outcome()
    }

    /// Breaks the program's connection off, so that it cannot take what it has for the whole.
    pub(super) fn cut(self) {
        let at_once = libc::linger { l_onoff: 1, l_linger: 0 };
        // Should that fail the connection ends all the same, in a politer way.
        let _set = setsockopt(&self.stream, sockopt::Linger, &at_once);
    }

    /// Gives the program what it takes of the queue.
    fn write(&mut self, connection: &mut Connection, windows: &mut Windows) -> Progress {
        let mut given = 0;
        while self.is_writable && !self.queue.is_empty() {
            match self.stream.write(self.queue.as_slices().0) {
                Ok(count) => {
                    self.queue.drain(..count);
                    given += count;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.is_writable = false,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_broken) => return self.break_off(connection),
            }
        }
        if self.queue.is_empty() && self.queue.capacity() > CHUNK_BYTES {
            self.queue = VecDeque::new();
        }
        self.grant(given, connection, windows);
        if self.has_got_end && self.queue.is_empty() && !std::mem::replace(&mut self.is_shut, true) {
            let _already_gone: Result<(), _> = self.stream.shutdown(Shutdown::Write);
        }
        self.outcome()
    }

    fn grant(&mut self, taken: usize, connection: &mut Connection, windows: &mut Windows) {
        if taken == 0 {
            return;
        }
        let credit = self.window.take(taken, windows);
        if credit > 0 && !self.has_got_end && !self.is_left {
            connection.send_word(self.number, Word::Credit(credit));
        }
    }

    fn wants_read(&self) -> Progress {
        let wants = self.is_readable && self.credit > 0 && !self.has_sent_end && !self.is_left;
        if wants { Progress::CanRead } else { Progress::Waits }
    }

    fn outcome(&self) -> Progress {
        let is_given = self.has_got_end && self.queue.is_empty();
        if is_given && (self.has_sent_end || self.is_left) { Progress::Over } else { Progress::Waits }
    }

    fn break_off(&self, connection: &mut Connection) -> Progress {
        if !self.is_left {
            connection.send_word(self.number, Word::Reset);
        }
        Progress::Broken
    }
}
