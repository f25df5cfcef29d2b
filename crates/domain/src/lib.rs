//! Carrel's vocabulary: typed ids, the state machines of tasks, attempts and publications, events, patches, and
//! the decisions about them that need nothing from outside.
//!
//! This crate does no I/O, has no async code and never asks for the time or for chance: both are handed in.

pub mod attachment;
pub mod attempt;
pub mod automatic_setup;
pub mod budget;
pub mod citation;
pub mod clock;
pub mod comparison;
pub mod devcontainer;
pub mod environment;
pub mod environment_file;
pub mod event;
pub mod git;
pub mod ids;
pub mod message;
pub mod network;
pub mod patch;
pub mod priority;
pub mod prompt;
pub mod prompt_diff;
pub mod publication;
pub mod redact;
pub mod repository_facts;
pub mod secret;
pub mod shown;
pub mod task;
pub mod usage;
pub mod wait;

pub use attachment::Attachment;
pub use attempt::{
    AnswerNotes, Attempt, AttemptState, CancelledBy, ImpossibleTransition, Outcome, Retry, Stage, Standing,
};
pub use budget::{Allowance, AttemptLimits, Budget, BudgetOwner, Level, Month, Spending};
pub use citation::{CitationsCheck, FailingCitation};
pub use clock::{Clock, SharedClock};
pub use environment::{
    Environment, EnvironmentName, EnvironmentSpec, Image, Recipe, ResourceLimits, SecretKind, SecretName, Setup,
    VariableName,
};
pub use event::{Event, EventBody, NewEvent};
pub use git::{BranchName, CommitOid, CommitPrefix, RepositoryLocation, Revision};
pub use ids::{
    AttachmentId, AttemptId, BudgetId, EnvironmentId, JobId, MessageId, OrganizationId, PublicationId, RepositoryId,
    SandboxId, SessionId, SnapshotId, TaskId, TokenId, TurnId, UserId, WorkerId,
};
pub use message::Message;
pub use network::{DomainRule, HostName, Internet, Methods, NetworkPolicy};
pub use patch::{FileChange, PatchSummary};
pub use priority::Priority;
pub use prompt::Prompt;
pub use publication::{Publication, PublicationState};
pub use redact::Redactor;
pub use secret::Secret;
pub use task::{LocalChanges, Mode, NewTask, NewTurn, Task, TaskState, Turn};
pub use usage::Usage;
pub use wait::Wait;
