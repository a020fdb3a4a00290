//! Marks, and positions in channels.

use std::collections::BTreeMap;

use super::State;
use crate::domain::{Change, ChannelId, GroupId, Place, ReadMark, Seq, Timestamp, UserId};

/// Where channels stood when somebody became a member by the entry at this position.
pub(crate) type Begun = (Seq, BTreeMap<ChannelId, Place>);

impl State {
    pub(in crate::store::simulated) fn move_mark(
        &mut self,
        of: (UserId, ChannelId),
        place: Place,
        at: Timestamp,
    ) {
        let known = self.marks.get(&of);
        if known.is_none_or(|known| known.place.seq < place.seq) {
            self.marks.insert(of, ReadMark { place, at });
        }
    }

    pub(crate) fn read_marks(
        &self,
        users: &[UserId],
        channels: &[ChannelId],
    ) -> Vec<(UserId, ChannelId, ReadMark)> {
        let marks = self.marks.iter();
        marks
            .filter(|((user, channel), _)| users.contains(user) && channels.contains(channel))
            .map(|((user, channel), mark)| (*user, *channel, *mark))
            .collect()
    }

    pub(crate) fn begin_reading(
        &mut self,
        user: UserId,
        group: GroupId,
        joined: Seq,
        places: &[(ChannelId, Place)],
    ) {
        let known = self.begun.get(&(user, group));
        if known.is_none_or(|(before, _)| *before < joined) {
            let places = places.iter().copied().collect();
            self.begun.insert((user, group), (joined, places));
        }
    }

    pub(crate) fn begun_reading(
        &self,
        user: UserId,
        groups: &[GroupId],
    ) -> Vec<(ChannelId, Place)> {
        let begun = groups
            .iter()
            .filter_map(|group| self.begun.get(&(user, *group)));
        begun
            .flat_map(|(_, places)| places.iter().map(|(channel, place)| (*channel, *place)))
            .collect()
    }

    /// Takes away what no entry says: everything that [`State::begin_reading`] recorded.
    pub(crate) fn take_begun(&mut self) -> BTreeMap<(UserId, GroupId), Begun> {
        std::mem::take(&mut self.begun)
    }

    pub(crate) fn ends(&self, channels: &[ChannelId]) -> Vec<Place> {
        let end = |channel: &ChannelId| self.head((*channel).into()).into();
        channels.iter().map(end).collect()
    }

    pub(crate) fn place_at(&self, channel: ChannelId, through: Seq) -> Place {
        let mut rows = self.rows(channel.into()).rev();
        let last = rows.find(|row| row.entry.seq <= through);
        last.map(|row| row.entry.head().into()).unwrap_or_default()
    }

    fn last_sent(&self, channel: ChannelId, user: UserId) -> Option<Place> {
        let sent = |entry: &crate::domain::Entry| {
            matches!(entry.change, Change::MessageCreated(_)) && entry.actor == Some(user)
        };
        let mut rows = self.rows(channel.into()).rev();
        let last = rows.find(|row| sent(&row.entry))?;
        Some(last.entry.head().into())
    }

    pub(crate) fn last_sent_by(
        &self,
        user: UserId,
        channels: &[ChannelId],
    ) -> Vec<(ChannelId, Place)> {
        let last = |channel: &ChannelId| Some((*channel, self.last_sent(*channel, user)?));
        channels.iter().filter_map(last).collect()
    }

    pub(crate) fn last_sent_in(
        &self,
        channel: ChannelId,
        users: &[UserId],
    ) -> Vec<(UserId, Place)> {
        let last = |user: &UserId| Some((*user, self.last_sent(channel, *user)?));
        users.iter().filter_map(last).collect()
    }

    pub(crate) fn mentions(
        &self,
        user: UserId,
        behind: &[(ChannelId, Seq)],
        most: usize,
    ) -> Vec<usize> {
        let count = |(channel, seq): &(ChannelId, Seq)| {
            let newer = self
                .messages_of(*channel)
                .filter(|message| message.seq > *seq);
            let mentioned = newer.filter(|message| message.state.mentions.include(user));
            mentioned.take(most).count()
        };
        behind.iter().map(count).collect()
    }
}
