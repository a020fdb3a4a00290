//! Frames on a client's connection, other than deltas.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::domain::{ConnectionId, Seq, ServerId};

/// What the server says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ServerFrame {
    /// Always first: from here on the server really receives for this user.
    Hello {
        server: ServerId,
        connection: ConnectionId,
        epoch: u64,
        heartbeat_ms: u64,
        /// Seconds until the connection is closed with 4001 unless renewed.
        session_expires_in: u64,
        /// Seconds between a client's background syncs while the app is in front.
        sync_secs: u64,
        /// Whether the client should send `ack` frames.
        acks: bool,
    },
    /// Deltas may have been missed: sync after `after_ms`.
    Resume {
        reason: ResumeReason,
        after_ms: u64,
    },
    /// The server is going away: connect again after `after_ms`.
    Reconnect {
        after_ms: u64,
    },
    /// The token was renewed.
    Auth {
        session_expires_in: u64,
    },
    Pong,
    /// Only where the transport has no ping of its own: nothing happens, and the connection works.
    Ping,
    /// Only where the transport has no close codes: the last frame before the end.
    Close {
        code: u16,
        reason: &'static str,
    },
    /// The last frame was not acceptable. The connection stays, up to a limit of errors.
    Error {
        code: ErrorCode,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ResumeReason {
    /// The server itself may have missed deltas.
    Missed,
    /// The client read too slowly and its backlog was dropped.
    Slow,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    InvalidFrame,
    RateLimited,
    InvalidToken,
    Forbidden,
}

impl ServerFrame {
    /// The frame's JSON.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("a frame's keys are strings")
    }
}

/// What a client may say. None of it is a mutation. Unknown fields are ignored, so that newer
/// clients can talk to older servers.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ClientFrame {
    /// How far this device has come.
    Ack {
        cursor: BTreeMap<String, Seq>,
    },
    /// A new access token of the same session.
    Auth {
        access_token: String,
    },
    /// Whether the app is in front.
    Active {
        value: bool,
    },
    /// Whose presence to tell, in the place of those named before.
    Watch {
        users: Vec<String>,
    },
    Ping,
}
