//! The relay over the embedded store and bus: entries whose process died after the commit.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on should say where"
)]

use std::num::NonZeroU16;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use tidings_common::bus::{
    Announcement, Bus, BusError, Control, Deliveries, Delivery, MemoryBus, Subscription,
};
use tidings_common::clock::{Clock, ManualClock, SystemClock};
use tidings_common::domain::{
    Change, ChannelId, Entry, EntryId, GroupId, GroupKind, Head, Key, MessageState, Role, Seq,
    ServerId, SessionId, StreamId, Timestamp, UserId,
};
use tidings_common::log::Log;
use tidings_common::store::{LogStore as _, SqliteStore, StateStore as _, Store};
use tidings_common::tasks::Tasks;
use tidings_common::telemetry::Metrics;
use tidings_worker::Relay;
use tokio_util::sync::CancellationToken;

/// When the processes died.
fn then() -> Timestamp {
    Timestamp::from_millis(1_000_000)
}

/// The database's name.
const FILE: &str = "test.db";

struct World {
    folder: PathBuf,
    store: Arc<SqliteStore>,
    bus: Arc<Fragile>,
    clock: Arc<ManualClock>,
    relay: Relay,
    user: UserId,
    group: GroupId,
    channel: ChannelId,
}

impl Drop for World {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.folder));
    }
}

impl World {
    fn new() -> Self {
        Self::over(new_folder())
    }

    /// With what was committed in `folder` before.
    fn over(folder: PathBuf) -> Self {
        let store = Arc::new(SqliteStore::open(&folder.join(FILE)).unwrap());
        let bus = Arc::new(Fragile {
            inner: MemoryBus::new(NonZeroU16::MIN),
            down: AtomicBool::new(false),
        });
        let clock = Arc::new(ManualClock::at(then().plus_millis(6_000)));
        let log = Log::start(
            store.clone(),
            bus.clone(),
            Arc::new(SystemClock),
            &Metrics::default(),
            &Tasks::new(CancellationToken::new()),
        );
        let relay = Relay::new(store.clone(), log, clock.clone(), &Metrics::default());
        Self {
            folder,
            store,
            bus,
            clock,
            relay,
            user: UserId::generate(),
            group: GroupId::generate(),
            channel: ChannelId::generate(),
        }
    }

    async fn commit(&self, stream: impl Into<StreamId>, changes: Vec<Change>) -> Vec<Entry> {
        commit(&self.store, self.user, stream.into(), changes).await
    }

    async fn commit_group(&self) {
        let created = Change::GroupCreated {
            kind: GroupKind::Group,
            name: Some("a group".to_owned()),
            members: vec![(self.user, Role::Owner)],
            channels: vec![(self.channel, "general".to_owned())],
        };
        self.commit(self.group, vec![created]).await;
    }

    async fn commit_messages(&self, count: usize) {
        self.commit(self.channel, messages(count, "")).await;
    }

    /// A server with the user's partition bound.
    async fn listen(&self) -> Box<dyn Deliveries> {
        let subscription = self
            .bus
            .inner
            .subscribe(ServerId::generate())
            .await
            .unwrap();
        subscription.bindings.bind(0).await.unwrap();
        subscription.deliveries
    }

    async fn pending(&self) -> usize {
        let far = Timestamp::from_millis(i64::MAX);
        self.store
            .pending(far, None, 1000)
            .await
            .unwrap()
            .items
            .len()
    }
}

fn new_folder() -> PathBuf {
    std::env::temp_dir().join(format!("tidings-relay-{}", uuid::Uuid::now_v7()))
}

/// Commits entries as a process does that dies right after.
async fn commit(
    store: &SqliteStore,
    user: UserId,
    stream: StreamId,
    changes: Vec<Change>,
) -> Vec<Entry> {
    let mut head: Head = store.head(stream).await.unwrap();
    let mut run = Vec::new();
    for change in changes {
        head = head.after(&change, u64::from(matches!(stream, StreamId::Channel(_))));
        run.push(Entry {
            id: EntryId::generate(),
            stream,
            seq: head.seq,
            at: then(),
            actor: Some(user),
            key: Key::unique(),
            request: None,
            gv: head.gv,
            ord: head.ord,
            change,
        });
    }
    store.append(run.clone()).await.unwrap();
    run
}

fn messages(count: usize, content: &str) -> Vec<Change> {
    let message = || {
        Change::MessageCreated(Box::new(MessageState {
            content: content.to_owned(),
            ..MessageState::default()
        }))
    };
    std::iter::repeat_with(message).take(count).collect()
}

/// Overwrites `what` wherever it stands in a closed database, so that it is no JSON text.
fn damage(file: &Path, what: &[u8]) -> usize {
    let mut bytes = std::fs::read(file).unwrap();
    let mut damaged = 0;
    while let Some(at) = bytes.windows(what.len()).position(|window| window == what) {
        bytes[at..at + what.len()].fill(b'"');
        damaged += 1;
    }
    std::fs::write(file, bytes).unwrap();
    damaged
}

/// The next delta's place, passing over control messages.
async fn next(deliveries: &mut Box<dyn Deliveries>) -> (StreamId, Seq) {
    loop {
        let delivery = tokio::time::timeout(Duration::from_secs(5), deliveries.next()).await;
        if let Delivery::Delta(envelope) = delivery.expect("a delta came in time") {
            return envelope.position.expect("it is no ephemeral one");
        }
    }
}

/// A bus that can be switched off.
struct Fragile {
    inner: MemoryBus,
    down: AtomicBool,
}

#[async_trait]
impl Bus for Fragile {
    async fn publish(&self, announcements: &[Announcement]) -> Vec<Result<(), BusError>> {
        if self.down.load(Ordering::SeqCst) {
            return announcements
                .iter()
                .map(|_| Err(BusError("off".into())))
                .collect();
        }
        self.inner.publish(announcements).await
    }

    async fn publish_control(&self, control: Control) -> Result<(), BusError> {
        self.inner.publish_control(control).await
    }

    async fn subscribe(&self, server: ServerId) -> Result<Subscription, BusError> {
        self.inner.subscribe(server).await
    }

    async fn control(&self) -> Result<Box<dyn Deliveries>, BusError> {
        self.inner.control().await
    }

    async fn check(&self) -> Result<(), BusError> {
        self.inner.check().await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn abandoned_entries_are_applied_announced_and_settled() {
    let world = World::new();
    let mut deliveries = world.listen().await;
    world.commit_group().await;
    assert_eq!(world.store.group(world.group).await.unwrap(), None);

    assert_eq!(world.relay.pass().await.unwrap(), 1);
    let group = world.store.group(world.group).await.unwrap().unwrap();
    assert!(group.members.contains_key(&world.user));
    assert_eq!(next(&mut deliveries).await, (world.group.into(), 1));

    world.commit_messages(3).await;
    assert_eq!(world.relay.pass().await.unwrap(), 3);
    for seq in 1..=3 {
        assert_eq!(next(&mut deliveries).await, (world.channel.into(), seq));
    }
    assert_eq!(world.pending().await, 0);
    assert_eq!(world.relay.pass().await.unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn fresh_entries_are_left_to_those_who_committed_them() {
    let world = World::new();
    world.commit_group().await;
    world.clock.advance(-2_000);
    assert_eq!(world.relay.pass().await.unwrap(), 0);
    world.clock.advance(2_000);
    assert_eq!(world.relay.pass().await.unwrap(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_derives_from_an_abandoned_entry_is_appended() {
    let world = World::new();
    world.commit_group().await;
    let other = UserId::generate();
    let role = Role::Member;
    let added = Change::MemberAdded { user: other, role };
    world.commit(world.group, vec![added]).await;
    let session = SessionId::generate();
    let login = Change::SessionCreated {
        session,
        device_name: "laptop".to_owned(),
    };
    let logout = Change::SessionRevoked { session };
    world.commit(world.user, vec![login, logout]).await;

    assert_eq!(world.relay.pass().await.unwrap(), 4);
    let fences = world
        .store
        .entries(world.channel.into(), 0, Seq::MAX, 10)
        .await
        .unwrap();
    assert_eq!(fences[0].change, Change::MembersChanged { gv: 2 });
    let ended = world
        .store
        .entries(StreamId::Sessions, 0, Seq::MAX, 10)
        .await
        .unwrap();
    let user = world.user;
    assert_eq!(ended[0].change, Change::SessionEnded { session, user });
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_long_backlog_only_the_newest_is_announced() {
    let world = World::new();
    world.commit_group().await;
    assert_eq!(world.relay.pass().await.unwrap(), 1);
    let mut deliveries = world.listen().await;
    world.commit_messages(101).await;
    assert_eq!(world.relay.pass().await.unwrap(), 101);
    assert_eq!(next(&mut deliveries).await, (world.channel.into(), 101));
    assert_eq!(world.pending().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_confirmed_stays_pending_and_is_tried_again() {
    let world = World::new();
    world.commit_group().await;
    assert_eq!(world.relay.pass().await.unwrap(), 1);
    world.commit_messages(3).await;
    world.bus.down.store(true, Ordering::SeqCst);
    assert_eq!(world.relay.pass().await.unwrap(), 0);
    assert_eq!(world.pending().await, 3);
    // It has just been taken in hand.
    world.bus.down.store(false, Ordering::SeqCst);
    assert_eq!(world.relay.pass().await.unwrap(), 0);
    world.clock.advance(6_000);
    assert_eq!(world.relay.pass().await.unwrap(), 3);
    assert_eq!(world.pending().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_settled_whose_recipients_are_not_known() {
    let world = World::new();
    world.commit_messages(1).await;
    assert_eq!(world.relay.pass().await.unwrap(), 0);
    assert_eq!(world.pending().await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_relays_share_the_work() {
    let world = World::new();
    world.commit_group().await;
    assert_eq!(world.relay.pass().await.unwrap(), 1);
    world.commit_messages(51).await;
    let store: Arc<dyn Store> = world.store.clone();
    let log = Log::start(
        store.clone(),
        world.bus.clone(),
        Arc::new(SystemClock),
        &Metrics::default(),
        &Tasks::new(CancellationToken::new()),
    );
    let clock: Arc<dyn Clock> = world.clock.clone();
    let other = Relay::new(store, log, clock, &Metrics::default());
    let (one, two) = tokio::join!(world.relay.pass(), other.pass());
    assert_eq!(
        one.unwrap() + two.unwrap(),
        51,
        "each entry is claimed once"
    );
    assert_eq!(world.pending().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_holds_up_nobody_else() {
    // More than a page of them, in a stream that comes before those of groups.
    const UNREADABLE: usize = 501;
    let folder = new_folder();
    let store = SqliteStore::open(&folder.join(FILE)).unwrap();
    let broken = ChannelId::generate().into();
    let spoilt = messages(UNREADABLE, "spoil me");
    commit(&store, UserId::generate(), broken, spoilt).await;
    drop(store);
    // Pages that are in use no more may hold some of them twice.
    assert!(damage(&folder.join(FILE), b"spoil me") >= UNREADABLE);

    let world = World::over(folder);
    let mut deliveries = world.listen().await;
    world.commit_group().await;
    assert_eq!(world.relay.pass().await.unwrap(), 1);
    assert_eq!(next(&mut deliveries).await, (world.group.into(), 1));
    assert_eq!(world.pending().await, 0);
    let heads = world.store.heads(&[broken]).await.unwrap();
    assert_eq!(heads, [UNREADABLE as Seq]);
}
