//! `PUT /budgets/{id}`.

use axum::Json;
use axum::extract::State;
use carrel_domain::{Allowance, BudgetId};
use carrel_wire::{Budget, Problem, SetBudget};

use crate::Shared;
use crate::caller::Caller;
use crate::extract::{Body, Id};
use crate::problem::ApiError;

/// Sets a budget
///
/// In place of what was said before; what was spent stays counted. Attempts under way are measured by it from their next
/// answer on.
#[utoipa::path(
    put, path = "/budgets/{id}", tag = "budgets", operation_id = "set_budget", security(("token" = []), ("session" = [])),
    params(("id" = Uuid, Path, description = "The organization, or a member of it")),
    request_body = SetBudget,
    responses(
        (status = 200, description = "The budget", body = Budget),
        (status = 401, description = "Not authenticated", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "Only owners of the organization may", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "There is no such organization or member", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "A field makes no sense", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn set(
    State(shared): State<Shared>,
    caller: Caller,
    Id(id): Id<BudgetId>,
    Body(request): Body<SetBudget>,
) -> Result<Json<Budget>, ApiError> {
    let SetBudget { tokens, cost_usd_micros, attempts } = request;
    let allowance = Allowance { tokens, cost_usd_micros, attempts };
    let budget = shared.control.set_budget(caller.principal, id, allowance).await?;
    Ok(Json(budget.into()))
}
