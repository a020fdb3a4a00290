//! What ws-push counts and measures.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use tidings_common::telemetry::{Metrics, SECONDS};

use crate::connection::Close;

/// Handles on the metrics. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct PushMetrics {
    pub(crate) connections: Gauge,
    /// Deltas put into mailboxes.
    pub(crate) deliveries: Counter,
    /// From commit to socket.
    pub(crate) delivery_seconds: Histogram,
    pub(crate) ephemerals_dropped: Counter,
    pub(crate) resumes: Family<ResumeLabel, Counter>,
    pub(crate) closes: Family<CloseLabel, Counter>,
    pub(crate) acks_dropped: Counter,
}

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(crate) struct ResumeLabel {
    reason: &'static str,
}

impl ResumeLabel {
    pub(crate) const MISSED: Self = Self { reason: "missed" };
    pub(crate) const SLOW: Self = Self { reason: "slow" };
}

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(crate) struct CloseLabel {
    code: u16,
}

impl From<Option<Close>> for CloseLabel {
    /// None: it ended without a close frame of ours, which is 1006 to the client.
    fn from(close: Option<Close>) -> Self {
        Self {
            code: close.map_or(1006, |close| close.row().code),
        }
    }
}

impl PushMetrics {
    /// What is counted by a label is there from the start: a counter that begins at one has not
    /// risen.
    pub(crate) fn register(metrics: &Metrics) -> Self {
        let resumes = metrics.counters("ws_resumes", "Connections told to sync");
        for label in [ResumeLabel::MISSED, ResumeLabel::SLOW] {
            drop(resumes.get_or_create(&label));
        }
        let closes = metrics.counters("ws_closes", "Connections ended, by close code");
        for close in Close::ALL.into_iter().map(Some).chain([None]) {
            drop(closes.get_or_create(&CloseLabel::from(close)));
        }
        Self {
            connections: metrics.gauge("ws_connections", "Connections open now"),
            deliveries: metrics.counter("ws_deliveries", "Deltas put into mailboxes"),
            delivery_seconds: metrics.histogram(
                "delivery_seconds",
                "From the commit of a delta to its write to a socket",
                SECONDS,
            ),
            ephemerals_dropped: metrics.counter(
                "ws_ephemerals_dropped",
                "Ephemeral deltas that found a full mailbox",
            ),
            resumes,
            closes,
            acks_dropped: metrics.counter("ws_acks_dropped", "Acknowledgements not recorded"),
        }
    }
}
