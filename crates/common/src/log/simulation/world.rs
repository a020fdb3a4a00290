//! The installation of a schedule: processes that come and go over one store and one bus. The
//! relay is a copy of the worker's loop and not that loop itself, because the worker's crate
//! depends on this one, and the simulated store and bus are private to this one's tests.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::Span;

use super::bus::{Broker, SimulatedBus};
use super::journal::{Event, Journal, ProcessId};
use super::operation::Desk;
use crate::clock::Clock;
use crate::domain::{Seq, StreamId, Timestamp};
use crate::log::{Log, Unfinished};
use crate::store::simulated::{Link, Server, SimulatedStore};
use crate::store::{Claim, Pending, Store, StoreError};
use crate::tasks::Tasks;
use crate::telemetry::Metrics;

/// Clocks of processes differ by up to this.
const SKEW_MS: i64 = 2_000;
/// As `crates/worker` has it.
const RELAY_INTERVAL: Duration = Duration::from_secs(1);
const PENDING_FOR_MS: i64 = 5_000;
const RELAY_PAGE: usize = 500;

pub(super) struct World {
    pub(super) journal: Journal,
    pub(super) server: Arc<Server>,
    pub(super) broker: Arc<Broker>,
    /// Those that run; clients ask these.
    pub(super) apis: Mutex<Vec<Arc<Process>>>,
    pub(super) relays: Mutex<Vec<Arc<Process>>>,
    dead: Mutex<Vec<Link>>,
    begun: Instant,
    started: AtomicUsize,
}

pub(super) struct Process {
    pub(super) id: ProcessId,
    pub(super) link: Link,
    pub(super) desk: Desk,
    /// Ends the relaying.
    leave: CancellationToken,
}

#[derive(Debug)]
struct SimulatedClock {
    begun: Instant,
    skew_ms: i64,
}

impl Clock for SimulatedClock {
    fn now(&self) -> Timestamp {
        let elapsed = i64::try_from(self.begun.elapsed().as_millis()).unwrap_or(i64::MAX);
        Timestamp::from_millis(1_795_262_400_000 + elapsed + self.skew_ms)
    }
}

impl World {
    pub(super) fn new() -> Arc<Self> {
        let journal = Journal::new();
        let told = journal.clone();
        Arc::new(Self {
            server: Server::new(move |event| told.add(Event::Store(event))),
            broker: Broker::new(journal.clone()),
            journal,
            apis: Mutex::default(),
            relays: Mutex::default(),
            dead: Mutex::default(),
            begun: Instant::now(),
            started: AtomicUsize::new(0),
        })
    }

    pub(super) fn start(&self) -> Arc<Process> {
        let id = self.started.fetch_add(1, Ordering::SeqCst);
        let link = Link::new();
        let store: Arc<dyn Store> =
            Arc::new(SimulatedStore::new(self.server.clone(), link.clone()));
        let clock: Arc<dyn Clock> = Arc::new(SimulatedClock {
            begun: self.begun,
            skew_ms: fastrand::i64(-SKEW_MS..=SKEW_MS),
        });
        let bus = SimulatedBus {
            broker: self.broker.clone(),
            link: link.clone(),
            process: id,
        };
        let log = Log::start(
            store.clone(),
            Arc::new(bus),
            clock.clone(),
            super::FANOUT_LIMIT,
            &Metrics::default(),
            &Tasks::new(CancellationToken::new()),
        );
        Arc::new(Process {
            id,
            link,
            desk: Desk { log, store, clock },
            leave: CancellationToken::new(),
        })
    }

    pub(super) fn start_api(&self) {
        let process = self.start();
        lock(&self.apis).push(process);
    }

    pub(super) fn start_relay(&self) {
        let process = self.start();
        self.journal.note(format!("process {} relays", process.id));
        tokio::spawn(process.clone().relay());
        lock(&self.relays).push(process);
    }

    /// One of those that run, at random.
    pub(super) fn api(&self) -> Arc<Process> {
        let apis = lock(&self.apis);
        apis[fastrand::usize(..apis.len())].clone()
    }

    /// Kills one of `among` and starts another in its place.
    pub(super) fn replace(&self, among: &Mutex<Vec<Arc<Process>>>, start: impl FnOnce(&Self)) {
        let process = {
            let mut running = lock(among);
            let one = fastrand::usize(..running.len());
            running.swap_remove(one)
        };
        self.journal
            .note(format!("process {} is killed", process.id));
        process.link.kill();
        lock(&self.dead).push(process.link.clone());
        start(self);
    }

    /// Lets the tasks of the dead come to their end.
    pub(super) fn bury(&self) {
        for link in lock(&self.dead).iter() {
            link.bury();
        }
    }

    /// Stops all of `running`, in order.
    pub(super) async fn stop(running: &Mutex<Vec<Arc<Process>>>) {
        let running = std::mem::take(&mut *lock(running));
        for process in running {
            process.leave.cancel();
            process.desk.log.stop().await;
        }
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The relay, as `crates/worker` has it.
impl Process {
    async fn relay(self: Arc<Self>) {
        let mut interval = tokio::time::interval(RELAY_INTERVAL);
        loop {
            tokio::select! {
                biased;
                () = self.link.death() => return,
                () = self.leave.cancelled() => return,
                _ = interval.tick() => {}
            }
            tokio::select! {
                biased;
                () = self.link.death() => return,
                // What it could not do, the next pass will.
                _ = self.pass() => {}
            }
        }
    }

    async fn pass(&self) -> Result<(), StoreError> {
        let store = &self.desk.store;
        let before = self.desk.clock.now().plus_millis(-PENDING_FOR_MS);
        let mut after = None;
        loop {
            let page = store.pending(before, after, RELAY_PAGE).await?;
            if !page.items.is_empty() {
                self.finish(page.items).await?;
            }
            after = page.next;
            if after.is_none() {
                return Ok(());
            }
        }
    }

    async fn finish(&self, page: Vec<Pending>) -> Result<(), StoreError> {
        let store = &self.desk.store;
        let claims: Vec<Claim> = page.iter().map(claim).collect();
        let won = store.claim(&claims, self.desk.clock.now()).await?;
        let mine = page.into_iter().zip(won).filter(|(_, won)| *won);
        let mine: Vec<Pending> = mine.map(|(pending, _)| pending).collect();
        let unfinished = |pending: &Pending| Unfinished {
            entry: pending.entry.clone(),
            announce: true,
            span: Span::none(),
        };
        let unfinished: Vec<Unfinished> = mine.iter().map(unfinished).collect();
        let outcomes = self.desk.log.finish(&unfinished).await;
        let done = unfinished.iter().zip(outcomes);
        let done = done.filter(|(_, outcome)| outcome.is_ok());
        let done: Vec<(StreamId, Seq)> = done
            .map(|(unfinished, _)| (unfinished.entry.stream, unfinished.entry.seq))
            .collect();
        store.settle(&done).await
    }
}

fn claim(pending: &Pending) -> Claim {
    Claim {
        stream: pending.entry.stream,
        seq: pending.entry.seq,
        seen: pending.since,
    }
}
