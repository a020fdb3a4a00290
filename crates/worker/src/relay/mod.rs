//! Announces what was committed but not announced, whoever committed it and why ever it was
//! not: the process died, the broker was away, a queue was full.
//!
//! Needs no lease: entries are claimed one by one, and announcing twice does no harm. A claim is
//! the time in the pending mark: whoever made it and died is succeeded 5 s later.

mod backoff;
mod metrics;
mod plan;
mod report;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use tidings_common::bus::BusError;
use tidings_common::clock::Clock;
use tidings_common::domain::{Entry, Seq, StreamId, Timestamp};
use tidings_common::log::{FinishError, Log, Suspect};
use tidings_common::store::{Claim, Pending, Store, StoreError};
use tidings_common::telemetry::Metrics;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use backoff::Backoff;
use metrics::RelayMetrics;
use watch::Watch;

/// Pause between the starts of passes.
const INTERVAL: Duration = Duration::from_secs(1);
/// A pass that has taken so long ends with the page it is at; the next goes on from there.
const BUDGET: Duration = Duration::from_secs(1);
/// An entry that has been pending for this long is in nobody's hands any more.
const PENDING_FOR: Duration = Duration::from_secs(5);
/// Entries read, claimed and settled at once.
const PAGE: usize = 500;
/// While there is more than a pass can do, what was committed lately comes first: so late ...
const LATELY: Duration = Duration::from_secs(15);
/// ... and so many of them in each pass.
const FIRST: usize = 2_000;
/// Positions looked at in each pass of what is not due by the clock.
const WATCHED: usize = 5_000;

type Position = (StreamId, Seq);

/// What is away as a whole, so that a pass has ended early.
#[derive(Debug)]
pub enum Away {
    Store(StoreError),
    Bus(BusError),
}

/// Finishes abandoned entries.
pub struct Relay {
    store: Arc<dyn Store>,
    log: Log,
    clock: Arc<dyn Clock>,
    metrics: RelayMetrics,
    backoff: Backoff,
    watch: Watch,
    sweep: Sweep,
    /// When the oldest entry was committed that is known to be abandoned.
    oldest: Option<Timestamp>,
    /// When what was committed lately was last looked at.
    looked: Instant,
    /// How the last pass ended.
    away: Option<Suspect>,
}

/// One way through all that is pending, in as many passes as it takes.
#[derive(Default)]
struct Sweep {
    /// Where to go on; None: at the beginning.
    position: Option<Position>,
    oldest: Option<Timestamp>,
    unreadable: usize,
}

impl Relay {
    #[must_use]
    pub fn new(store: Arc<dyn Store>, log: Log, clock: Arc<dyn Clock>, metrics: &Metrics) -> Self {
        Self {
            store,
            log,
            clock,
            metrics: RelayMetrics::register(metrics),
            backoff: Backoff::default(),
            watch: Watch::default(),
            sweep: Sweep::default(),
            oldest: None,
            looked: Instant::now(),
            away: None,
        }
    }

    /// Makes a pass each second until `shutdown`. A pass under way is finished.
    pub async fn run(mut self, shutdown: CancellationToken) {
        let mut interval = tokio::time::interval(INTERVAL);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while shutdown
            .run_until_cancelled(interval.tick())
            .await
            .is_some()
        {
            let was_away = self.away.is_some();
            match self.pass().await {
                Ok(0) => {}
                Ok(finished) => tracing::info!(entries = finished, "announced abandoned entries"),
                // Said once.
                Err(_) if was_away => {}
                Err(away) => report::away(&away),
            }
        }
    }

    /// Finishes what has been pending for 5 s: goes on where the last pass ended, for about a
    /// second. While that is not enough for all, what was committed lately comes first. Returns
    /// how many entries were finished. What fails stays pending and is tried again, later each
    /// time.
    ///
    /// # Errors
    ///
    /// [`Away`]; what was finished before stays finished, and nothing counts as failed for it.
    pub async fn pass(&mut self) -> Result<usize, Away> {
        let done = self.try_pass().await;
        self.away = done.as_ref().err().map(|away| match away {
            Away::Store(_) => Suspect::Store,
            Away::Bus(_) => Suspect::Bus,
        });
        done
    }

    async fn try_pass(&mut self) -> Result<usize, Away> {
        let until = Instant::now() + BUDGET;
        self.metrics.show_oldest(self.oldest, self.clock.now());
        if self.away == Some(Suspect::Bus) {
            // Entries are not claimed in vain, so that they are at hand when it is back.
            self.log.check_bus().await.map_err(Away::Bus)?;
        }
        let mut finished = if self.sweep.position.is_some() {
            self.finish_latest().await?
        } else {
            self.finish_watched().await?
        };
        loop {
            let now = self.clock.now();
            let (before, after) = (due_before(now), self.sweep.position);
            let page = self.store.pending(before, after, PAGE).await;
            let page = page.map_err(Away::Store)?;
            self.sweep.unreadable += page.unreadable;
            let committed = page.items.iter().map(|pending| pending.entry.at);
            self.sweep.oldest = committed.chain(self.sweep.oldest).min();
            self.oldest = self.oldest.into_iter().chain(self.sweep.oldest).min();
            self.metrics.show_oldest(self.oldest, now);
            finished += self.finish(page.items, page.next).await?;
            // A page without entries may have entries behind it: some cannot be read.
            self.sweep.position = page.next;
            if page.next.is_none() {
                self.end_sweep();
                return Ok(finished);
            }
            if Instant::now() >= until {
                return Ok(finished);
            }
        }
    }

    fn end_sweep(&mut self) {
        let sweep = std::mem::take(&mut self.sweep);
        self.oldest = sweep.oldest;
        self.metrics.show_oldest(self.oldest, self.clock.now());
        let unreadable = i64::try_from(sweep.unreadable).unwrap_or(i64::MAX);
        self.metrics.unreadable.set(unreadable);
        self.backoff.tidy(Instant::now());
        self.show_stuck();
    }

    fn show_stuck(&self) {
        let stuck = i64::try_from(self.backoff.stuck()).unwrap_or(i64::MAX);
        self.metrics.stuck.set(stuck);
    }

    /// What was committed since the last look or so, as far as it is due.
    async fn finish_latest(&mut self) -> Result<usize, Away> {
        let now = Instant::now();
        let window = LATELY + now.duration_since(self.looked);
        self.looked = now;
        let since = earlier(self.clock.now(), window);
        let found = self.store.pending_lately(since, FIRST).await;
        let before = due_before(self.clock.now());
        let (mut due, early): (Vec<Pending>, Vec<Pending>) = found
            .map_err(Away::Store)?
            .into_iter()
            .partition(|pending| pending.since <= before);
        due.extend(self.watched(early.iter().map(claim_of), now).await?);
        due.sort_by_key(|pending| (pending.entry.stream.to_bytes(), pending.entry.seq));
        self.finish_parts(due).await
    }

    /// What is not due by the clock, but has stayed as it is for 5 s.
    async fn finish_watched(&mut self) -> Result<usize, Away> {
        let now = Instant::now();
        self.looked = now;
        let than = due_before(self.clock.now());
        let early = self.store.pending_later(than, WATCHED).await;
        let due = self.watched(early.map_err(Away::Store)?, now).await?;
        self.finish_parts(due).await
    }

    /// The entries that are due by this process's counting, at most a page.
    async fn watched(
        &mut self,
        marks: impl IntoIterator<Item = Claim>,
        now: Instant,
    ) -> Result<Vec<Pending>, Away> {
        let mut due = Vec::new();
        for Claim { stream, seq, seen } in self.watch.look(marks, now).into_iter().take(PAGE) {
            match self.store.pending_in(stream, seq - 1, 1).await {
                Ok(found) => {
                    let found = found.into_iter().filter(|entry| entry.seq == seq);
                    due.extend(found.map(|entry| Pending { entry, since: seen }));
                }
                // Whoever reads all that is pending says so.
                Err(StoreError::Corrupt(_)) => {}
                Err(error) => return Err(Away::Store(error)),
            }
        }
        Ok(due)
    }

    async fn finish_parts(&mut self, due: Vec<Pending>) -> Result<usize, Away> {
        let mut finished = 0;
        for part in due.chunks(PAGE) {
            finished += self.finish(part.to_vec(), None).await?;
        }
        Ok(finished)
    }

    /// Claims, finishes and settles entries that stand in order; those behind them, if any,
    /// begin after `next`.
    async fn finish(
        &mut self,
        mut found: Vec<Pending>,
        next: Option<Position>,
    ) -> Result<usize, Away> {
        let now = Instant::now();
        found.retain(|pending| !self.backoff.holds(position(&pending.entry), now));
        if found.is_empty() {
            return Ok(0);
        }
        let mine = self.claim(found).await.map_err(Away::Store)?;
        let unfinished = plan::plan(&*self.store, mine, next).await;
        let outcomes = self.log.finish(&unfinished).await;
        let mut done = Vec::with_capacity(unfinished.len());
        let mut failed = Vec::new();
        for (unfinished, outcome) in unfinished.iter().zip(outcomes) {
            let position = position(&unfinished.entry);
            match outcome {
                Ok(()) => {
                    self.backoff.finished(position);
                    done.push(position);
                }
                Err(error) => failed.push((position, error)),
            }
        }
        self.store.settle(&done).await.map_err(Away::Store)?;
        self.metrics.finished.inc_by(done.len() as u64);
        self.metrics.failed.inc_by(failed.len() as u64);
        self.judge(failed).await?;
        Ok(done.len())
    }

    async fn claim(&self, found: Vec<Pending>) -> Result<Vec<Pending>, StoreError> {
        let claims: Vec<Claim> = found.iter().map(claim_of).collect();
        let won = self.store.claim(&claims, self.clock.now()).await?;
        let mine = found.into_iter().zip(won).filter(|(_, won)| *won);
        Ok(mine.map(|(pending, _)| pending).collect())
    }

    /// Tells what is an entry's own failure from the store or the bus being away.
    async fn judge(&mut self, failed: Vec<(Position, FinishError)>) -> Result<(), Away> {
        let suspected = |what| {
            let mut errors = failed.iter().map(|(_, error)| error.suspect());
            errors.any(|suspect| suspect == Some(what))
        };
        if suspected(Suspect::Bus) {
            self.log.check_bus().await.map_err(Away::Bus)?;
        }
        if suspected(Suspect::Store) {
            self.store.check().await.map_err(Away::Store)?;
        }
        let now = Instant::now();
        let (mut first, mut stuck) = (None, None);
        for failed in &failed {
            if matches!(failed.1, FinishError::Behind) {
                continue;
            }
            first = first.or(Some(failed));
            if self.backoff.failed(failed.0, now) == backoff::MANY {
                stuck = stuck.or(Some(failed));
            }
        }
        // One for many, since those of a stream fail together.
        if let Some((position, error)) = stuck {
            report::stuck(*position, error);
            self.show_stuck();
        } else if let Some((position, error)) = first {
            report::failure(*position, error, failed.len());
        }
        Ok(())
    }
}

fn position(entry: &Entry) -> Position {
    (entry.stream, entry.seq)
}

fn claim_of(pending: &Pending) -> Claim {
    Claim {
        stream: pending.entry.stream,
        seq: pending.entry.seq,
        seen: pending.since,
    }
}

fn due_before(now: Timestamp) -> Timestamp {
    earlier(now, PENDING_FOR)
}

fn earlier(now: Timestamp, by: Duration) -> Timestamp {
    now.plus_millis(i64::try_from(by.as_millis()).map_or(i64::MIN, |millis| -millis))
}
