//! How often entries have failed, and when each is tried again.

use std::collections::HashMap;
use std::time::Duration;

use tidings_common::domain::{Seq, StreamId};
use tokio::time::Instant;

/// Wait after the first failure; it doubles with each, up to the longest.
const FIRST: Duration = Duration::from_secs(5);
const LONGEST: Duration = Duration::from_secs(120);
/// An entry that has failed so often (for half an hour by then) needs somebody to look at it.
pub(super) const MANY: u32 = 20;
/// Entries remembered at once. Others that fail are tried every 5 s, as long as their claims last.
const REMEMBERED: usize = 10_000;
/// An entry that has not come again for so long after its time was finished by somebody else.
const FORGOTTEN: Duration = Duration::from_secs(300);

type Position = (StreamId, Seq);

/// What has failed here. Another relay, or this one after a restart, begins anew.
#[derive(Default)]
pub(super) struct Backoff(HashMap<Position, Failed>);

struct Failed {
    times: u32,
    again: Instant,
}

impl Backoff {
    /// Whether it is too early to try the entry again.
    pub(super) fn holds(&self, position: Position, now: Instant) -> bool {
        self.0
            .get(&position)
            .is_some_and(|failed| now < failed.again)
    }

    /// Records a failure; returns how many there have been.
    pub(super) fn failed(&mut self, position: Position, now: Instant) -> u32 {
        if self.0.len() >= REMEMBERED && !self.0.contains_key(&position) {
            return 1;
        }
        let failed = self.0.entry(position).or_insert(Failed {
            times: 0,
            again: now,
        });
        let wait = FIRST.saturating_mul(1 << failed.times.min(10)).min(LONGEST);
        failed.times = failed.times.saturating_add(1);
        failed.again = now + wait;
        failed.times
    }

    pub(super) fn finished(&mut self, position: Position) {
        self.0.remove(&position);
    }

    /// Forgets what somebody else has finished.
    pub(super) fn tidy(&mut self, now: Instant) {
        self.0
            .retain(|_, failed| now.saturating_duration_since(failed.again) < FORGOTTEN);
    }

    /// How many entries have failed [`MANY`] times or more.
    pub(super) fn stuck(&self) -> usize {
        let stuck = self.0.values().filter(|failed| failed.times >= MANY);
        stuck.count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_two_minutes() {
        let mut backoff = Backoff::default();
        let position = (StreamId::Sessions, 1);
        let mut now = Instant::now();
        for (times, seconds) in (1..).zip([5, 10, 20, 40, 80, 120, 120]) {
            assert!(!backoff.holds(position, now));
            assert_eq!(backoff.failed(position, now), times);
            let wait = Duration::from_secs(seconds);
            assert!(backoff.holds(position, now + wait - Duration::from_millis(1)));
            assert!(!backoff.holds(position, now + wait));
            assert!(!backoff.holds((StreamId::Sessions, 2), now));
            now += wait;
        }
        backoff.finished(position);
        assert_eq!(backoff.failed(position, now), 1);
    }

    #[test]
    fn what_fails_20_times_is_stuck_until_it_is_finished_or_gone() {
        let mut backoff = Backoff::default();
        let now = Instant::now();
        for seq in [1, 2] {
            for _ in 0..MANY - 1 {
                backoff.failed((StreamId::Sessions, seq), now);
            }
            assert_eq!(backoff.stuck(), usize::from(seq == 2));
            backoff.failed((StreamId::Sessions, seq), now);
        }
        assert_eq!(backoff.stuck(), 2);
        backoff.finished((StreamId::Sessions, 1));
        backoff.tidy(now + LONGEST);
        assert_eq!(backoff.stuck(), 1);
        backoff.tidy(now + LONGEST + FORGOTTEN);
        assert_eq!(backoff.stuck(), 0);
    }

    #[test]
    fn memory_is_bounded() {
        let mut backoff = Backoff::default();
        let now = Instant::now();
        for seq in 0..2 * REMEMBERED as Seq {
            assert_eq!(backoff.failed((StreamId::Sessions, seq), now), 1);
        }
        assert_eq!(backoff.0.len(), REMEMBERED);
        assert_eq!(backoff.failed((StreamId::Sessions, 0), now), 2);
    }
}
