//! What the relay says of what did not work.

use std::error::Error;

use tidings_common::log::FinishError;

use super::{Away, Position};

pub(super) fn away(whole: &Away) {
    let (what, error): (_, &dyn Error) = match whole {
        Away::Store(error) => ("store", error),
        Away::Bus(error) => ("bus", error),
    };
    tracing::warn!(
        what,
        error,
        "abandoned entries wait for what is away; trying again"
    );
}

pub(super) fn failure((stream, seq): Position, error: &FinishError, entries: usize) {
    tracing::warn!(
        stream = %stream,
        delta.seq = seq,
        entries,
        error = error as &dyn Error,
        "abandoned entries could not be finished; trying again. This is the first"
    );
}

pub(super) fn stuck((stream, seq): Position, error: &FinishError) {
    tracing::error!(
        stream = %stream,
        delta.seq = seq,
        error = error as &dyn Error,
        "an abandoned entry has failed 20 times; it is tried every two minutes"
    );
}
