//! Catching up: the request and the answer of `POST /v1/sync`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Delta;
use crate::domain::Seq;

/// What a device holds, and what it wants.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SyncRequest {
    /// Stream → last applied position. Empty: the answer holds only `heads`.
    #[serde(default)]
    pub cursor: BTreeMap<String, Seq>,
    /// Most deltas in the answer: 1 to 500, by default 500.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 500)]
    pub limit: Option<u64>,
    /// Look at the streams of `cursor` alone (to fill a gap).
    #[serde(default)]
    pub only: bool,
    /// The `epoch` that `cursor` is from. If the server's is another, all of the cursor is
    /// answered with resets (`restored`).
    #[serde(default)]
    pub epoch: Option<u64>,
}

/// What a device holds, and how long it waits for more. The answer is that of a sync.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PollRequest {
    /// As for a sync. It should name all of the caller's streams: for one that it lacks the
    /// answer comes at once.
    #[serde(default)]
    pub cursor: BTreeMap<String, Seq>,
    /// Most deltas in the answer: 1 to 500, by default 500.
    #[serde(default)]
    pub limit: Option<u64>,
    /// The `epoch` that `cursor` is from.
    #[serde(default)]
    pub epoch: Option<u64>,
    /// Seconds after which the answer comes though there is nothing: 0 to 25, by default 25.
    #[serde(default)]
    pub timeout: Option<u64>,
}

impl From<PollRequest> for SyncRequest {
    fn from(poll: PollRequest) -> Self {
        Self {
            cursor: poll.cursor,
            limit: poll.limit,
            only: false,
            epoch: poll.epoch,
        }
    }
}

/// What the device lacks.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct SyncAnswer {
    /// Ascending within each stream.
    pub deltas: Vec<Delta>,
    /// The request's cursor, advanced by `deltas`, without the streams in `resets`.
    pub cursor: BTreeMap<String, Seq>,
    /// There are more deltas for this cursor: ask again with it.
    pub more: bool,
    /// Streams whose position cannot be continued: read the state again, then go on at `head`.
    pub resets: Vec<Reset>,
    /// The ends of the streams that the request's cursor lacked or was behind in.
    pub heads: BTreeMap<String, Seq>,
    /// Changes when the server was restored from a backup.
    pub epoch: u64,
}

impl SyncAnswer {
    /// Whether the device lacks nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.deltas.is_empty() && self.resets.is_empty() && self.heads.is_empty()
    }
}

/// A stream whose position cannot be continued.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Reset {
    pub stream: String,
    /// The end of the stream; 0 if it is gone.
    pub head: Seq,
    pub reason: ResetReason,
}

/// Why a position cannot be continued.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ResetReason {
    /// What comes after it is no longer kept.
    Expired,
    /// No such stream, or not the caller's (any more).
    Gone,
    /// The position is beyond the end.
    Ahead,
    /// The server was restored from a backup since.
    Restored,
    /// More than 10,000 deltas lie between.
    Behind,
}
