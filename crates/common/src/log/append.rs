//! What a mutation brings to the log and what it gets back.

use std::sync::Arc;

use async_trait::async_trait;

use crate::domain::{Change, Entry, Head, Key, Refusal, RequestHash, Seq, StreamId, UserId};
use crate::store::StoreError;

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
