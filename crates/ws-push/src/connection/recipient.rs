//! What the hub may do with a client, however the client is connected.

use std::fmt::Debug;

use tidings_common::wire::ResumeReason;

use super::{Close, Delta, Offered};

/// A client's end of the hub. Nothing here waits for the client.
pub(crate) trait Recipient: Debug + Send + Sync {
    /// Takes a delta, or what it stands for.
    fn offer(&self, delta: Delta) -> Offered;

    /// Deltas may have been missed: the client is to sync after `after_ms`.
    fn resume(&self, reason: ResumeReason, after_ms: u64);

    /// The server is going away, and will close this connection after `after_ms`.
    fn move_over(&self, after_ms: u64);

    /// Ends the connection. The first reason given stays.
    fn close(&self, close: Close);
}
