//! What crosses HTTP: requests, responses, events and errors, with their OpenAPI schemas.
//!
//! Shapes only: what a request *means* is checked in `carrel-api`, which turns it into types of `carrel-domain`.
//! Times are RFC 3339 in UTC, ids are UUIDs, sizes are bytes, durations are milliseconds.

pub mod attempts;
pub mod events;
pub mod problem;
pub mod publications;
pub mod repositories;
pub mod sessions;
pub mod tasks;

pub use attempts::{Attempt, AttemptResult, AttemptState, ChangeKind, Environment, Failure, Patch, PatchFile, Usage};
pub use events::{Event, EventPage};
pub use problem::{FieldError, Problem};
pub use publications::{CreatePublication, Publication, PublicationState};
pub use repositories::{Repository, RepositoryList};
pub use sessions::{CreateSession, Me, Model, Named, OwnerLink};
pub use tasks::{CreateTask, CreateTurn, Mode, Task, TaskChange, TaskPage, TaskState, TaskSummary, Turn};
