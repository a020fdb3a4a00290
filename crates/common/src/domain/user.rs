//! Accounts and their sessions.

use super::{Key, SessionId, Timestamp, UserId};

/// An account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    pub id: UserId,
    /// Unique and lower-case.
    pub username: String,
    pub display_name: String,
    pub created_at: Timestamp,
}

/// One login of one user on one device. Its id is also the family of its refresh tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    pub id: SessionId,
    pub user: UserId,
    pub device_name: String,
    pub created_at: Timestamp,
    /// Creation or last refresh.
    pub last_used_at: Timestamp,
    /// Of the refresh token that is valid now; the first is 1.
    pub generation: u32,
    /// The exchange that made `generation` valid; None for the first.
    pub rotation: Option<Rotation>,
    pub revoked: bool,
}

/// The last exchange of a session's refresh token for a new pair, by which a repetition of it
/// is told from the re-use of a stolen token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rotation {
    pub at: Timestamp,
    /// The exchange's idempotency key, if it had one.
    pub key: Option<Key>,
}
