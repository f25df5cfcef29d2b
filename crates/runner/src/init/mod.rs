//! Process 1 of a sandbox: one thread, one poll loop over its controller, its commands and its children.
//!
//! It never waits for anything but the poll: pipes and sockets do not block, deadlines bound the poll. Commands run
//! under supervisors; files are read and written here, inside the sandbox's own root, as its own user.

mod channel;
mod command;
mod connection;
mod files;
mod line;
mod score;
mod streams;
mod supervisor;
mod tree;
mod tunnel;

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::net::TcpListener;
use std::os::fd::AsFd;
use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::protocol::{Decoder, Event, ExecRequest, Failure, Frame, Request, TUNNEL_BIT, ToRunner, message};
use command::{Command, Pipe};
use connection::Connection;
use files::{FileRead, FileWrite};
pub use score::Score;
pub(crate) use tunnel::listen_for_tunnels;
use tunnel::{Misconduct, Tunnels};

/// How much kept output of ended commands a runner holds in all; the oldest goes first.
const ENDED_OUTPUT_BYTES: usize = 64 << 20;

/// Why a runner stopped.
#[derive(Debug)]
pub enum End {
    /// No controller connected for the given time.
    Orphaned,
    /// Its own machinery failed.
    Broken(io::Error),
}

impl From<io::Error> for End {
    fn from(error: io::Error) -> Self {
        Self::Broken(error)
    }
}

impl From<Errno> for End {
    fn from(error: Errno) -> Self {
        Self::Broken(error.into())
    }
}

/// Serves controllers on `listener`, one at a time, until none came for `orphan_after`; programs that connect to
/// `proxy` are connected with them.
/// Must be called by process 1 of a process namespace: it reaps every child there is.
pub fn serve(
    listener: UnixListener,
    proxy: TcpListener,
    environment: Vec<(String, String)>,
    orphan_after: Duration,
    score: Score,
) -> Result<Infallible, End> {
    listener.set_nonblocking(true)?;
    let mut children = SigSet::empty();
    children.add(Signal::SIGCHLD);
    children.thread_block()?;
    let signals = SignalFd::with_flags(&children, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
    let mut runner = Runner {
        listener,
        signals,
        environment,
        connection: None,
        heard: Instant::now(),
        orphan_after,
        commands: Vec::new(),
        reads: Vec::new(),
        writes: HashMap::new(),
        tunnels: Tunnels::new(proxy)?,
        score,
    };
    loop {
        runner.turn()?;
    }
}

/// What a poll reported on; numbers are indices of commands.
#[derive(Clone, Copy)]
enum Source {
    Signals,
    Listener,
    Connection,
    Tunnels,
    Command(usize, Pipe),
}

struct Runner {
    listener: UnixListener,
    signals: SignalFd,
    environment: Vec<(String, String)>,
    connection: Option<Connection>,
    heard: Instant,
    orphan_after: Duration,
    commands: Vec<Command>,
    reads: Vec<FileRead>,
    writes: HashMap<u32, FileWrite>,
    tunnels: Tunnels,
    score: Score,
}

impl Runner {
    fn turn(&mut self) -> Result<(), End> {
        let now = Instant::now();
        self.tick(now);
        self.pump(now);
        if self.connection.is_none() && now >= self.heard + self.orphan_after {
            return Err(End::Orphaned);
        }
        for source in self.wait(now)? {
            match source {
                Source::Signals => self.reap()?,
                Source::Listener => self.accept(),
                Source::Connection => self.listen(),
                Source::Tunnels => self.tunnels.listen(self.connection.as_mut()),
                Source::Command(index, pipe) => self.serve_pipe(index, pipe),
            }
        }
        Ok(())
    }

    fn wait(&self, now: Instant) -> Result<Vec<Source>, End> {
        let mut sources = vec![Source::Signals, Source::Listener, Source::Tunnels];
        let mut fds = vec![
            PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.listener.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.tunnels.as_fd(), PollFlags::POLLIN),
        ];
        let congested = self.connection.as_ref().is_some_and(Connection::is_congested);
        if let Some(connection) = &self.connection {
            sources.push(Source::Connection);
            fds.push(PollFd::new(connection.as_fd(), connection.interest()));
        }
        for (index, command) in self.commands.iter().enumerate() {
            for (pipe, fd, interest) in command.interests(congested) {
                sources.push(Source::Command(index, pipe));
                fds.push(PollFd::new(fd, interest));
            }
        }
        match poll(&mut fds, self.timeout(now)) {
            Ok(_) => {}
            Err(Errno::EINTR) => return Ok(Vec::new()),
            Err(error) => return Err(error.into()),
        }
        let ready = sources.iter().zip(&fds).filter(|(_, fd)| fd.any() == Some(true));
        Ok(ready.map(|(source, _)| *source).collect())
    }

    fn timeout(&self, now: Instant) -> PollTimeout {
        if self.tunnels.is_due(self.connection.as_ref()) {
            return PollTimeout::ZERO;
        }
        let orphaned = self.connection.is_none().then(|| self.heard + self.orphan_after);
        let next = self.commands.iter().filter_map(Command::deadline).chain(orphaned).min();
        let Some(next) = next else { return PollTimeout::NONE };
        // Rounded up: a poll that ends too early would spin until the deadline.
        let wait = next.saturating_duration_since(now) + Duration::from_millis(1);
        PollTimeout::try_from(wait).unwrap_or(PollTimeout::MAX)
    }

    /// Ends what is past its deadline.
    fn tick(&mut self, now: Instant) {
        for command in &mut self.commands {
            command.tick(now);
        }
    }

    /// Moves what is ready towards the controller.
    fn pump(&mut self, now: Instant) {
        self.tunnels.pump(self.connection.as_mut());
        if let Some(connection) = &mut self.connection {
            for command in &mut self.commands {
                command.pump(connection, now);
            }
            // A stream that took everything would wake nobody: so reading goes on until it takes no more.
            let sent = loop {
                self.reads.retain_mut(|read| read.pump(connection));
                match connection.flush(self.tunnels.are_open()) {
                    Ok(()) if self.reads.is_empty() || connection.is_congested() => break true,
                    Ok(()) => {}
                    Err(_gone) => break false,
                }
            };
            if !sent {
                self.disconnect();
            }
        }
        self.commands.retain(|command| !command.is_forgotten());
    }

    fn reap(&mut self) -> Result<(), End> {
        while self.signals.read_signal()?.is_some() {}
        loop {
            let pid = match waitpid(None::<Pid>, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, _) | WaitStatus::Signaled(pid, _, _)) => pid,
                Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return Ok(()),
                Ok(_) | Err(Errno::EINTR) => continue,
                Err(error) => return Err(error.into()),
            };
            if let Some(command) = self.commands.iter_mut().find(|command| command.supervisor() == Some(pid)) {
                command.supervisor_ended();
            }
        }
    }

    /// A new controller takes the place of the old one; whoever cannot be accepted now will be, or gives up.
    fn accept(&mut self) {
        if let Ok((stream, _)) = self.listener.accept() {
            self.disconnect();
            self.connection = Connection::open(stream).ok();
        }
    }

    fn disconnect(&mut self) {
        self.connection = None;
        self.heard = Instant::now();
        self.reads.clear();
        self.writes.clear();
        self.tunnels.cut();
        for command in &mut self.commands {
            command.detach();
        }
    }

    fn listen(&mut self) {
        let Some(connection) = &mut self.connection else { return };
        let mut open = connection.receive();
        let mut received = connection.take_received();
        while open {
            match self.answer(&mut received) {
                Ok(true) => {}
                Ok(false) => break,
                Err(Misconduct) => open = false,
            }
        }
        match &mut self.connection {
            Some(connection) if open => connection.give_back(received),
            _ => self.disconnect(),
        }
    }

    /// Acts on the next whole frame that came; false when there is none.
    fn answer(&mut self, received: &mut Decoder) -> Result<bool, Misconduct> {
        let Some(frame) = received.next_frame().map_err(|_| Misconduct)? else { return Ok(false) };
        match (frame, &mut self.connection) {
            (Frame::Control(payload), _) => self.request(message(payload).map_err(|_| Misconduct)?),
            (Frame::Tunnel(number, word), Some(connection)) => self.tunnels.word(number, word, connection)?,
            (Frame::Data(number, bytes), Some(connection)) if number & TUNNEL_BIT != 0 => {
                self.tunnels.data(number, bytes, connection)?;
            }
            (Frame::Data(channel, bytes), _) => self.data(channel, bytes),
            (Frame::Tunnel(..), None) => {}
        }
        Ok(true)
    }

    fn request(&mut self, ToRunner { channel, request }: ToRunner) {
        let answer = match request {
            Request::Exec(exec) => self.exec(channel, exec),
            Request::Credit { bytes } => {
                self.with_channel(channel, |command| command.credit(bytes));
                None
            }
            Request::StdinEnd => {
                self.with_channel(channel, Command::end_stdin);
                None
            }
            Request::Detach => {
                self.with_channel(channel, Command::detach);
                None
            }
            Request::Resize { command, columns, rows } => {
                if let Some(command) = self.commands.iter().find(|known| known.id() == command) {
                    command.resize(columns, rows);
                }
                None
            }
            Request::Kill { command } => Some(match self.commands.iter_mut().find(|known| known.id() == command) {
                Some(command) => {
                    command.kill();
                    Event::Done
                }
                None => Event::Failed(Failure::UnknownCommand),
            }),
            Request::KillAll => {
                tree::kill_everything();
                Some(Event::Done)
            }
            Request::ReadFile { path, max_bytes } => match FileRead::open(channel, &path, max_bytes) {
                Ok(read) => {
                    self.reads.push(read);
                    None
                }
                Err(failure) => Some(Event::Failed(failure)),
            },
            Request::WriteFile { path, size_bytes, mode } => match FileWrite::open(channel, &path, size_bytes, mode) {
                Ok(write) => {
                    self.writes.insert(channel, write);
                    self.finish_write(channel)
                }
                Err(failure) => Some(Event::Failed(failure)),
            },
            Request::RemoveFile { path } => Some(files::remove(&path).map_or_else(Event::Failed, |()| Event::Done)),
            Request::Stat { path } => Some(files::stat(&path).map_or_else(Event::Failed, Event::Stat)),
            Request::ListFolder { path } => Some(files::list(&path)),
        };
        if let (Some(event), Some(connection)) = (answer, &mut self.connection) {
            connection.send(channel, event);
        }
    }

    fn exec(&mut self, channel: u32, exec: ExecRequest) -> Option<Event> {
        if let Some(command) = self.commands.iter_mut().find(|command| command.id() == exec.id) {
            let replaced = match command.attach(channel) {
                Ok(replaced) => replaced,
                Err(failure) => return Some(Event::Failed(failure)),
            };
            if let (Some(old), Some(connection)) = (replaced, &mut self.connection) {
                connection.send(old, Event::Replaced);
            }
            return None;
        }
        match self.score.of_commands(|| Command::start(channel, exec, &self.environment)) {
            Ok(command) => {
                self.commands.push(command);
                self.forget_old_output();
                None
            }
            Err(failure) => Some(Event::Failed(failure)),
        }
    }

    /// Keeps the sum of kept output bounded. Ids and results stay: an id must never run twice.
    fn forget_old_output(&mut self) {
        let mut sum: usize = self.commands.iter().map(Command::idle_output_bytes).sum();
        for command in &mut self.commands {
            if sum <= ENDED_OUTPUT_BYTES {
                return;
            }
            sum -= command.idle_output_bytes();
            command.forget_output();
        }
    }

    fn data(&mut self, channel: u32, bytes: &[u8]) {
        if let Some(write) = self.writes.get_mut(&channel) {
            write.push(bytes);
            if let Some(event) = self.finish_write(channel)
                && let Some(connection) = &mut self.connection
            {
                connection.send(channel, event);
            }
        } else {
            // For a channel that is gone: its last bytes were under way when it ended.
            self.with_channel(channel, |command| command.push_stdin(bytes));
        }
    }

    fn finish_write(&mut self, channel: u32) -> Option<Event> {
        let complete = self.writes.get(&channel).is_some_and(FileWrite::is_complete);
        let write = complete.then(|| self.writes.remove(&channel)).flatten()?;
        Some(write.finish().map_or_else(Event::Failed, |()| Event::Done))
    }

    fn with_channel(&mut self, channel: u32, act: impl FnOnce(&mut Command)) {
        if let Some(command) = self.commands.iter_mut().find(|command| command.channel() == Some(channel)) {
            act(command);
        }
    }

    fn serve_pipe(&mut self, index: usize, pipe: Pipe) {
        // A request handled before in this turn may have closed the pipe: each handler looks again.
        let Some(command) = self.commands.get_mut(index) else { return };
        match pipe {
            Pipe::Status => {
                if command.read_status() {
                    // The one that was killed may not have handed its children over yet: it closes its files first.
                    let gone = command.supervisor();
                    let supervisors = self.commands.iter().filter_map(Command::supervisor);
                    let living: Vec<Pid> = supervisors.filter(|pid| Some(*pid) != gone).collect();
                    tree::kill_orphans(&living);
                }
            }
            Pipe::Output => command.read_output(self.connection.as_mut()),
            Pipe::Stderr => command.read_stderr(),
            Pipe::Stdin => command.write_stdin(),
        }
    }
}
