//! How far somebody has read a channel, and what that leaves. Always derived from positions:
//! nothing is counted up or down.

use super::{Head, Seq, Timestamp};

/// A position in a channel, and how many messages were created up to and with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Place {
    pub seq: Seq,
    pub ord: u64,
}

impl From<Head> for Place {
    fn from(head: Head) -> Self {
        let Head { seq, ord, .. } = head;
        Self { seq, ord }
    }
}

/// How far a user says to have read a channel. It only rises.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadMark {
    pub place: Place,
    /// When it was last moved.
    pub at: Timestamp,
}

/// How a channel stands to one of its readers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Reading {
    /// Position of the channel's last entry.
    pub head: Seq,
    /// Through where it is read: the further of the mark and the reader's own last message.
    pub read: Seq,
    /// Messages after `read` and after the reader became a member, deleted ones included.
    pub unread: u64,
    /// Those among them that mention the reader; at most [`Reading::MOST_MENTIONS`], which
    /// stands for so many or more.
    pub mentions: u64,
}

impl Reading {
    /// Mentions are counted up to here.
    pub const MOST_MENTIONS: usize = 100;

    /// Without mentions. `since`: where the channel stood when the reader became a member. The
    /// places may have been read one after the other, so that `read` is beyond `head`.
    #[must_use]
    pub fn of(head: Place, read: Place, since: Place) -> Self {
        Self {
            head: head.seq.max(read.seq),
            read: read.seq,
            unread: head.ord.saturating_sub(read.max(since).ord),
            mentions: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_unread_follows_from_two_places() {
        let place = |seq, ord| Place { seq, ord };
        let never = place(0, 0);
        let check = |head, read, since, expected| {
            let reading = Reading::of(head, read, since);
            assert_eq!((reading.head, reading.read, reading.unread), expected);
        };
        check(place(9, 5), never, never, (9, 0, 5));
        check(place(9, 5), place(6, 3), never, (9, 6, 2));
        check(place(9, 5), place(9, 5), never, (9, 9, 0));
        check(place(9, 5), place(12, 7), never, (12, 12, 0));
        check(place(9, 5), never, place(7, 4), (9, 0, 1));
        check(place(9, 5), place(8, 4), place(7, 4), (9, 8, 1));
        check(place(9, 5), place(3, 2), place(9, 5), (9, 3, 0));
    }
}
