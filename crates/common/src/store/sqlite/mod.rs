//! The embedded store: one SQLite file, one process.
//!
//! One thread writes, a few read; callers may be on any tokio runtime (with a timer that is
//! not paused: the threads are not the runtime's, so it would run ahead of them). Nothing
//! outside this module knows SQLite.

mod accounts;
mod apply;
mod failure;
mod groups;
mod log_store;
mod message_changes;
mod messages;
mod moderation;
mod pending;
mod reactions;
mod readers;
mod reading;
mod row;
mod schema;
mod state_store;
mod writer;

#[cfg(test)]
mod deletion_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod writer_tests;

use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::Connection;

use super::StoreError;
use failure::Failure;
use readers::Readers;
use writer::Writer;

/// How long a call waits. Beyond it a read is `Unavailable` and a queued write `Uncertain`.
const DEADLINE: Duration = Duration::from_secs(5);

/// `LogStore` and `StateStore` in one file.
///
/// Dropping it waits for the writes that are queued.
pub struct SqliteStore {
    // Dropped in this order: the lock goes last.
    readers: Readers,
    writer: Writer,
    _lock: File,
}

/// Why the file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("the database {} is in use by another process (or twice by this one)", .path.display())]
    InUse { path: PathBuf },
    #[error(
        "the database has layout {}, this program knows {}",
        .found.map_or_else(|| "without a number".to_owned(), |found| found.to_string()),
        schema::VERSION
    )]
    Schema { found: Option<i64> },
    #[error("the database's file or directory cannot be used")]
    File(#[from] std::io::Error),
    #[error("the database cannot be opened")]
    Database(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl From<rusqlite::Error> for OpenError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Database(Box::new(error))
    }
}

impl SqliteStore {
    /// Opens the database at `path`; creates it, and its directory, if it is not there.
    /// Blocks, for a few milliseconds or until a log left by a crash is read.
    ///
    /// # Errors
    ///
    /// `InUse` while it is open anywhere; see [`OpenError`].
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        if let Some(directory) = path.parent() {
            std::fs::create_dir_all(directory)?;
        }
        let lock = lock(path)?;
        create_file(path)?;
        let writer = Writer::start(schema::connect_writer(path)?)?;
        let readers = Readers::start(path)?;
        Ok(Self {
            readers,
            writer,
            _lock: lock,
        })
    }

    /// How many transactions have been committed since it was opened. Writes that arrive
    /// together share one.
    #[must_use]
    pub fn commits(&self) -> u64 {
        self.writer.commits()
    }

    async fn read<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, Failure> + Send + 'static,
    {
        self.readers.call(DEADLINE, work).await
    }

    async fn write<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, Failure> + Send + 'static,
    {
        self.writer.call(DEADLINE, work).await
    }
}

/// Makes what is read until it is dropped one moment's state.
fn snapshot(connection: &Connection) -> Result<rusqlite::Transaction<'_>, Failure> {
    Ok(connection.unchecked_transaction()?)
}

/// SQLite's own locks let several processes write in turn, but each would remember heads and
/// announce only its own. The lock is on a file beside it, since closing any handle of the
/// database itself would drop SQLite's locks on it.
fn lock(path: &Path) -> Result<File, OpenError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let file = options().open(PathBuf::from(name))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse {
            path: path.to_owned(),
        }),
        Err(TryLockError::Error(error)) => Err(error.into()),
    }
}

/// Makes the file before SQLite does, readable to the owner alone (it holds password hashes);
/// SQLite gives its log the same rights.
fn create_file(path: &Path) -> Result<(), OpenError> {
    if !path.exists() {
        options().open(path)?.sync_all()?;
        if let Some(directory) = path.parent()
            && let Ok(directory) = File::open(directory)
        {
            // Not every file system can sync a directory.
            drop(directory.sync_all());
        }
    }
    Ok(())
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}
