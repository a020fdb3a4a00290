//! What goes wrong between here and MongoDB, and what it means to callers.

use std::error::Error;

use mongodb::error::{ErrorKind, RETRYABLE_WRITE_ERROR, WriteFailure};

use super::super::StoreError;
use super::super::doc::Unreadable;

/// Why a piece of work failed.
#[derive(Debug)]
pub(super) enum Failure {
    Mongo(mongodb::error::Error),
    /// The answer to a command, some of whose writes have failed.
    Refused(mongodb::bson::Document),
    /// Too much was under way for it to be begun.
    NotBegun,
    /// Nobody knows how far it got.
    NoAnswer(Box<dyn Error + Send + Sync>),
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
            _ => StoreError::Unavailable(self.into_source()),
        }
    }

    /// Something was to be changed: unless it was certainly not sent, nobody knows.
    pub(super) fn of_write(self) -> StoreError {
        match self {
            Self::Corrupt(source) => StoreError::Corrupt(source),
            Self::NotBegun => StoreError::Unavailable(self.into_source()),
            Self::Mongo(ref error) if !was_sent(error) => {
                StoreError::Unavailable(self.into_source())
            }
            _ => StoreError::Uncertain(self.into_source()),
        }
    }

    pub(super) fn into_source(self) -> Box<dyn Error + Send + Sync> {
        match self {
            Self::Mongo(error) => error.into(),
            Self::Refused(answer) => answer.to_string().into(),
            Self::NotBegun => NoAnswer.into(),
            Self::NoAnswer(source) | Self::Corrupt(source) => source,
        }
    }

    /// Whether it may be different in a moment: nobody answers, or there is no primary yet.
    pub(super) fn may_pass(&self) -> bool {
        match self {
            Self::Corrupt(_) | Self::Refused(_) => false,
            Self::NotBegun | Self::NoAnswer(_) => true,
            Self::Mongo(error) => {
                let away = matches!(
                    *error.kind,
                    ErrorKind::ServerSelection { .. }
                        | ErrorKind::Io(_)
                        | ErrorKind::ConnectionPoolCleared { .. }
                );
                away || error.contains_label(RETRYABLE_WRITE_ERROR)
            }
        }
    }
}

fn was_sent(error: &mongodb::error::Error) -> bool {
    !matches!(*error.kind, ErrorKind::ServerSelection { .. })
}

/// MongoDB's code for a second document with the same key.
const DUPLICATE_KEY: i32 = 11000;

/// Whether an update was refused because what it would have made is there.
pub(super) fn is_duplicate(error: &mongodb::error::Error) -> bool {
    matches!(
        &*error.kind,
        ErrorKind::Write(WriteFailure::WriteError(error)) if error.code == DUPLICATE_KEY
    )
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

/// Which documents of an unordered insert were refused because they are there; the others are
/// in.
///
/// # Errors
///
/// Anything else went wrong.
pub(super) fn duplicates(error: mongodb::error::Error) -> Result<Vec<usize>, Failure> {
    if let ErrorKind::InsertMany(refused) = &*error.kind
        && refused.write_concern_error.is_none()
        && let Some(errors) = &refused.write_errors
        && errors.iter().all(|error| error.code == DUPLICATE_KEY)
    {
        return Ok(errors.iter().map(|error| error.index).collect());
    }
    Err(error.into())
}
