//! What unread messages are counted from: marks, and positions in channels.

use async_trait::async_trait;

use super::StoreError;
use crate::domain::{ChannelId, GroupId, Place, ReadMark, Seq, UserId};

/// How far users have read. (A mark is moved by
/// [`StateChange::MoveMark`](super::StateChange::MoveMark).)
///
/// What takes several channels costs one index seek for each of them, in a bounded number of
/// queries, whatever their length.
#[async_trait]
pub trait ReadingStore: Send + Sync {
    /// The marks that each of `users` has in each of `channels`, in any order.
    async fn read_marks(
        &self,
        users: &[UserId],
        channels: &[ChannelId],
    ) -> Result<Vec<(UserId, ChannelId, ReadMark)>, StoreError>;

    /// Records where channels stood when the entry `joined` of the group's stream made `user` a
    /// member, in place of what is recorded for an earlier one. For each entry the first call
    /// decides.
    async fn begin_reading(
        &self,
        user: UserId,
        group: GroupId,
        joined: Seq,
        places: &[(ChannelId, Place)],
    ) -> Result<(), StoreError>;

    /// What [`ReadingStore::begin_reading`] recorded of `user` in `groups`, in any order.
    async fn begun_reading(
        &self,
        user: UserId,
        groups: &[GroupId],
    ) -> Result<Vec<(ChannelId, Place)>, StoreError>;

    /// The ends of channels, in their order; the default value for an empty one.
    async fn ends(&self, channels: &[ChannelId]) -> Result<Vec<Place>, StoreError>;

    /// The place of the channel's last entry at or below `through`. Trimming does not change
    /// its `ord`, since messages stay.
    async fn place_at(&self, channel: ChannelId, through: Seq) -> Result<Place, StoreError>;

    /// The newest message, deleted or not, that `user` sent in each of `channels`, in any order.
    async fn last_sent_by(
        &self,
        user: UserId,
        channels: &[ChannelId],
    ) -> Result<Vec<(ChannelId, Place)>, StoreError>;

    /// The newest message, deleted or not, that each of `users` sent in a channel, in any order.
    async fn last_sent_in(
        &self,
        channel: ChannelId,
        users: &[UserId],
    ) -> Result<Vec<(UserId, Place)>, StoreError>;

    /// How many messages behind these positions mention `user` now, in their order; each is
    /// counted up to `most`.
    async fn mentions(
        &self,
        user: UserId,
        behind: &[(ChannelId, Seq)],
        most: usize,
    ) -> Result<Vec<usize>, StoreError>;
}
