//! Presence with its calls measured.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use uuid::Uuid;

use super::Calls;
use crate::domain::{Cursor, SessionId};
use crate::presence::{Acks, Presence, PresenceError, Tickets};
use crate::telemetry::Metrics;

/// `tidings_presence_call_seconds` by method, and `tidings_presence_errors_total`.
pub struct MeasuredPresence {
    presence: Arc<dyn Presence>,
    calls: Calls,
}

impl MeasuredPresence {
    #[must_use]
    pub fn new(presence: Arc<dyn Presence>, metrics: &Metrics) -> Self {
        let operations = ["redeem", "record", "acknowledged"];
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
