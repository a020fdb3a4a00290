//! What the relay counts.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use tidings_common::domain::Timestamp;
use tidings_common::telemetry::Metrics;

pub(super) struct RelayMetrics {
    pub(super) finished: Counter,
    pub(super) failed: Counter,
    /// In seconds.
    oldest: Gauge<f64, AtomicU64>,
    pub(super) stuck: Gauge,
    pub(super) unreadable: Gauge,
}

impl RelayMetrics {
    pub(super) fn register(metrics: &Metrics) -> Self {
        let oldest = "Age of the oldest abandoned entry that is known";
        Self {
            finished: metrics.counter(
                "relay_entries_finished",
                "Abandoned entries that were finished",
            ),
            failed: metrics.counter(
                "relay_entries_failed",
                "Attempts to finish an abandoned entry that failed",
            ),
            oldest: metrics.register("relay_oldest_pending_seconds", oldest, Gauge::default()),
            stuck: metrics.gauge(
                "relay_entries_stuck",
                "Abandoned entries that have failed 20 times or more",
            ),
            unreadable: metrics.gauge(
                "relay_entries_unreadable",
                "Pending entries that could not be read when all were last looked at",
            ),
        }
    }

    pub(super) fn show_oldest(&self, oldest: Option<Timestamp>, now: Timestamp) {
        let age = oldest.map_or(0, |oldest| now.millis_since(oldest));
        self.oldest.set(Duration::from_millis(age).as_secs_f64());
    }
}
