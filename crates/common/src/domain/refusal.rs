//! Why a rule said no.

use super::{LeaseHolder, Timestamp};

/// A mutation or a read that the rules refuse. Nothing has happened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It does not exist, or the caller may not know that it does.
    #[error("not found")]
    NotFound,
    /// The caller may see it but not do this.
    #[error("{0}")]
    Forbidden(&'static str),
    /// The caller may not write before this time.
    #[error("you are muted in this group")]
    Muted { until: Timestamp },
    /// The caller has written a moment ago, and may again after so many milliseconds.
    #[error("the channel is in slow mode")]
    TooSoon { millis: u64 },
    /// A field is unacceptable.
    #[error("{} field(s) are invalid", .0.len())]
    Invalid(Vec<Violation>),
    /// It contradicts the present state.
    #[error("{0}")]
    Conflict(&'static str),
    /// Somebody has the name already.
    #[error("this username is taken")]
    UsernameTaken,
    /// The resource is no longer at the version that the caller named.
    #[error("the resource has changed: its version is now {version}")]
    PreconditionFailed { version: u64 },
    /// Somebody holds the edit lease; perhaps the caller, who did not say so.
    #[error("the edit lease is held by {}", .0.display_name)]
    Locked(Box<LeaseHolder>),
    /// The edit lease that the caller names is not the caller's, or no longer the last one.
    #[error("the edit lease has been lost")]
    LeaseLost,
    /// Everything is as asked already, so there is no change to commit. The caller answers
    /// with the present state; nobody sees this as an error.
    #[error("there is nothing to change")]
    Unchanged,
}

impl Refusal {
    /// One unacceptable field.
    #[must_use]
    pub fn invalid(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::Invalid(vec![Violation {
            pointer: pointer.into(),
            detail: detail.into(),
        }])
    }
}

/// What is wrong with one field of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// JSON Pointer (RFC 6901) into the body, or `?name` for a query parameter.
    pub pointer: String,
    pub detail: String,
}
