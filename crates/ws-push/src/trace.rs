//! The spans with which the trace of a delta ends.

use tidings_common::bus::Envelope;
use tidings_common::domain::ServerId;
use tidings_common::telemetry::traces;
use tracing::{Span, field};

use crate::connection::Transport;

/// From a delta's arrival on this server to the mailboxes; disabled unless its sender recorded
/// it.
pub(crate) fn dispatch(envelope: &Envelope, server: ServerId) -> Span {
    let Some(sender) = &envelope.trace else {
        return Span::none();
    };
    let span = tracing::info_span!(
        target: traces::TARGET,
        parent: None,
        "process deltas",
        otel.kind = "consumer",
        messaging.operation.name = "process",
        messaging.operation.type = "process",
        messaging.message.id = envelope.id.map(field::display),
        server.id = %server,
    );
    traces::follow(&span, &sender.0);
    span
}

/// From a mailbox to its socket. Ends when the transport takes the delta to write it, which
/// `outcome` says; without it the delta made way to a `resume`, or the connection ended. None
/// where this process does not trace.
pub(crate) fn write(transport: Transport) -> Option<Box<Span>> {
    let span = match transport {
        Transport::WebSocket => tracing::info_span!(
            target: traces::TARGET,
            "write websocket",
            network.protocol.name = "websocket",
            outcome = field::Empty,
        ),
        Transport::Events => tracing::info_span!(
            target: traces::TARGET,
            "write event",
            network.protocol.name = "http",
            outcome = field::Empty,
        ),
        // What a poll is answered with is read from the log.
        Transport::Poll => return None,
    };
    (!span.is_disabled()).then(|| Box::new(span))
}

/// The delta has been taken.
pub(crate) fn written(span: &Span) {
    span.record("outcome", "written");
}
