//! The store of an installation with several processes: a MongoDB replica set.
//!
//! Every read is a majority read of the primary, every write is acknowledged by a majority of
//! journals, whatever the address's options or the server's defaults say. Nothing outside this
//! module knows MongoDB.

mod accounts;
mod append;
mod apply;
mod entry;
mod failure;
mod field;
mod find;
mod groups;
mod indexes;
mod lease;
mod log_store;
mod message_changes;
mod messages;
mod moderation;
mod open;
mod outcome;
mod pending;
mod reactions;
mod reading;
mod reads;
mod schema;
mod settle;
mod state_store;
mod trim;

#[cfg(test)]
mod bound_tests;
#[cfg(test)]
mod command_tests;
#[cfg(test)]
mod contract_tests;
#[cfg(test)]
mod deletion_tests;
#[cfg(test)]
mod entry_tests;
#[cfg(test)]
mod fault_tests;
#[cfg(test)]
mod links;
#[cfg(test)]
mod log_tests;
#[cfg(test)]
pub(crate) mod nodes;
#[cfg(test)]
mod open_tests;
#[cfg(test)]
mod reading_tests;
#[cfg(test)]
mod recording;
#[cfg(test)]
mod rollback_tests;
#[cfg(test)]
mod stale_tests;
#[cfg(test)]
pub(crate) mod testing;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use mongodb::bson::RawDocumentBuf;
use mongodb::options::{Acknowledgment, WriteConcern};
use mongodb::{Collection, Database};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

use super::StoreError;
use crate::tasks::Tasks;
use append::Appends;
use failure::{Failure, NoAnswer};

pub use open::OpenError;

/// How long a call waits. Beyond it a read is `Unavailable` and a write `Uncertain`.
///
/// It is longer than a primary is looked for, so that "there is none" is told from "no answer",
/// and leaves time to try again to those who wait for 10 s.
const DEADLINE: Duration = Duration::from_secs(6);
/// How long the server works at a read, and waits for a majority to have a write: less than
/// [`DEADLINE`], so that connections come back from whoever has stopped waiting.
const PATIENCE: Duration = Duration::from_secs(4);

/// Calls under way at once, among them those that nobody waits for any more: a MongoDB that
/// takes requests and answers none must not fill this process's memory. One more waits for its
/// turn, within its deadline. Many more than there are connections (see `open`), so that calls
/// held up by a primary that is gone leave room for the next one's.
const CALLS: usize = 1000;

/// What every write waits for.
fn write_concern() -> WriteConcern {
    let majority = WriteConcern::builder().w(Acknowledgment::Majority);
    majority.journal(true).w_timeout(PATIENCE).build()
}

/// `LogStore` and `StateStore` in one database. Any number of processes may share it.
pub struct MongoStore {
    database: Database,
    entries: Collection<RawDocumentBuf>,
    floors: Collection<RawDocumentBuf>,
    appends: Appends,
    calls: Arc<Semaphore>,
    /// Where the driver's futures run.
    tasks: Tasks,
}

impl MongoStore {
    /// `database` promises majority reads and writes already (see `open`).
    fn new(database: Database, tasks: &Tasks) -> Self {
        let entries = database.collection(entry::ENTRIES);
        Self {
            floors: database.collection(trim::FLOORS),
            appends: Appends::start(entries.clone(), tasks),
            entries,
            database,
            calls: Arc::new(Semaphore::new(CALLS)),
            tasks: tasks.clone(),
        }
    }

    /// Waits for a piece of work that changes nothing.
    async fn read<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, Failure>> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.answer(work).await.map_err(Failure::of_read)
    }

    /// Waits for a piece of work that may change something. What nobody waits for any more may
    /// still take effect.
    async fn write<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, Failure>> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.answer(work).await.map_err(Failure::of_write)
    }

    /// What a piece of work comes to, in time.
    ///
    /// It runs in a task of its own, because a future of the driver that is dropped between
    /// request and answer costs its connection; and on the process's runtime, because
    /// connections belong to the runtime that made them, and those of HTTP workers end before
    /// the log does.
    async fn answer<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, Failure>> + Send + 'static,
    ) -> Result<T, Failure> {
        let deadline = Instant::now() + DEADLINE;
        let turn = self.calls.clone().acquire_owned();
        let Ok(Ok(turn)) = timeout_at(deadline, turn).await else {
            return Err(Failure::NotBegun);
        };
        let working = self.tasks.runtime().spawn(async move {
            let done = work.await;
            // Kept to the end, whether or not anybody waits for it.
            drop(turn);
            done
        });
        match timeout_at(deadline, working).await {
            Ok(Ok(done)) => done,
            Ok(Err(ended)) => Err(Failure::NoAnswer(ended.into())),
            Err(_) => Err(Failure::NoAnswer(NoAnswer.into())),
        }
    }
}
