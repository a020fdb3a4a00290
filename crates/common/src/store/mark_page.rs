//! Which marks are later than a time, from those that were looked at.

use super::{Claim, MarkPage};
use crate::domain::Timestamp;

/// The page of what was looked at, ascending; `looked_at` is how much that was with what could
/// not be read.
pub(super) fn mark_page(
    marks: Vec<Claim>,
    than: Timestamp,
    (looked_at, limit): (usize, usize),
) -> MarkPage {
    let last = marks.last().map(|mark| (mark.stream, mark.seq));
    let later = marks.into_iter().filter(|mark| mark.seen > than);
    MarkPage {
        marks: later.collect(),
        next: last.filter(|_| looked_at >= limit),
    }
}
