//! `GET /workers`.

use axum::Json;
use axum::extract::State;
use carrel_store::{Attendance, Role};
use carrel_wire::{Problem, Worker, WorkerList, WorkerRole, WorkerState};

use crate::Shared;
use crate::caller::Caller;
use crate::problem::ApiError;

/// Lists the workers
///
/// All processes that use the installation's database, with what each can hold and how it stands.
#[utoipa::path(
    get, path = "/workers", tag = "workers", operation_id = "list_workers", security(("token" = []), ("session" = [])),
    responses(
        (status = 200, description = "The workers, those heard of last first", body = WorkerList),
        (status = 401, description = "Not authenticated", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "Only owners of the organization may", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn list(State(shared): State<Shared>, caller: Caller) -> Result<Json<WorkerList>, ApiError> {
    let workers = shared.control.workers(caller.principal).await?;
    Ok(Json(WorkerList { items: workers.into_iter().map(shown).collect() }))
}

fn shown((worker, attendance): (carrel_store::Worker, Attendance)) -> Worker {
    Worker {
        id: worker.id.as_uuid(),
        name: worker.name,
        role: match worker.role {
            Role::All => WorkerRole::All,
            Role::Api => WorkerRole::Api,
            Role::Worker => WorkerRole::Worker,
        },
        state: match attendance {
            Attendance::Here => WorkerState::Here,
            Attendance::Away => WorkerState::Away,
            Attendance::Gone => WorkerState::Gone,
        },
        capacity: worker.capacity,
        running: worker.running,
        version: worker.version,
        started_at: worker.started_at,
        seen_at: worker.seen_at,
        returns_by: worker.returns_by,
    }
}
