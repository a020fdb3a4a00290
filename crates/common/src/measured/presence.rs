//! Presence with its calls measured.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use uuid::Uuid;

use super::Calls;
use crate::domain::{Cursor, SessionId, StreamId};
use crate::presence::{Acks, Claim, Grant, Holding, Leases, Presence, PresenceError, Tickets};
use crate::telemetry::Metrics;

/// `tidings_presence_call_seconds` by method, and `tidings_presence_errors_total`.
pub struct MeasuredPresence {
    presence: Arc<dyn Presence>,
    calls: Calls,
}

impl MeasuredPresence {
    #[must_use]
    pub fn new(presence: Arc<dyn Presence>, metrics: &Metrics) -> Self {
        let operations = [
            "redeem",
            "record",
            "acknowledged",
            "take_lease",
            "read_lease",
            "end_lease",
        ];
        let calls = Calls::register(metrics, "presence", &operations, &["unavailable"]);
        Self { presence, calls }
    }
}

fn kind(_: &PresenceError) -> &'static str {
    "unavailable"
}

#[async_trait]
impl Tickets for MeasuredPresence {
    async fn redeem(&self, ticket: Uuid, lifetime: Duration) -> Result<bool, PresenceError> {
        let call = self.presence.redeem(ticket, lifetime);
        self.calls.measure("redeem", call, kind).await
    }
}

#[async_trait]
impl Acks for MeasuredPresence {
    async fn record(&self, session: SessionId, cursor: &Cursor) -> Result<(), PresenceError> {
        let call = self.presence.record(session, cursor);
        self.calls.measure("record", call, kind).await
    }

    async fn acknowledged(&self, session: SessionId) -> Result<Cursor, PresenceError> {
        let call = self.presence.acknowledged(session);
        self.calls.measure("acknowledged", call, kind).await
    }
}

#[async_trait]
impl Leases for MeasuredPresence {
    async fn take(
        &self,
        stream: StreamId,
        claim: Claim,
        lifetime: Duration,
        steal: bool,
    ) -> Result<Grant, PresenceError> {
        let call = self.presence.take(stream, claim, lifetime, steal);
        self.calls.measure("take_lease", call, kind).await
    }

    async fn holding(&self, stream: StreamId) -> Result<Option<Holding>, PresenceError> {
        let call = self.presence.holding(stream);
        self.calls.measure("read_lease", call, kind).await
    }

    async fn give_back(&self, stream: StreamId, session: SessionId) -> Result<(), PresenceError> {
        let call = self.presence.give_back(stream, session);
        self.calls.measure("end_lease", call, kind).await
    }
}
