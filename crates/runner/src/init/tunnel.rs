//! The sandbox's only way out: what programs say to the proxy address is carried to the controller, and back.
//!
//! Every connection a program makes is a channel opened here. Bytes are carried, not understood: what may leave is the
//! controller's decision. Nobody waits for anybody: what a program does not read stays within its window, what the
//! controller has no room for stays in the program's socket. Without a controller connections are closed at once.
//!
//! Sockets report changes once (edge-triggered), so each turn costs what happened and not how many tunnels there are.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::socket::{Backlog, listen};

use super::connection::Connection;
use super::line::{Line, Progress};
use crate::protocol::{MAX_TUNNELS, TUNNEL_BIT, TUNNEL_PORT, Windows, Word};

/// How many connections may wait to be accepted: a burst of a build's downloads must not wait for a second try.
const BACKLOG: i32 = 1024;
/// How many connections are accepted before others have their turn again.
const ACCEPTED_AT_ONCE: usize = 64;
/// How many reports of sockets are taken at once.
const REPORTS: usize = 256;
/// Stands for the listener where others have their tunnel's number, none of which is zero.
const LISTENER: u64 = 0;

/// Listens at the proxy address. To be called in the sandbox's own network namespace, before any program runs.
pub(crate) fn listen_for_tunnels() -> io::Result<TcpListener> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, TUNNEL_PORT))?;
    listen(&listener, Backlog::new(BACKLOG)?)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// The controller broke the rules of tunnels: its stream is of no use.
#[derive(Debug)]
pub(super) struct Misconduct;

/// All tunnels of a sandbox.
pub(super) struct Tunnels {
    listener: TcpListener,
    reports: Epoll,
    /// Whether somebody may wait to be accepted.
    has_arrivals: bool,
    lines: HashMap<u32, Line>,
    /// Tunnels with something to read and leave to send it; each is there once at most.
    ready: VecDeque<u32>,
    last: u32,
    windows: Windows,
}

impl Tunnels {
    /// Takes the listener.
    pub(super) fn new(listener: TcpListener) -> Result<Self, Errno> {
        let reports = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        reports.add(&listener, EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLET, LISTENER))?;
        Ok(Self {
            listener,
            reports,
            has_arrivals: false,
            lines: HashMap::new(),
            ready: VecDeque::new(),
            last: 0,
            windows: Windows::default(),
        })
    }

    /// Readable when a socket has something to report.
    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.reports.0.as_fd()
    }

    /// Whether any tunnel is open.
    pub(super) fn are_open(&self) -> bool {
        !self.lines.is_empty()
    }

    /// Whether there is work that no report will announce.
    pub(super) fn is_due(&self, connection: Option<&Connection>) -> bool {
        self.has_arrivals || (!self.ready.is_empty() && connection.is_some_and(|connection| !connection.is_busy()))
    }

    /// Notes what sockets report, and carries to programs what they make room for.
    pub(super) fn listen(&mut self, mut connection: Option<&mut Connection>) {
        let mut reports = [EpollEvent::empty(); REPORTS];
        let count = self.reports.wait(&mut reports, EpollTimeout::ZERO).unwrap_or(0);
        for report in &reports[..count] {
            if report.data() == LISTENER {
                self.has_arrivals = true;
                continue;
            }
            let number = report.data() as u32;
            let (Some(line), Some(connection)) = (self.lines.get_mut(&number), connection.as_deref_mut()) else {
                // Closed meanwhile.
                continue;
            };
            let progress = line.report(report.events(), connection, &mut self.windows);
            self.settle(number, progress);
        }
    }

    /// Accepts who waits, and carries to the controller what it has room for.
    pub(super) fn pump(&mut self, mut connection: Option<&mut Connection>) {
        self.accept(connection.as_deref_mut());
        let Some(connection) = connection else { return };
        while !connection.is_busy()
            && let Some(number) = self.ready.pop_front()
        {
            if let Some(line) = self.lines.get_mut(&number) {
                line.is_queued = false;
                let progress = line.read(connection);
                self.settle(number, progress);
            }
        }
    }

    /// Takes bytes of the controller for a program. For a tunnel that is over they are late, not wrong.
    pub(super) fn data(&mut self, number: u32, bytes: &[u8], connection: &mut Connection) -> Result<(), Misconduct> {
        self.check(number)?;
        if let Some(line) = self.lines.get_mut(&number) {
            let progress = line.take(bytes, connection, &mut self.windows)?;
            self.settle(number, progress);
        }
        Ok(())
    }

    /// Takes a word of the controller.
    pub(super) fn word(&mut self, number: u32, word: Word, connection: &mut Connection) -> Result<(), Misconduct> {
        self.check(number)?;
        if let Some(line) = self.lines.get_mut(&number) {
            let progress = match word {
                Word::Open => return Err(Misconduct),
                Word::Credit(bytes) => line.credit(bytes)?,
                Word::End => line.end(connection, &mut self.windows)?,
                Word::Reset => line.reset(),
            };
            self.settle(number, progress);
        }
        Ok(())
    }

    /// The controller is gone, and all tunnels with it.
    pub(super) fn cut(&mut self) {
        for (_, line) in self.lines.drain() {
            line.cut();
        }
        self.ready.clear();
        (self.last, self.windows) = (0, Windows::default());
    }

    fn check(&self, number: u32) -> Result<(), Misconduct> {
        let known = number & TUNNEL_BIT != 0 && number & !TUNNEL_BIT <= self.last;
        if known { Ok(()) } else { Err(Misconduct) }
    }

    fn settle(&mut self, number: u32, progress: Progress) {
        match progress {
            Progress::Waits => {}
            Progress::CanRead => {
                if let Some(line) = self.lines.get_mut(&number)
                    && !std::mem::replace(&mut line.is_queued, true)
                {
                    self.ready.push_back(number);
                }
            }
            Progress::Over | Progress::Broken => {
                if let Some(mut line) = self.lines.remove(&number) {
                    line.window.close(&mut self.windows);
                    if matches!(progress, Progress::Broken) {
                        line.cut();
                    }
                }
            }
        }
    }

    fn accept(&mut self, mut connection: Option<&mut Connection>) {
        let mut accepted = 0;
        while self.has_arrivals && accepted < ACCEPTED_AT_ONCE {
            accepted += 1;
            let stream = match self.listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
                // Nobody waits, or this process has no descriptor left: then the next arrival is a new try.
                Err(_) => {
                    self.has_arrivals = false;
                    return;
                }
            };
            // The numbers of one controller's connection run out after two thousand million tunnels.
            let has_room = self.lines.len() < MAX_TUNNELS && self.last < !TUNNEL_BIT;
            let Some(connection) = connection.as_deref_mut().filter(|_| has_room) else { continue };
            let number = TUNNEL_BIT | (self.last + 1);
            let Ok(line) = Line::open(number, stream, &self.reports, &mut self.windows) else { continue };
            self.last += 1;
            connection.send_word(number, Word::Open);
            self.lines.insert(number, line);
            self.settle(number, Progress::CanRead);
        }
    }
}
