//! `GET /budgets`.

use axum::Json;
use axum::extract::State;
use carrel_wire::{BudgetList, Problem};

use crate::Shared;
use crate::caller::Caller;
use crate::problem::ApiError;

/// Lists the budgets
///
/// The organization's, and that of each of its members, as they stand in the calendar month (UTC) that is now.
#[utoipa::path(
    get, path = "/budgets", tag = "budgets", operation_id = "list_budgets", security(("token" = []), ("session" = [])),
    responses(
        (status = 200, description = "The budgets", body = BudgetList),
        (status = 401, description = "Not authenticated", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn list(State(shared): State<Shared>, caller: Caller) -> Result<Json<BudgetList>, ApiError> {
    let budgets = shared.control.store().budgets(caller.principal.organization).await?;
    Ok(Json(BudgetList { items: budgets.into_iter().map(Into::into).collect() }))
}
