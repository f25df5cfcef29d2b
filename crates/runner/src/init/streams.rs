//! Both ends of a command's streams, and the checks on what it is started with.

use std::ffi::CString;
use std::fs::File;
use std::os::fd::OwnedFd;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::pty::{Winsize, openpty};
use nix::unistd::pipe2;

use super::supervisor::Program;
use crate::protocol::{ExecRequest, Failure};

/// Our ends of a command's streams.
pub(super) struct Streams {
    pub(super) stdin: Option<File>,
    pub(super) output: File,
    pub(super) stderr: Option<File>,
}

/// Checks the request, and makes both ends of its streams.
pub(super) fn prepare(exec: &ExecRequest, sandbox: &[(String, String)]) -> Result<(Program, Streams), Failure> {
    let invalid = |reason: &str| Failure::Invalid { reason: reason.to_owned() };
    let text = |text: &str| CString::new(text).map_err(|_| invalid("a command holds a NUL character"));
    if exec.argv.first().is_none_or(String::is_empty) {
        return Err(invalid("a command needs a program"));
    }
    if !exec.directory.starts_with('/') {
        return Err(invalid("a command's folder must be an absolute path"));
    }
    let mut variables: Vec<(&str, &str)> = Vec::new();
    for (name, value) in sandbox.iter().chain(&exec.environment) {
        if name.is_empty() || name.contains('=') {
            return Err(invalid("a variable's name is empty or holds `=`"));
        }
        match variables.iter_mut().find(|(known, _)| known == name) {
            Some((_, known)) => *known = value,
            None => variables.push((name, value)),
        }
    }
    let path = variables.iter().find(|(name, _)| *name == "PATH").map_or("", |(_, value)| value);
    let make = || -> Result<_, Errno> {
        match exec.terminal {
            Some((columns, rows)) => terminal(columns, rows),
            None => pipes(exec.stdin, exec.keep_bytes.is_some()),
        }
    };
    let ((stdin, stdout, stderr), streams) = make().map_err(|error| Failure::CannotStart { reason: explain(error) })?;
    let program = Program {
        argv: exec.argv.iter().map(|word| text(word)).collect::<Result<_, _>>()?,
        environment: variables
            .iter()
            .map(|(name, value)| text(&format!("{name}={value}")))
            .collect::<Result<_, _>>()?,
        directory: text(&exec.directory)?,
        path: path.as_bytes().to_vec(),
        stdin,
        stdout,
        stderr,
        is_terminal: exec.terminal.is_some(),
    };
    Ok((program, streams))
}

type ProgramEnds = (OwnedFd, OwnedFd, OwnedFd);

fn pipes(has_stdin: bool, merged: bool) -> Result<(ProgramEnds, Streams), Errno> {
    let (output, stdout) = pipe2(OFlag::O_CLOEXEC)?;
    let (stderr_reader, stderr) = if merged {
        (None, stdout.try_clone().map_err(|_| Errno::EMFILE)?)
    } else {
        let (reader, writer) = pipe2(OFlag::O_CLOEXEC)?;
        (Some(ours(reader)?), writer)
    };
    let (stdin, stdin_writer) = if has_stdin {
        let (reader, writer) = pipe2(OFlag::O_CLOEXEC)?;
        (reader, Some(ours(writer)?))
    } else {
        (File::open("/dev/null").map_err(|_| Errno::ENODEV)?.into(), None)
    };
    Ok(((stdin, stdout, stderr), Streams { stdin: stdin_writer, output: ours(output)?, stderr: stderr_reader }))
}

fn terminal(columns: u16, rows: u16) -> Result<(ProgramEnds, Streams), Errno> {
    let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    let pair = openpty(Some(&size), None)?;
    for end in [&pair.master, &pair.slave] {
        fcntl(end, FcntlArg::F_SETFD(nix::fcntl::FdFlag::FD_CLOEXEC))?;
    }
    let copy = |fd: &OwnedFd| fd.try_clone().map_err(|_| Errno::EMFILE);
    let ends = (copy(&pair.slave)?, copy(&pair.slave)?, pair.slave);
    let master = ours(pair.master)?;
    let stdin = master.try_clone().map_err(|_| Errno::EMFILE)?;
    Ok((ends, Streams { stdin: Some(stdin), output: master, stderr: None }))
}

/// Our end of a pipe never blocks.
fn ours(fd: OwnedFd) -> Result<File, Errno> {
    fcntl(&fd, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    Ok(File::from(fd))
}

/// The system's words, and for the common ones what they mean here.
pub(super) fn explain(error: Errno) -> String {
    match error {
        Errno::EAGAIN => "the sandbox has as many processes as it may have".to_owned(),
        Errno::EMFILE | Errno::ENFILE => "too many files are open".to_owned(),
        Errno::E2BIG => "its arguments and variables are too long".to_owned(),
        error => error.desc().to_lowercase(),
    }
}
