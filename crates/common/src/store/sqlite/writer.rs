//! The one writer: a thread that owns the writing connection and commits what queued while it
//! was busy in one transaction (group commit, so that an fsync is shared).

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout_at};

use super::super::StoreError;
use super::failure::{Failure, NoAnswer, Shared};

/// Jobs in one transaction. More would make the first wait for the last.
const BATCH: usize = 256;
/// Jobs waiting for the thread; callers beyond that wait in turn, until their deadline.
const QUEUE: usize = 1024;
/// What [`probe`] writes: a few pages, as an append may need.
const PROBE_BYTES: i64 = 16 * 1024;

pub(super) struct Writer {
    /// None only while the store is being dropped.
    queue: Option<mpsc::Sender<Box<dyn Job>>>,
    thread: Option<JoinHandle<()>>,
    record: Arc<Record>,
}

/// How the transactions so far have ended.
#[derive(Default)]
struct Record {
    commits: AtomicU64,
    /// The last one that changed anything has failed.
    failing: AtomicBool,
}

impl Writer {
    pub(super) fn start(connection: Connection) -> std::io::Result<Self> {
        let (queue, jobs) = mpsc::channel(QUEUE);
        let record = Arc::new(Record::default());
        let kept = Arc::clone(&record);
        let thread = thread::Builder::new()
            .name("sqlite-writer".to_owned())
            .spawn(move || serve(&connection, jobs, &kept))?;
        Ok(Self {
            queue: Some(queue),
            thread: Some(thread),
            record,
        })
    }

    /// How many transactions have been committed since the start.
    pub(super) fn commits(&self) -> u64 {
        self.record.commits.load(Ordering::Relaxed)
    }

    #[cfg(test)]
    pub(super) fn is_failing(&self) -> bool {
        self.record.failing.load(Ordering::Relaxed)
    }

    /// Whether a write would be committed now. As long as commits succeed it is enough that
    /// the thread takes a job, which costs nothing; after a failure something is written, so
    /// that a process that gets no work while it is not ready finds out when it is again.
    ///
    /// # Errors
    ///
    /// `Unavailable`, also without an answer within `patience`.
    pub(super) async fn check(&self, patience: Duration) -> Result<(), StoreError> {
        let record = Arc::clone(&self.record);
        let job = move |connection: &Connection| {
            if record.failing.load(Ordering::Relaxed) {
                probe(connection)?;
            }
            Ok(())
        };
        self.call(patience, job).await.map_err(|error| match error {
            // Nobody needs to know what has become of it.
            StoreError::Uncertain(source) => StoreError::Unavailable(source),
            StoreError::Unavailable(_) | StoreError::Corrupt(_) => error,
        })
    }

    /// Runs `work` in a transaction and answers when it is committed. What `work` did before
    /// it failed is undone. Once it is queued it runs, whether or not anybody waits.
    ///
    /// # Errors
    ///
    /// Those of `work`; `Unavailable` if it did not run or was undone, `Uncertain` if the
    /// commit failed or did not end within `patience`.
    pub(super) async fn call<T, F>(&self, patience: Duration, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, Failure> + Send + 'static,
    {
        let unavailable = |why: NoAnswer| StoreError::Unavailable(Box::new(why));
        let queue = self.queue.as_ref().ok_or(unavailable(NoAnswer::Closed))?;
        let deadline = Instant::now() + patience;
        let slot = timeout_at(deadline, queue.reserve())
            .await
            .map_err(|_| unavailable(NoAnswer::Late))?
            .map_err(|_| unavailable(NoAnswer::Closed))?;
        let (reply, answer) = oneshot::channel();
        slot.send(Box::new(Task {
            work: Some(work),
            result: None,
            reply,
        }));
        match timeout_at(deadline, answer).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(StoreError::Uncertain(Box::new(NoAnswer::Closed))),
            Err(_) => Err(StoreError::Uncertain(Box::new(NoAnswer::Late))),
        }
    }
}

impl Drop for Writer {
    /// Waits for the jobs that are queued, so that the file may be opened again afterwards.
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the database's writer thread has panicked");
        }
    }
}

/// How the transaction that a job was part of ended.
#[derive(Clone)]
enum Outcome {
    Committed,
    /// Certainly without effect.
    RolledBack(Shared),
    /// Perhaps durable, perhaps not.
    Unknown(Shared),
}

trait Job: Send {
    /// Does the work; false if it must be undone.
    fn run(&mut self, connection: &Connection) -> bool;
    fn answer(self: Box<Self>, outcome: Outcome);
}

struct Task<T, F> {
    work: Option<F>,
    result: Option<Result<T, Failure>>,
    reply: oneshot::Sender<Result<T, StoreError>>,
}

impl<T, F> Job for Task<T, F>
where
    T: Send,
    F: FnOnce(&Connection) -> Result<T, Failure> + Send,
{
    fn run(&mut self, connection: &Connection) -> bool {
        self.result = self.work.take().map(|work| work(connection));
        matches!(self.result, Some(Ok(_)))
    }

    fn answer(self: Box<Self>, outcome: Outcome) {
        let answer = match (self.result, outcome) {
            (Some(Err(failure)), _) => Err(failure.into()),
            (Some(Ok(value)), Outcome::Committed) => Ok(value),
            (_, Outcome::Unknown(error)) => Err(StoreError::Uncertain(Box::new(error))),
            (_, Outcome::RolledBack(error)) => Err(StoreError::Unavailable(Box::new(error))),
            (None, Outcome::Committed) => Err(StoreError::Unavailable(Box::new(NoAnswer::Closed))),
        };
        // The caller may have gone; the work is done all the same.
        drop(self.reply.send(answer));
    }
}

/// Takes a few pages more and gives them back; leaves nothing.
fn probe(connection: &Connection) -> Result<(), Failure> {
    connection
        .prepare_cached("INSERT INTO floors (s, n) VALUES (zeroblob(?1), 0)")?
        .execute([PROBE_BYTES])?;
    connection
        .prepare_cached("DELETE FROM floors WHERE s = zeroblob(?1)")?
        .execute([PROBE_BYTES])?;
    Ok(())
}

fn serve(connection: &Connection, mut jobs: mpsc::Receiver<Box<dyn Job>>, record: &Record) {
    while let Some(first) = jobs.blocking_recv() {
        let mut waiting = VecDeque::from([first]);
        while waiting.len() < BATCH
            && let Ok(job) = jobs.try_recv()
        {
            waiting.push_back(job);
        }
        while !waiting.is_empty() {
            transact(connection, &mut waiting, record);
        }
    }
}

/// Runs the waiting jobs in one transaction and answers those it took. It leaves jobs behind
/// only if one before them ended the transaction.
fn transact(connection: &Connection, waiting: &mut VecDeque<Box<dyn Job>>, record: &Record) {
    let mut ran = Vec::with_capacity(waiting.len());
    let changes = connection.total_changes();
    let outcome = match run_all(connection, waiting, &mut ran) {
        Ok(()) => commit(connection),
        Err(error) => {
            roll_back(connection);
            if ran.is_empty() {
                ran.extend(waiting.drain(..));
            }
            Outcome::RolledBack(error.into())
        }
    };
    match &outcome {
        Outcome::Committed => {
            record.commits.fetch_add(1, Ordering::Relaxed);
            // A commit of nothing succeeds on a full disk, too.
            if connection.total_changes() != changes {
                record.failing.store(false, Ordering::Relaxed);
            }
        }
        Outcome::RolledBack(error) | Outcome::Unknown(error) => {
            record.failing.store(true, Ordering::Relaxed);
            tracing::warn!(%error, jobs = ran.len(), "a transaction has failed");
        }
    }
    for job in ran {
        job.answer(outcome.clone());
    }
}

fn run_all(
    connection: &Connection,
    waiting: &mut VecDeque<Box<dyn Job>>,
    ran: &mut Vec<Box<dyn Job>>,
) -> rusqlite::Result<()> {
    execute(connection, "BEGIN IMMEDIATE")?;
    while let Some(job) = waiting.pop_front() {
        ran.push(job);
        execute(connection, "SAVEPOINT job")?;
        // A full disk and the like make SQLite roll back everything, not just the statement.
        // Then there is no savepoint to return to, which is the error that ends the batch.
        if !ran.last_mut().is_some_and(|job| job.run(connection)) {
            execute(connection, "ROLLBACK TO job")?;
        }
        execute(connection, "RELEASE job")?;
    }
    Ok(())
}

/// A commit that fails may have written its frames: if the process ends before they are
/// overwritten, recovery can find them valid. Only "busy" is certain, as it leaves the
/// transaction open, to be rolled back.
fn commit(connection: &Connection) -> Outcome {
    match execute(connection, "COMMIT") {
        Ok(()) => Outcome::Committed,
        Err(error) => {
            let busy = error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy);
            if roll_back(connection) && busy {
                Outcome::RolledBack(error.into())
            } else {
                Outcome::Unknown(error.into())
            }
        }
    }
}

/// Whether the connection is out of its transaction.
fn roll_back(connection: &Connection) -> bool {
    if connection.is_autocommit() {
        return true;
    }
    execute(connection, "ROLLBACK").is_ok()
}

fn execute(connection: &Connection, sql: &str) -> rusqlite::Result<()> {
    connection.prepare_cached(sql)?.execute([]).map(|_| ())
}
