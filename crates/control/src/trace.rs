//! The work on a task as one trace, whichever processes do it. The trace's id is the task's own: so spans of all of them join,
//! also after a crash or a move to another worker, and nothing has to be stored or handed on.

use carrel_domain::{AttemptState, PublicationState, TaskId};
use opentelemetry::Context;
use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt as _, TraceFlags, TraceId, TraceState};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

/// The span of one stage of an attempt.
pub(crate) fn stage(task: TaskId, state: &AttemptState) -> Span {
    in_trace_of(task, tracing::info_span!("stage", stage = state.word(), task = %task))
}

/// The span of one step of a publication.
pub(crate) fn publication(task: TaskId, state: &PublicationState) -> Span {
    in_trace_of(task, tracing::info_span!("publication", step = state.word(), task = %task))
}

fn in_trace_of(task: TaskId, span: Span) -> Span {
    // Where no traces are exported, there is nobody to take it.
    let _taken = span.set_parent(Context::new().with_remote_span_context(of(task)));
    span
}

/// Says on the span of whoever asks (a request) which trace the work on this task is in.
pub(crate) fn led_to(task: TaskId) {
    Span::current().add_link(of(task));
}

fn of(task: TaskId) -> SpanContext {
    let id = task.as_uuid().as_bytes().to_owned();
    let [.., a, b, c, d, e, f, g, h] = id;
    let span = SpanId::from_bytes([a, b, c, d, e, f, g, h]);
    SpanContext::new(TraceId::from_bytes(id), span, TraceFlags::SAMPLED, true, TraceState::default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_is_the_same_trace_wherever_it_is_worked_on() {
        let task: TaskId = "0198c1de-7a3b-7c4e-9d5f-0123456789ab".parse().expect("an id");

        let context = of(task);

        assert_eq!(context.trace_id().to_string(), "0198c1de7a3b7c4e9d5f0123456789ab");
        assert_eq!(context.span_id().to_string(), "9d5f0123456789ab");
        assert!(context.is_valid() && context.is_sampled() && context.is_remote());
    }
}
