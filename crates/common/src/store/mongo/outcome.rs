//! What the answer to an insert means for each of the runs that it held.

use std::ops::Range;

use mongodb::error::{Error, ErrorKind, IndexedWriteError, InsertManyError, Result as MongoResult};

use super::super::{Appended, StoreError};
use super::failure::{Failure, NoAnswer};

/// The code of a write that a unique index refused. The text of the error does not decide: if
/// both indexes refuse, it names the one that was created first.
const DUPLICATE: i32 = 11000;

/// How far the run at `range` of the inserted documents got. None: no answer came.
pub(super) fn of_run(
    range: Range<usize>,
    result: &Option<MongoResult<()>>,
) -> Result<Appended, StoreError> {
    let error = match result {
        None => return Err(StoreError::Uncertain(NoAnswer.into())),
        Some(Ok(())) => {
            return Ok(Appended {
                landed: range.len(),
            });
        }
        Some(Err(error)) => error,
    };
    let uncertain = || Err(Failure::from(error.clone()).of_write());
    let ErrorKind::InsertMany(parts) = &*error.kind else {
        return uncertain();
    };
    let landed = match first_refused(&range, parts) {
        Some(refused) if refused.code == DUPLICATE => refused.index - range.start,
        Some(_) => return uncertain(),
        None => range.len(),
    };
    // What the primary has, but perhaps not a majority.
    if landed > 0 && parts.write_concern_error.is_some() {
        return uncertain();
    }
    Ok(Appended { landed })
}

fn first_refused<'a>(
    range: &Range<usize>,
    parts: &'a InsertManyError,
) -> Option<&'a IndexedWriteError> {
    let refused = parts.write_errors.iter().flatten();
    refused
        .filter(|error| range.contains(&error.index))
        .min_by_key(|error| error.index)
}

/// Whether a unique index refused an upsert, as happens to two at once.
pub(super) fn is_duplicate(error: &Error) -> bool {
    matches!(&*error.kind, ErrorKind::Command(error) if error.code == DUPLICATE)
}
