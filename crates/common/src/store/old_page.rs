//! Which entries are old enough to go, from those that were looked at.

use super::{Old, OldPage};
use crate::domain::{Seq, StreamId, Timestamp};

/// The page of what was looked at: position and time of commit, ascending. `full`: there may be
/// more behind it.
///
/// An entry whose time cannot be read holds nothing up: it goes with the first behind it that is
/// old.
pub(super) fn old_page(
    looked_at: &[(StreamId, Seq, Option<Timestamp>)],
    before: Timestamp,
    full: bool,
) -> OldPage {
    let mut page = OldPage {
        streams: Vec::new(),
        next: None,
    };
    for of_stream in looked_at.chunk_by(|a, b| a.0 == b.0) {
        let young = of_stream
            .iter()
            .position(|(.., at)| at.is_some_and(|at| at >= before));
        let old = &of_stream[..young.unwrap_or(of_stream.len())];
        let known = old.iter().rposition(|(.., at)| at.is_some());
        let old = &old[..known.map_or(0, |last| last + 1)];
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{ChannelId, UserId};

    #[test]
    fn a_time_that_cannot_be_read_holds_nothing_up() {
        let (first, second) = (
            StreamId::Channel(ChannelId::generate()),
            StreamId::User(UserId::generate()),
        );
        let at = |millis| Some(Timestamp::from_millis(millis));
        let old = |stream, first, through| Old {
            stream,
            first,
            through,
        };
        let looked_at = [
            (first, 1, None),
            (first, 2, at(5)),
            (first, 3, None),
            (second, 1, None),
        ];
        let page = old_page(&looked_at, Timestamp::from_millis(9), true);
        // What follows the last that is known to be old may be young.
        assert_eq!(page.streams, [old(first, 1, 2)]);
        assert_eq!(page.next, Some((second, 1)));
        let young = old_page(&looked_at, Timestamp::from_millis(5), false);
        assert_eq!((young.streams, young.next), (vec![], None));
    }
}
