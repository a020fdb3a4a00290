//! What is known of people and their connections beyond the log: tickets that were used,
//! positions that devices have acknowledged, who is there, and until when who may edit. All of it
//! may be lost without losing data.
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

use crate::domain::{
    Activity, Cursor, ServerId, SessionId, StreamId, Timestamp, UserId, UserPresence,
};

/// Streams remembered per session. Beyond, new ones are passed over.
const MAX_STREAMS: usize = 4_096;
/// How long positions are kept after the last call for the session.
const ACKS_KEPT: Duration = Duration::from_secs(25 * 3600);
/// How long it is known when somebody offline was seen last.
const SEEN_KEPT: Duration = Duration::from_secs(30 * 24 * 3600);

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

/// Which servers are alive, and whose connections they hold.
///
/// A *server* here is one incarnation of a process: it is alive for as long as it renews its
/// life, and once it is not, it never is again. What it held counts no more from then on, without
/// anybody's doing. Somebody is online if a server that is alive says that an app is in front,
/// else away if one holds a connection, else offline. All times are those of one clock: of
/// whatever keeps this.
#[async_trait]
pub trait Liveness: Send + Sync {
    /// Begins the life of a server that holds nobody. It must be a new one.
    ///
    /// # Errors
    ///
    /// [`PresenceError`]: it may have begun, and ends by itself.
    async fn begin(&self, server: ServerId, lifetime: Duration) -> Result<(), PresenceError>;

    /// Makes a server that is alive live for `lifetime` from now, longer or shorter than before.
    /// False: it is not alive, and its process is to begin anew with another id.
    ///
    /// # Errors
    ///
    /// [`PresenceError`]: not known.
    async fn renew(&self, server: ServerId, lifetime: Duration) -> Result<bool, PresenceError>;

    /// Records whom a server holds; at most 500 at a time, all or none. None: it is not alive, and
    /// nothing was recorded. Otherwise how each is afterwards, in their order. Recording the same
    /// again changes nothing.
    ///
    /// # Errors
    ///
    /// [`PresenceError`]: it may have been recorded.
    async fn hold(
        &self,
        server: ServerId,
        holds: &[Hold],
    ) -> Result<Option<Vec<Recorded>>, PresenceError>;

    /// How these users (at most 500) are now, in their order.
    ///
    /// # Errors
    ///
    /// [`PresenceError`]: not known.
    async fn states(&self, users: &[UserId]) -> Result<Vec<UserPresence>, PresenceError>;

    /// Takes up to `limit` users off servers that are no longer alive. Each is taken off by one
    /// caller, however many there are.
    ///
    /// # Errors
    ///
    /// [`PresenceError`]: some may have been taken off.
    async fn bury(&self, limit: usize) -> Result<Buried, PresenceError>;
}

/// What a server says of one user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hold {
    pub user: UserId,
    /// None: it has no connection of the user any more.
    pub activity: Option<Activity>,
    /// How long ago the last connection ended; without meaning where there is one.
    pub left_ago: Duration,
}

/// How somebody is after something was recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recorded {
    pub now: UserPresence,
    /// Whether that is another state than before.
    pub changed: bool,
}

/// What came of [`Liveness::bury`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Buried {
    /// Those who are something else than they would be if the server that held them were alive.
    pub changed: Vec<UserPresence>,
    /// There may be more to be taken off.
    pub more: bool,
}

/// All roles, as every implementation has them.
pub trait Presence: Tickets + Acks + Leases + Liveness {}

impl<T: Tickets + Acks + Leases + Liveness> Presence for T {}

/// The presence store did not answer.
#[derive(Debug, thiserror::Error)]
#[error("presence is unavailable")]
pub struct PresenceError(#[source] pub Box<dyn Error + Send + Sync>);
