//! The pipes of a command: what is read from them and written to them, never waiting.

use std::io::{ErrorKind, Read, Write};

use super::super::connection::Connection;
use super::{Command, Phase};
use crate::protocol::{CHUNK_BYTES, STDERR_BYTES};

impl Command {
    /// Reads output: to keep it, to send it, or, after the end, to throw it away.
    pub(in crate::init) fn read_output(&mut self, connection: Option<&mut Connection>) {
        let room = self.room(connection.as_ref().is_some_and(|connection| connection.is_congested()));
        let Some(output) = &mut self.output else { return };
        if room == 0 {
            return;
        }
        let mut buffer = [0; CHUNK_BYTES];
        match output.read(&mut buffer[..room]) {
            Ok(0) => self.output = None,
            Ok(bytes) => self.take_output(&buffer[..bytes], connection),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            // A terminal nobody has open any more answers with an error.
            Err(_) => self.output = None,
        }
    }

    fn take_output(&mut self, bytes: &[u8], connection: Option<&mut Connection>) {
        match &mut self.phase {
            Phase::Ended(_) | Phase::Refused(_) => return,
            Phase::Draining { drained, .. } => *drained += bytes.len(),
            Phase::Starting | Phase::Running => {}
        }
        if let Some(kept) = &mut self.kept {
            kept.push(bytes);
        } else if let (Some(channel), Some(connection)) = (&mut self.channel, connection) {
            channel.credit = channel.credit.saturating_sub(bytes.len() as u64);
            connection.send_data(channel.number, bytes);
        }
    }

    /// Reads standard error of a streamed command, keeping its end.
    pub(in crate::init) fn read_stderr(&mut self) {
        let Some(stderr) = &mut self.stderr else { return };
        let mut buffer = [0; STDERR_BYTES];
        match stderr.read(&mut buffer) {
            Ok(0) => self.stderr = None,
            Ok(bytes) => {
                self.stderr_end.extend(&buffer[..bytes]);
                let over = self.stderr_end.len().saturating_sub(STDERR_BYTES);
                self.stderr_end.drain(..over);
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(_) => self.stderr = None,
        }
    }

    /// Gives the process what input it takes.
    pub(in crate::init) fn write_stdin(&mut self) {
        let Some(stdin) = &mut self.stdin else { return };
        while !self.stdin_queue.is_empty() {
            match stdin.write(self.stdin_queue.as_slices().0) {
                Ok(bytes) => {
                    self.stdin_queue.drain(..bytes);
                    if let Some(channel) = &mut self.channel {
                        channel.stdin_taken += bytes as u64;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_reads_no_more) => {
                    self.stdin = None;
                    self.stdin_queue.clear();
                    if let Some(channel) = &mut self.channel {
                        channel.stdin_closed = true;
                    }
                    return;
                }
            }
        }
        if self.stdin_ends {
            self.stdin = None;
        }
    }

    /// Takes input for the process.
    pub(in crate::init) fn push_stdin(&mut self, bytes: &[u8]) {
        if self.stdin.is_some() && !self.stdin_ends {
            self.stdin_queue.extend(bytes);
            self.write_stdin();
        } else if let Some(channel) = &mut self.channel {
            channel.stdin_closed = true;
        }
    }

    /// No more input will come. A terminal is told by its end-of-file character.
    pub(in crate::init) fn end_stdin(&mut self) {
        if self.stdin.is_some() && !self.stdin_ends {
            if self.is_terminal {
                self.stdin_queue.push_back(4);
            }
            self.stdin_ends = true;
            self.write_stdin();
        }
    }
}
