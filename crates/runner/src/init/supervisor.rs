//! The process above a command: it adopts whatever the command leaves behind, so that a whole tree hangs together.
//!
//! Process 1 forks the supervisor, the supervisor forks the program. It reports start and end on a pipe and ends when
//! nothing is left below it. It holds nothing and may do nothing; if the command kills it, process 1 notices.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::prctl::{set_child_subreaper, set_name};
use nix::sys::signal::SigSet;
use nix::sys::wait::{WaitStatus, wait};
use nix::unistd::{ForkResult, Pid, chdir, execve, pipe2, setsid};

use crate::sys::process::{close_all_but, exit_now, fork, put_at, reset_signals, take_terminal};

/// What a program is started with. The descriptors are the program's ends.
pub(super) struct Program {
    pub(super) argv: Vec<CString>,
    pub(super) environment: Vec<CString>,
    pub(super) directory: CString,
    pub(super) path: Vec<u8>,
    pub(super) stdin: OwnedFd,
    pub(super) stdout: OwnedFd,
    pub(super) stderr: OwnedFd,
    pub(super) is_terminal: bool,
}

/// A supervisor's word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Report {
    /// The program runs.
    Started,
    /// It could not be run: the step that failed, and how.
    Refused(Step, Errno),
    /// It ended by itself.
    Exited(i32),
    /// A signal ended it.
    Signalled(i32),
}

/// What stands between a fork and a running program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Setting up its session, terminal and streams.
    Streams,
    /// Entering its folder.
    Directory,
    /// Running it.
    Program,
}

const REPORT_BYTES: usize = 6;

impl Report {
    fn to_bytes(self) -> [u8; REPORT_BYTES] {
        let (kind, step, number) = match self {
            Self::Started => (b's', 0, 0),
            Self::Refused(step, error) => (b'r', step as u8, error as i32),
            Self::Exited(code) => (b'e', 0, code),
            Self::Signalled(signal) => (b'k', 0, signal),
        };
        let [a, b, c, d] = number.to_le_bytes();
        [kind, step, a, b, c, d]
    }

    fn from_bytes([kind, step, a, b, c, d]: [u8; REPORT_BYTES]) -> Self {
        let number = i32::from_le_bytes([a, b, c, d]);
        match kind {
            b's' => Self::Started,
            b'r' => {
                let steps = [Step::Streams, Step::Directory, Step::Program];
                Self::Refused(steps[usize::from(step).min(2)], Errno::from_raw(number))
            }
            b'e' => Self::Exited(number),
            _ => Self::Signalled(number),
        }
    }
}

/// The reading end of a supervisor's reports. Reports are written whole, so they are read whole.
pub(super) struct Reports(File);

impl Reports {
    /// The next report; `None` when there is none yet, `Some(None)` when the supervisor has ended.
    pub(super) fn next(&mut self) -> Option<Option<Report>> {
        let mut bytes = [0; REPORT_BYTES];
        match self.0.read(&mut bytes) {
            Ok(REPORT_BYTES) => Some(Some(Report::from_bytes(bytes))),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => None,
            _ => Some(None),
        }
    }
}

impl AsFd for Reports {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Starts a supervisor with its program.
pub(super) fn start(program: &Program) -> Result<(Pid, Reports), Errno> {
    let (reader, writer) = pipe2(OFlag::O_CLOEXEC)?;
    // Only our end: a supervisor's few reports always fit, and it may wait.
    let flags = OFlag::O_NONBLOCK;
    nix::fcntl::fcntl(&reader, nix::fcntl::FcntlArg::F_SETFL(flags))?;
    match fork()? {
        ForkResult::Parent { child } => Ok((child, Reports(File::from(reader)))),
        ForkResult::Child => {
            let outcome = supervise(program, File::from(writer));
            exit_now(i32::from(outcome.is_err()))
        }
    }
}

fn supervise(program: &Program, mut reports: File) -> Result<(), Errno> {
    // A `kill -- -1` of the command must not take its supervisor; SIGKILL still does, and is noticed.
    SigSet::all().thread_block()?;
    set_name(c"carrel-command")?;
    set_child_subreaper(true)?;
    let streams = [&program.stdin, &program.stdout, &program.stderr].map(AsRawFd::as_raw_fd);
    close_all_but(&[streams[0], streams[1], streams[2], reports.as_raw_fd()])?;
    let (refusal, refusal_writer) = pipe2(OFlag::O_CLOEXEC)?;
    let mut refusal = File::from(refusal);
    let child = match fork() {
        Ok(ForkResult::Parent { child }) => child,
        Ok(ForkResult::Child) => {
            let (step, error) = become_program(program);
            let _supervisor_gone = File::from(refusal_writer).write_all(&Report::Refused(step, error).to_bytes());
            exit_now(127)
        }
        Err(error) => return report(&mut reports, Report::Refused(Step::Program, error)),
    };
    drop(refusal_writer);
    let mut bytes = [0; REPORT_BYTES];
    let started = match refusal.read_exact(&mut bytes) {
        Ok(()) => Report::from_bytes(bytes),
        Err(_closed_by_exec) => Report::Started,
    };
    report(&mut reports, started)?;
    // The program's streams end when the program closes them, not when its supervisor ends.
    close_all_but(&[reports.as_raw_fd()])?;
    std::mem::forget(refusal);
    wait_for_all(child, &mut reports)
}

fn wait_for_all(child: Pid, reports: &mut File) -> Result<(), Errno> {
    loop {
        match wait() {
            Ok(WaitStatus::Exited(pid, code)) if pid == child => report(reports, Report::Exited(code))?,
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid == child => {
                report(reports, Report::Signalled(signal as i32))?;
            }
            Ok(_) | Err(Errno::EINTR) => {}
            Err(Errno::ECHILD) => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

fn report(reports: &mut File, report: Report) -> Result<(), Errno> {
    reports.write_all(&report.to_bytes()).map_err(|_| Errno::EPIPE)
}

/// Becomes the program; returns only if it could not.
fn become_program(program: &Program) -> (Step, Errno) {
    reset_signals();
    let prepare = || {
        setsid()?;
        put_at(program.stdin.as_fd(), 0)?;
        put_at(program.stdout.as_fd(), 1)?;
        put_at(program.stderr.as_fd(), 2)?;
        if program.is_terminal { take_terminal() } else { Ok(()) }
    };
    if let Err(error) = prepare() {
        return (Step::Streams, error);
    }
    if let Err(error) = chdir(program.directory.as_c_str()) {
        return (Step::Directory, error);
    }
    (Step::Program, execute(program))
}

/// Runs the program, looked up as `execvp` does; the error that tells most when nothing could be run.
fn execute(program: &Program) -> Errno {
    let name = program.argv[0].as_c_str();
    if name.to_bytes().contains(&b'/') {
        return run(name, program);
    }
    let mut told = Errno::ENOENT;
    for folder in program.path.split(|byte| *byte == b':') {
        let folder = if folder.is_empty() { b"." } else { folder };
        let Ok(candidate) = CString::new([folder, b"/", name.to_bytes()].concat()) else { continue };
        match run(&candidate, program) {
            Errno::ENOENT | Errno::ENOTDIR => {}
            Errno::EACCES => told = Errno::EACCES,
            error => return error,
        }
    }
    told
}

fn run(path: &CStr, program: &Program) -> Errno {
    match execve(path, &program.argv, &program.environment) {
        Ok(never) => match never {},
        Err(error) => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_survive_the_pipe() {
        let all = [
            Report::Started,
            Report::Refused(Step::Directory, Errno::ENOENT),
            Report::Exited(-1),
            Report::Signalled(9),
        ];
        for report in all {
            assert_eq!(Report::from_bytes(report.to_bytes()), report);
        }
    }
}
