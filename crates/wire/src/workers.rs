//! The processes that an installation consists of.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

/// A process of the installation, known by its data folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Worker {
    /// Its id: the same whenever it is started with the same data folder.
    pub id: Uuid,
    /// What people know its machine by.
    #[schema(example = "worker-1")]
    pub name: String,
    /// What it does.
    pub role: WorkerRole,
    /// How it stands.
    pub state: WorkerState,
    /// How many attempts it works on at once; 0 for one that makes none.
    pub capacity: u32,
    /// Attempts that are its own now: it works on them, or they wait for it to come back.
    pub running: u32,
    /// The version of its program; empty when it is from before that was told.
    pub version: String,
    /// When it was started last.
    pub started_at: Timestamp,
    /// When it last said that it is there.
    pub seen_at: Timestamp,
    /// It was stopped, and is expected back by then.
    pub returns_by: Option<Timestamp>,
}

/// What a process does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum WorkerRole {
    /// Everything.
    All,
    /// It serves people and programs, and leaves the work to others.
    Api,
    /// It works, and serves no API.
    Worker,
}

/// How a process stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum WorkerState {
    /// It was heard of lately.
    Here,
    /// It was stopped, and is expected back: what is on its machine waits for it.
    Away,
    /// It was not heard of for too long: others make its attempts again.
    Gone,
}

/// The processes, those heard of last first, a hundred at most.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct WorkerList {
    /// All of them.
    pub items: Vec<Worker>,
}
