//! What stores check and note of the entries that they append.

use crate::domain::{Change, Entry, Seq};

/// Whether these are entries of one stream whose positions follow each other. A run that is
/// none would leave holes.
pub(super) fn is_run<'a>(entries: impl IntoIterator<Item = &'a Entry>) -> bool {
    let mut entries = entries.into_iter();
    let Some(first) = entries.next() else {
        return true;
    };
    let mut last = first;
    first.seq > 0
        && entries.all(|entry| {
            let follows = entry.stream == last.stream && Some(entry.seq) == last.seq.checked_add(1);
            last = entry;
            follows
        })
}

/// What is wrong with entries that are not [one](is_run).
pub(super) const NOT_A_RUN: &str = "a run of entries whose positions do not follow each other";

/// The message whose content stands in this entry as well until it is applied.
pub(super) fn copied_message(change: &Change) -> Option<Seq> {
    match change {
        Change::MessageEdited {
            message,
            content: Some(_),
            ..
        } => Some(*message),
        _ => None,
    }
}
