//! The state in SQLite: each method is one read transaction, or one job of the writer.

use std::time::Duration;

use async_trait::async_trait;

use super::{DEADLINE, SqliteStore, accounts, apply, groups, moderation, reactions, schema};
use crate::domain::{
    Ban, ChannelId, Group, GroupId, Invite, InviteId, Key, Member, Membership, Reacting,
    Restrictions, Rotation, Seq, ServerId, Session, SessionId, StreamId, Timestamp, User, UserId,
};
use crate::store::{
    Account, BusLayout, IdWindow, Meta, NewUser, StateChange, StateStore, StoreError,
};

#[async_trait]
impl StateStore for SqliteStore {
    async fn meta(&self) -> Result<Meta, StoreError> {
        self.read(schema::meta).await
    }

    async fn agree(&self, layout: BusLayout) -> Result<BusLayout, StoreError> {
        self.write(move |connection| schema::agree(connection, &layout))
            .await
    }

    async fn begin_epoch(&self) -> Result<u64, StoreError> {
        self.write(schema::begin_epoch).await
    }

    async fn lease(
        &self,
        name: &str,
        holder: ServerId,
        lifetime: Duration,
    ) -> Result<bool, StoreError> {
        let name = name.to_owned();
        self.write(move |connection| schema::lease(connection, &name, holder, lifetime))
            .await
    }

    async fn check(&self) -> Result<Option<Timestamp>, StoreError> {
        self.read(schema::meta).await?;
        self.writer.check(DEADLINE).await?;
        Ok(None)
    }

    async fn apply(
        &self,
        stream: StreamId,
        seq: Seq,
        changes: Vec<StateChange>,
    ) -> Result<(), StoreError> {
        if changes.is_empty() {
            return Ok(());
        }
        self.write(move |connection| apply::apply(connection, stream, seq, &changes))
            .await
    }

    async fn reactors(
        &self,
        channel: ChannelId,
        message: Seq,
        emoji: &str,
        window: IdWindow<UserId>,
        limit: usize,
    ) -> Result<Vec<UserId>, StoreError> {
        let emoji = emoji.to_owned();
        self.read(move |connection| {
            reactions::reactors(connection, (channel, message, &emoji), window, limit)
        })
        .await
    }

    async fn reacting(
        &self,
        channel: ChannelId,
        message: Seq,
        emoji: &str,
        user: UserId,
    ) -> Result<Reacting, StoreError> {
        let emoji = emoji.to_owned();
        self.read(move |connection| {
            reactions::reacting(connection, (channel, message, &emoji), user)
        })
        .await
    }

    async fn create_user(&self, user: NewUser) -> Result<Option<Account>, StoreError> {
        self.write(move |connection| accounts::create(connection, &user))
            .await
    }

    async fn account(&self, username: &str) -> Result<Option<Account>, StoreError> {
        let username = username.to_owned();
        self.read(move |connection| accounts::account(connection, &username))
            .await
    }

    async fn users(&self, ids: &[UserId]) -> Result<Vec<User>, StoreError> {
        let mut ids = ids.to_vec();
        ids.sort_unstable();
        ids.dedup();
        self.read(move |connection| accounts::users(connection, &ids))
            .await
    }

    async fn users_named(&self, usernames: &[String]) -> Result<Vec<User>, StoreError> {
        let mut usernames = usernames.to_vec();
        usernames.sort_unstable();
        usernames.dedup();
        self.read(move |connection| accounts::users_named(connection, &usernames))
            .await
    }

    async fn session(&self, session: SessionId) -> Result<Option<Session>, StoreError> {
        self.read(move |connection| accounts::session(connection, session))
            .await
    }

    async fn sessions(
        &self,
        user: UserId,
        window: IdWindow<SessionId>,
        limit: usize,
    ) -> Result<Vec<Session>, StoreError> {
        self.read(move |connection| accounts::sessions(connection, user, window, limit))
            .await
    }

    async fn rotate_session(
        &self,
        session: SessionId,
        generation: u32,
        at: Timestamp,
        key: Option<Key>,
    ) -> Result<bool, StoreError> {
        let exchange = accounts::Exchange {
            session,
            generation,
            rotation: Rotation { at, key },
        };
        self.write(move |connection| accounts::rotate(connection, &exchange))
            .await
    }

    async fn group(&self, group: GroupId) -> Result<Option<Group>, StoreError> {
        self.read(move |connection| groups::group(connection, group, None))
            .await
    }

    async fn group_for(
        &self,
        group: GroupId,
        users: &[UserId],
    ) -> Result<Option<Group>, StoreError> {
        let users = users.to_vec();
        self.read(move |connection| groups::group(connection, group, Some(&users)))
            .await
    }

    async fn members_among(
        &self,
        group: GroupId,
        users: &[UserId],
    ) -> Result<Vec<(UserId, Member)>, StoreError> {
        let users = users.to_vec();
        self.read(move |connection| groups::members_among(connection, group, &users))
            .await
    }

    async fn group_of(&self, channel: ChannelId) -> Result<Option<GroupId>, StoreError> {
        self.read(move |connection| groups::group_of(connection, channel))
            .await
    }

    async fn membership(
        &self,
        user: UserId,
        group: GroupId,
    ) -> Result<Option<Membership>, StoreError> {
        self.read(move |connection| groups::membership(connection, user, group))
            .await
    }

    async fn memberships(
        &self,
        user: UserId,
        window: IdWindow<GroupId>,
        limit: usize,
    ) -> Result<Vec<Membership>, StoreError> {
        self.read(move |connection| groups::memberships(connection, user, window, limit))
            .await
    }

    async fn group_counts(&self, users: &[UserId]) -> Result<Vec<u64>, StoreError> {
        let users = users.to_vec();
        self.read(move |connection| accounts::group_counts(connection, &users))
            .await
    }

    async fn streams_of(&self, user: UserId) -> Result<Vec<StreamId>, StoreError> {
        self.read(move |connection| groups::streams_of(connection, user))
            .await
    }

    async fn members(
        &self,
        group: GroupId,
        window: IdWindow<UserId>,
        limit: usize,
    ) -> Result<Vec<(UserId, Member)>, StoreError> {
        self.read(move |connection| groups::members(connection, group, window, limit))
            .await
    }

    async fn restrictions(&self, group: GroupId, user: UserId) -> Result<Restrictions, StoreError> {
        self.read(move |connection| moderation::restrictions(connection, group, user))
            .await
    }

    async fn bans(
        &self,
        group: GroupId,
        window: IdWindow<UserId>,
        limit: usize,
    ) -> Result<Vec<Ban>, StoreError> {
        self.read(move |connection| moderation::bans(connection, group, window, limit))
            .await
    }

    async fn invite(&self, invite: InviteId) -> Result<Option<Invite>, StoreError> {
        self.read(move |connection| moderation::invite(connection, invite))
            .await
    }

    async fn invites(
        &self,
        group: GroupId,
        window: IdWindow<InviteId>,
        limit: usize,
    ) -> Result<Vec<Invite>, StoreError> {
        self.read(move |connection| moderation::invites(connection, group, window, limit))
            .await
    }

    async fn shared_groups(
        &self,
        user: UserId,
        others: &[UserId],
    ) -> Result<Vec<(UserId, GroupId)>, StoreError> {
        let others = others.to_vec();
        self.read(move |connection| groups::shared_groups(connection, user, &others))
            .await
    }

    async fn acquaintances(&self, user: UserId, limit: usize) -> Result<Vec<UserId>, StoreError> {
        self.read(move |connection| groups::acquaintances(connection, user, limit))
            .await
    }
}
