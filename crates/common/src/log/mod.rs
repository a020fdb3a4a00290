//! The log in use: appending with validation at a known head, group commit, projections,
//! derived entries and announcements. Used by api (mutations) and worker (relay).

use std::sync::Arc;

use async_trait::async_trait;
use tokio::runtime::Handle;
use tokio::sync::watch;

use crate::bus::{Announcement, Bus};
use crate::clock::Clock;
use crate::domain::{
    Change, ChannelId, Entry, Group, GroupId, Head, Key, Refusal, RequestHash, Seq, SessionId,
    StreamId, UserId,
};
use crate::store::{Store, StoreError};

/// Appends to streams. Cheap to clone; all clones share one set of appenders.
#[derive(Clone)]
pub struct Log {}

impl Log {
    /// Starts the announcer on `runtime`, on which appends run as well, so that they outlive
    /// the requests that asked for them.
    #[must_use]
    pub fn start(
        _store: Arc<dyn Store>,
        _bus: Arc<dyn Bus>,
        _clock: Arc<dyn Clock>,
        _runtime: Handle,
    ) -> Self {
        Self {}
    }

    /// Validates, commits, applies: when this returns `Ok`, the change is durable and the next
    /// read on any server sees it. A repetition of a key answers the first entry.
    ///
    /// # Errors
    ///
    /// See [`AppendError`].
    pub async fn append(&self, _request: Append) -> Result<Committed, AppendError> {
        Err(AppendError::Unavailable)
    }

    /// Groups, through a cache.
    #[must_use]
    pub fn groups(&self) -> &Groups {
        unimplemented!("being written")
    }

    /// Publishes something that is not stored. Best effort.
    pub async fn announce_ephemeral(&self, _announcement: Announcement) {}

    /// Finishes appends and announcements under way, for at most 10 s.
    pub async fn stop(&self) {}
}

/// A mutation to be committed.
pub struct Append {
    pub stream: StreamId,
    /// None: the system.
    pub actor: Option<UserId>,
    pub key: Key,
    /// By which "the same key with another body" is noticed; None where bodies hold secrets.
    pub request: Option<RequestHash>,
    pub proposal: Arc<dyn Proposal>,
}

/// A mutation's rules.
#[async_trait]
pub trait Proposal: Send + Sync {
    /// Whether [`Proposal::validate`] reads state that its own stream's entries change. Then
    /// all entries up to the head it is given are applied before it is called, and nothing
    /// else is validated between it and them.
    fn reads_state(&self) -> bool;

    /// What to append after `head`. May be called several times, at different heads; must not
    /// change anything.
    ///
    /// # Errors
    ///
    /// The rules' refusal, or the store's failure.
    async fn validate(&self, head: Head) -> Result<Draft, NotValid>;
}

/// A validated change.
#[derive(Debug, Clone, PartialEq)]
pub struct Draft {
    pub change: Change,
    /// In `c:` streams, the `g:` position at which the actor's rights were checked; must not
    /// be below the head's. 0 elsewhere.
    pub gv: Seq,
}

/// Why there is no draft.
#[derive(Debug, thiserror::Error)]
pub enum NotValid {
    #[error("refused by a rule")]
    Refused(#[from] Refusal),
    #[error("the state could not be read")]
    Store(#[from] StoreError),
}

/// The outcome of an append.
#[derive(Debug, Clone, PartialEq)]
pub struct Committed {
    /// As it was committed; of a replay, as it is now.
    pub entry: Entry,
    /// The key was there already; this is its first result.
    pub replayed: bool,
}

/// Why nothing (or nothing known) was appended.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// A rule said no, and the key has no earlier result.
    #[error("refused by a rule")]
    Refused(#[source] Refusal),
    /// The key was used before with another body.
    #[error("the idempotency key was used with another body")]
    KeyReused,
    /// Too many appends wait for this stream, or the outcome is not known in time. Repeat with
    /// the same key.
    #[error("the log is unavailable")]
    Unavailable,
}

/// Groups, cached for at most 30 s and corrected by fences and hints.
pub struct Groups {}

impl Groups {
    /// A group as of position `at_least` of its stream or later; perhaps up to 30 s old.
    /// None if there is none. Deleted groups are returned (their rules refuse everything).
    ///
    /// # Errors
    ///
    /// [`StoreError`] if it had to be read and could not.
    pub async fn get(
        &self,
        _group: GroupId,
        _at_least: Seq,
    ) -> Result<Option<Arc<Group>>, StoreError> {
        unimplemented!("being written")
    }

    /// The group of a channel, otherwise as [`Groups::get`].
    ///
    /// # Errors
    ///
    /// [`StoreError`] if it had to be read and could not.
    pub async fn of_channel(
        &self,
        _channel: ChannelId,
        _at_least: Seq,
    ) -> Result<Option<Arc<Group>>, StoreError> {
        unimplemented!("being written")
    }

    /// A group as the store has it now, all committed entries applied.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if it could not be read.
    pub async fn fresh(&self, _group: GroupId) -> Result<Option<Arc<Group>>, StoreError> {
        unimplemented!("being written")
    }
}

/// Fills in what entries do not hold themselves, for readers: the current content of the
/// messages that edits name (None once deleted).
///
/// # Errors
///
/// [`StoreError`] if they could not be read.
pub async fn fill_in(_store: &dyn Store, _entries: &mut [Entry]) -> Result<(), StoreError> {
    unimplemented!("being written")
}

/// Follows `x:sessions`: which sessions have ended within the life of an access token.
pub struct Revocations {}

impl Revocations {
    /// Reads the stream to its head, then follows it: at each hint, and every 3 s.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the stream cannot be read: the process must not serve.
    pub async fn start(
        _store: Arc<dyn Store>,
        _bus: Arc<dyn Bus>,
        _clock: Arc<dyn Clock>,
        _access_ttl: std::time::Duration,
        _runtime: &Handle,
    ) -> Result<Arc<Self>, StoreError> {
        unimplemented!("being written")
    }

    /// Whether the session has ended.
    #[must_use]
    pub fn is_ended(&self, _session: SessionId) -> bool {
        unimplemented!("being written")
    }

    /// Changes whenever sessions have ended.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        unimplemented!("being written")
    }
}
