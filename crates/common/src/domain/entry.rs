//! One entry of the log, and positions in it.

use std::collections::BTreeMap;
use std::fmt;

use super::ids::digest;
use super::{Change, EntryId, IdempotencyKey, StreamId, Timestamp, UserId};

/// A position in a stream. The first entry is 1; 0 is "before the first".
pub type Seq = u64;

/// Stream → last applied position, the contiguous prefix.
pub type Cursor = BTreeMap<StreamId, Seq>;

/// What identifies a mutation within a stream, so that its repetition has no second effect.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key([u8; 16]);

impl Key {
    /// The key of a client's mutation: the same actor with the same idempotency key.
    /// Nobody else's key equals it.
    #[must_use]
    pub fn of_client(actor: UserId, key: &IdempotencyKey) -> Self {
        Self::hash("client", &[actor.as_bytes(), key.as_str().as_bytes()])
    }

    /// A key that no other mutation has, for requests that came without one.
    #[must_use]
    pub fn unique() -> Self {
        Self(*EntryId::generate().as_bytes())
    }

    /// The key of entries derived from a deciding entry: whoever repeats them does no harm.
    #[must_use]
    pub fn of_entry(deciding: EntryId) -> Self {
        Self(*deciding.as_bytes())
    }

    /// A key that everyone who knows `parts` computes alike.
    #[must_use]
    pub fn hash(label: &str, parts: &[&[u8]]) -> Self {
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&digest(label, parts)[..16]);
        Self(bytes)
    }

    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({:032x})", u128::from_be_bytes(self.0))
    }
}

/// A digest of a request's body, by which "the same key with another body" is noticed.
/// Never made of a body that holds a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestHash([u8; 16]);

impl RequestHash {
    /// `route` names method and resource, `parts` the request's values in a fixed order.
    #[must_use]
    pub fn of(route: &str, parts: &[&[u8]]) -> Self {
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&digest(route, parts)[..16]);
        Self(bytes)
    }

    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

/// The end of a stream. The default is that of a stream without entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Head {
    /// Position of the last entry.
    pub seq: Seq,
    /// In `c:` streams, the highest `g:` position that an author's rights were checked at.
    /// It never falls along a stream. 0 elsewhere.
    pub gv: Seq,
    /// In `c:` streams, the number of messages created so far. 0 elsewhere.
    pub ord: u64,
}

impl Head {
    /// The head after an entry with `change`, checked at group position `gv`.
    #[must_use]
    pub fn after(&self, change: &Change, gv: Seq) -> Self {
        Self {
            seq: self.seq + 1,
            gv: self.gv.max(gv),
            ord: self.ord + u64::from(matches!(change, Change::MessageCreated(_))),
        }
    }
}

/// One entry of a stream: a change that is committed, or about to be.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Sortable by the time it was made; a message's id.
    pub id: EntryId,
    pub stream: StreamId,
    pub seq: Seq,
    /// When it was made, by the clock of the process that made it. Never used for order.
    pub at: Timestamp,
    /// None: the system.
    pub actor: Option<UserId>,
    pub key: Key,
    pub request: Option<RequestHash>,
    /// See [`Head::gv`].
    pub gv: Seq,
    /// See [`Head::ord`]: messages created up to and with this entry.
    pub ord: u64,
    pub change: Change,
}

impl Entry {
    /// The head of the stream while this is its last entry.
    #[must_use]
    pub fn head(&self) -> Head {
        Head {
            seq: self.seq,
            gv: self.gv,
            ord: self.ord,
        }
    }
}
