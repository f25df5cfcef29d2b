//! `POST /tasks`.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderName, StatusCode, header};
use carrel_domain::{AttachmentId, LocalChanges, NewTask, NewTurn, RepositoryLocation, Revision};
use carrel_store::Principal;
use carrel_wire::{CreateTask, Problem, Task};

use super::{attachments, attempts, limits, prompt, refused, shown};
use crate::Shared;
use crate::caller::Caller;
use crate::extract::Body;
use crate::problem::ApiError;

/// Delegates a task
///
/// The task is stored with its attempts and returned at once; they are worked on in the background.
#[utoipa::path(
    post, path = "/tasks", tag = "tasks", operation_id = "create_task", security(("token" = []), ("session" = [])),
    request_body = CreateTask,
    responses(
        (status = 201, description = "The task", body = Task, headers(("location" = String, description = "Its URL"))),
        (status = 401, description = "Not authenticated", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "No model is configured, or a budget is used up", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "A field makes no sense", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn create(
    State(shared): State<Shared>,
    caller: Caller,
    Body(request): Body<CreateTask>,
) -> Result<(StatusCode, [(HeaderName, String); 1], Json<Task>), ApiError> {
    let new = understood(request, caller.principal)?;
    let id = shared.control.create_task(&new).await.map_err(refused)?;
    let task = shown(&shared, caller.principal, id).await?;
    Ok((StatusCode::CREATED, [(header::LOCATION, format!("/api/v1/tasks/{id}"))], Json(task)))
}

/// What the request means. The only place where that is checked.
fn understood(request: CreateTask, principal: Principal) -> Result<NewTask, ApiError> {
    let repository = request.repository.trim().parse::<RepositoryLocation>();
    let revision = match (&request.branch, &request.commit) {
        (Some(_), Some(_)) => {
            return Err(ApiError::field("commit", "both a branch and a commit are given; give one of them"));
        }
        (Some(branch), None) => Revision::Branch(branch.parse().map_err(|error| ApiError::field("branch", error))?),
        (None, Some(commit)) => Revision::Commit(commit.parse().map_err(|error| ApiError::field("commit", error))?),
        (None, None) => Revision::DefaultBranch,
    };
    let environment = request.environment.as_deref().map(str::parse).transpose();
    Ok(NewTask {
        organization: principal.organization,
        created_by: principal.user,
        repository: repository.map_err(|error| ApiError::field("repository", error))?,
        revision,
        environment: environment.map_err(|error| ApiError::field("environment", error))?,
        priority: request.priority.into(),
        local_changes: request.local_changes.map(|id| LocalChanges::unread(AttachmentId::from_uuid(id))),
        turn: NewTurn {
            prompt: prompt(&request.prompt)?,
            mode: request.mode.into(),
            attempts: attempts(request.attempts)?,
            attachments: attachments(&request.attachments)?,
            from_attempt: None,
            model: request.model,
            effort: request.effort,
            agent: request.agent,
            limits: limits(request.limits)?,
        },
    })
}
