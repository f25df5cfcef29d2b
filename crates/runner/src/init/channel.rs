//! The controller's end of a command: what it was told, and what it may still be sent.

use std::time::{Duration, Instant};

use super::connection::Connection;
use crate::kept::Kept;
use crate::protocol::{CHUNK_BYTES, Event, OUTPUT_WINDOW_BYTES};

/// Once an output has outgrown its head, news of it are sent at most this often.
const PACE: Duration = Duration::from_millis(20);

/// The controller's end of a command.
pub(super) struct Channel {
    pub(super) number: u32,
    pub(super) credit: u64,
    /// How much of the output was sent or counted as dropped.
    pub(super) position: u64,
    pub(super) told_started: bool,
    pub(super) stdin_taken: u64,
    pub(super) stdin_closed: bool,
    pub(super) next_send: Instant,
}

impl Channel {
    pub(super) fn new(number: u32) -> Self {
        Self {
            number,
            credit: OUTPUT_WINDOW_BYTES,
            position: 0,
            told_started: false,
            stdin_taken: 0,
            stdin_closed: false,
            next_send: Instant::now(),
        }
    }
}

/// Sends what is kept from the channel's position on; true when it is at the end.
pub(super) fn send_kept(
    kept: &Kept,
    channel: &mut Channel,
    connection: &mut Connection,
    is_over: bool,
    now: Instant,
) -> bool {
    if kept.is_past_head() && !is_over && now < channel.next_send {
        return false;
    }
    while channel.credit > 0 && !connection.is_congested() && channel.position < kept.total_bytes() {
        let room = usize::try_from(channel.credit).unwrap_or(CHUNK_BYTES).min(CHUNK_BYTES);
        let (missing, bytes) = kept.read(channel.position, room);
        if missing > 0 {
            connection.send(channel.number, Event::Dropped { bytes: missing });
        }
        connection.send_data(channel.number, &bytes);
        channel.position += missing + bytes.len() as u64;
        channel.credit -= bytes.len() as u64;
    }
    channel.next_send = now + PACE;
    channel.position >= kept.total_bytes()
}
