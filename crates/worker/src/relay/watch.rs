//! Pending entries that are not due by this process's clock. A clock elsewhere may be fast, or
//! this one slow: what stays as it is for 5 s by this process's own counting is due all the same.

use std::collections::HashMap;

use tidings_common::domain::{Seq, StreamId, Timestamp};
use tidings_common::store::Claim;
use tokio::time::Instant;

use super::PENDING_FOR;

/// Entries remembered at once; there are more only where a fast clock has left a backlog.
const REMEMBERED: usize = 10_000;

type Seen = HashMap<(StreamId, Seq), (Timestamp, Instant)>;

/// What was there when it was last looked: for each entry the time it was taken in hand, and
/// when it was first seen so.
#[derive(Default)]
pub(super) struct Watch {
    before: Seen,
    /// Of a look in parts, what has been seen so far.
    now: Seen,
}

impl Watch {
    /// Looks at what is there now; returns what has not changed for 5 s.
    pub(super) fn look(
        &mut self,
        marks: impl IntoIterator<Item = Claim>,
        now: Instant,
    ) -> Vec<Claim> {
        let due = self.look_at_part(marks, now);
        self.end();
        due
    }

    /// Looks at a part of it; returns what of that has not changed for 5 s. [`Watch::end`] is
    /// called after the last part.
    pub(super) fn look_at_part(
        &mut self,
        marks: impl IntoIterator<Item = Claim>,
        now: Instant,
    ) -> Vec<Claim> {
        let mut due = Vec::new();
        for mark in marks {
            let position = (mark.stream, mark.seq);
            let since = match self.before.get(&position) {
                Some((taken, since)) if *taken == mark.seen => *since,
                _ => now,
            };
            if now.saturating_duration_since(since) >= PENDING_FOR {
                due.push(mark);
            }
            if self.now.len() < REMEMBERED {
                self.now.insert(position, (mark.seen, since));
            }
        }
        due
    }

    /// Forgets what was not seen any more.
    pub(super) fn end(&mut self) {
        self.before = std::mem::take(&mut self.now);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_is_unchanged_for_five_seconds_is_due() {
        let start = Instant::now();
        let mark = |seq, millis| Claim {
            stream: StreamId::Sessions,
            seq,
            seen: Timestamp::from_millis(millis),
        };
        let mut watch = Watch::default();
        for (millis, marks, expected) in [
            (0, vec![mark(1, 7), mark(2, 7), mark(3, 7)], vec![]),
            // The second was taken in hand again, the third was settled.
            (4_999, vec![mark(1, 7), mark(2, 8)], vec![]),
            (
                5_000,
                vec![mark(1, 7), mark(2, 8), mark(3, 7)],
                vec![mark(1, 7)],
            ),
            (9_999, vec![mark(2, 8), mark(3, 7)], vec![mark(2, 8)]),
            (10_000, vec![mark(3, 7)], vec![mark(3, 7)]),
        ] {
            let now = start + Duration::from_millis(millis);
            assert_eq!(watch.look(marks.clone(), now), expected, "{millis}");
            assert_eq!(watch.before.len(), marks.len());
        }
    }

    #[test]
    fn what_is_looked_at_in_parts_is_remembered_until_it_is_not_seen_any_more() {
        let start = Instant::now();
        let mark = |seq| Claim {
            stream: StreamId::Sessions,
            seq,
            seen: Timestamp::from_millis(7),
        };
        let mut watch = Watch::default();
        for (seconds, expected) in [(0, vec![]), (5, vec![mark(1), mark(2)])] {
            let now = start + Duration::from_secs(seconds);
            let mut due = watch.look_at_part([mark(1)], now);
            due.extend(watch.look_at_part([mark(2)], now));
            watch.end();
            assert_eq!(due, expected);
        }
        watch.end();
        assert_eq!(watch.look([mark(1)], start + PENDING_FOR), []);
    }

    #[test]
    fn memory_is_bounded() {
        let mut watch = Watch::default();
        let marks = (1..=2 * REMEMBERED as Seq).map(|seq| Claim {
            stream: StreamId::Sessions,
            seq,
            seen: Timestamp::from_millis(7),
        });
        watch.look(marks, Instant::now());
        assert_eq!(watch.before.len(), REMEMBERED);
    }
}
