//! The state in MongoDB.

use std::time::Duration;

use async_trait::async_trait;
use mongodb::Database;

use super::{MongoStore, accounts, apply, groups, lease, moderation, reactions, schema};
use crate::domain::{
    Ban, ChannelId, Group, GroupId, Invite, InviteId, Key, Member, Membership, Reacting,
    Restrictions, Seq, ServerId, Session, SessionId, StreamId, Timestamp, User, UserId,
};
use crate::store::{
    Account, BusLayout, IdWindow, Meta, NewUser, StateChange, StateStore, StoreError,
};

/// A call of this store's `read` or `write` with the work that `$call` names, which owns what it
/// works on.
macro_rules! call {
    ($store:ident.$how:ident: |$database:ident| $call:expr) => {{
        let database = $store.database.clone();
        $store
            .$how(async move {
                let $database: &Database = &database;
                $call.await
            })
            .await
    }};
}

#[async_trait]
impl StateStore for MongoStore {
    async fn meta(&self) -> Result<Meta, StoreError> {
        call!(self.read: |database| schema::meta(database))
    }

    async fn agree(&self, layout: BusLayout) -> Result<BusLayout, StoreError> {
        call!(self.write: |database| schema::agree(database, &layout))
    }

    async fn begin_epoch(&self) -> Result<u64, StoreError> {
        call!(self.write: |database| schema::begin_epoch(database))
    }

    async fn lease(
        &self,
        name: &str,
        holder: ServerId,
        lifetime: Duration,
    ) -> Result<bool, StoreError> {
        let name = name.to_owned();
        call!(self.write: |database| lease::take(database, &name, holder, lifetime))
    }

    async fn check(&self) -> Result<Option<Timestamp>, StoreError> {
        // What it writes matters to nobody, so it fails like a read.
        let clock = call!(self.read: |database| schema::check(database))?;
        Ok(Some(clock))
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
        call!(self.write: |database| apply::apply(database, stream, seq, &changes))
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
        call!(self.read: |database| {
            reactions::reactors(database, (channel, message, &emoji), window, limit)
        })
    }

    async fn reacting(
        &self,
        channel: ChannelId,
        message: Seq,
        emoji: &str,
        user: UserId,
    ) -> Result<Reacting, StoreError> {
        let emoji = emoji.to_owned();
        call!(self.read: |database| reactions::reacting(database, (channel, message, &emoji), user))
    }

    async fn create_user(&self, user: NewUser) -> Result<Option<Account>, StoreError> {
        call!(self.write: |database| accounts::create(database, &user))
    }

    async fn account(&self, username: &str) -> Result<Option<Account>, StoreError> {
        let username = username.to_owned();
        call!(self.read: |database| accounts::account(database, &username))
    }

    async fn users(&self, ids: &[UserId]) -> Result<Vec<User>, StoreError> {
        let ids = ids.to_vec();
        call!(self.read: |database| accounts::users(database, &ids))
    }

    async fn users_named(&self, usernames: &[String]) -> Result<Vec<User>, StoreError> {
        let usernames = usernames.to_vec();
        call!(self.read: |database| accounts::users_named(database, &usernames))
    }

    async fn session(&self, session: SessionId) -> Result<Option<Session>, StoreError> {
        call!(self.read: |database| accounts::session(database, session))
    }

    async fn sessions(
        &self,
        user: UserId,
        window: IdWindow<SessionId>,
        limit: usize,
    ) -> Result<Vec<Session>, StoreError> {
        call!(self.read: |database| accounts::sessions(database, user, window, limit))
    }

    async fn rotate_session(
        &self,
        session: SessionId,
        generation: u32,
        at: Timestamp,
        key: Option<Key>,
    ) -> Result<bool, StoreError> {
        call!(self.write: |database| accounts::rotate(database, session, generation, at, key))
    }

    async fn group(&self, group: GroupId) -> Result<Option<Group>, StoreError> {
        call!(self.read: |database| groups::group(database, group, None))
    }

    async fn group_for(
        &self,
        group: GroupId,
        users: &[UserId],
    ) -> Result<Option<Group>, StoreError> {
        let users = users.to_vec();
        call!(self.read: |database| groups::group(database, group, Some(&users)))
    }

    async fn members_among(
        &self,
        group: GroupId,
        users: &[UserId],
    ) -> Result<Vec<(UserId, Member)>, StoreError> {
        let users = users.to_vec();
        call!(self.read: |database| groups::members_among(database, group, &users))
    }

    async fn group_of(&self, channel: ChannelId) -> Result<Option<GroupId>, StoreError> {
        call!(self.read: |database| groups::group_of(database, channel))
    }

    async fn membership(
        &self,
        user: UserId,
        group: GroupId,
    ) -> Result<Option<Membership>, StoreError> {
        call!(self.read: |database| groups::membership(database, user, group))
    }

    async fn memberships(
        &self,
        user: UserId,
        window: IdWindow<GroupId>,
        limit: usize,
    ) -> Result<Vec<Membership>, StoreError> {
        call!(self.read: |database| groups::memberships(database, user, window, limit))
    }

    async fn group_counts(&self, users: &[UserId]) -> Result<Vec<u64>, StoreError> {
        let users = users.to_vec();
        call!(self.read: |database| groups::group_counts(database, &users))
    }

    async fn streams_of(&self, user: UserId) -> Result<Vec<StreamId>, StoreError> {
        call!(self.read: |database| groups::streams_of(database, user))
    }

    async fn members(
        &self,
        group: GroupId,
        window: IdWindow<UserId>,
        limit: usize,
    ) -> Result<Vec<(UserId, Member)>, StoreError> {
        call!(self.read: |database| groups::members(database, group, window, limit))
    }

    async fn restrictions(&self, group: GroupId, user: UserId) -> Result<Restrictions, StoreError> {
        call!(self.read: |database| moderation::restrictions(database, group, user))
    }

    async fn bans(
        &self,
        group: GroupId,
        window: IdWindow<UserId>,
        limit: usize,
    ) -> Result<Vec<Ban>, StoreError> {
        call!(self.read: |database| moderation::bans(database, group, window, limit))
    }

    async fn invite(&self, invite: InviteId) -> Result<Option<Invite>, StoreError> {
        call!(self.read: |database| moderation::invite(database, invite))
    }

    async fn invites(
        &self,
        group: GroupId,
        window: IdWindow<InviteId>,
        limit: usize,
    ) -> Result<Vec<Invite>, StoreError> {
        call!(self.read: |database| moderation::invites(database, group, window, limit))
    }

    async fn shared_groups(
        &self,
        user: UserId,
        others: &[UserId],
    ) -> Result<Vec<(UserId, GroupId)>, StoreError> {
        let others = others.to_vec();
        call!(self.read: |database| groups::shared_groups(database, user, &others))
    }

    async fn acquaintances(&self, user: UserId, limit: usize) -> Result<Vec<UserId>, StoreError> {
        call!(self.read: |database| groups::acquaintances(database, user, limit))
    }
}
