//! What citations need of the tools: the files of the workspace, and the recorded output by the names of its pieces.

use carrel_sandbox::Sandbox;

use super::Tools;
use crate::AgentError;
use crate::output::recorded::Recorded;

impl Tools {
    /// Where the files are.
    pub(crate) fn sandbox(&self) -> &Sandbox {
        self.sessions.sandbox()
    }

    /// The folder of the repository.
    pub(crate) fn workspace(&self) -> &str {
        &self.workspace
    }

    /// Whether the model was given a piece of output of this name.
    pub(crate) fn knows_chunk(&self, id: &str) -> bool {
        self.chunks.get(id).is_some()
    }

    /// What is recorded from the beginning of the piece of this name on; nothing when it is not.
    pub(crate) async fn chunk(&self, id: &str) -> Result<Option<Recorded>, AgentError> {
        let Some(chunk) = self.chunks.get(id) else { return Ok(None) };
        Ok(self.recorded(chunk).await?.map(|(recorded, _)| recorded))
    }
}
