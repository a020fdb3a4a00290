//! Arguments and answers of the store's methods.

use crate::domain::{DeploymentId, Entry, Key, Seq, StreamId, Timestamp, User};

/// How far an append got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// The first `landed` entries of the run are committed. If that is not all of them, the
    /// next one's position or key was taken.
    pub landed: usize,
}

/// Which messages to read. Bounds are exclusive but for `Around`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Window {
    /// The newest.
    Newest,
    Before(Seq),
    After(Seq),
    /// Half of them before this position, the rest from it on; where one side has fewer, the
    /// other is not filled up.
    Around(Seq),
}

/// Which part of a list that ascends by id to read. Bounds are exclusive and need not exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IdWindow<T> {
    /// From the lowest id on.
    First,
    After(T),
    /// The ids just below this one; ascending all the same.
    Before(T),
}

impl<T> IdWindow<T> {
    /// The window that goes on after `last`; without one the first.
    pub fn following(last: Option<T>) -> Self {
        last.map_or(Self::First, Self::After)
    }
}

/// Part of a list.
#[derive(Debug, Clone, PartialEq)]
pub struct Page<T> {
    pub items: Vec<T>,
    /// There is more in the direction of paging (`Around`: on either side).
    pub more: bool,
}

/// An entry that is committed but perhaps not applied and announced.
#[derive(Debug, Clone, PartialEq)]
pub struct Pending {
    pub entry: Entry,
    /// When somebody last took it in hand.
    pub since: Timestamp,
}

/// Pending entries, and where to go on.
#[derive(Debug, Clone, PartialEq)]
pub struct PendingPage {
    /// Fewer than asked for, or none, where some cannot be read.
    pub items: Vec<Pending>,
    /// The last position that was looked at; None: there is nothing behind it.
    pub next: Option<(StreamId, Seq)>,
    /// How many could not be read.
    pub unreadable: usize,
}

/// Where entries are old enough to go, and where to go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OldPage {
    pub streams: Vec<Old>,
    /// None: there is nothing behind what was looked at.
    pub next: Option<(StreamId, Seq)>,
}

/// A stream's oldest entries that are no messages, as far as they are old and were looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Old {
    pub stream: StreamId,
    /// The first of them and the last.
    pub first: Seq,
    pub through: Seq,
}

/// The wish to take over a pending entry that was last taken at `seen`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    pub stream: StreamId,
    pub seq: Seq,
    pub seen: Timestamp,
}

impl Claim {
    /// Since when the entry is pending once it is taken over at `now`. Never `seen` again: else
    /// whoever else has seen that would take it over, too.
    pub(super) fn taken(&self, now: Timestamp) -> Timestamp {
        if now == self.seen {
            now.plus_millis(1)
        } else {
            now
        }
    }
}

/// An account to be made.
#[derive(Debug, Clone)]
pub struct NewUser {
    pub user: User,
    /// PHC string (argon2id).
    pub password_hash: String,
    /// The request's idempotency key, by which its repetition is known.
    pub key: Key,
}

/// An account with its secrets.
#[derive(Debug, Clone)]
pub struct Account {
    pub user: User,
    /// PHC string (argon2id).
    pub password_hash: String,
    pub key: Key,
}

/// What the processes of an installation must agree on to meet on the bus.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BusLayout {
    /// What the names of exchanges and queues begin with.
    pub prefix: String,
    pub partitions: u16,
    pub exchanges: u16,
}

/// What the store knows of the installation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Meta {
    pub deployment: DeploymentId,
    /// Raised when a backup is restored; cursors of an earlier one get `reset`.
    pub epoch: u64,
}
