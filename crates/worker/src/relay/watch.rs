//! Pending entries that are not due by this process's clock. A clock elsewhere may be fast, or
//! this one slow: what stays as it is for 5 s by this process's own counting is due all the same.

use std::collections::HashMap;

use tidings_common::domain::{Seq, StreamId, Timestamp};
use tidings_common::store::Claim;
use tokio::time::Instant;

use super::PENDING_FOR;

/// What was there when it was last looked: for each entry the time it was taken in hand, and
/// when it was first seen so. Holds what one look finds.
#[derive(Default)]
pub(super) struct Watch(HashMap<(StreamId, Seq), (Timestamp, Instant)>);

impl Watch {
    /// Looks at what is there now; returns what has not changed for 5 s.
    pub(super) fn look(
        &mut self,
        marks: impl IntoIterator<Item = Claim>,
        now: Instant,
    ) -> Vec<Claim> {
        let mut due = Vec::new();
        let mut seen = HashMap::new();
        for mark in marks {
            let position = (mark.stream, mark.seq);
            let since = match self.0.get(&position) {
                Some((taken, since)) if *taken == mark.seen => *since,
                _ => now,
            };
            if now.saturating_duration_since(since) >= PENDING_FOR {
                due.push(mark);
            }
            seen.insert(position, (mark.seen, since));
        }
        self.0 = seen;
        due
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
            assert_eq!(watch.0.len(), marks.len());
        }
    }
}
