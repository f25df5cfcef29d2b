//! `GET /models`.

use axum::Json;
use axum::extract::State;
use carrel_wire::{Model, ModelAbilities, ModelList, ModelPrice, Problem};

use crate::Shared;
use crate::caller::Caller;

/// Lists the models
///
/// One of them is the default, unless none is configured.
#[utoipa::path(
    get, path = "/models", tag = "models", operation_id = "list_models", security(("token" = []), ("session" = [])),
    responses(
        (status = 200, description = "The models, in the order they are configured in", body = ModelList),
        (status = 401, description = "Not authenticated", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn list(State(shared): State<Shared>, _caller: Caller) -> Json<ModelList> {
    let models = shared.control.models();
    let items = models.listed().map(|(name, model)| shown(name, model, models.default_name() == Some(name)));
    Json(ModelList { items: items.collect() })
}

fn shown(name: &str, model: &carrel_control::Model, is_default: bool) -> Model {
    let endpoint = &model.endpoint;
    Model {
        name: name.to_owned(),
        provider: model.provider.clone(),
        is_default,
        context_window: endpoint.context_window,
        max_output_tokens: endpoint.max_output_tokens,
        efforts: model.efforts.clone(),
        default_effort: model.default_effort().map(str::to_owned),
        abilities: ModelAbilities {
            images: endpoint.images,
            parallel_calls: endpoint.parallel_calls,
            freeform_patch: model.knows_freeform_patch(),
            reasoning: model.reasons(),
        },
        price: endpoint.price.map(|price| ModelPrice {
            input: price.input,
            cached_input: price.cached_input,
            cache_write: price.cache_write,
            output: price.output,
        }),
    }
}
