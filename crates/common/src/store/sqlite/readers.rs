//! A few threads with read-only connections. Reads never wait for the writer (WAL) and never
//! occupy a thread of the runtime.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout_at};

use super::super::StoreError;
use super::OpenError;
use super::failure::{Failure, NoAnswer};
use super::schema;

/// Reads that run at the same time.
const THREADS: usize = 4;
/// Reads waiting for a thread; callers beyond that wait in turn, until their deadline.
const QUEUE: usize = 1024;

type Job = Box<dyn FnOnce(&Connection) + Send>;

pub(super) struct Readers {
    /// None only while the store is being dropped.
    queue: Option<mpsc::Sender<Job>>,
    threads: Vec<JoinHandle<()>>,
}

impl Readers {
    pub(super) fn start(path: &Path) -> Result<Self, OpenError> {
        let (queue, jobs) = mpsc::channel(QUEUE);
        let jobs = Arc::new(Mutex::new(jobs));
        let mut threads = Vec::with_capacity(THREADS);
        for _ in 0..THREADS {
            let connection = schema::connect_reader(path)?;
            let jobs = Arc::clone(&jobs);
            let thread = thread::Builder::new()
                .name("sqlite-reader".to_owned())
                .spawn(move || serve(&connection, &jobs))?;
            threads.push(thread);
        }
        Ok(Self {
            queue: Some(queue),
            threads,
        })
    }

    /// Runs `work` on one of the threads.
    ///
    /// # Errors
    ///
    /// Those of `work`; `Unavailable` without an answer within `patience`.
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
        slot.send(Box::new(move |connection| {
            if !reply.is_closed() {
                // The caller may have gone meanwhile.
                drop(reply.send(work(connection)));
            }
        }));
        timeout_at(deadline, answer)
            .await
            .map_err(|_| unavailable(NoAnswer::Late))?
            .map_err(|_| unavailable(NoAnswer::Closed))?
            .map_err(StoreError::from)
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        self.queue = None;
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a reader thread of the database has panicked");
            }
        }
    }
}

fn serve(connection: &Connection, jobs: &Mutex<mpsc::Receiver<Job>>) {
    loop {
        // One idle thread waits in the queue, the others for the lock.
        let job = jobs
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .blocking_recv();
        let Some(job) = job else { return };
        job(connection);
    }
}
