//! What goes wrong between here and MongoDB, and what it means to callers.

use std::error::Error;

use mongodb::error::ErrorKind;

use super::super::StoreError;
use super::super::doc::Unreadable;

/// Why a piece of work failed.
#[derive(Debug)]
pub(super) enum Failure {
    Mongo(mongodb::error::Error),
    Corrupt(Box<dyn Error + Send + Sync>),
}

impl Failure {
    pub(super) fn corrupt(what: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Corrupt(what.into())
    }

    /// Nothing was to be changed.
    pub(super) fn of_read(self) -> StoreError {
        match self {
            Self::Corrupt(source) => StoreError::Corrupt(source),
            Self::Mongo(error) => StoreError::Unavailable(error.into()),
        }
    }

    /// Something was to be changed: unless it was certainly not sent, nobody knows.
    pub(super) fn of_write(self) -> StoreError {
        match self {
            Self::Mongo(error) if !was_sent(&error) => StoreError::Unavailable(error.into()),
            Self::Mongo(error) => StoreError::Uncertain(error.into()),
            Self::Corrupt(source) => StoreError::Corrupt(source),
        }
    }
}

fn was_sent(error: &mongodb::error::Error) -> bool {
    !matches!(*error.kind, ErrorKind::ServerSelection { .. })
}

impl From<mongodb::error::Error> for Failure {
    fn from(error: mongodb::error::Error) -> Self {
        Self::Mongo(error)
    }
}

impl From<Unreadable> for Failure {
    fn from(error: Unreadable) -> Self {
        Self::corrupt(error)
    }
}

/// Why a call got no answer.
#[derive(Debug, thiserror::Error)]
#[error("no answer from MongoDB in time")]
pub(super) struct NoAnswer;
