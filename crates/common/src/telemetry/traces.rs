//! Traces: where a message spends its time on its way from the request to the socket, in one
//! process or several.
//!
//! Spans are those of `tracing` with the target [`TARGET`], started with
//! `tracing::info_span!(target: traces::TARGET, …)`. They go to the OTLP receiver and never into
//! the log; without a receiver they are disabled where they are written, and cost the look at
//! a flag. Attributes are ids and counts, never contents, tokens, addresses or paths.

use std::collections::HashMap;

use opentelemetry::propagation::TextMapPropagator as _;
use opentelemetry::trace::{SpanId, TraceContextExt as _, TraceId};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

/// The target of all spans that are exported, and of nothing else.
pub const TARGET: &str = "tidings::trace";

/// Of W3C Trace Context.
const TRACEPARENT: &str = "traceparent";

/// Whether `span` will be exported.
#[must_use]
pub fn is_recorded(span: &Span) -> bool {
    !span.is_disabled() && span.context().span().span_context().is_sampled()
}

/// The place of `span` in its trace as the header `traceparent` has it; None if it is not
/// recorded.
#[must_use]
pub fn traceparent(span: &Span) -> Option<Box<str>> {
    if span.is_disabled() {
        return None;
    }
    let context = span.context();
    if !context.span().span_context().is_sampled() {
        return None;
    }
    let mut headers = HashMap::new();
    TraceContextPropagator::new().inject_context(&context, &mut headers);
    headers.remove(TRACEPARENT).map(String::into_boxed_str)
}

/// Makes `span`, which nobody has entered yet, the child of a span of another process. A
/// `traceparent` that W3C Trace Context does not allow changes nothing.
pub fn follow(span: &Span, traceparent: &str) {
    if span.is_disabled() {
        return;
    }
    let headers = HashMap::from([(TRACEPARENT.to_owned(), traceparent.to_owned())]);
    let nothing = opentelemetry::Context::new();
    let parent = TraceContextPropagator::new().extract_with_context(&nothing, &headers);
    if parent.span().span_context().is_valid() && span.set_parent(parent).is_err() {
        tracing::debug!("a span was begun before its parent was known");
    }
}

/// Gives `span` the name that was not known when it began.
pub fn rename(span: &Span, name: String) {
    if !span.is_disabled() {
        span.context().span().update_name(name);
    }
}

/// Starts the span of something done for several at once: the child of the first of
/// `initiators` that is recorded, to which those of the others get a link. Disabled if none is.
pub fn shared<'a>(
    initiators: impl IntoIterator<Item = &'a Span>,
    start: impl FnOnce(&Span) -> Span,
) -> Span {
    let mut recorded = initiators.into_iter().filter(|span| is_recorded(span));
    let Some(first) = recorded.next() else {
        return Span::none();
    };
    let span = start(first);
    for other in recorded {
        other.follows_from(&span);
    }
    span
}

/// Where this thread is now, if that is recorded.
pub(super) fn current() -> Option<(TraceId, SpanId)> {
    opentelemetry::Context::map_current(|context| {
        let span = context.span();
        let place = span.span_context();
        place
            .is_sampled()
            .then(|| (place.trace_id(), place.span_id()))
    })
}

#[cfg(test)]
mod tests;
