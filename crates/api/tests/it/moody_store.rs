//! A store that can be made to fail, in each way that a store may.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tidings_common::domain::{
    Ban, ChannelId, Entry, Group, GroupId, Head, Invite, InviteId, Key, Member, Membership,
    Message, Place, Reacting, ReadMark, Restrictions, Seq, ServerId, Session, SessionId, StreamId,
    Timestamp, User, UserId, Version,
};
use tidings_common::store::{
    Account, Appended, BusLayout, Claim, IdWindow, LogStore, MarkPage, Meta, NewUser, OldPage,
    Page, Pending, PendingPage, ReadingStore, StateChange, StateStore, Store, StoreError, Window,
};
use tokio::sync::watch;

/// What becomes of calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mood {
    Works,
    /// None is answered, until the mood changes.
    Silent,
    Unavailable,
    Uncertain,
}

pub(crate) struct MoodyStore {
    store: Arc<dyn Store>,
    mood: watch::Receiver<Mood>,
}

impl MoodyStore {
    pub(crate) fn new(store: Arc<dyn Store>, mood: watch::Receiver<Mood>) -> Self {
        Self { store, mood }
    }

    async fn permission(&self) -> Result<(), StoreError> {
        let mood = *self.mood.borrow();
        match mood {
            Mood::Works => Ok(()),
            Mood::Silent => {
                let mut mood = self.mood.clone();
                drop(mood.wait_for(|mood| *mood != Mood::Silent).await);
                Err(StoreError::Uncertain("nobody has waited so long".into()))
            }
            Mood::Unavailable => Err(StoreError::Unavailable("as the test wants it".into())),
            Mood::Uncertain => Err(StoreError::Uncertain("as the test wants it".into())),
        }
    }
}

/// Methods that pass their arguments on if the mood allows it.
macro_rules! moody {
    ($role:ident: $($name:ident($($argument:ident: $type:ty),*) -> $answer:ty;)*) => {
        #[async_trait]
        impl $role for MoodyStore {
            $(
                async fn $name(&self, $($argument: $type),*) -> Result<$answer, StoreError> {
                    self.permission().await?;
                    self.store.$name($($argument),*).await
                }
            )*
        }
    };
}

moody! { LogStore:
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
    pending_lately(since: Timestamp, limit: usize) -> Vec<Pending>;
    pending_later(than: Timestamp, after: Option<(StreamId, Seq)>, limit: usize) -> MarkPage;
    old_entries(before: Timestamp, after: Option<(StreamId, Seq)>, limit: usize) -> OldPage;
    claim(claims: &[Claim], now: Timestamp) -> Vec<bool>;
    settle(entries: &[(StreamId, Seq)]) -> ();
    floor(stream: StreamId) -> Seq;
    trim(stream: StreamId, through: Seq) -> u64;
}

moody! { StateStore:
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
}

moody! { ReadingStore:
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
}
