//! When a connected client syncs: wholly, in the background and whenever it may have missed
//! something; or the streams with a gap, once the gap has lasted for a while. `T` is a time.

use std::ops::Add;
use std::time::Duration;

/// How long what lies beyond a gap may wait before the gap is fetched; plus a random part.
const GAP: Duration = Duration::from_millis(400);
const GAP_JITTER_MS: u64 = 200;

#[derive(Debug)]
pub struct Agenda<T> {
    background: Duration,
    /// When to begin the next whole sync.
    pub whole_at: T,
    /// When to fetch what is missing before a gap.
    pub gap_at: Option<T>,
}

impl<T: Copy + Ord + Add<Duration, Output = T>> Agenda<T> {
    /// At the beginning of a connection and of its first, whole sync.
    pub fn new(now: T, background: Duration) -> Self {
        Self {
            background,
            whole_at: now + background,
            gap_at: None,
        }
    }

    /// Something may be missing: sync wholly after `wait`.
    pub fn sync_after(&mut self, now: T, wait: Duration) {
        self.whole_at = self.whole_at.min(now + wait);
    }

    /// A whole sync begins.
    pub fn begin_whole(&mut self, now: T) {
        self.whole_at = now + self.background;
    }

    /// After every step: whether a sync is under way, and whether anything waits beyond a gap.
    pub fn note_gaps(&mut self, now: T, syncing: bool, gaps: bool) {
        if syncing || !gaps {
            self.gap_at = None;
        } else if self.gap_at.is_none() {
            let jitter = Duration::from_millis(fastrand::u64(..GAP_JITTER_MS));
            self.gap_at = Some(now + GAP + jitter);
        }
    }
}
