//! What is known of people and their connections beyond the log: here, tickets that were used
//! and positions that devices have acknowledged. All of it may be lost without losing data.
//!
//! There are no counters: nothing counts across processes until rates are limited.

#[cfg(test)]
mod contract;
mod memory;
mod redis;

pub use memory::MemoryPresence;
pub use redis::{OpenError as RedisOpenError, RedisPresence};

use std::error::Error;
use std::time::Duration;

use async_trait::async_trait;
use uuid::Uuid;

use crate::domain::{Cursor, SessionId};

/// Streams remembered per session. Beyond, new ones are passed over.
const MAX_STREAMS: usize = 4_096;
/// How long positions are kept after the last call for the session.
const ACKS_KEPT: Duration = Duration::from_secs(25 * 3600);

/// Single use of realtime tickets.
#[async_trait]
pub trait Tickets: Send + Sync {
    /// True for the first caller with this ticket's id, false for every other within
    /// `lifetime`, which must not be shorter than the rest of the ticket's own.
    ///
    /// # Errors
    ///
    /// [`PresenceError`]: not known. The caller waives single use (the signature and the 30 s
    /// lifetime still hold).
    async fn redeem(&self, ticket: Uuid, lifetime: Duration) -> Result<bool, PresenceError>;
}

/// Positions that devices have acknowledged.
#[async_trait]
pub trait Acks: Send + Sync {
    /// Raises the session's acknowledged positions; lower ones change nothing. Kept for at
    /// least a day after the last call for the session. The streams per session are limited
    /// (at least 4,000): their names come from clients. Further ones are passed over.
    ///
    /// # Errors
    ///
    /// [`PresenceError`]: some may be recorded.
    async fn record(&self, session: SessionId, cursor: &Cursor) -> Result<(), PresenceError>;

    /// What the session has acknowledged.
    ///
    /// # Errors
    ///
    /// [`PresenceError`]: not known.
    async fn acknowledged(&self, session: SessionId) -> Result<Cursor, PresenceError>;
}

/// All roles, as every implementation has them.
pub trait Presence: Tickets + Acks {}

impl<T: Tickets + Acks> Presence for T {}

/// The presence store did not answer.
#[derive(Debug, thiserror::Error)]
#[error("presence is unavailable")]
pub struct PresenceError(#[source] pub Box<dyn Error + Send + Sync>);
