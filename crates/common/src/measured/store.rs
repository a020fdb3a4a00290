//! A store with its calls measured.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::Calls;
use crate::domain::{
    Ban, ChannelId, Entry, Group, GroupId, Head, Invite, InviteId, Key, Member, Membership,
    Message, Place, Reacting, ReadMark, Restrictions, Seq, ServerId, Session, SessionId, StreamId,
    Timestamp, User, UserId, Version,
};
use crate::store::{
    Account, Appended, BusLayout, Claim, IdWindow, LogStore, MarkPage, Meta, NewUser, OldPage,
    Page, Pending, PendingPage, ReadingStore, StateChange, StateStore, Store, StoreError, Window,
};
use crate::telemetry::Metrics;

/// `tidings_store_call_seconds` by method, and `tidings_store_errors_total` by kind.
pub struct MeasuredStore {
    store: Arc<dyn Store>,
    calls: Calls,
}

impl MeasuredStore {
    #[must_use]
    pub fn new(store: Arc<dyn Store>, metrics: &Metrics) -> Self {
        let kinds = ["uncertain", "unavailable", "corrupt"];
        let calls = Calls::register(metrics, "store", &[], &kinds);
        Self { store, calls }
    }
}

fn kind(error: &StoreError) -> &'static str {
    match error {
        StoreError::Uncertain(_) => "uncertain",
        StoreError::Unavailable(_) => "unavailable",
        StoreError::Corrupt(_) => "corrupt",
    }
}

/// Methods that pass their arguments on and measure what comes of it.
macro_rules! measured {
    ($role:ident: $($name:ident($($argument:ident: $type:ty),*) -> $answer:ty;)*) => {
        #[async_trait]
        impl $role for MeasuredStore {
            $(
                async fn $name(&self, $($argument: $type),*) -> Result<$answer, StoreError> {
                    let call = self.store.$name($($argument),*);
                    self.calls.measure(stringify!($name), call, kind).await
                }
            )*
        }
    };
}

measured! { LogStore:
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
    claim(claims: &[Claim], now: Timestamp) -> Vec<bool>;
    settle(entries: &[(StreamId, Seq)]) -> ();
    floor(stream: StreamId) -> Seq;
    old_entries(
        before: Timestamp,
        after: Option<(StreamId, Seq)>,
        limit: usize
    ) -> OldPage;
    trim(stream: StreamId, through: Seq) -> u64;
}

measured! { StateStore:
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

measured! { ReadingStore:
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
