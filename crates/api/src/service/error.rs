//! Why a service did not do what it was asked.

use std::error::Error;
use std::time::Duration;

use tidings_common::domain::{Refusal, Timestamp, Violation};
use tidings_common::log::{AppendError, NotValid};
use tidings_common::store::StoreError;

/// A variant exists because the client is told something different.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ServiceError {
    #[error("the request asks for what cannot be")]
    Invalid(Vec<Violation>),
    #[error("the caller is not who they say")]
    Unauthenticated(&'static str),
    #[error("not found")]
    NotFound,
    #[error("{0}")]
    Forbidden(&'static str),
    #[error("you are muted in this group")]
    Muted { until: Timestamp },
    #[error("{0}")]
    Conflict(&'static str),
    #[error("the group has more than {most} members")]
    GroupTooLarge { most: usize },
    #[error("this username is taken")]
    UsernameTaken,
    #[error("the resource has changed: its version is now {version}")]
    PreconditionFailed { version: u64 },
    #[error("the idempotency key was used with another body")]
    KeyReused,
    #[error("{why}")]
    RateLimited {
        why: &'static str,
        retry_after: Duration,
    },
    /// Nothing had to be changed. A service answers it with the present state.
    #[error("there is nothing to change")]
    Unchanged,
    /// For the moment; what was asked may have happened. The same key gives the answer.
    #[error("something that the request needs is unavailable")]
    Unavailable(#[source] Option<Box<dyn Error + Send + Sync>>),
    #[error("something is wrong on this side")]
    Internal(#[source] Box<dyn Error + Send + Sync>),
}

impl ServiceError {
    /// One unacceptable field.
    pub(crate) fn invalid(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Refusal::invalid(pointer, detail).into()
    }
}

impl From<Refusal> for ServiceError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::NotFound => Self::NotFound,
            Refusal::Forbidden(why) => Self::Forbidden(why),
            Refusal::Muted { until } => Self::Muted { until },
            Refusal::TooSoon { millis } => Self::RateLimited {
                why: "the channel is in slow mode",
                retry_after: Duration::from_millis(millis),
            },
            Refusal::Invalid(violations) => Self::Invalid(violations),
            Refusal::Conflict(why) => Self::Conflict(why),
            Refusal::UsernameTaken => Self::UsernameTaken,
            Refusal::PreconditionFailed { version } => Self::PreconditionFailed { version },
            Refusal::Unchanged => Self::Unchanged,
        }
    }
}

impl From<StoreError> for ServiceError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Uncertain(_) | StoreError::Unavailable(_) => {
                Self::Unavailable(Some(Box::new(error)))
            }
            StoreError::Corrupt(_) => Self::Internal(Box::new(error)),
        }
    }
}

impl From<AppendError> for ServiceError {
    fn from(error: AppendError) -> Self {
        match error {
            AppendError::Refused(refusal) => refusal.into(),
            AppendError::KeyReused => Self::KeyReused,
            // The log has said why.
            AppendError::Unavailable => Self::Unavailable(None),
        }
    }
}

impl From<NotValid> for ServiceError {
    fn from(error: NotValid) -> Self {
        match error {
            NotValid::Refused(refusal) => refusal.into(),
            NotValid::Store(error) => error.into(),
        }
    }
}
