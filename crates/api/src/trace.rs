//! The span of a request. A caller's `traceparent` is gone on with.

use axum::body::Body;
use axum::extract::{MatchedPath, Request};
use axum::http::HeaderMap;
use opentelemetry::Context;
use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt as _, TraceFlags, TraceId, TraceState};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

/// Names the route as it is declared: what a client asked for may say anything.
pub(crate) fn span(request: &Request<Body>) -> Span {
    let route = request.extensions().get::<MatchedPath>().map_or("other", MatchedPath::as_str);
    let method = request.method().as_str();
    let span = tracing::info_span!("request", method, route, otel.kind = "server");
    if let Some(parent) = parent(request.headers()) {
        // Where no traces are exported, there is nobody to take it.
        let _taken = span.set_parent(Context::new().with_remote_span_context(parent));
    }
    span
}

/// What a caller's header says, in the form of W3C Trace Context: `00-TRACE-SPAN-FLAGS`.
fn parent(headers: &HeaderMap) -> Option<SpanContext> {
    let header = headers.get("traceparent")?.to_str().ok()?;
    let mut parts = header.trim().split('-');
    let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let is_whole = version.len() == 2 && trace.len() == 32 && span.len() == 16 && flags.len() == 2;
    let is_read = version != "ff" && (version != "00" || parts.next().is_none());
    if !is_whole || !is_read {
        return None;
    }
    let flags = TraceFlags::new(u8::from_str_radix(flags, 16).ok()?) & TraceFlags::SAMPLED;
    let (trace, span) = (TraceId::from_hex(trace).ok()?, SpanId::from_hex(span).ok()?);
    let context = SpanContext::new(trace, span, flags, true, TraceState::default());
    context.is_valid().then_some(context)
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn read(text: &str) -> Option<SpanContext> {
        parent(&HeaderMap::from_iter([("traceparent".parse().expect("a name"), HeaderValue::from_str(text).ok()?)]))
    }

    #[test]
    fn a_callers_trace_is_read_and_nonsense_is_passed_over() {
        let context = read("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01").expect("valid");

        assert_eq!(context.trace_id().to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!((context.span_id().to_string().as_str(), context.is_sampled()), ("00f067aa0ba902b7", true));
        for nonsense in [
            "",
            "00",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "00-zzf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ] {
            assert!(read(nonsense).is_none(), "{nonsense}");
        }
    }
}
