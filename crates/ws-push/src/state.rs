//! What the connections of one server share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tidings_common::auth::Keys;
use tidings_common::clock::Clock;
use tidings_common::domain::{ServerId, UserId};
use tidings_common::log::Revocations;
use tidings_common::presence::Presence;
use tidings_common::store::Store;
use tidings_common::sync::Sync;
use tidings_http::{Authenticator, Origins};

use crate::acks::AckReports;
use crate::binder::Partitions;
use crate::connection::MailboxLimits;
use crate::hub::Hub;
use crate::large::LargeGroups;
use crate::metrics::PushMetrics;
use crate::poll::Pollers;

pub(crate) struct State {
    pub(crate) server: ServerId,
    pub(crate) epoch: u64,
    pub(crate) heartbeat: Duration,
    pub(crate) write_deadline: Duration,
    pub(crate) mailbox_limits: MailboxLimits,
    pub(crate) origins: Origins,
    pub(crate) hub: Arc<Hub>,
    pub(crate) large: Arc<LargeGroups>,
    pub(crate) pollers: Arc<Pollers>,
    pub(crate) sync: Sync,
    pub(crate) partitions: Arc<Partitions>,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) presence: Arc<dyn Presence>,
    pub(crate) keys: Arc<Keys>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) revocations: Arc<Revocations>,
    pub(crate) authenticator: Authenticator,
    pub(crate) acks: AckReports,
    pub(crate) metrics: PushMetrics,
    /// Whether this server's queue is open and read.
    pub(crate) consuming: AtomicBool,
}

impl State {
    /// Returns once every delta of the user that is delivered from now on reaches the user, who
    /// is registered in the hub.
    pub(crate) async fn receives(&self, user: UserId, partition: u16) {
        self.partitions.bound(partition).await;
        self.large.admit(user).await;
    }

    /// Why no connection is taken now, in one word; None if one is.
    pub(crate) fn refusal(&self) -> Option<&'static str> {
        let full = || self.hub.is_full().then_some("full");
        self.standstill().or_else(full)
    }

    /// Why nobody is served who comes now, not even who has a place already.
    pub(crate) fn standstill(&self) -> Option<&'static str> {
        if self.hub.is_draining() {
            Some("draining")
        } else if !self.consuming.load(Ordering::SeqCst) {
            Some("down")
        } else {
            None
        }
    }
}
