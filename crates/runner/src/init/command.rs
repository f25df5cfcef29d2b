//! One command: its pipes, what is kept of its output, its way from start to end.
//!
//! ```text
//! Starting -> Running -> Draining -> Ended
//!     \-> Refused (and forgotten once that is told)
//! ```
//! Draining: the main process has ended, and what it left in the pipe is read. Processes it left behind may live on;
//! their output is read and thrown away, so that they are not held up.

mod pipes;

use std::collections::VecDeque;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::PollFlags;
use nix::unistd::Pid;

use super::channel::{Channel, send_kept};
use super::connection::Connection;
use super::streams::{explain, prepare};
use super::supervisor::{self, Report, Reports, Step};
use super::tree;
use crate::kept::Kept;
use crate::protocol::{CHUNK_BYTES, EndedEvent, Event, ExecRequest, Failure, OUTPUT_WINDOW_BYTES, Status};
use crate::sys::process::set_window_size;

/// The most output of one command that can be kept.
const KEPT_LIMIT_BYTES: u64 = 16 << 20;
/// How long output is waited for after the main process ended, while a process it left behind holds the pipe.
const GRACE: Duration = Duration::from_millis(50);
/// The largest pipe a process can ask for: more than this cannot have been written before the main process ended.
const PIPE_BYTES: usize = 1 << 20;
/// Which pipe of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pipe {
    Status,
    Output,
    Stderr,
    Stdin,
}

enum Phase {
    Starting,
    Running,
    Draining { status: Status, until: Instant, drained: usize },
    Ended(EndedEvent),
    Refused(Failure),
}

/// A command a runner knows.
pub(super) struct Command {
    id: String,
    phase: Phase,
    channel: Option<Channel>,
    /// Without it the output is streamed.
    kept: Option<Kept>,
    supervisor: Option<Pid>,
    reports: Option<Reports>,
    output: Option<File>,
    stderr: Option<File>,
    stderr_end: VecDeque<u8>,
    stdin: Option<File>,
    stdin_queue: VecDeque<u8>,
    stdin_ends: bool,
    is_terminal: bool,
    started: Instant,
    time_limit: Option<Instant>,
    timed_out: bool,
}

impl Command {
    /// Starts it. What the program itself makes of that comes later, on its channel.
    pub(super) fn start(channel: u32, exec: ExecRequest, sandbox: &[(String, String)]) -> Result<Self, Failure> {
        let refuse = |error: Errno| Failure::CannotStart { reason: explain(error) };
        let is_terminal = exec.terminal.is_some();
        let (program, streams) = prepare(&exec, sandbox)?;
        let (pid, reports) = supervisor::start(&program).map_err(refuse)?;
        let started = Instant::now();
        let limit = |bytes: u64| usize::try_from(bytes.min(KEPT_LIMIT_BYTES)).unwrap_or(usize::MAX);
        Ok(Self {
            id: exec.id,
            phase: Phase::Starting,
            channel: Some(Channel::new(channel)),
            kept: exec.keep_bytes.map(|bytes| Kept::new(limit(bytes))),
            supervisor: Some(pid),
            reports: Some(reports),
            output: Some(streams.output),
            stderr: streams.stderr,
            stderr_end: VecDeque::new(),
            stdin: streams.stdin,
            stdin_queue: VecDeque::new(),
            stdin_ends: false,
            is_terminal,
            started,
            time_limit: exec.time_limit_ms.map(|limit| started + Duration::from_millis(limit.min(u64::from(u32::MAX)))),
            timed_out: false,
        })
    }

    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// The channel somebody listens on.
    pub(super) fn channel(&self) -> Option<u32> {
        self.channel.as_ref().map(|channel| channel.number)
    }

    /// The supervisor, while it is not reaped.
    pub(super) fn supervisor(&self) -> Option<Pid> {
        self.supervisor
    }

    /// The supervisor was reaped: its number may be another's from now on.
    pub(super) fn supervisor_ended(&mut self) {
        self.supervisor = None;
    }

    /// Whether nothing of it is worth knowing: it never ran, and that was told or nobody listens.
    pub(super) fn is_forgotten(&self) -> bool {
        matches!(self.phase, Phase::Refused(_)) && self.channel.is_none()
    }

    /// Listens on a new channel from the start of the output; the channel that listened before, if any.
    pub(super) fn attach(&mut self, channel: u32) -> Result<Option<u32>, Failure> {
        if self.kept.is_none() {
            return Err(Failure::NotAttachable);
        }
        Ok(self.channel.replace(Channel::new(channel)).map(|old| old.number))
    }

    /// Nobody listens any more. A terminal that nobody can come back to is hung up: the kernel tells its programs.
    pub(super) fn detach(&mut self) {
        self.channel = None;
        if self.is_terminal && self.kept.is_none() {
            (self.output, self.stdin) = (None, None);
            self.stdin_queue.clear();
        }
    }

    /// The listener took this much.
    pub(super) fn credit(&mut self, bytes: u64) {
        if let Some(channel) = &mut self.channel {
            channel.credit = channel.credit.saturating_add(bytes).min(OUTPUT_WINDOW_BYTES);
        }
    }

    /// Gives its terminal, if it has one, another size; the kernel tells the program in front.
    pub(super) fn resize(&self, columns: u16, rows: u16) {
        if self.is_terminal
            && let Some(terminal) = &self.output
        {
            // A terminal that takes no size has lost its last program this moment.
            let _ended_meanwhile = set_window_size(terminal.as_fd(), columns, rows);
        }
    }

    /// Ends it and everything it started.
    pub(super) fn kill(&mut self) {
        if let Some(supervisor) = self.supervisor {
            tree::kill_below(supervisor);
        }
    }

    /// What to poll for.
    pub(super) fn interests(&self, congested: bool) -> Vec<(Pipe, BorrowedFd<'_>, PollFlags)> {
        let mut interests = Vec::with_capacity(4);
        if let Some(reports) = &self.reports {
            interests.push((Pipe::Status, reports.as_fd(), PollFlags::POLLIN));
        }
        if let Some(output) = &self.output
            && self.room(congested) > 0
        {
            interests.push((Pipe::Output, output.as_fd(), PollFlags::POLLIN));
        }
        if let Some(stderr) = &self.stderr {
            interests.push((Pipe::Stderr, stderr.as_fd(), PollFlags::POLLIN));
        }
        if let Some(stdin) = &self.stdin
            && !self.stdin_queue.is_empty()
        {
            interests.push((Pipe::Stdin, stdin.as_fd(), PollFlags::POLLOUT));
        }
        interests
    }

    /// How much output may be read now. Only a streamed output somebody listens to is ever held back.
    fn room(&self, congested: bool) -> usize {
        match &self.channel {
            Some(channel) if self.kept.is_none() && !matches!(self.phase, Phase::Ended(_)) => {
                let held_back = congested || !channel.told_started;
                if held_back { 0 } else { usize::try_from(channel.credit).unwrap_or(CHUNK_BYTES).min(CHUNK_BYTES) }
            }
            _ => CHUNK_BYTES,
        }
    }

    /// The next moment it needs attention without any news.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let draining = match &self.phase {
            Phase::Draining { until, .. } if self.is_readable_soon() => Some(*until),
            _ => None,
        };
        let paced = match (&self.channel, &self.kept) {
            (Some(channel), Some(kept)) if kept.total_bytes() > channel.position && channel.credit > 0 => {
                Some(channel.next_send)
            }
            _ => None,
        };
        draining.into_iter().chain(paced).chain(self.time_limit).min()
    }

    /// Whether waiting for its output ends by itself: not while a slow listener holds it back.
    fn is_readable_soon(&self) -> bool {
        self.kept.is_some() || self.channel.as_ref().is_none_or(|channel| channel.credit > 0)
    }

    /// Acts on deadlines, whether somebody listens or not: one that stays past would keep the runner awake.
    pub(super) fn tick(&mut self, now: Instant) {
        self.finish_draining(now);
        if self.time_limit.is_some_and(|limit| now >= limit) {
            self.time_limit = None;
            if matches!(self.phase, Phase::Starting | Phase::Running) {
                self.timed_out = true;
                self.kill();
            }
        }
    }

    /// Reads what the supervisor says; true when it was killed and left its tree behind.
    pub(super) fn read_status(&mut self) -> bool {
        while let Some(report) = self.reports.as_mut().and_then(Reports::next) {
            match report {
                Some(Report::Started) => self.phase = Phase::Running,
                Some(Report::Refused(step, error)) => self.refuse(step, error),
                Some(Report::Exited(code)) => self.main_ended(Status::Exited(code)),
                Some(Report::Signalled(signal)) => self.main_ended(Status::Signalled(signal)),
                None => {
                    self.reports = None;
                    return self.supervisor_gone();
                }
            }
        }
        false
    }

    fn refuse(&mut self, step: Step, error: Errno) {
        let reason = match step {
            Step::Program => explain(error),
            Step::Directory => format!("its folder cannot be entered: {}", explain(error)),
            Step::Streams => format!("its streams cannot be set up: {}", explain(error)),
        };
        self.phase = Phase::Refused(Failure::CannotStart { reason });
        (self.output, self.stderr, self.stdin, self.time_limit) = (None, None, None, None);
    }

    fn main_ended(&mut self, status: Status) {
        if matches!(self.phase, Phase::Starting | Phase::Running) {
            let status = if self.timed_out { Status::TimedOut } else { status };
            self.phase = Phase::Draining { status, until: Instant::now() + GRACE, drained: 0 };
            self.time_limit = None;
        }
    }

    fn supervisor_gone(&mut self) -> bool {
        let was_killed = matches!(self.phase, Phase::Starting | Phase::Running);
        if was_killed {
            self.main_ended(Status::Signalled(libc::SIGKILL));
        }
        if matches!(self.phase, Phase::Ended(_)) {
            // Nobody is left that could write.
            (self.output, self.stderr) = (None, None);
        }
        was_killed
    }

    /// Moves what there is to tell to the controller, as far as credit and the connection allow.
    pub(super) fn pump(&mut self, connection: &mut Connection, now: Instant) {
        let Some(channel) = &mut self.channel else { return };
        if let Phase::Refused(failure) = &self.phase {
            connection.send(channel.number, Event::Failed(failure.clone()));
            self.channel = None;
            return;
        }
        if matches!(self.phase, Phase::Starting) {
            return;
        }
        if !std::mem::replace(&mut channel.told_started, true) {
            connection.send(channel.number, Event::Started);
        }
        match std::mem::take(&mut channel.stdin_taken) {
            0 => {}
            bytes => connection.send(channel.number, Event::StdinTaken { bytes }),
        }
        if std::mem::take(&mut channel.stdin_closed) {
            connection.send(channel.number, Event::StdinClosed);
        }
        let is_over = matches!(self.phase, Phase::Ended(_));
        let all_sent = self.kept.as_ref().is_none_or(|kept| send_kept(kept, channel, connection, is_over, now));
        if let Phase::Ended(ended) = &self.phase
            && all_sent
        {
            connection.send(channel.number, Event::Ended(ended.clone()));
            self.channel = None;
        }
    }

    /// Declares it over once its output is at its end, or nothing more of it can be waited for.
    fn finish_draining(&mut self, now: Instant) {
        let Phase::Draining { status, until, drained } = &self.phase else { return };
        let (status, late, drained) = (*status, now >= *until, *drained);
        let is_dry = self.output.is_none() && self.stderr.is_none();
        let has_waited = late && (drained > PIPE_BYTES || !self.has_output());
        if !is_dry && !has_waited {
            return;
        }
        let stderr: Vec<u8> = self.stderr_end.drain(..).collect();
        self.phase = Phase::Ended(EndedEvent {
            status,
            dropped_bytes: self.kept.as_ref().map_or(0, Kept::dropped_bytes),
            duration_us: u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX),
            stderr: String::from_utf8_lossy(&stderr).into_owned(),
        });
        self.stdin = None;
        self.stdin_queue.clear();
        if self.reports.is_none() {
            (self.output, self.stderr) = (None, None);
        }
    }

    /// Whether there is output to read at this moment.
    fn has_output(&self) -> bool {
        let fds = [self.output.as_ref(), self.stderr.as_ref()];
        let mut fds: Vec<_> =
            fds.iter().flatten().map(|fd| nix::poll::PollFd::new(fd.as_fd(), PollFlags::POLLIN)).collect();
        nix::poll::poll(&mut fds, nix::poll::PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
    }

    /// Kept bytes of a command that is over and nobody listens to.
    pub(super) fn idle_output_bytes(&self) -> usize {
        match (&self.phase, &self.channel, &self.kept) {
            (Phase::Ended(_), None, Some(kept)) => {
                usize::try_from(kept.total_bytes() - kept.dropped_bytes()).unwrap_or(usize::MAX)
            }
            _ => 0,
        }
    }

    /// Lets the kept output of a command that is over go. Its id and its result stay.
    pub(super) fn forget_output(&mut self) {
        if self.idle_output_bytes() > 0
            && let (Some(kept), Phase::Ended(ended)) = (&mut self.kept, &mut self.phase)
        {
            let total = kept.total_bytes();
            *kept = Kept::new(0);
            kept.skip(total);
            ended.dropped_bytes = total;
        }
    }
}
