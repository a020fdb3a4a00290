//! Appends from all over the process in few writes: a batch is what queued during the ones
//! before it.
//!
//! Entries of different streams share an insert that is not ordered, in which each lands or
//! fails alone; a run of several entries has an ordered insert of its own. Of one stream at
//! most one insert is in flight.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use mongodb::Collection;
use mongodb::bson::RawDocumentBuf;
use mongodb::error::Result as MongoResult;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};

use super::super::{Appended, StoreError};
use super::failure::NoAnswer;
use super::{DEADLINE, outcome, write_concern};
use crate::domain::StreamId;
use crate::tasks::Tasks;

/// Entries in one shared insert. More would make the first wait for the last.
const BATCH: usize = 256;
/// Shared inserts in flight: while one is being journaled the next is on its way.
const SHARED: usize = 2;
/// Inserts of runs in flight.
const RUNS: usize = 8;
/// Inserts that have not ended, those included whose place among the ones in flight was given
/// up. One more waits until another ends: a MongoDB that takes inserts and answers none must not
/// fill this process's memory.
const UNENDED: usize = 32;
/// Runs that wait to be sent. Callers beyond that (and as many in the channel) wait in turn,
/// until their deadline.
const WAITING: usize = 1024;

/// Where appends queue.
pub(super) struct Appends {
    queue: mpsc::Sender<Job>,
}

/// A run and who waits for it.
struct Job {
    stream: StreamId,
    run: Vec<RawDocumentBuf>,
    /// Nobody waits for it any more.
    expires: Instant,
    done: oneshot::Sender<Result<Appended, StoreError>>,
}

impl Appends {
    /// Starts the task that sends what queues. It ends when this is dropped and everything is
    /// answered.
    pub(super) fn start(entries: Collection<RawDocumentBuf>, tasks: &Tasks) -> Self {
        let (queue, jobs) = mpsc::channel(WAITING);
        // It ends with the store, and nobody waits for it.
        drop(tasks.spawn("appends to MongoDB", Sender::new(entries).work(jobs)));
        Self { queue }
    }

    /// Once it is queued a run is sent, whether or not anybody waits.
    pub(super) async fn append(
        &self,
        stream: StreamId,
        run: Vec<RawDocumentBuf>,
    ) -> Result<Appended, StoreError> {
        let expires = Instant::now() + DEADLINE;
        let Ok(Ok(slot)) = timeout_at(expires, self.queue.reserve()).await else {
            return Err(StoreError::Unavailable(NoAnswer.into()));
        };
        let (done, answer) = oneshot::channel();
        slot.send(Job {
            stream,
            run,
            expires,
            done,
        });
        match timeout_at(expires, answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) | Err(_) => Err(StoreError::Uncertain(NoAnswer.into())),
        }
    }
}

/// Decides what is sent when.
struct Sender {
    entries: Collection<RawDocumentBuf>,
    waiting: VecDeque<Job>,
    /// Streams of which an insert is in flight.
    busy: HashSet<StreamId>,
    shared: usize,
    runs: usize,
    in_flight: JoinSet<Batch>,
    unended: Arc<Semaphore>,
}

/// What was one insert.
struct Batch {
    streams: Vec<StreamId>,
    is_shared: bool,
}

impl Sender {
    fn new(entries: Collection<RawDocumentBuf>) -> Self {
        Self {
            entries,
            waiting: VecDeque::new(),
            busy: HashSet::new(),
            shared: 0,
            runs: 0,
            in_flight: JoinSet::new(),
            unended: Arc::new(Semaphore::new(UNENDED)),
        }
    }

    async fn work(mut self, mut jobs: mpsc::Receiver<Job>) {
        let mut open = true;
        loop {
            while self.waiting.len() < WAITING
                && let Ok(job) = jobs.try_recv()
            {
                self.waiting.push_back(job);
            }
            self.send_what_may_go();
            tokio::select! {
                job = jobs.recv(), if open && self.waiting.len() < WAITING => match job {
                    Some(job) => self.waiting.push_back(job),
                    None => open = false,
                },
                Some(sent) = self.in_flight.join_next() => {
                    self.landed(sent.expect("an insert is not cancelled and does not panic"));
                }
                else => break,
            }
        }
    }

    /// Sends every waiting run for whose kind there is room and whose stream is not busy.
    fn send_what_may_go(&mut self) {
        let now = Instant::now();
        let mut singles = Vec::new();
        for job in std::mem::take(&mut self.waiting) {
            assert!(!job.run.is_empty(), "an empty run is answered by the store");
            let is_single = job.run.len() == 1;
            let has_room = if is_single {
                self.shared < SHARED && singles.len() < BATCH
            } else {
                self.runs < RUNS
            };
            if job.expires <= now {
                // Its caller has been told that the outcome is unknown.
                continue;
            } else if !has_room || self.busy.contains(&job.stream) {
                self.waiting.push_back(job);
                continue;
            }
            self.busy.insert(job.stream);
            if is_single {
                singles.push(job);
            } else {
                self.runs += 1;
                self.send(vec![job], false);
            }
        }
        if !singles.is_empty() {
            self.shared += 1;
            self.send(singles, true);
        }
    }

    fn send(&mut self, jobs: Vec<Job>, is_shared: bool) {
        let batch = Batch {
            streams: jobs.iter().map(|job| job.stream).collect(),
            is_shared,
        };
        let (entries, unended) = (self.entries.clone(), self.unended.clone());
        self.in_flight.spawn(async move {
            insert(entries, jobs, !is_shared, unended).await;
            batch
        });
    }

    fn landed(&mut self, batch: Batch) {
        for stream in &batch.streams {
            self.busy.remove(stream);
        }
        if batch.is_shared {
            self.shared -= 1;
        } else {
            self.runs -= 1;
        }
    }
}

/// Inserts the jobs' runs and answers each.
async fn insert(
    entries: Collection<RawDocumentBuf>,
    jobs: Vec<Job>,
    ordered: bool,
    unended: Arc<Semaphore>,
) {
    let Ok(Ok(turn)) = timeout(INSERT, unended.acquire_owned()).await else {
        for job in jobs {
            drop(job.done.send(Err(StoreError::Unavailable(NoAnswer.into()))));
        }
        return;
    };
    let mut documents = Vec::new();
    let mut callers = Vec::with_capacity(jobs.len());
    for job in jobs {
        callers.push((documents.len()..documents.len() + job.run.len(), job.done));
        documents.extend(job.run);
    }
    let result = insert_many(entries, documents, ordered, turn).await;
    for (range, done) in callers {
        // The caller may have gone; the work is done all the same.
        drop(done.send(outcome::of_run(range, &result)));
    }
}

/// None: no answer came.
///
/// The insert has a task of its own, which is not cut off when it takes too long: a future of
/// the driver is dropped only when it is done.
async fn insert_many(
    entries: Collection<RawDocumentBuf>,
    documents: Vec<RawDocumentBuf>,
    ordered: bool,
    turn: OwnedSemaphorePermit,
) -> Option<MongoResult<()>> {
    let inserting = tokio::spawn(async move {
        let insert = entries.insert_many(documents).ordered(ordered);
        let inserted = insert.write_concern(write_concern()).await.map(drop);
        drop(turn);
        inserted
    });
    match timeout(INSERT, inserting).await {
        Ok(Ok(result)) => Some(result),
        Ok(Err(_)) | Err(_) => None,
    }
}

/// How long a place among those in flight is kept for an insert without an answer.
const INSERT: Duration = DEADLINE;
