//! For tests of the log: a store that fails and pauses when told to, a bus that remembers,
//! and a few mutations.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Semaphore;

use super::{Append, AppendError, Committed, Draft, Log, NotValid, Proposal};
use crate::bus::{
    Announcement, Bus, BusError, Control, Deliveries, Delivery, Envelope, Subscription,
};
use crate::clock::SystemClock;
use crate::domain::*;
use crate::store::*;

/// A point at which a test holds a call up.
#[derive(Clone)]
pub(super) struct Gate(Arc<(Semaphore, Semaphore)>);

impl Gate {
    pub(super) fn new() -> Self {
        Self(Arc::new((Semaphore::new(0), Semaphore::new(0))))
    }

    /// Waits until the call has arrived.
    pub(super) async fn reached(&self) {
        let arrived = tokio::time::timeout(Duration::from_secs(5), self.0.0.acquire()).await;
        arrived.expect("the call came in time").unwrap().forget();
    }

    pub(super) fn open(&self) {
        self.0.1.add_permits(1);
    }

    async fn pass(&self) {
        self.0.0.add_permits(1);
        self.0.1.acquire().await.unwrap().forget();
    }
}

/// What happens to a call instead of simply being made.
pub(super) enum Fault {
    /// The call waits at the gate, then is made.
    Pause(Gate),
    /// Nothing has landed when the gate opens, and the outcome is "unknown".
    UncertainAfter(Gate),
    /// So many entries land, then the outcome is "unknown".
    Uncertain(usize),
}

/// What is to happen to the next calls; empty: they are made.
#[derive(Default, Clone)]
pub(super) struct Faults {
    pub(super) append: Arc<Mutex<VecDeque<Fault>>>,
    pub(super) apply: Arc<Mutex<VecDeque<Fault>>>,
    /// How many were made.
    pub(super) appends: Arc<AtomicUsize>,
    pub(super) finds: Arc<AtomicUsize>,
}

impl Faults {
    pub(super) fn on_append(faults: impl IntoIterator<Item = Fault>) -> Self {
        let this = Self::default();
        this.append.lock().unwrap().extend(faults);
        this
    }

    /// Appends and look-ups that were made.
    pub(super) fn calls(&self) -> (usize, usize) {
        let of = |counter: &AtomicUsize| counter.load(Ordering::Relaxed);
        (of(&self.appends), of(&self.finds))
    }

    pub(super) fn on_apply(faults: impl IntoIterator<Item = Fault>) -> Self {
        let this = Self::default();
        this.apply.lock().unwrap().extend(faults);
        this
    }
}

/// A store behind which calls go wrong.
pub(super) struct FaultyStore {
    inner: Arc<dyn Store>,
    faults: Faults,
}

macro_rules! through {
    ($trait:ident { $($body:item)* } $(fn $name:ident($($arg:ident: $type:ty),*) -> $ok:ty;)*) => {
        #[async_trait]
        impl $trait for FaultyStore {
            $($body)*
            $(async fn $name(&self, $($arg: $type),*) -> Result<$ok, StoreError> {
                self.inner.$name($($arg),*).await
            })*
        }
    };
}

through! {
    LogStore {
        async fn append(&self, mut run: Vec<Entry>) -> Result<Appended, StoreError> {
            self.faults.appends.fetch_add(1, Ordering::Relaxed);
            let fault = self.faults.append.lock().unwrap().pop_front();
            match fault {
                None => self.inner.append(run).await,
                Some(Fault::Pause(gate)) => {
                    gate.pass().await;
                    self.inner.append(run).await
                }
                Some(Fault::UncertainAfter(gate)) => {
                    gate.pass().await;
                    Err(StoreError::Uncertain("the answer was lost".into()))
                }
                Some(Fault::Uncertain(landed)) => {
                    run.truncate(landed);
                    if !run.is_empty() {
                        self.inner.append(run).await?;
                    }
                    Err(StoreError::Uncertain("the answer was lost".into()))
                }
            }
        }

        async fn find(&self, stream: StreamId, key: Key) -> Result<Option<Entry>, StoreError> {
            self.faults.finds.fetch_add(1, Ordering::Relaxed);
            self.inner.find(stream, key).await
        }
    }
    fn head(stream: StreamId) -> Head;
    fn heads(streams: &[StreamId]) -> Vec<Seq>;
    fn entries(stream: StreamId, after: Seq, through: Seq, limit: usize) -> Vec<Entry>;
    fn newest(stream: StreamId, limit: usize) -> Vec<Entry>;
    fn messages(channel: ChannelId, window: Window, limit: usize) -> Page<Message>;
    fn pinned(channel: ChannelId, window: Window, limit: usize) -> Page<Message>;
    fn messages_at(channel: ChannelId, seqs: &[Seq]) -> Vec<Message>;
    fn versions(channel: ChannelId, after: Seq, through: Seq) -> Vec<Version>;
    fn versions_at(channel: ChannelId, seqs: &[Seq]) -> Vec<Version>;
    fn pending_in(stream: StreamId, after: Seq, limit: usize) -> Vec<Entry>;
    fn with_pending(streams: &[StreamId]) -> Vec<StreamId>;
    fn pending(before: Timestamp, after: Option<(StreamId, Seq)>, limit: usize) -> PendingPage;
    fn pending_lately(since: Timestamp, limit: usize) -> Vec<Pending>;
    fn pending_later(than: Timestamp, after: Option<(StreamId, Seq)>, limit: usize) -> MarkPage;
    fn claim(claims: &[Claim], now: Timestamp) -> Vec<bool>;
    fn settle(entries: &[(StreamId, Seq)]) -> ();
    fn floor(stream: StreamId) -> Seq;
    fn old_entries(
        before: Timestamp,
        after: Option<(StreamId, Seq)>,
        limit: usize
    ) -> OldPage;
    fn trim(stream: StreamId, through: Seq) -> u64;
}

through! {
    StateStore {
        async fn apply(
            &self,
            stream: StreamId,
            seq: Seq,
            changes: Vec<StateChange>,
        ) -> Result<(), StoreError> {
            let fault = self.faults.apply.lock().unwrap().pop_front();
            if let Some(Fault::Pause(gate)) = fault {
                gate.pass().await;
            }
            self.inner.apply(stream, seq, changes).await
        }
    }
    fn meta() -> Meta;
    fn agree(layout: BusLayout) -> BusLayout;
    fn begin_epoch() -> u64;
    fn lease(name: &str, holder: ServerId, lifetime: Duration) -> bool;
    fn check() -> Option<Timestamp>;
    fn reactors(
        channel: ChannelId,
        message: Seq,
        emoji: &str,
        window: IdWindow<UserId>,
        limit: usize
    ) -> Vec<UserId>;
    fn reacting(channel: ChannelId, message: Seq, emoji: &str, user: UserId) -> Reacting;
    fn create_user(user: NewUser) -> Option<Account>;
    fn account(username: &str) -> Option<Account>;
    fn users(ids: &[UserId]) -> Vec<User>;
    fn users_named(usernames: &[String]) -> Vec<User>;
    fn session(session: SessionId) -> Option<Session>;
    fn sessions(user: UserId, window: IdWindow<SessionId>, limit: usize) -> Vec<Session>;
    fn rotate_session(session: SessionId, generation: u32, at: Timestamp, key: Option<Key>) -> bool;
    fn group(group: GroupId) -> Option<Group>;
    fn group_for(group: GroupId, users: &[UserId]) -> Option<Group>;
    fn members_among(group: GroupId, users: &[UserId]) -> Vec<(UserId, Member)>;
    fn group_of(channel: ChannelId) -> Option<GroupId>;
    fn membership(user: UserId, group: GroupId) -> Option<Membership>;
    fn memberships(user: UserId, window: IdWindow<GroupId>, limit: usize) -> Vec<Membership>;
    fn group_counts(users: &[UserId]) -> Vec<u64>;
    fn streams_of(user: UserId) -> Vec<StreamId>;
    fn members(group: GroupId, window: IdWindow<UserId>, limit: usize) -> Vec<(UserId, Member)>;
    fn restrictions(group: GroupId, user: UserId) -> Restrictions;
    fn bans(group: GroupId, window: IdWindow<UserId>, limit: usize) -> Vec<Ban>;
    fn invite(invite: InviteId) -> Option<Invite>;
    fn invites(group: GroupId, window: IdWindow<InviteId>, limit: usize) -> Vec<Invite>;
    fn shared_groups(user: UserId, others: &[UserId]) -> Vec<(UserId, GroupId)>;
    fn acquaintances(user: UserId, limit: usize) -> Vec<UserId>;
}

through! {
    ReadingStore {}
    fn read_marks(
        users: &[UserId],
        channels: &[ChannelId]
    ) -> Vec<(UserId, ChannelId, ReadMark)>;
    fn begin_reading(
        user: UserId,
        group: GroupId,
        joined: Seq,
        places: &[(ChannelId, Place)]
    ) -> ();
    fn begun_reading(user: UserId, groups: &[GroupId]) -> Vec<(ChannelId, Place)>;
    fn ends(channels: &[ChannelId]) -> Vec<Place>;
    fn place_at(channel: ChannelId, through: Seq) -> Place;
    fn last_sent_by(user: UserId, channels: &[ChannelId]) -> Vec<(ChannelId, Place)>;
    fn last_sent_in(channel: ChannelId, users: &[UserId]) -> Vec<(UserId, Place)>;
    fn mentions(user: UserId, behind: &[(ChannelId, Seq)], most: usize) -> Vec<usize>;
}

/// A bus on which everything is confirmed and remembered, and nothing comes.
#[derive(Default)]
pub(super) struct RecordingBus(Mutex<Vec<Envelope>>);

impl RecordingBus {
    /// What was published for a stream, in order.
    pub(super) fn published(&self, stream: StreamId) -> Vec<Envelope> {
        let all = self.0.lock().unwrap();
        let of_stream = |envelope: &&Envelope| envelope.position.is_some_and(|(s, _)| s == stream);
        all.iter().filter(of_stream).cloned().collect()
    }
}

#[async_trait]
impl Bus for RecordingBus {
    async fn publish(&self, announcements: &[Announcement]) -> Vec<Result<(), BusError>> {
        let envelopes = announcements.iter().filter_map(Announcement::encode);
        self.0.lock().unwrap().extend(envelopes);
        announcements.iter().map(|_| Ok(())).collect()
    }

    async fn publish_control(&self, _control: Control) -> Result<(), BusError> {
        Ok(())
    }

    async fn subscribe(&self, _server: ServerId) -> Result<Subscription, BusError> {
        Err(BusError("this bus only records".into()))
    }

    async fn control(&self) -> Result<Box<dyn Deliveries>, BusError> {
        Ok(Box::new(Silence))
    }

    async fn check(&self) -> Result<(), BusError> {
        Ok(())
    }
}

struct Silence;

#[async_trait]
impl Deliveries for Silence {
    async fn next(&mut self) -> Delivery {
        std::future::pending().await
    }
}

/// An installation of several processes: each is a [`Log`] of its own over one store.
pub(super) struct World {
    pub(super) store: Arc<dyn Store>,
    pub(super) bus: Arc<RecordingBus>,
    pub(super) owner: UserId,
    pub(super) group: GroupId,
    pub(super) channel: ChannelId,
    /// A process that nothing happens to.
    pub(super) log: Log,
}

impl World {
    /// A group of the owner and `members`, with one channel.
    pub(super) async fn new(store: Arc<dyn Store>, members: &[UserId]) -> Self {
        let bus = Arc::new(RecordingBus::default());
        let owner = UserId::generate();
        let (group, channel) = (GroupId::generate(), ChannelId::generate());
        let log = start(store.clone(), bus.clone());
        let mut all = vec![(owner, Role::Owner)];
        all.extend(members.iter().map(|user| (*user, Role::Member)));
        let created = Change::GroupCreated {
            kind: GroupKind::Group,
            name: Some("a group".to_owned()),
            members: all,
            channels: vec![(channel, "general".to_owned())],
        };
        append(&log, group, owner, Key::unique(), Always(created, false))
            .await
            .unwrap();
        Self {
            store,
            bus,
            owner,
            group,
            channel,
            log,
        }
    }

    /// Another process.
    pub(super) fn process(&self) -> Log {
        start(self.store.clone(), self.bus.clone())
    }

    /// Another process, to which things happen.
    pub(super) fn process_with(&self, faults: &Faults) -> Log {
        let store = FaultyStore {
            inner: self.store.clone(),
            faults: faults.clone(),
        };
        start(Arc::new(store), self.bus.clone())
    }

    pub(super) async fn send(&self, log: &Log, author: UserId, text: &str) -> Outcome {
        self.send_with(log, author, Key::unique(), text).await
    }

    pub(super) async fn send_with(
        &self,
        log: &Log,
        author: UserId,
        key: Key,
        text: &str,
    ) -> Outcome {
        let send = Send {
            log: log.clone(),
            channel: self.channel,
            author,
            text: text.to_owned(),
        };
        log.append(Append {
            stream: self.channel.into(),
            actor: Some(author),
            key,
            request: Some(RequestHash::of("send", &[text.as_bytes()])),
            proposal: Arc::new(send),
        })
        .await
    }

    /// A change of the channel that reads the message's state.
    pub(super) async fn touch(&self, log: &Log, actor: UserId, change: Change) -> Outcome {
        let touch = Touch {
            log: log.clone(),
            store: self.store.clone(),
            channel: self.channel,
            actor,
            change,
        };
        append(log, self.channel, actor, Key::unique(), touch).await
    }

    pub(super) async fn change_group(&self, log: &Log, change: Change) -> Outcome {
        append(
            log,
            self.group,
            self.owner,
            Key::unique(),
            Always(change, true),
        )
        .await
    }

    pub(super) async fn message(&self, seq: Seq) -> Message {
        self.store
            .messages_at(self.channel, &[seq])
            .await
            .unwrap()
            .remove(0)
    }

    pub(super) async fn channel_entries(&self) -> Vec<Entry> {
        self.store
            .entries(self.channel.into(), 0, Seq::MAX, 100_000)
            .await
            .unwrap()
    }
}

pub(super) type Outcome = Result<Committed, AppendError>;

/// Of groups in the log's own tests, but where a test says another.
pub(super) const FANOUT_LIMIT: u64 = 1000;

pub(super) fn start(store: Arc<dyn Store>, bus: Arc<dyn Bus>) -> Log {
    Log::start(
        store,
        bus,
        Arc::new(SystemClock),
        FANOUT_LIMIT,
        &crate::telemetry::Metrics::default(),
        &crate::tasks::Tasks::new(tokio_util::sync::CancellationToken::new()),
    )
}

pub(super) async fn append(
    log: &Log,
    stream: impl Into<StreamId>,
    actor: UserId,
    key: Key,
    proposal: impl Proposal + 'static,
) -> Outcome {
    log.append(Append {
        stream: stream.into(),
        actor: Some(actor),
        key,
        request: None,
        proposal: Arc::new(proposal),
    })
    .await
}

/// A change that is valid at any head; the flag says whether it claims to read state.
pub(super) struct Always(pub(super) Change, pub(super) bool);

#[async_trait]
impl Proposal for Always {
    fn reads_state(&self) -> bool {
        self.1
    }

    async fn validate(&self, head: Head) -> Result<Draft, NotValid> {
        Ok(Draft {
            change: self.0.clone(),
            gv: head.gv,
        })
    }
}

/// A message, as the API sends it.
struct Send {
    log: Log,
    channel: ChannelId,
    author: UserId,
    text: String,
}

#[async_trait]
impl Proposal for Send {
    fn reads_state(&self) -> bool {
        false
    }

    async fn validate(&self, head: Head) -> Result<Draft, NotValid> {
        let group = self.log.groups().of_channel(self.channel, head.gv).await?;
        let group = group.ok_or(Refusal::NotFound)?;
        group.channel_for(self.author, self.channel)?;
        Ok(Draft {
            change: Change::MessageCreated(Box::new(MessageState {
                content: self.text.clone(),
                ..MessageState::default()
            })),
            gv: group.applied,
        })
    }
}

/// An edit, reaction or deletion of a message that must not be deleted.
struct Touch {
    log: Log,
    store: Arc<dyn Store>,
    channel: ChannelId,
    actor: UserId,
    change: Change,
}

#[async_trait]
impl Proposal for Touch {
    fn reads_state(&self) -> bool {
        true
    }

    async fn validate(&self, head: Head) -> Result<Draft, NotValid> {
        let group = self.log.groups().of_channel(self.channel, head.gv).await?;
        let group = group.ok_or(Refusal::NotFound)?;
        group.channel_for(self.actor, self.channel)?;
        let message = match &self.change {
            Change::MessageEdited { message, .. }
            | Change::MessageDeleted { message }
            | Change::ReactionAdded { message, .. }
            | Change::ReactionRemoved { message, .. } => *message,
            other => panic!("{other:?} touches no message"),
        };
        let found = self.store.messages_at(self.channel, &[message]).await?;
        if found.first().is_none_or(|message| message.state.deleted) {
            return Err(Refusal::NotFound.into());
        }
        Ok(Draft {
            change: self.change.clone(),
            gv: group.applied,
        })
    }
}
