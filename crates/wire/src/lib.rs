//! What crosses HTTP: requests, responses, events and errors, with their OpenAPI schemas.
//!
//! Shapes only: what a request *means* is checked in `carrel-api`, which turns it into types of `carrel-domain`.
//! Times are RFC 3339 in UTC, ids are UUIDs, sizes are bytes, durations are milliseconds.

pub mod agents;
pub mod attachments;
pub mod attempts;
pub mod budgets;
pub mod environments;
pub mod events;
pub mod models;
pub mod problem;
pub mod publications;
pub mod repositories;
pub mod sessions;
pub mod tasks;
pub mod terminals;
pub mod workers;

pub use agents::{Agent, AgentList};
pub use attachments::Attachment;
pub use attempts::{
    Artifact, ArtifactList, Attempt, AttemptEnvironment, AttemptResult, AttemptState, ChangeKind, Citations,
    FailingCitation, Failure, Message, Patch, PatchFile, RetryAttempt, SendMessage, TestRun, Usage, Work,
};
pub use budgets::{AttemptLimits, Budget, BudgetLevel, BudgetList, BudgetOwnerKind, SetBudget};
pub use environments::{
    AllowDomain, CacheReset, CreateEnvironment, EditEnvironment, Environment, EnvironmentList, EnvironmentSecret,
    Internet, Limits, LimitsChange, Methods, NetworkChange, NetworkPolicy, SecretChange, SecretKind, SecretText, Setup,
};
pub use events::{Event, EventPage};
pub use models::{Model, ModelAbilities, ModelList, ModelPrice};
pub use problem::{FieldError, Problem};
pub use publications::{CreatePublication, Publication, PublicationState};
pub use repositories::{Repository, RepositoryList};
pub use sessions::{CreateSession, DefaultModel, Me, Named, OwnerLink};
pub use tasks::{
    Comparison, CreateTask, CreateTurn, LocalChanges, Mode, Priority, Task, TaskChange, TaskPage, TaskState,
    TaskSummary, Turn,
};
pub use terminals::{TerminalNews, TerminalRequest};
pub use workers::{Worker, WorkerList, WorkerRole, WorkerState};
