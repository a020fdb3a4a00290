//! How long an appender waits after a batch that went wrong.

use std::time::Duration;

/// Longest pause after losing a race; a winner is not slowed down by the losers' next try, so
/// there is nothing to gain from waiting longer.
const RACE_PAUSE_MS: u64 = 8;
/// Longest pauses after an unknown outcome: the first, doubling up to the last.
const FIRST_PAUSE_MS: u64 = 8;
const LAST_PAUSE_MS: u64 = 500;

/// What went wrong with a stream's last batch.
#[derive(Default, Clone, Copy)]
pub(super) enum Setback {
    #[default]
    None,
    /// Another process was faster.
    Race,
    /// So many unknown outcomes in a row.
    Unknown(u32),
}

impl Setback {
    /// How long to wait before the next try, with full jitter.
    pub(super) fn pause(self) -> Duration {
        let most = match self {
            Self::None => return Duration::ZERO,
            Self::Race => RACE_PAUSE_MS,
            Self::Unknown(times) => (FIRST_PAUSE_MS << times.min(10)).min(LAST_PAUSE_MS),
        };
        Duration::from_millis(fastrand::u64(0..=most))
    }

    pub(super) fn unknown_again(self) -> Self {
        match self {
            Self::None | Self::Race => Self::Unknown(0),
            Self::Unknown(times) => Self::Unknown(times.saturating_add(1)),
        }
    }
}
