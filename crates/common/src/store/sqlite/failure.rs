//! What goes wrong between here and SQLite, and what it means to callers.

use std::error::Error;
use std::sync::Arc;

use rusqlite::ErrorCode;

use super::super::StoreError;
use super::super::doc::Unreadable;

/// Why a piece of work on a connection failed. It has had no effect.
#[derive(Debug)]
pub(super) enum Failure {
    Sqlite(rusqlite::Error),
    Corrupt(Box<dyn Error + Send + Sync>),
}

impl Failure {
    pub(super) fn corrupt(what: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Corrupt(what.into())
    }
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

impl From<Unreadable> for Failure {
    fn from(error: Unreadable) -> Self {
        Self::corrupt(error)
    }
}

impl From<Failure> for StoreError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Corrupt(source) => Self::Corrupt(source),
            Failure::Sqlite(error) if will_not_pass(&error) => Self::Corrupt(Box::new(error)),
            Failure::Sqlite(error) => Self::Unavailable(Box::new(error)),
        }
    }
}

/// Whether trying again is of no use: the file is damaged, or a value has the wrong type.
/// A constraint that is not expected to fail counts as damage.
fn will_not_pass(error: &rusqlite::Error) -> bool {
    match error {
        rusqlite::Error::SqliteFailure(error, _) => matches!(
            error.code,
            ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase | ErrorCode::ConstraintViolation
        ),
        rusqlite::Error::FromSqlConversionFailure(..)
        | rusqlite::Error::IntegralValueOutOfRange(..)
        | rusqlite::Error::InvalidColumnType(..)
        | rusqlite::Error::Utf8Error(..) => true,
        _ => false,
    }
}

/// One error told to all who shared a transaction.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub(super) struct Shared(Arc<rusqlite::Error>);

impl From<rusqlite::Error> for Shared {
    fn from(error: rusqlite::Error) -> Self {
        Self(Arc::new(error))
    }
}

/// Why a call got no answer from the thread that serves it.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoAnswer {
    #[error("no answer from the database in time")]
    Late,
    #[error("the database thread has ended")]
    Closed,
}
