//! `GET /me`.

use axum::Json;
use axum::extract::State;
use carrel_control::CONFIGURE_A_MODEL;
use carrel_store::Principal;
use carrel_wire::{DefaultModel, Me, Named, Problem};

use crate::Shared;
use crate::caller::Caller;
use crate::problem::ApiError;

/// Who is asking, and what the service can do
#[utoipa::path(
    get, path = "/me", tag = "sessions", operation_id = "get_me", security(("token" = []), ("session" = [])),
    responses(
        (status = 200, description = "The person, the organization and the default model", body = Me),
        (status = 401, description = "Not authenticated", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn me(State(shared): State<Shared>, caller: Caller) -> Result<Json<Me>, ApiError> {
    Ok(Json(of(&shared, caller.principal).await?))
}

pub(super) async fn of(shared: &Shared, principal: Principal) -> Result<Me, ApiError> {
    let member = shared.control.store().member(principal).await?;
    let model = shared.control.models().default_name().map(|name| DefaultModel { name: name.to_owned() });
    Ok(Me {
        user: Named { id: principal.user.as_uuid(), name: member.user_name },
        organization: Named { id: principal.organization.as_uuid(), name: member.organization_name },
        model_hint: model.is_none().then(|| CONFIGURE_A_MODEL.to_owned()),
        model,
        version: env!("CARGO_PKG_VERSION").to_owned(),
    })
}
