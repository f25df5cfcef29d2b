//! Running the calls of an answer.

use futures::StreamExt;
use futures::stream::FuturesOrdered;
use tracing::Instrument as _;

use super::Agent;
use crate::AgentError;
use crate::tools::{Pending, Tools};

impl Agent<'_> {
    /// Runs calls, side by side where they may be, and records their results one by one.
    pub(super) async fn act(&mut self, calls: Vec<Pending>) -> Result<(), AgentError> {
        let together = |one: &Pending, next: &Pending| {
            Tools::runs_beside_others(&one.call) && Tools::runs_beside_others(&next.call)
        };
        for group in calls.chunk_by(together) {
            self.tools.know_image_room(self.conversation.image_room());
            let tools = self.tools;
            let run = |pending: &Pending| {
                let pending = pending.clone();
                async move { (tools.run(&pending).await, pending.call) }.instrument(tracing::info_span!("tool call"))
            };
            // In the order of the calls, whichever ends first: so the same run makes the same conversation.
            let mut running: FuturesOrdered<_> = group.iter().map(run).collect();
            while let Some((outcome, call)) = running.next().await {
                self.record_result(&call, outcome?).await?;
            }
        }
        Ok(())
    }
}
