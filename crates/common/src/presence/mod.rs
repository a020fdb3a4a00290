//! What is known of people and their connections beyond the log: here, tickets that were used,
//! positions that devices have acknowledged, and until when who may edit. All of it may be lost
//! without losing data.
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

use crate::domain::{Cursor, SessionId, StreamId, Timestamp, UserId};

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

/// Who may renew an edit lease, and until when. Named by the stream of what is edited. That a
/// lease was taken, and what fences it, stands in the log: see [`crate::domain::Lease`].
#[async_trait]
pub trait Leases: Send + Sync {
    /// Gives `claim` the lease until `lifetime` from now, if nobody has it, the same session
    /// does (which keeps its `since`), or with `steal`. Of concurrent callers one gets it.
    ///
    /// # Errors
    ///
    /// [`PresenceError`]: not known; it may have been given.
    async fn take(
        &self,
        stream: StreamId,
        claim: Claim,
        lifetime: Duration,
        steal: bool,
    ) -> Result<Grant, PresenceError>;

    /// Who has the lease.
    ///
    /// # Errors
    ///
    /// [`PresenceError`]: not known.
    async fn holding(&self, stream: StreamId) -> Result<Option<Holding>, PresenceError>;

    /// Ends the lease if this session has it.
    ///
    /// # Errors
    ///
    /// [`PresenceError`]: not known; it may have ended.
    async fn give_back(&self, stream: StreamId, session: SessionId) -> Result<(), PresenceError>;
}

/// Who asks for an edit lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    pub session: SessionId,
    pub user: UserId,
    /// By the clock of the process that asks.
    pub now: Timestamp,
}

/// What became of a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grant {
    New,
    /// The session had it already.
    Renewed,
    /// Somebody else has it.
    Refused(Holding),
}

/// An edit lease that runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holding {
    pub session: SessionId,
    pub user: UserId,
    /// When it was claimed, by the claimant's clock.
    pub since: Timestamp,
    pub rest: Duration,
}

/// All roles, as every implementation has them.
pub trait Presence: Tickets + Acks + Leases {}

impl<T: Tickets + Acks + Leases> Presence for T {}

/// The presence store did not answer.
#[derive(Debug, thiserror::Error)]
#[error("presence is unavailable")]
pub struct PresenceError(#[source] pub Box<dyn Error + Send + Sync>);
