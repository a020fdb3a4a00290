//! The store of an installation with several processes: a MongoDB replica set.
//!
//! Every read is a majority read of the primary, every write is acknowledged by a majority of
//! journals, whatever the address's options or the server's defaults say. Nothing outside this
//! module knows MongoDB.

mod failure;
mod open;

use std::future::Future;
use std::time::Duration;

use mongodb::Database;
use tokio::runtime::Handle;

use super::StoreError;
use failure::{Failure, NoAnswer};

pub use open::OpenError;

/// How long a call waits. Beyond it a read is `Unavailable` and a write `Uncertain`.
const DEADLINE: Duration = Duration::from_secs(8);

/// `LogStore` and `StateStore` in one database. Any number of processes may share it.
pub struct MongoStore {
    database: Database,
    /// Where the driver's futures run.
    runtime: Handle,
}

impl MongoStore {
    /// Waits for a piece of work that changes nothing.
    ///
    /// It runs in a task of its own, because a future of the driver that is dropped between
    /// request and answer costs its connection; and on the runtime that the store was opened
    /// on, because connections belong to the runtime that made them, and those of HTTP workers
    /// end before the log does.
    async fn read<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, Failure>> + Send + 'static,
    ) -> Result<T, StoreError> {
        match tokio::time::timeout(DEADLINE, self.runtime.spawn(work)).await {
            Ok(Ok(done)) => done.map_err(Failure::of_read),
            Ok(Err(ended)) => Err(StoreError::Unavailable(ended.into())),
            Err(_) => Err(StoreError::Unavailable(NoAnswer.into())),
        }
    }

    /// Waits for a piece of work that may change something; see [`MongoStore::read`]. What
    /// nobody waits for any more may still take effect.
    async fn write<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, Failure>> + Send + 'static,
    ) -> Result<T, StoreError> {
        match tokio::time::timeout(DEADLINE, self.runtime.spawn(work)).await {
            Ok(Ok(done)) => done.map_err(Failure::of_write),
            Ok(Err(ended)) => Err(StoreError::Uncertain(ended.into())),
            Err(_) => Err(StoreError::Uncertain(NoAnswer.into())),
        }
    }
}
