//! A store in memory whose calls fail, take their time and land late, as the seed of the
//! thread's random numbers has it: for the simulation of the log. Without faults it keeps the
//! stores' contract.

mod changes;
mod link;
mod server;
mod state;

pub(crate) use link::{Faults, Link, Weather, chance};
pub(crate) use server::{Server, StoreEvent};
pub(crate) use state::{Begun, State};

use std::sync::Arc;

use async_trait::async_trait;

use super::*;
use crate::domain::{Place, ReadMark};

/// One process's connection to the database.
pub(crate) struct SimulatedStore {
    server: Arc<Server>,
    link: Link,
}

impl SimulatedStore {
    pub(crate) fn new(server: Arc<Server>, link: Link) -> Self {
        Self { server, link }
    }

    async fn travel(&self) -> Result<Faults, StoreError> {
        let faults = self.server.weather.now();
        let arrived = self.link.travel(faults).await;
        arrived.map_err(|died| StoreError::Unavailable(Box::new(died)))?;
        Ok(faults)
    }

    /// The way there.
    async fn call(&self) -> Result<Faults, StoreError> {
        let faults = self.travel().await?;
        if faults.outage || chance(faults.unavailable) {
            return Err(StoreError::Unavailable("nobody answers".into()));
        }
        Ok(faults)
    }

    /// The way back of a write.
    async fn written<T>(&self, outcome: T) -> Result<T, StoreError> {
        let faults = self.travel().await?;
        if chance(faults.uncertain) {
            return Err(StoreError::Uncertain("the answer was lost".into()));
        }
        Ok(outcome)
    }

    async fn read<T>(&self, read: impl FnOnce(&State) -> T) -> Result<T, StoreError> {
        self.call().await?;
        let found = read(&self.server.state());
        self.travel().await?;
        Ok(found)
    }

    async fn write<T>(&self, write: impl FnOnce(&mut State) -> T) -> Result<T, StoreError> {
        self.call().await?;
        let outcome = write(&mut self.server.state());
        self.written(outcome).await
    }
}

macro_rules! through {
    ($trait:ident { $($body:item)* } $($how:ident $name:ident($($arg:ident: $type:ty),*) -> $ok:ty;)*) => {
        #[async_trait]
        impl $trait for SimulatedStore {
            $($body)*
            $(async fn $name(&self, $($arg: $type),*) -> Result<$ok, StoreError> {
                self.$how(|state| state.$name($($arg),*)).await
            })*
        }
    };
}

through! {
    LogStore {
        async fn append(&self, run: Vec<Entry>) -> Result<Appended, StoreError> {
            self.call().await?;
            let outcome = self.server.append(run).await?;
            self.travel().await?;
            Ok(outcome)
        }

        async fn settle(&self, entries: &[(StreamId, Seq)]) -> Result<(), StoreError> {
            let faults = self.call().await?;
            // It may be lost in a crash, though it was answered.
            if !chance(faults.uncertain) {
                for (stream, seq) in self.server.state().settle(entries) {
                    self.server.tell(StoreEvent::Settled(stream, seq));
                }
            }
            self.written(()).await
        }
    }
    read head(stream: StreamId) -> Head;
    read heads(streams: &[StreamId]) -> Vec<Seq>;
    read find(stream: StreamId, key: Key) -> Option<Entry>;
    read entries(stream: StreamId, after: Seq, through: Seq, limit: usize) -> Vec<Entry>;
    read newest(stream: StreamId, limit: usize) -> Vec<Entry>;
    read messages(channel: ChannelId, window: Window, limit: usize) -> Page<Message>;
    read pinned(channel: ChannelId, window: Window, limit: usize) -> Page<Message>;
    read messages_at(channel: ChannelId, seqs: &[Seq]) -> Vec<Message>;
    read versions(channel: ChannelId, after: Seq, through: Seq) -> Vec<Version>;
    read versions_at(channel: ChannelId, seqs: &[Seq]) -> Vec<Version>;
    read pending_in(stream: StreamId, after: Seq, limit: usize) -> Vec<Entry>;
    read with_pending(streams: &[StreamId]) -> Vec<StreamId>;
    read pending(before: Timestamp, after: Option<(StreamId, Seq)>, limit: usize) -> PendingPage;
    read pending_lately(since: Timestamp, limit: usize) -> Vec<Pending>;
    read pending_later(than: Timestamp, after: Option<(StreamId, Seq)>, limit: usize) -> MarkPage;
    read old_entries(before: Timestamp, after: Option<(StreamId, Seq)>, limit: usize) -> OldPage;
    write claim(claims: &[Claim], now: Timestamp) -> Vec<bool>;
    read floor(stream: StreamId) -> Seq;
    write trim(stream: StreamId, through: Seq) -> u64;
}

through! {
    StateStore {
        async fn check(&self) -> Result<Option<Timestamp>, StoreError> {
            self.write(|_| None).await
        }

        /// Change by change, and perhaps not all of them.
        async fn apply(
            &self,
            stream: StreamId,
            seq: Seq,
            changes: Vec<StateChange>,
        ) -> Result<(), StoreError> {
            let faults = self.call().await?;
            let breaks_at = chance(faults.uncertain).then(|| fastrand::usize(..=changes.len()));
            for (done, change) in changes.iter().enumerate() {
                if breaks_at == Some(done) {
                    return Err(StoreError::Uncertain("the answer was lost".into()));
                }
                if faults.torn && done > 0 {
                    self.travel().await?;
                }
                self.server.state().change(seq, change);
            }
            self.server.tell(StoreEvent::Applied(stream, seq));
            self.written(()).await
        }

        /// What it says is at least as new as its `applied`, and no more than that.
        async fn group(&self, group: GroupId) -> Result<Option<Group>, StoreError> {
            let faults = self.call().await?;
            let mut found = self.server.state().group(group);
            if faults.torn && let Some(early) = &mut found {
                self.travel().await?;
                let late = self.server.state().group(group);
                early.members = late.map(|group| group.members).unwrap_or_default();
                self.travel().await?;
                let late = self.server.state().group(group);
                early.channels = late.map(|group| group.channels).unwrap_or_default();
            }
            self.travel().await?;
            Ok(found)
        }

        /// As `group`.
        async fn group_for(
            &self,
            group: GroupId,
            users: &[UserId],
        ) -> Result<Option<Group>, StoreError> {
            let faults = self.call().await?;
            let mut found = self.server.state().group_for(group, users);
            if faults.torn && let Some(early) = &mut found {
                self.travel().await?;
                let late = self.server.state().group_for(group, users);
                early.members = late.map(|group| group.members).unwrap_or_default();
                self.travel().await?;
                let late = self.server.state().group(group);
                early.channels = late.map(|group| group.channels).unwrap_or_default();
            }
            self.travel().await?;
            Ok(found)
        }
    }
    read members_among(group: GroupId, users: &[UserId]) -> Vec<(UserId, Member)>;
    read meta() -> Meta;
    write agree(layout: BusLayout) -> BusLayout;
    write begin_epoch() -> u64;
    write lease(name: &str, holder: ServerId, lifetime: Duration) -> bool;
    read reactors(channel: ChannelId, message: Seq, emoji: &str, window: IdWindow<UserId>, limit: usize) -> Vec<UserId>;
    read reacting(channel: ChannelId, message: Seq, emoji: &str, user: UserId) -> Reacting;
    write create_user(user: NewUser) -> Option<Account>;
    read account(username: &str) -> Option<Account>;
    read users(ids: &[UserId]) -> Vec<User>;
    read users_named(usernames: &[String]) -> Vec<User>;
    read session(session: SessionId) -> Option<Session>;
    read sessions(user: UserId, window: IdWindow<SessionId>, limit: usize) -> Vec<Session>;
    write rotate_session(session: SessionId, generation: u32, at: Timestamp, key: Option<Key>) -> bool;
    read group_of(channel: ChannelId) -> Option<GroupId>;
    read membership(user: UserId, group: GroupId) -> Option<Membership>;
    read memberships(user: UserId, window: IdWindow<GroupId>, limit: usize) -> Vec<Membership>;
    read group_counts(users: &[UserId]) -> Vec<u64>;
    read streams_of(user: UserId) -> Vec<StreamId>;
    read members(group: GroupId, window: IdWindow<UserId>, limit: usize) -> Vec<(UserId, Member)>;
    read restrictions(group: GroupId, user: UserId) -> Restrictions;
    read bans(group: GroupId, window: IdWindow<UserId>, limit: usize) -> Vec<Ban>;
    read invite(invite: InviteId) -> Option<Invite>;
    read invites(group: GroupId, window: IdWindow<InviteId>, limit: usize) -> Vec<Invite>;
    read shared_groups(user: UserId, others: &[UserId]) -> Vec<(UserId, GroupId)>;
    read acquaintances(user: UserId, limit: usize) -> Vec<UserId>;
}

through! {
    ReadingStore {}
    read read_marks(
        users: &[UserId],
        channels: &[ChannelId]
    ) -> Vec<(UserId, ChannelId, ReadMark)>;
    write begin_reading(
        user: UserId,
        group: GroupId,
        joined: Seq,
        places: &[(ChannelId, Place)]
    ) -> ();
    read begun_reading(user: UserId, groups: &[GroupId]) -> Vec<(ChannelId, Place)>;
    read ends(channels: &[ChannelId]) -> Vec<Place>;
    read place_at(channel: ChannelId, through: Seq) -> Place;
    read last_sent_by(user: UserId, channels: &[ChannelId]) -> Vec<(ChannelId, Place)>;
    read last_sent_in(channel: ChannelId, users: &[UserId]) -> Vec<(UserId, Place)>;
    read mentions(user: UserId, behind: &[(ChannelId, Seq)], most: usize) -> Vec<usize>;
}

mod contract {
    use std::sync::Arc;

    use super::{Link, Server, SimulatedStore};
    use crate::store::contract::{Fresh, store_contract};

    async fn fresh_store() -> Option<Fresh> {
        let server = Server::new(|_| {});
        Some(Fresh {
            store: Arc::new(SimulatedStore::new(server, Link::new())),
            guard: Box::new(()),
        })
    }

    store_contract!(super::fresh_store);
}
