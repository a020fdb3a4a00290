//! What ws-push counts and measures.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use tidings_common::telemetry::{Metrics, SECONDS};
use tidings_common::wire::SyncAnswer;
use tidings_http::Problem;

use crate::connection::{Close, Transport};

/// Handles on the metrics. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct PushMetrics {
    pub(crate) connections: Gauge,
    transports: Family<TransportLabel, Gauge>,
    /// Deltas put into mailboxes.
    pub(crate) deliveries: Counter,
    /// From commit to socket.
    pub(crate) delivery_seconds: Histogram,
    pub(crate) ephemerals_dropped: Counter,
    /// Users whom connections watch, once for each.
    pub(crate) watches: Gauge,
    pub(crate) resumes: Family<ResumeLabel, Counter>,
    pub(crate) closes: Family<CloseLabel, Counter>,
    pub(crate) acks_dropped: Counter,
    pub(crate) polls: Family<PollLabel, Counter>,
}

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct TransportLabel {
    transport: &'static str,
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
pub(crate) struct PollLabel {
    answer: &'static str,
}

impl PollLabel {
    const SOMETHING: Self = Self {
        answer: "something",
    };
    const NOTHING: Self = Self { answer: "nothing" };
    const REFUSED: Self = Self { answer: "refused" };

    pub(crate) fn of(answered: &Result<SyncAnswer, Problem>) -> Self {
        match answered {
            Ok(answer) if answer.is_empty() => Self::NOTHING,
            Ok(_) => Self::SOMETHING,
            Err(_) => Self::REFUSED,
        }
    }
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
        let polls = metrics.counters("ws_polls", "Polls, by what they were answered");
        for label in [PollLabel::SOMETHING, PollLabel::NOTHING, PollLabel::REFUSED] {
            drop(polls.get_or_create(&label));
        }
        let transports = metrics.gauges("ws_transport_connections", "Those of each transport");
        for transport in Transport::ALL.map(Transport::name) {
            drop(transports.get_or_create(&TransportLabel { transport }));
        }
        Self {
            connections: metrics.gauge("ws_connections", "Connections open now"),
            transports,
            polls,
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
            watches: metrics.gauge("ws_watches", "Users whom connections watch, once for each"),
            resumes,
            closes,
            acks_dropped: metrics.counter("ws_acks_dropped", "Acknowledgements not recorded"),
        }
    }

    /// Connections of this transport that are open now.
    pub(crate) fn of_transport(&self, transport: Transport) -> Gauge {
        let transport = transport.name();
        let label = TransportLabel { transport };
        self.transports.get_or_create_owned(&label)
    }
}
