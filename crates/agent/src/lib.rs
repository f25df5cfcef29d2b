//! The loop that turns a prompt and a sandbox into events and an outcome: it asks the model, runs the tools the model
//! calls, records every step before the next is taken, and ends with the model's answer.
//!
//! It holds the model key and thinks outside the sandbox; it writes to no database and no forge. What it has to tell
//! goes up through a [`Journal`]; what it leaves is a [`Finished`] or an [`AgentError`].

mod answer;
mod compaction;
mod conversation;
mod endpoint;
mod error;
mod frame;
mod given;
mod guard;
mod guest;
mod history;
mod journal;
mod model;
mod output;
mod patch;
mod preamble;
mod price;
mod run;
mod task;
mod tokens;
mod tools;

pub use endpoint::{ModelEndpoint, ModelTimeouts, PatchTool, Protocol, Reasoning, Thinking, UnknownProtocol};
pub use error::{AgentError, Limit};
pub use guest::{Guest, GuestProtocol, UnknownGuestProtocol, is_of_a_guest, run_guest};
pub use journal::{Attachment, Bell, Entry, Journal, JournalClosed, Said};
pub use model::door::{GuestAnswer, GuestModel, GuestRequest};
pub use model::{ModelClient, ModelClientError};
pub use output::for_people;
pub use output::show::{COLLECT_FOR, Shown};
pub use price::Price;
pub use run::run;
pub use task::{AgentContext, AgentLimits, AgentTask, Finished, Given};
