//! The simulated database: the state, and writes that are under way.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio_util::task::TaskTracker;

use super::link::{Weather, chance};
use super::state::State;
use crate::domain::{Entry, Seq, StreamId};
use crate::store::{Appended, StoreError};

/// What has happened in the database, told in its order.
#[derive(Debug, Clone)]
pub(crate) enum StoreEvent {
    Committed(Entry),
    /// All changes of the entry have been applied, perhaps again.
    Applied(StreamId, Seq),
    /// Was pending and is no more.
    Settled(StreamId, Seq),
    /// A caller broke the contract.
    Broken(String),
}

/// Longest time after which an append lands that its caller has given up.
const LATEST_MS: u64 = 8_000;
/// Longest time for which an append can be refused by what cannot be read yet.
const LONGEST_LAG_MS: u64 = 1_500;

pub(crate) struct Server {
    state: Mutex<State>,
    pub(crate) weather: Weather,
    /// Streams at whose end stands what is not committed yet, and may never be: it takes its
    /// positions, and no reader sees it.
    uncommitted: Mutex<BTreeSet<StreamId>>,
    under_way: TaskTracker,
    tell: Box<dyn Fn(StoreEvent) + Send + Sync>,
}

/// What is to become of an append.
enum Fate {
    Lands,
    /// Some of it lands, and the caller does not learn what.
    Unknown,
    /// The caller does not learn what comes of it, and it lands long after that.
    LandsLate,
    /// It stands there uncommitted for a while.
    Lags,
    /// As before; then some of it is rolled back, and the caller does not learn what.
    RolledBack,
}

impl Server {
    pub(crate) fn new(tell: impl Fn(StoreEvent) + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::default(),
            weather: Weather::default(),
            uncommitted: Mutex::default(),
            under_way: TaskTracker::new(),
            tell: Box::new(tell),
        })
    }

    /// The state as it is now.
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn tell(&self, event: StoreEvent) {
        (self.tell)(event);
    }

    /// Waits until no write is under way any more.
    pub(crate) async fn quiet(&self) {
        self.under_way.close();
        self.under_way.wait().await;
    }

    fn uncommitted(&self) -> MutexGuard<'_, BTreeSet<StreamId>> {
        self.uncommitted
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn fate(&self) -> Fate {
        let faults = self.weather.now();
        if chance(faults.uncertain) {
            return match fastrand::u8(..3) {
                0 => Fate::Unknown,
                1 => Fate::LandsLate,
                _ => Fate::RolledBack,
            };
        }
        if chance(faults.lagging) {
            return Fate::Lags;
        }
        Fate::Lands
    }

    /// See [`crate::store::LogStore::append`].
    pub(super) async fn append(
        self: &Arc<Self>,
        mut run: Vec<Entry>,
    ) -> Result<Appended, StoreError> {
        let unknown = || Err(StoreError::Uncertain("the answer was lost".into()));
        match self.fate() {
            Fate::Lands => self.commit(run),
            Fate::Unknown => {
                run.truncate(fastrand::usize(..=run.len()));
                self.commit(run)?;
                unknown()
            }
            Fate::LandsLate => {
                run.truncate(fastrand::usize(..=run.len()));
                let (server, late) = (self.clone(), millis(LATEST_MS));
                self.under_way.spawn(async move {
                    tokio::time::sleep(late).await;
                    // Nobody waits for the answer.
                    server.commit(run).ok();
                });
                unknown()
            }
            Fate::Lags => match self.place(run, |_| {})? {
                Some(committed) => committed.await.unwrap_or_else(|_| unknown()),
                None => Ok(Appended { landed: 0 }),
            },
            Fate::RolledBack => {
                let shorten = |run: &mut Vec<Entry>| run.truncate(fastrand::usize(..=run.len()));
                match self.place(run, shorten)? {
                    Some(_) => unknown(),
                    None => Ok(Appended { landed: 0 }),
                }
            }
        }
    }

    /// Commits what finds its place free.
    fn commit(&self, run: Vec<Entry>) -> Result<Appended, StoreError> {
        let Some(first) = run.first() else {
            return Ok(Appended { landed: 0 });
        };
        if self.uncommitted().contains(&first.stream) {
            return Ok(Appended { landed: 0 });
        }
        self.commit_now(run)
    }

    fn commit_now(&self, run: Vec<Entry>) -> Result<Appended, StoreError> {
        let appended = self.state().append(run.clone());
        match appended {
            Ok(appended) => {
                for entry in run.into_iter().take(appended.landed) {
                    self.tell(StoreEvent::Committed(entry));
                }
                Ok(appended)
            }
            Err(wrong) => {
                self.tell(StoreEvent::Broken(wrong.clone()));
                Err(StoreError::Corrupt(wrong.into()))
            }
        }
    }

    /// Takes the positions of a run, which is committed a while later as far as `change` leaves
    /// it. None: the first one was taken.
    fn place(
        self: &Arc<Self>,
        mut run: Vec<Entry>,
        change: impl FnOnce(&mut Vec<Entry>),
    ) -> Result<Option<tokio::task::JoinHandle<Result<Appended, StoreError>>>, StoreError> {
        let would_land = self.state().would_land(&run);
        let Ok(would_land @ 1..) = would_land else {
            // Taken, or no run at all.
            return self.commit(run).map(|_| None);
        };
        let stream = run[0].stream;
        if !self.uncommitted().insert(stream) {
            return Ok(None);
        }
        run.truncate(would_land);
        change(&mut run);
        let (server, lag) = (self.clone(), millis(LONGEST_LAG_MS));
        Ok(Some(self.under_way.spawn(async move {
            tokio::time::sleep(lag).await;
            server.uncommitted().remove(&stream);
            server.commit_now(run)
        })))
    }
}

fn millis(most: u64) -> Duration {
    // Short ones are as likely as long ones.
    Duration::from_millis(fastrand::u64(1..=most >> fastrand::u32(..8)))
}
