//! Which entries are old enough to go, from those that were looked at.

use super::{Old, OldPage};
use crate::domain::{Seq, StreamId, Timestamp};

/// The page of what was looked at: position and time of commit, ascending. `full`: there may be
/// more behind it.
pub(super) fn old_page(
    looked_at: &[(StreamId, Seq, Timestamp)],
    before: Timestamp,
    full: bool,
) -> OldPage {
    let mut page = OldPage {
        streams: Vec::new(),
        next: None,
    };
    for of_stream in looked_at.chunk_by(|a, b| a.0 == b.0) {
        let young = of_stream.iter().position(|(.., at)| *at >= before);
        let old = &of_stream[..young.unwrap_or(of_stream.len())];
        if let ([(stream, first, _), ..], [.., (_, through, _)]) = (old, old) {
            page.streams.push(Old {
                stream: *stream,
                first: *first,
                through: *through,
            });
        }
        // Behind a young entry come only younger ones.
        let last = of_stream.last().filter(|_| full);
        page.next = last.map(|(stream, seq, _)| match young {
            Some(_) => (*stream, Seq::MAX),
            None => (*stream, *seq),
        });
    }
    page
}
