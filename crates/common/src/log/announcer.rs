//! From complete to announced, in the background: publishes entries in order and clears their
//! pending marks once the broker has confirmed them.
//!
//! Best effort throughout: whatever is skipped here stays pending, and the relay repeats it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

use super::metrics::LogMetrics;
pub(super) use super::publisher::Complete;
use super::publisher::{Announced, NotAnnounced, Publisher};
use super::trace;
use crate::domain::{Seq, StreamId};
use crate::store::Store;
use crate::tasks::Tasks;

/// Entries that may wait to be announced. When it is full, the appender waits.
const QUEUE: usize = 4096;
/// How long an appender waits for room, so that overload shows at the entrance; then the
/// entries are left to the relay.
const ROOM_DEADLINE: Duration = Duration::from_secs(2);
/// Entries published together.
pub(super) const BATCH: usize = 256;
/// Announced entries that may wait for their marks to be cleared; more are left to the relay.
const SETTLE_QUEUE: usize = 8192;
/// Marks are cleared when so many have gathered, or so much time has passed.
const SETTLE_BATCH: usize = 500;
const SETTLE_INTERVAL: Duration = Duration::from_millis(100);

#[derive(Clone)]
pub(super) struct Announcer {
    queue: mpsc::Sender<Complete>,
    publisher: Arc<Publisher>,
    metrics: LogMetrics,
}

impl Announcer {
    pub(super) fn start(
        publisher: Publisher,
        metrics: LogMetrics,
        tasks: &Tasks,
        background: &TaskTracker,
        stopping: CancellationToken,
    ) -> Self {
        let (queue, entries) = mpsc::channel(QUEUE);
        let (announced, to_settle) = mpsc::channel(SETTLE_QUEUE);
        let store = publisher.store.clone();
        let announcer = Self {
            queue,
            publisher: Arc::new(publisher),
            metrics,
        };
        let (publisher, metrics) = (announcer.publisher.clone(), announcer.metrics.clone());
        let announcing = announce(publisher, metrics, entries, announced, stopping);
        let runtime = tasks.runtime();
        background.spawn_on(tasks.watched("announcer", announcing), runtime);
        background.spawn_on(tasks.watched("settler", settle(store, to_settle)), runtime);
        announcer
    }

    /// Queues complete entries. Those of one stream must come in order.
    pub(super) async fn enqueue(&self, entries: impl IntoIterator<Item = Complete>) {
        let deadline = Instant::now() + ROOM_DEADLINE;
        let mut entries = entries.into_iter();
        while let Some(complete) = entries.next() {
            let (stream, seq) = (complete.entry.stream, complete.entry.seq);
            let queued = timeout_at(deadline, self.queue.send(complete)).await;
            if !matches!(queued, Ok(Ok(()))) {
                tracing::warn!(
                    stream = %stream,
                    delta.seq = seq,
                    "announcing is left to the relay from here on"
                );
                self.metrics
                    .left_to_relay
                    .inc_by(1 + entries.count() as u64);
                return;
            }
            self.metrics.announcements_waiting.inc();
        }
    }

    /// Publishes now; see [`Publisher::publish`].
    pub(super) async fn publish(
        &self,
        entries: Vec<Complete>,
    ) -> Vec<Result<Announced, NotAnnounced>> {
        self.publisher.publish(entries).await
    }
}

async fn announce(
    publisher: Arc<Publisher>,
    metrics: LogMetrics,
    mut entries: mpsc::Receiver<Complete>,
    announced: mpsc::Sender<Announced>,
    stopping: CancellationToken,
) {
    let mut batch = Vec::with_capacity(BATCH);
    loop {
        tokio::select! {
            // `recv_many` is cancel-safe: it takes nothing unless it returns.
            count = entries.recv_many(&mut batch, BATCH) => {
                if count == 0 {
                    return;
                }
            }
            // What was queued before the stop is still announced.
            () = stopping.cancelled(), if !entries.is_closed() => {
                entries.close();
                continue;
            }
        }
        let entries = std::mem::take(&mut batch);
        let position = |complete: &Complete| (complete.entry.stream, complete.entry.seq);
        let positions: Vec<_> = entries.iter().map(position).collect();
        metrics.announcements_waiting.dec_by(positions.len() as i64);
        let outcomes = publisher.publish(entries).await;
        for (position, outcome) in positions.into_iter().zip(outcomes) {
            match outcome {
                Ok(entry) => {
                    if announced.try_send(entry).is_err() {
                        tracing::debug!("clearing a pending mark is left to the relay");
                    }
                }
                Err(error) => {
                    metrics.left_to_relay.inc();
                    log_failure(position, &error);
                }
            }
        }
    }
}

fn log_failure((stream, seq): (StreamId, Seq), error: &NotAnnounced) {
    let cause = error as &dyn std::error::Error;
    match error {
        // Of many at once; that the bus is away is said elsewhere.
        NotAnnounced::Bus(_) | NotAnnounced::Late => {
            tracing::debug!(stream = %stream, delta.seq = seq, error = cause, "a delta was not confirmed; announcing is left to the relay");
        }
        NotAnnounced::Store(_) | NotAnnounced::NoGroup => {
            tracing::warn!(stream = %stream, delta.seq = seq, error = cause, "a delta was not announced; that is left to the relay");
        }
    }
}

async fn settle(store: Arc<dyn Store>, mut announced: mpsc::Receiver<Announced>) {
    let mut batch = Vec::with_capacity(SETTLE_BATCH);
    // Waiting first and then taking what has gathered needs no timer while nothing happens.
    while announced.recv_many(&mut batch, SETTLE_BATCH).await > 0 {
        let full = gather(&mut batch, &mut announced);
        if timeout(SETTLE_INTERVAL, full).await.is_err() {
            tracing::trace!(entries = batch.len(), "clearing pending marks");
        }
        let positions: Vec<_> = batch.iter().map(|entry| entry.position).collect();
        let initiators = batch.iter().map(|announced| &announced.span);
        let span = trace::settle(initiators, batch.len());
        if let Err(error) = store.settle(&positions).instrument(span).await {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "pending marks were not cleared; the relay will announce these entries again"
            );
        }
        batch.clear();
    }
}

/// Fills `batch`; returns when it is full or nothing more can come.
async fn gather(batch: &mut Vec<Announced>, from: &mut mpsc::Receiver<Announced>) {
    while batch.len() < SETTLE_BATCH {
        let room = SETTLE_BATCH - batch.len();
        if from.recv_many(batch, room).await == 0 {
            return;
        }
    }
}
