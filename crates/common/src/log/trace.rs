//! The spans of what the log does. Names and attributes follow OpenTelemetry's conventions for
//! databases and messaging; which database and which broker it is, the exporter adds.

use tracing::{Span, field};

use super::append::Append;
use crate::domain::Entry;
use crate::telemetry::traces;

/// From the wish to append to its answer, below what is being done now.
pub(super) fn append(append: &Append) -> Span {
    tracing::info_span!(
        target: traces::TARGET,
        "append",
        stream = %append.stream,
        delta.seq = field::Empty,
        replayed = field::Empty,
        otel.status_code = field::Empty,
    )
}

/// The store commits a batch of `entries`, which the spans of `initiators` wait for.
pub(super) fn insert<'a>(initiators: impl IntoIterator<Item = &'a Span>, entries: usize) -> Span {
    traces::shared(initiators, |parent| {
        tracing::info_span!(
            target: traces::TARGET,
            parent: parent,
            "insert entries",
            otel.kind = "client",
            db.operation.name = "insert",
            db.collection.name = "entries",
            db.operation.batch.size = entries,
        )
    })
}

/// The store applies an entry.
pub(super) fn apply(entry: &Entry) -> Span {
    tracing::info_span!(
        target: traces::TARGET,
        "apply",
        otel.kind = "client",
        db.operation.name = "apply",
        stream = %entry.stream,
        delta.seq = entry.seq,
    )
}

/// From the call of the bus to its confirmation, below `initiator`.
pub(super) fn publish(initiator: &Span) -> Span {
    tracing::info_span!(
        target: traces::TARGET,
        parent: initiator,
        "publish deltas",
        otel.kind = "producer",
        messaging.operation.name = "publish",
        messaging.operation.type = "send",
        messaging.message.id = field::Empty,
        otel.status_code = field::Empty,
    )
}

/// The store clears the pending marks of `entries`, which the spans of `initiators` brought about.
pub(super) fn settle<'a>(initiators: impl IntoIterator<Item = &'a Span>, entries: usize) -> Span {
    traces::shared(initiators, |parent| {
        tracing::info_span!(
            target: traces::TARGET,
            parent: parent,
            "settle entries",
            otel.kind = "client",
            db.operation.name = "update",
            db.collection.name = "entries",
            db.operation.batch.size = entries,
        )
    })
}
