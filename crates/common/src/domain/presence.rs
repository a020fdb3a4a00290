//! Whether people are there.

use std::str::FromStr;

use super::{Timestamp, UnknownName, UserId};

/// What the connections of a user on one server add up to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activity {
    /// An app is in front, or may be.
    Active,
    /// All of them say that they are not in front.
    Away,
}

/// What others see of somebody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PresenceState {
    Online,
    Away,
    Offline,
    /// Nobody can say now.
    Unknown,
}

/// How somebody was at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UserPresence {
    pub user: UserId,
    pub state: PresenceState,
    /// Of somebody offline: when the last connection ended, if that is known.
    pub last_seen: Option<Timestamp>,
    /// By the clock of whoever keeps it: of two of one user the later is right.
    pub at: Timestamp,
}

impl UserPresence {
    /// What is to be said while nothing is known.
    #[must_use]
    pub const fn unknown(user: UserId, at: Timestamp) -> Self {
        Self {
            user,
            state: PresenceState::Unknown,
            last_seen: None,
            at,
        }
    }
}

impl From<Activity> for PresenceState {
    fn from(activity: Activity) -> Self {
        match activity {
            Activity::Active => Self::Online,
            Activity::Away => Self::Away,
        }
    }
}

impl PresenceState {
    /// The name on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Online => "online",
            Self::Away => "away",
            Self::Offline => "offline",
            Self::Unknown => "unknown",
        }
    }

    /// Whether there is a connection.
    #[must_use]
    pub const fn is_connected(self) -> bool {
        matches!(self, Self::Online | Self::Away)
    }
}

impl FromStr for PresenceState {
    type Err = UnknownName;

    fn from_str(text: &str) -> Result<Self, UnknownName> {
        let all = [Self::Online, Self::Away, Self::Offline, Self::Unknown];
        let found = all.into_iter().find(|state| state.as_str() == text);
        found.ok_or_else(|| UnknownName(text.to_owned()))
    }
}
