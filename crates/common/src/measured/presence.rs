//! Presence with its calls measured.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use uuid::Uuid;

use super::Calls;
use crate::domain::{Cursor, ServerId, SessionId, StreamId, UserId, UserPresence};
use crate::presence::{
    Acks, Buried, Claim, Grant, Hold, Holding, Leases, Liveness, Presence, PresenceError, Recorded,
    Tickets,
};
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
            "begin",
            "renew",
            "hold",
            "states",
            "bury",
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

#[async_trait]
impl Liveness for MeasuredPresence {
    async fn begin(&self, server: ServerId, lifetime: Duration) -> Result<(), PresenceError> {
        let call = self.presence.begin(server, lifetime);
        self.calls.measure("begin", call, kind).await
    }

    async fn renew(&self, server: ServerId, lifetime: Duration) -> Result<bool, PresenceError> {
        let call = self.presence.renew(server, lifetime);
        self.calls.measure("renew", call, kind).await
    }

    async fn hold(
        &self,
        server: ServerId,
        holds: &[Hold],
    ) -> Result<Option<Vec<Recorded>>, PresenceError> {
        let call = self.presence.hold(server, holds);
        self.calls.measure("hold", call, kind).await
    }

    async fn states(&self, users: &[UserId]) -> Result<Vec<UserPresence>, PresenceError> {
        let call = self.presence.states(users);
        self.calls.measure("states", call, kind).await
    }

    async fn bury(&self, limit: usize) -> Result<Buried, PresenceError> {
        let call = self.presence.bury(limit);
        self.calls.measure("bury", call, kind).await
    }
}
