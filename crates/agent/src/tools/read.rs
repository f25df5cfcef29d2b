//! `read_output`: what a command printed, read again. Of a command that still runs from what its listener keeps, of one
//! that has ended from its runner, and of one of another sandbox from the log.

use super::chunks::Chunk;
use super::session::command_id;
use super::{Outcome, READ, Tools, arguments};
use crate::AgentError;
use crate::model::Call;
use crate::output::ends::Position;
use crate::output::keep::BYTES_PER_TOKEN;
use crate::output::recorded::Recorded;

impl Tools {
    /// Reads a part of the output of an earlier command.
    pub(super) async fn read_output(&self, call: &Call) -> Result<Outcome, AgentError> {
        let read = match arguments::Read::parse(&call.input) {
            Ok(read) => read,
            Err(problem) => return Ok(Outcome::refused(READ, problem)),
        };
        let chunk = match (read.chunk_id(), read.session()) {
            (Some(id), _) => match self.chunks.get(id) {
                Some(chunk) => chunk,
                None => {
                    return Ok(Outcome::refused(READ, format!("there is no chunk `{id:.20}` in this conversation")));
                }
            },
            (None, Some(position)) => Chunk { command: position, from: Position::default(), is_here: true },
            (None, None) => return Ok(Outcome::refused(READ, "say what to read: `chunk_id`, or `session_id`")),
        };
        let Some((recorded, source)) = self.recorded(chunk).await? else {
            return Ok(Outcome::refused(
                READ,
                "nothing is recorded of this command's output; run it again if it is still needed",
            ));
        };
        let (part, tokens) = (read.part, read.output_tokens.min(self.max_tokens));
        let text = tokio::task::spawn_blocking(move || recorded.read(&part, tokens.saturating_mul(BYTES_PER_TOKEN)))
            .await
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()));
        Ok(Outcome::plain(format!("{source}{text}")))
    }

    /// What there is, and what is to be said about where it comes from.
    pub(super) async fn recorded(&self, chunk: Chunk) -> Result<Option<(Recorded, &'static str)>, AgentError> {
        let known = self.sessions.knows(chunk.command) || self.left_running.contains_key(&chunk.command);
        if chunk.is_here && known && !self.is_cut_off(chunk.command) {
            let _one_listener = self.attaching.lock().await;
            if let Some(excerpt) = self.sessions.excerpt(chunk.command).await? {
                return Ok(Some((Recorded::new(excerpt, chunk.from), "")));
            }
        }
        const FROM_LOG: &str =
            "From the log of an earlier turn: without control characters, so numbers of lines may differ a little.\n";
        let text = self.sessions.recall(command_id(chunk.command).0).await?;
        Ok(text.map(|text| (Recorded::of_log(text, chunk.from), FROM_LOG)))
    }
}
