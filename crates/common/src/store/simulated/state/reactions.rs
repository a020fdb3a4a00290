//! Who reacts to a message.

use super::{State, windowed};
use crate::domain::{ChannelId, Reacting, ReactionCount, Seq, UserId};
use crate::store::IdWindow;

impl State {
    /// Those who react so, by when they began, ascending by id.
    fn present<'a>(
        &'a self,
        channel: ChannelId,
        message: Seq,
        emoji: &'a str,
    ) -> impl DoubleEndedIterator<Item = (UserId, Seq)> + 'a {
        let of_emoji = |user: [u8; 16]| {
            let emoji = emoji.to_owned();
            (channel, message, emoji, UserId::from_bytes(user))
        };
        self.reactions
            .range(of_emoji([0; 16])..=of_emoji([0xff; 16]))
            .filter(|(_, row)| row.present)
            .map(|((_, _, _, user), row)| (*user, row.since))
    }

    pub(crate) fn reactors(
        &self,
        channel: ChannelId,
        message: Seq,
        emoji: &str,
        window: IdWindow<UserId>,
        limit: usize,
    ) -> Vec<UserId> {
        let all = self.present(channel, message, emoji);
        windowed(all.map(|(user, _)| (user, user)), window, limit)
    }

    pub(crate) fn reacting(
        &self,
        channel: ChannelId,
        message: Seq,
        emoji: &str,
        user: UserId,
    ) -> Reacting {
        let mut present: Vec<(Seq, UserId)> = self
            .present(channel, message, emoji)
            .map(|(user, since)| (since, user))
            .collect();
        present.sort_unstable();
        let users = present.into_iter().map(|(_, user)| user);
        Reacting {
            already: users.clone().any(|one| one == user),
            first: users.take(ReactionCount::SAMPLE + 1).collect(),
        }
    }
}
