//! Announces what was committed but not announced, whoever committed it and why ever it was
//! not: the process died, the broker was away, a queue was full.
//!
//! Needs no lease: entries are claimed one by one, and announcing twice does no harm.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use tidings_common::clock::Clock;
use tidings_common::domain::{Entry, Seq, StreamId};
use tidings_common::log::{FinishError, Log};
use tidings_common::store::{Claim, Pending, Store, StoreError};
use tidings_common::telemetry::{Metrics, traces};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, Span};

/// Pause between passes.
const INTERVAL: Duration = Duration::from_secs(1);
/// An entry that has been pending for this long is in nobody's hands any more.
const PENDING_FOR_MS: i64 = 5_000;
/// Entries read, claimed and settled at once.
const PAGE: usize = 500;
/// Of a stream with more waiting in one page, only the newest is announced: the gap makes
/// its clients sync, which costs less than announcing all.
const ANNOUNCED_PER_STREAM: usize = 100;

/// Finishes abandoned entries.
pub struct Relay {
    store: Arc<dyn Store>,
    log: Log,
    clock: Arc<dyn Clock>,
    finished: Counter,
    failed: Counter,
    /// In seconds.
    oldest: Gauge<f64, AtomicU64>,
}

impl Relay {
    #[must_use]
    pub fn new(store: Arc<dyn Store>, log: Log, clock: Arc<dyn Clock>, metrics: &Metrics) -> Self {
        let finished = "Abandoned entries that were finished";
        let failed = "Attempts to finish an abandoned entry that failed";
        let oldest = "Age of the oldest abandoned entry that the last pass found";
        Self {
            store,
            log,
            clock,
            finished: metrics.counter("relay_entries_finished", finished),
            failed: metrics.counter("relay_entries_failed", failed),
            oldest: metrics.register("relay_oldest_pending_seconds", oldest, Gauge::default()),
        }
    }

    /// Makes a pass each second until `shutdown`. A pass under way is finished.
    pub async fn run(&self, shutdown: CancellationToken) {
        let mut interval = tokio::time::interval(INTERVAL);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while shutdown
            .run_until_cancelled(interval.tick())
            .await
            .is_some()
        {
            match self.pass().await {
                Ok(0) => {}
                Ok(finished) => tracing::info!(entries = finished, "announced abandoned entries"),
                Err(error) => tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "abandoned entries could not be read; trying again"
                ),
            }
        }
    }

    /// Finishes what has been pending for 5 s; returns how many entries were. What fails stays
    /// pending and is tried again 5 s later.
    ///
    /// # Errors
    ///
    /// The store's; what was finished before stays finished.
    pub async fn pass(&self) -> Result<usize, StoreError> {
        let now = self.clock.now();
        let before = now.plus_millis(-PENDING_FOR_MS);
        let mut after = None;
        let mut finished = 0;
        let mut oldest = Duration::ZERO;
        loop {
            let page = self.store.pending(before, after, PAGE).await?;
            let committed = page.items.iter().map(|pending| pending.entry.at).min();
            if let Some(committed) = committed {
                oldest = oldest.max(Duration::from_millis(now.millis_since(committed)));
            }
            self.oldest.set(oldest.as_secs_f64());
            if !page.items.is_empty() {
                finished += self.finish(page.items).await?;
            }
            // A page without entries may have entries behind it: some cannot be read.
            after = page.next;
            if after.is_none() {
                return Ok(finished);
            }
        }
    }

    /// Claims and finishes one page.
    async fn finish(&self, page: Vec<Pending>) -> Result<usize, StoreError> {
        let mine = self.claim(page).await?;
        let mut done: Vec<(StreamId, Seq)> = Vec::with_capacity(mine.len());
        for of_stream in mine.chunk_by(|a, b| a.entry.stream == b.entry.stream) {
            let skip = match of_stream.len() {
                few if few <= ANNOUNCED_PER_STREAM => 0,
                many => many - 1,
            };
            for (index, pending) in of_stream.iter().enumerate() {
                let entry = &pending.entry;
                let finishing = self.log.finish(entry, index >= skip);
                match finishing.instrument(relay_span(entry)).await {
                    Ok(()) => done.push((entry.stream, entry.seq)),
                    Err(error) => {
                        self.failed.inc();
                        warn(pending, &error);
                        // Those behind it come in order after it, next time.
                        break;
                    }
                }
            }
        }
        self.finished.inc_by(done.len() as u64);
        self.store.settle(&done).await?;
        Ok(done.len())
    }

    async fn claim(&self, page: Vec<Pending>) -> Result<Vec<Pending>, StoreError> {
        let claims: Vec<Claim> = page
            .iter()
            .map(|pending| Claim {
                stream: pending.entry.stream,
                seq: pending.entry.seq,
                seen: pending.since,
            })
            .collect();
        let won = self.store.claim(&claims, self.clock.now()).await?;
        let mine = page.into_iter().zip(won).filter(|(_, won)| *won);
        Ok(mine.map(|(pending, _)| pending).collect())
    }
}

/// Begins a trace: the one in which the entry was committed is not known any more.
fn relay_span(entry: &Entry) -> Span {
    tracing::info_span!(
        target: traces::TARGET,
        parent: None,
        "relay",
        stream = %entry.stream,
        delta.seq = entry.seq,
    )
}

fn warn(pending: &Pending, error: &FinishError) {
    tracing::warn!(
        stream = %pending.entry.stream,
        delta.seq = pending.entry.seq,
        error = error as &dyn std::error::Error,
        "an abandoned entry could not be finished; trying again"
    );
}
