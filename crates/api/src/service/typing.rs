//! That somebody is about to write. Told to those who could read what comes of it, and forgotten.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tidings_common::bus::{Announcement, Audience, Payload};
use tidings_common::domain::{Action, ChannelId, Ephemeral, Group, UserId};
use tokio::time::Instant;

use super::on_message::Rights;
use super::{Context, ServiceError};

/// Of one user in one channel others are told at most once in this time. What comes in between
/// changes nothing.
const INTERVAL: Duration = Duration::from_secs(3);
/// Of so many users and channels it is remembered when others were told last. Beyond, nobody is
/// told of further ones until some are forgotten.
const MOST_TOLD: usize = 100_000;

pub(crate) struct Typing {
    context: Context,
    told: Mutex<Told>,
}

/// When others were told last.
#[derive(Debug, Default)]
struct Told {
    last: HashMap<(UserId, ChannelId), Instant>,
    /// Until then all that is remembered is young.
    sweep_at: Option<Instant>,
}

impl Typing {
    pub(crate) fn new(context: Context) -> Self {
        Self {
            context,
            told: Mutex::default(),
        }
    }

    /// Tells the other members of a group that is not large. That they hear of it is not certain.
    pub(crate) async fn start(&self, who: UserId, channel: ChannelId) -> Result<(), ServiceError> {
        let now = self.context.clock.now();
        let permitted = |group: &Group| {
            group.channel_for(who, channel)?;
            group.permit_at(who, Action::Type, now).map(|_| ())
        };
        // As of the channel's last fence or later: who was removed or muted before that neither
        // tells nor hears.
        let head = self.context.store.head(channel.into()).await?;
        let rights = Rights::new(&self.context, who, channel);
        let mut group = rights.cached(head).await?;
        if permitted(&group).is_err() {
            group = rights.fresh(&group).await?;
            permitted(&group)?;
        }
        if group.size.large {
            return Ok(());
        }
        let others: Vec<UserId> = group
            .members
            .keys()
            .copied()
            .filter(|one| *one != who)
            .collect();
        if others.is_empty() || !self.may_tell(who, channel) {
            return Ok(());
        }
        let announcement = Announcement {
            payload: Payload::Ephemeral {
                at: now,
                actor: Some(who),
                what: Ephemeral::Typing { channel, user: who },
            },
            audience: Audience::Users(others),
            trace: None,
        };
        self.context.log.announce_ephemeral(announcement).await;
        Ok(())
    }

    fn may_tell(&self, who: UserId, channel: ChannelId) -> bool {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.may_tell(who, channel, Instant::now())
    }
}

impl Told {
    fn may_tell(&mut self, who: UserId, channel: ChannelId, now: Instant) -> bool {
        let is_young = |last: &Instant| now.duration_since(*last) < INTERVAL;
        if self.last.get(&(who, channel)).is_some_and(is_young) {
            return false;
        }
        if self.sweep_at.is_none_or(|at| at <= now) {
            self.last.retain(|_, last| is_young(last));
            self.sweep_at = Some(now + INTERVAL);
        }
        if self.last.len() >= MOST_TOLD {
            return false;
        }
        self.last.insert((who, channel), now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn others_are_told_once_in_three_seconds_of_each_user_in_each_channel() {
        let mut told = Told::default();
        let (who, channel) = (UserId::generate(), ChannelId::generate());
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        assert!(told.may_tell(who, channel, at(0)));
        assert!(!told.may_tell(who, channel, at(2_999)));
        assert!(told.may_tell(who, ChannelId::generate(), at(2_999)));
        assert!(told.may_tell(UserId::generate(), channel, at(2_999)));
        assert!(told.may_tell(who, channel, at(3_000)));
        assert!(!told.may_tell(who, channel, at(4_000)));
    }

    #[test]
    fn what_is_remembered_is_bounded_and_does_not_stay() {
        let mut told = Told::default();
        let channel = ChannelId::generate();
        let start = Instant::now();
        for _ in 0..MOST_TOLD {
            assert!(told.may_tell(UserId::generate(), channel, start));
        }
        assert!(!told.may_tell(UserId::generate(), channel, start));
        assert_eq!(told.last.len(), MOST_TOLD);
        assert!(told.may_tell(UserId::generate(), channel, start + INTERVAL));
        assert_eq!(told.last.len(), 1);
    }
}
