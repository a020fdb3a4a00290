//! Presence with its calls measured.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use uuid::Uuid;

use super::Calls;
use crate::domain::{Cursor, ServerId, SessionId, UserId, UserPresence};
use crate::presence::{Acks, Buried, Hold, Liveness, Presence, PresenceError, Recorded, Tickets};
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
