//! A store that cannot say what comes before a backlog.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tidings_common::clock::SystemClock;
use tidings_common::domain::*;
use tidings_common::store::*;
use tokio::time::Instant;

use super::harness::{Fragile, Scratch, World, messages, new_group, pending, relay};

/// Fails whatever is not the sweep's own.
struct Blind(Arc<dyn Store>);

fn late<T>() -> Result<T, StoreError> {
    Err(StoreError::Unavailable("it takes too long".into()))
}

/// Methods that pass their arguments on.
macro_rules! through {
    ($role:ident: $($name:ident($($argument:ident: $type:ty),*) -> $answer:ty;)* { $($own:tt)* }) => {
        #[async_trait]
        impl $role for Blind {
            $(
                async fn $name(&self, $($argument: $type),*) -> Result<$answer, StoreError> {
                    self.0.$name($($argument),*).await
                }
            )*
            $($own)*
        }
    };
}

through! { LogStore:
    append(run: Vec<Entry>) -> Appended;
    head(stream: StreamId) -> Head;
    heads(streams: &[StreamId]) -> Vec<Seq>;
    find(stream: StreamId, key: Key) -> Option<Entry>;
    entries(stream: StreamId, after: Seq, through: Seq, limit: usize) -> Vec<Entry>;
    newest(stream: StreamId, limit: usize) -> Vec<Entry>;
    messages(channel: ChannelId, window: Window, limit: usize) -> Page<Message>;
    pinned(channel: ChannelId, window: Window, limit: usize) -> Page<Message>;
    messages_at(channel: ChannelId, seqs: &[Seq]) -> Vec<Message>;
    versions(channel: ChannelId, after: Seq, through: Seq) -> Vec<Version>;
    versions_at(channel: ChannelId, seqs: &[Seq]) -> Vec<Version>;
    pending_in(stream: StreamId, after: Seq, limit: usize) -> Vec<Entry>;
    with_pending(streams: &[StreamId]) -> Vec<StreamId>;
    pending(before: Timestamp, after: Option<(StreamId, Seq)>, limit: usize) -> PendingPage;
    old_entries(before: Timestamp, after: Option<(StreamId, Seq)>, limit: usize) -> OldPage;
    claim(claims: &[Claim], now: Timestamp) -> Vec<bool>;
    settle(entries: &[(StreamId, Seq)]) -> ();
    floor(stream: StreamId) -> Seq;
    trim(stream: StreamId, through: Seq) -> u64;
    {
        async fn pending_lately(
            &self,
            _: Timestamp,
            _: usize,
        ) -> Result<Vec<Pending>, StoreError> {
            late()
        }

        async fn pending_later(
            &self,
            _: Timestamp,
            _: Option<(StreamId, Seq)>,
            _: usize,
        ) -> Result<MarkPage, StoreError> {
            late()
        }
    }
}

through! { StateStore:
    meta() -> Meta;
    agree(layout: BusLayout) -> BusLayout;
    begin_epoch() -> u64;
    lease(name: &str, holder: ServerId, lifetime: Duration) -> bool;
    check() -> Option<Timestamp>;
    apply(stream: StreamId, seq: Seq, changes: Vec<StateChange>) -> ();
    reactors(
        channel: ChannelId,
        message: Seq,
        emoji: &str,
        window: IdWindow<UserId>,
        limit: usize
    ) -> Vec<UserId>;
    reacting(channel: ChannelId, message: Seq, emoji: &str, user: UserId) -> Reacting;
    create_user(user: NewUser) -> Option<Account>;
    account(username: &str) -> Option<Account>;
    users(ids: &[UserId]) -> Vec<User>;
    users_named(usernames: &[String]) -> Vec<User>;
    session(session: SessionId) -> Option<Session>;
    sessions(user: UserId, window: IdWindow<SessionId>, limit: usize) -> Vec<Session>;
    rotate_session(session: SessionId, generation: u32, at: Timestamp, key: Option<Key>) -> bool;
    group(group: GroupId) -> Option<Group>;
    group_for(group: GroupId, users: &[UserId]) -> Option<Group>;
    members_among(group: GroupId, users: &[UserId]) -> Vec<(UserId, Member)>;
    group_of(channel: ChannelId) -> Option<GroupId>;
    membership(user: UserId, group: GroupId) -> Option<Membership>;
    memberships(user: UserId, window: IdWindow<GroupId>, limit: usize) -> Vec<Membership>;
    group_counts(users: &[UserId]) -> Vec<u64>;
    streams_of(user: UserId) -> Vec<StreamId>;
    members(group: GroupId, window: IdWindow<UserId>, limit: usize) -> Vec<(UserId, Member)>;
    restrictions(group: GroupId, user: UserId) -> Restrictions;
    bans(group: GroupId, window: IdWindow<UserId>, limit: usize) -> Vec<Ban>;
    invite(invite: InviteId) -> Option<Invite>;
    invites(group: GroupId, window: IdWindow<InviteId>, limit: usize) -> Vec<Invite>;
    shared_groups(user: UserId, others: &[UserId]) -> Vec<(UserId, GroupId)>;
    acquaintances(user: UserId, limit: usize) -> Vec<UserId>;
    {}
}

through! { ReadingStore:
    read_marks(
        users: &[UserId],
        channels: &[ChannelId]
    ) -> Vec<(UserId, ChannelId, ReadMark)>;
    begin_reading(
        user: UserId,
        group: GroupId,
        joined: Seq,
        places: &[(ChannelId, Place)]
    ) -> ();
    begun_reading(user: UserId, groups: &[GroupId]) -> Vec<(ChannelId, Place)>;
    ends(channels: &[ChannelId]) -> Vec<Place>;
    place_at(channel: ChannelId, through: Seq) -> Place;
    last_sent_by(user: UserId, channels: &[ChannelId]) -> Vec<(ChannelId, Place)>;
    last_sent_in(channel: ChannelId, users: &[UserId]) -> Vec<(UserId, Place)>;
    mentions(user: UserId, behind: &[(ChannelId, Seq)], most: usize) -> Vec<usize>;
    {}
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backlog_drains_though_what_comes_before_it_cannot_be_read() {
    // More than a pass does with so slow a bus.
    const COUNT: usize = 2_500;
    let world = World::over(Scratch::new());
    let channels: Vec<_> = (0..50).map(|_| ChannelId::generate()).collect();
    let group = new_group(world.user, channels.clone());
    world.commit(world.group, vec![group]).await;
    let bus = Arc::new(Fragile::default());
    let mut first = relay(world.store.clone(), bus, Arc::new(SystemClock));
    assert_eq!(first.pass().await.unwrap(), 1);
    for channel in channels {
        world.commit(channel, messages(COUNT / 50, "")).await;
    }
    let bus = Arc::new(Fragile::slow(Duration::from_millis(300)));
    let blind: Arc<dyn Store> = Arc::new(Blind(world.store.clone()));
    let mut relay = relay(blind, bus, Arc::new(SystemClock));
    let (since, mut passes) = (Instant::now(), 0);
    while pending(&*world.store, 1).await > 0 {
        assert!(since.elapsed() < Duration::from_secs(60));
        relay.pass().await.unwrap();
        passes += 1;
    }
    assert!(passes > 1, "no sweep was gone on with");
}
