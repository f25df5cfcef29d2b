//! The tools a model has, and how a call becomes a result. Whatever is wrong with a call is told to the model; only
//! what is wrong with the sandbox or the journal is an error of the run.

mod arguments;
mod attach;
mod chunks;
mod cited;
mod command;
mod definitions;
mod image;
mod patch;
mod plan;
mod read;
mod session;
mod told;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use carrel_domain::EventBody;
use carrel_domain::event::CommandEnd;
use carrel_domain::patch::StartedPatch;
use carrel_sandbox::SandboxError;

pub(crate) use definitions::definitions;
pub(crate) use image::header::read as image_header;
pub(crate) use image::header::{Header, read as header};
pub(crate) use image::{MAX_FILE_BYTES as MAX_IMAGE_BYTES, MAX_PIXELS};
pub(crate) use patch::APPLIED;

use crate::journal::Attachment;
use crate::model::Call;
use crate::patch::heredoc;
use crate::{AgentError, AgentTask};
use attach::Attached;
use chunks::Chunks;
pub(crate) use session::Sessions;
pub(crate) use told::{Told, told};

const EXEC: &str = "exec_command";
const STDIN: &str = "write_stdin";
const PATCH: &str = "apply_patch";
const PLAN: &str = "update_plan";
const READ: &str = "read_output";
const IMAGE: &str = "view_image";
const ATTACH: &str = "attach_artifact";

/// How much is repeated of the name of a tool that does not exist.
const MAX_NAME_CHARS: usize = 100;

/// A call that waits for its result.
#[derive(Debug, Clone)]
pub(crate) struct Pending {
    /// The call.
    pub(crate) call: Call,
    /// Its place in the conversation, which names what it starts: it is the same after a resumption.
    pub(crate) position: usize,
    /// Whether it may have begun before the worker died.
    pub(crate) is_resumed: bool,
}

/// What came of a call.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// For the model.
    pub(crate) text: String,
    /// An image for the model, as a data URL.
    pub(crate) image: Option<String>,
    /// For people, to be recorded together with it.
    pub(crate) events: Vec<EventBody>,
    /// Files to be kept together with it.
    pub(crate) attachments: Vec<Attachment>,
    /// The part of the text that is the same when nothing has changed; `None` for a call that may well be repeated.
    pub(crate) result: Option<String>,
}

impl Outcome {
    /// A result that is all there is to say.
    fn plain(text: impl Into<String>) -> Self {
        let text = text.into();
        Self { result: Some(text.clone()), text, image: None, events: Vec::new(), attachments: Vec::new() }
    }

    /// A call that makes no sense.
    fn refused(tool: &str, reason: impl Into<String>) -> Self {
        let reason = reason.into();
        let tool: String = tool.chars().take(MAX_NAME_CHARS).collect();
        let event = EventBody::ToolRefused { tool, reason: reason.clone() };
        Self { events: vec![event], ..Self::plain(reason) }
    }

    fn with(mut self, event: EventBody) -> Self {
        self.events.push(event);
        self
    }
}

/// The tools of one run.
pub(crate) struct Tools {
    sessions: Sessions,
    /// The folder of the repository.
    workspace: String,
    /// The most tokens one result may have.
    max_tokens: usize,
    /// Commands of before a resumption that may still run: their arguments by their place in the conversation.
    left_running: BTreeMap<usize, String>,
    /// Commands of calls before this place in the conversation run no more.
    cut_before: usize,
    /// The pieces of output the model was given.
    chunks: Chunks,
    /// Held while somebody begins to listen to a command of before a resumption.
    attaching: tokio::sync::Mutex<()>,
    /// The patch that was being written when an earlier worker died.
    started_patch: Option<StartedPatch>,
    /// What the attempt keeps.
    attached: Attached,
    /// The longest side an image may have, for a model that takes images.
    image_side: Option<u32>,
    /// How much more the images of the conversation may take.
    image_room: AtomicUsize,
}

impl Tools {
    /// Tools that work through these sessions, for a model that takes images or does not.
    pub(crate) fn new(
        sessions: Sessions,
        task: &AgentTask,
        left_running: BTreeMap<usize, String>,
        image_side: Option<u32>,
    ) -> Self {
        Self {
            sessions,
            workspace: task.workspace.clone(),
            max_tokens: task.limits.tool_output_tokens,
            left_running,
            cut_before: task.cut_before(),
            chunks: Chunks::of(task),
            attaching: tokio::sync::Mutex::default(),
            started_patch: task.started_patch.clone(),
            attached: Attached::of(task),
            image_side,
            image_room: AtomicUsize::new(0),
        }
    }

    /// Whether a call may run while others do. A patch waits for what stands before it and is waited for.
    pub(crate) fn runs_beside_others(call: &Call) -> bool {
        call.name != PATCH && !(call.name == EXEC && arguments::is_patch(&call.input))
    }

    /// Says how much more the images of the conversation may take.
    pub(crate) fn know_image_room(&self, bytes: usize) {
        self.image_room.store(bytes, Ordering::Relaxed);
    }

    /// Runs a call to its result.
    pub(crate) async fn run(&self, pending: &Pending) -> Result<Outcome, AgentError> {
        if pending.is_resumed
            && let Some(outcome) = self.interrupted(pending)
        {
            return Ok(outcome);
        }
        let call = &pending.call;
        match call.name.as_str() {
            EXEC => self.exec_command(pending).await,
            STDIN => self.write_stdin(pending).await,
            PATCH => match arguments::patch(call) {
                Ok(patch) => self.apply_patch(&patch, None, pending).await,
                Err(problem) => Ok(Outcome::refused(PATCH, problem)),
            },
            PLAN => Ok(plan::update(&call.input)),
            READ => self.read_output(call).await,
            IMAGE => self.view_image(call).await,
            ATTACH => self.attach_artifact(call).await,
            other => Ok(Outcome::refused(
                other,
                format!(
                    "there is no tool of that name; there are {EXEC}, {STDIN}, {READ}, {PATCH}, {IMAGE}, {ATTACH} and {PLAN}"
                ),
            )),
        }
    }

    /// Whether the command of a call ran in a sandbox that has been launched anew since.
    fn is_cut_off(&self, position: usize) -> bool {
        position < self.cut_before
    }

    /// Ends whatever still runs.
    pub(crate) async fn end_all(&self) {
        self.sessions.end_all().await;
    }

    /// What the model is told about a call that was cut off and cannot be made again without doing it twice.
    fn interrupted(&self, pending: &Pending) -> Option<Outcome> {
        let call = &pending.call;
        if call.name == PATCH || (call.name == EXEC && arguments::is_patch(&call.input)) {
            // What was begun is finished.
            return None;
        }
        if call.name == STDIN && (arguments::has_input(&call.input) || self.is_cut_off(pending.position)) {
            return Some(Outcome::plain(
                "The service restarted during this call: it is not known whether the characters were written. Poll the session to see where it stands.",
            ));
        }
        if call.name == EXEC && self.is_cut_off(pending.position) {
            let ended = self.sessions.was_shown(pending.position).then(|| EventBody::CommandEnded {
                command_id: session::command_id(pending.position).0,
                end: CommandEnd::Interrupted,
                duration_ms: 0,
                output_bytes: 0,
                dropped_bytes: 0,
            });
            let outcome = Outcome::plain(
                "The sandbox was restarted while this command ran: it was interrupted, and what it printed is lost. Files are as it left them; if the machine stopped, what was written last may be missing. Run it again if it is still needed.",
            );
            return Some(match ended {
                Some(event) => outcome.with(event),
                None => outcome,
            });
        }
        None
    }
}

/// Whether a sandbox's refusal is about what the model asked for. The rest is about the sandbox.
fn is_about_the_request(error: &SandboxError) -> bool {
    matches!(
        error,
        SandboxError::NotFound { .. }
            | SandboxError::NotAFile { .. }
            | SandboxError::TooLarge { .. }
            | SandboxError::CannotStart { .. }
            | SandboxError::Invalid(_)
            | SandboxError::Inside { .. }
    )
}

/// Whether a command is nothing but a patch.
fn as_patch(command: &str) -> Option<heredoc::Heredoc> {
    heredoc::recognise(command)
}
