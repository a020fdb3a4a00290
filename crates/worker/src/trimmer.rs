//! Deletes what the log need not keep: entries that are no messages, once they are older than
//! `log.retention_days`.
//!
//! A lease in the store keeps several workers from doing the same. It only saves work: trimming
//! twice does no harm.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use tidings_common::clock::Clock;
use tidings_common::domain::{ServerId, Timestamp};
use tidings_common::store::{Old, Store, StoreError};
use tidings_common::telemetry::Metrics;
use tokio_util::sync::CancellationToken;

/// From the end of a pass to the next, of whatever worker.
const INTERVAL: Duration = Duration::from_secs(3600);
/// Until a worker looks again whether a pass is due that another had taken on.
const RETRY: Duration = Duration::from_secs(60);
/// How long a worker that does not report is taken to be at work. It reports after each page.
const WORKING: Duration = Duration::from_secs(120);
/// Entries looked at together, and the pause after them: 2,000 a second at most.
const PAGE: usize = 500;
const BETWEEN_PAGES: Duration = Duration::from_millis(250);
/// Pause after a stream was trimmed: 100 a second at most.
const BETWEEN_STREAMS: Duration = Duration::from_millis(10);

const LEASE: &str = "trimmer";

/// Deletes old entries, about once an hour.
pub struct Trimmer {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    retention: Duration,
    holder: ServerId,
    streams: Counter,
    entries: Counter,
    /// In seconds since 1970.
    last: Gauge<f64, AtomicU64>,
}

/// How a pass ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trimmed {
    /// All streams were looked at.
    All,
    /// Another worker is at it, or was less than an hour ago.
    Elsewhere,
    /// The process stops.
    Stopped,
}

impl Trimmer {
    #[must_use]
    pub fn new(
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        retention: Duration,
        metrics: &Metrics,
    ) -> Self {
        let last = "When a pass over all streams last ended here; 0: never";
        Self {
            store,
            clock,
            retention,
            holder: ServerId::generate(),
            streams: metrics.counter("trimmer_streams_trimmed", "Streams trimmed"),
            entries: metrics.counter("trimmer_entries_deleted", "Old entries deleted"),
            last: metrics.register(
                "trimmer_last_pass_timestamp_seconds",
                last,
                Gauge::default(),
            ),
        }
    }

    /// Makes a pass when none has been made for an hour, until `shutdown`, which may end
    /// it anywhere: a stream's floor is raised before anything under it goes.
    pub async fn run(self, shutdown: CancellationToken) {
        loop {
            let pause = match self.pass(&shutdown).await {
                Ok(Trimmed::All) => INTERVAL,
                Ok(Trimmed::Elsewhere) => RETRY,
                Ok(Trimmed::Stopped) => break,
                Err(error) => {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "the log could not be trimmed; trying again in a minute"
                    );
                    RETRY
                }
            };
            let pausing = shutdown.run_until_cancelled(tokio::time::sleep(pause));
            if pausing.await.is_none() {
                break;
            }
        }
        // So that another need not wait for its end.
        if let Err(error) = self.lease(Duration::ZERO).await {
            tracing::debug!(
                error = &error as &dyn std::error::Error,
                "the lease was not given back"
            );
        }
    }

    /// Trims all streams, if it is this worker's turn.
    ///
    /// # Errors
    ///
    /// The store's; what was trimmed before stays trimmed.
    pub async fn pass(&self, shutdown: &CancellationToken) -> Result<Trimmed, StoreError> {
        let before = self.old_before().await?;
        let mut after = None;
        while self.lease(WORKING).await? {
            let page = self.store.old_entries(before, after, PAGE).await?;
            let stopped = shutdown.run_until_cancelled(self.trim(&page.streams));
            let Some(trimmed) = stopped.await else {
                return Ok(Trimmed::Stopped);
            };
            trimmed?;
            after = page.next;
            if after.is_none() {
                self.lease(INTERVAL).await?;
                self.last.set(self.clock.now().as_secs() as f64);
                return Ok(Trimmed::All);
            }
        }
        Ok(Trimmed::Elsewhere)
    }

    /// By the earlier of two clocks: one that is fast must not cost anybody a day's entries.
    async fn old_before(&self) -> Result<Timestamp, StoreError> {
        let mine = self.clock.now();
        let now = self.store.check().await?.map_or(mine, |its| its.min(mine));
        let retention = i64::try_from(self.retention.as_millis()).unwrap_or(i64::MAX);
        Ok(now.plus_millis(-retention))
    }

    async fn lease(&self, lifetime: Duration) -> Result<bool, StoreError> {
        self.store.lease(LEASE, self.holder, lifetime).await
    }

    async fn trim(&self, streams: &[Old]) -> Result<(), StoreError> {
        let names: Vec<_> = streams.iter().map(|old| old.stream).collect();
        let heads = self.store.heads(&names).await?;
        for (old, head) in streams.iter().zip(heads) {
            let through = old.through.min(head.saturating_sub(1));
            // A stream's newest entry stays, however old.
            if old.first > through {
                continue;
            }
            match self.store.trim(old.stream, through).await {
                Ok(0) => {}
                Ok(deleted) => {
                    self.streams.inc();
                    self.entries.inc_by(deleted);
                }
                Err(error @ StoreError::Corrupt(_)) => tracing::error!(
                    stream = %old.stream,
                    error = &error as &dyn std::error::Error,
                    "a stream cannot be trimmed"
                ),
                Err(error) => return Err(error),
            }
            tokio::time::sleep(BETWEEN_STREAMS).await;
        }
        tokio::time::sleep(BETWEEN_PAGES).await;
        Ok(())
    }
}
