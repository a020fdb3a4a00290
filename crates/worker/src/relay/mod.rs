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

use std::collections::HashSet;
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
/// While there is more than a pass can do, what was committed lately comes first: so late, by
/// clocks that may be ten minutes off ...
const LATELY: Duration = Duration::from_secs(900);
/// ... and so many of them in each pass, at most.
const FIRST: usize = 2_000;
/// Positions looked at in each pass for what is not due by the clock.
const WATCHED: usize = 5_000;

/// Entries remembered that were completed while the bus was away; others are completed in each
/// sweep.
const COMPLETED: usize = 10_000;

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
    /// What is not due by the clock, of that which was committed lately and of everything.
    lately: Watch,
    watch: Watch,
    /// Where to go on looking at everything; None: at the beginning.
    watched: Option<Position>,
    sweep: Sweep,
    /// When the oldest entry was committed that is known to be abandoned.
    oldest: Option<Timestamp>,
    /// How the last pass ended.
    away: Option<Suspect>,
    /// Whether what comes before the sweep failed in the last pass.
    hampered: bool,
    /// Otherwise the bus is away, and entries are only completed.
    announcing: bool,
    /// While the bus is away, what has been completed.
    completed: HashSet<Position>,
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
            lately: Watch::default(),
            watch: Watch::default(),
            watched: None,
            sweep: Sweep::default(),
            oldest: None,
            away: None,
            hampered: false,
            announcing: true,
            completed: HashSet::new(),
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
        if self.away == Some(Suspect::Bus)
            && let Err(error) = self.log.check_bus().await
        {
            self.announcing = false;
            self.go_on(Instant::now() + BUDGET / 4).await?;
            return Err(Away::Bus(error));
        }
        self.announcing = true;
        self.completed.clear();
        self.go_on(Instant::now() + BUDGET).await
    }

    /// Goes on with the sweep until then, or to its end.
    async fn go_on(&mut self, until: Instant) -> Result<usize, Away> {
        self.metrics.show_oldest(self.oldest, self.clock.now());
        let mut finished = self.finish_first(until).await?;
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

    /// What does not wait for the sweep to come to it. The sweep goes on where that cannot be
    /// read.
    async fn finish_first(&mut self, until: Instant) -> Result<usize, Away> {
        let watched = self.finish_watched().await;
        let latest = match self.sweep.position {
            Some(_) => self.finish_latest(until).await,
            None => Ok(0),
        };
        let (mut finished, mut hampered) = (0, false);
        for done in [watched, latest] {
            match done {
                Ok(done) => finished += done,
                Err(Away::Store(error)) => {
                    // Said once.
                    if !self.hampered && !hampered {
                        report::hampered(&error);
                    }
                    hampered = true;
                }
                Err(bus) => return Err(bus),
            }
        }
        self.hampered = hampered;
        Ok(finished)
    }

    /// What was committed lately, as far as it is due; the newest first, page by page, until
    /// then: what becomes due meanwhile must not wait for all of it.
    async fn finish_latest(&mut self, until: Instant) -> Result<usize, Away> {
        let now = Instant::now();
        let since = earlier(self.clock.now(), LATELY);
        let found = self.store.pending_lately(since, FIRST).await;
        let before = due_before(self.clock.now());
        let (due, early): (Vec<Pending>, Vec<Pending>) = found
            .map_err(Away::Store)?
            .into_iter()
            .partition(|pending| pending.since <= before);
        let unchanged = self.lately.look(early.iter().map(claim_of), now);
        let mut first = self.entries_of(unchanged).await?;
        first.extend(due);
        self.finish_parts(first, until).await
    }

    /// What is not due by the clock, but has stayed as it is for 5 s: goes on where the last
    /// pass ended.
    async fn finish_watched(&mut self) -> Result<usize, Away> {
        let than = due_before(self.clock.now());
        let page = self.store.pending_later(than, self.watched, WATCHED).await;
        let page = page.map_err(Away::Store)?;
        let now = Instant::now();
        let unchanged = self.watch.look_at_part(page.marks, now);
        self.watched = page.next;
        if self.watched.is_none() {
            self.watch.end();
        }
        let due = self.entries_of(unchanged).await?;
        self.finish_parts(due, now).await
    }

    /// The entries of marks, at most a page.
    async fn entries_of(&self, marks: Vec<Claim>) -> Result<Vec<Pending>, Away> {
        let mut due = Vec::new();
        for Claim { stream, seq, seen } in marks.into_iter().take(PAGE) {
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

    /// At least the first part.
    async fn finish_parts(&mut self, mut due: Vec<Pending>, until: Instant) -> Result<usize, Away> {
        let mut finished = 0;
        for part in due.chunks_mut(PAGE) {
            part.sort_by_key(|pending| (pending.entry.stream.to_bytes(), pending.entry.seq));
            finished += self.finish(part.to_vec(), None).await?;
            if Instant::now() >= until {
                break;
            }
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
        if !self.announcing {
            self.complete(found).await;
            return Ok(0);
        }
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

    /// While the bus is away: applies entries and appends what derives from them. They are not
    /// claimed in vain, so that they are at hand when it is back. What fails is tried again.
    async fn complete(&mut self, mut found: Vec<Pending>) {
        found.retain(|Pending { entry, .. }| {
            entry.change.changes_state() && !self.completed.contains(&position(entry))
        });
        let unfinished = plan::silent(found);
        let outcomes = self.log.finish(&unfinished).await;
        for (unfinished, outcome) in unfinished.iter().zip(outcomes) {
            if outcome.is_ok() && self.completed.len() < COMPLETED {
                self.completed.insert(position(&unfinished.entry));
            }
        }
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
            // A bus that is slow leaves many unconfirmed that it would take again at once.
            let longest = match failed.1.suspect() {
                Some(Suspect::Bus) => backoff::FIRST,
                _ => backoff::LONGEST,
            };
            if self.backoff.failed(failed.0, longest, now) == backoff::MANY {
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
