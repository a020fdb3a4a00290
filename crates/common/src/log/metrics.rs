//! What the log counts and measures.

use std::time::{Duration, Instant};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;

use super::append::{AppendError, Committed};
use crate::telemetry::{Buckets, HistogramFamily, Metrics, SECONDS};

/// Sizes of batches; the largest has 256 entries.
const ENTRIES: Buckets = Buckets::new(&[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0]);

/// Ages of what is remembered for at most 30 s.
const AGES: Buckets = Buckets::new(&[0.01, 0.05, 0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0]);

/// Handles on the metrics. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct LogMetrics {
    appends: HistogramFamily<Outcome>,
    appends_waiting: Gauge,
    pub(super) batches: Histogram,
    pub(super) races: Counter,
    pub(super) uncertain: Counter,
    pub(super) announcements_waiting: Gauge,
    pub(super) left_to_relay: Counter,
    pub(super) caches: CacheMetrics,
}

const OUTCOMES: [&str; 5] = [
    "committed",
    "repeated",
    "refused",
    "key_reused",
    "unavailable",
];

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Outcome {
    outcome: &'static str,
}

impl LogMetrics {
    pub(super) fn register(metrics: &Metrics) -> Self {
        let appends = metrics.histograms(
            "log_append_seconds",
            "From asking for an append to its answer, waiting in the queue included",
            SECONDS,
        );
        for outcome in OUTCOMES {
            drop(appends.get_or_create(&Outcome { outcome }));
        }
        Self {
            appends,
            appends_waiting: metrics.gauge(
                "log_appends_waiting",
                "Appends that are queued or under way",
            ),
            batches: metrics.histogram(
                "log_batch_entries",
                "Entries committed by one call to the store",
                ENTRIES,
            ),
            races: metrics.counter(
                "log_races",
                "Batches refused because another process was faster",
            ),
            uncertain: metrics.counter(
                "log_uncertain_batches",
                "Batches of which it was not known whether they are in",
            ),
            announcements_waiting: metrics.gauge(
                "log_announcements_waiting",
                "Committed entries that wait to be announced",
            ),
            left_to_relay: metrics.counter(
                "log_entries_left_to_relay",
                "Committed entries whose announcing failed or had no room",
            ),
            caches: CacheMetrics::register(metrics),
        }
    }

    /// Measures an append, whose caller may give up at any time.
    pub(super) async fn measure(
        &self,
        append: impl Future<Output = Result<Committed, AppendError>>,
    ) -> Result<Committed, AppendError> {
        let started = Instant::now();
        self.appends_waiting.inc();
        let waiting = Waiting(&self.appends_waiting);
        let answer = append.await;
        drop(waiting);
        let outcome = match &answer {
            Ok(Committed { replayed: true, .. }) => "repeated",
            Ok(_) => "committed",
            Err(AppendError::Refused(_)) => "refused",
            Err(AppendError::KeyReused) => "key_reused",
            Err(AppendError::Unavailable) => "unavailable",
        };
        let seconds = self.appends.get_or_create(&Outcome { outcome });
        seconds.observe(started.elapsed().as_secs_f64());
        answer
    }
}

/// What a process remembers, and how good its memory is.
#[derive(Debug, Clone)]
pub(super) struct CacheMetrics {
    lookups: Family<Lookup, Counter>,
    staleness: Histogram,
}

/// Caches and what may come of looking something up in them.
const LOOKUPS: [(&str, &[&str]); 3] = [
    ("group", &["hit", "miss", "expired", "stale", "reread"]),
    ("channel", &["hit", "miss"]),
    ("head", &["hit", "miss", "expired"]),
];

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Lookup {
    cache: &'static str,
    outcome: &'static str,
}

impl CacheMetrics {
    fn register(metrics: &Metrics) -> Self {
        let lookups = metrics.counters(
            "log_cache_lookups",
            "What was looked up in a process's memory, by what came of it",
        );
        for (cache, outcomes) in LOOKUPS {
            for outcome in outcomes {
                drop(lookups.get_or_create(&Lookup { cache, outcome }));
            }
        }
        Self {
            lookups,
            staleness: metrics.histogram(
                "log_group_staleness_seconds",
                "How long ago a group had been read that a fence found too old",
                AGES,
            ),
        }
    }

    pub(super) fn count(&self, cache: &'static str, outcome: &'static str) {
        let lookup = Lookup { cache, outcome };
        self.lookups.get_or_create(&lookup).inc();
    }

    /// A fence has found a group too old that was read so long ago.
    pub(super) fn stale(&self, age: Duration) {
        self.count("group", "stale");
        self.staleness.observe(age.as_secs_f64());
    }
}

struct Waiting<'a>(&'a Gauge);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.dec();
    }
}
