//! An installation whose processes die right after they have committed.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU16;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use tidings_common::bus::{
    Announcement, Bus, BusError, Control, Deliveries, Delivery, MemoryBus, Payload, Subscription,
};
use tidings_common::clock::{Clock, ManualClock, SystemClock};
use tidings_common::domain::{
    Change, ChannelId, Entry, EntryId, GroupId, GroupKind, Head, Key, MessageState, Role, Seq,
    ServerId, StreamId, Timestamp, UserId,
};
use tidings_common::log::Log;
use tidings_common::store::{SqliteStore, Store};
use tidings_common::tasks::Tasks;
use tidings_common::telemetry::Metrics;
use tidings_worker::Relay;
use tokio_util::sync::CancellationToken;

/// When the processes died.
pub(crate) fn then() -> Timestamp {
    Timestamp::from_millis(1_000_000)
}

/// The database's name.
const FILE: &str = "test.db";

/// An embedded store in a directory of its own, removed when it is dropped.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new() -> Self {
        Self(std::env::temp_dir().join(format!("tidings-relay-{}", EntryId::generate())))
    }

    pub(crate) fn file(&self) -> PathBuf {
        self.0.join(FILE)
    }

    pub(crate) fn open(&self) -> Arc<SqliteStore> {
        Arc::new(SqliteStore::open(&self.file()).unwrap())
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

pub(crate) struct World {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) bus: Arc<Fragile>,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) relay: Relay,
    pub(crate) user: UserId,
    pub(crate) group: GroupId,
    pub(crate) channel: ChannelId,
    _scratch: Scratch,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::over(Scratch::new())
    }

    /// With what was committed there before.
    pub(crate) fn over(scratch: Scratch) -> Self {
        let store = scratch.open();
        let bus = Arc::new(Fragile::default());
        let clock = Arc::new(ManualClock::at(then().plus_millis(6_000)));
        Self {
            relay: relay(store.clone(), bus.clone(), clock.clone()),
            store,
            bus,
            clock,
            user: UserId::generate(),
            group: GroupId::generate(),
            channel: ChannelId::generate(),
            _scratch: scratch,
        }
    }

    /// What another worker runs.
    pub(crate) fn another_relay(&self) -> Relay {
        relay(self.store.clone(), self.bus.clone(), self.clock.clone())
    }

    /// How many entries a pass finishes.
    pub(crate) async fn pass(&mut self) -> usize {
        self.relay.pass().await.unwrap()
    }

    pub(crate) async fn commit(
        &self,
        stream: impl Into<StreamId>,
        changes: Vec<Change>,
    ) -> Vec<Entry> {
        commit(&*self.store, self.user, stream.into(), changes, then()).await
    }

    pub(crate) async fn commit_group(&self) {
        let channels = vec![self.channel];
        let created = new_group(self.user, channels);
        self.commit(self.group, vec![created]).await;
    }

    pub(crate) async fn commit_messages(&self, count: usize) {
        self.commit(self.channel, messages(count, "")).await;
    }

    /// A server with the user's partition bound.
    pub(crate) async fn listen(&self) -> Box<dyn Deliveries> {
        let server = ServerId::generate();
        let subscription = self.bus.inner.subscribe(server).await.unwrap();
        subscription.bindings.bind(0).await.unwrap();
        subscription.deliveries
    }

    pub(crate) async fn pending(&self) -> usize {
        pending(&*self.store, 1000).await
    }
}

pub(crate) fn relay(store: Arc<dyn Store>, bus: Arc<Fragile>, clock: Arc<dyn Clock>) -> Relay {
    let log = Log::start(
        store.clone(),
        bus,
        Arc::new(SystemClock),
        1000,
        &Metrics::default(),
        &Tasks::new(CancellationToken::new()),
    );
    Relay::new(store, log, clock, &Metrics::default())
}

/// How many entries are pending, counted up to `limit`.
pub(crate) async fn pending(store: &dyn Store, limit: usize) -> usize {
    let far = Timestamp::from_millis(i64::MAX);
    let page = store.pending(far, None, limit).await.unwrap();
    page.items.len()
}

pub(crate) fn new_group(owner: UserId, channels: Vec<ChannelId>) -> Change {
    let channels = channels.into_iter();
    Change::GroupCreated {
        kind: GroupKind::Group,
        name: Some("a group".to_owned()),
        members: vec![(owner, Role::Owner)],
        channels: channels
            .map(|channel| (channel, "general".to_owned()))
            .collect(),
    }
}

/// An id as it was made at `at`.
fn id(at: Timestamp) -> EntryId {
    let mut bytes = *EntryId::generate().as_bytes();
    bytes[..6].copy_from_slice(&at.as_millis().to_be_bytes()[2..]);
    EntryId::from_bytes(bytes)
}

/// Commits entries at `at`, as a process does that dies right after.
pub(crate) async fn commit(
    store: &dyn Store,
    user: UserId,
    stream: StreamId,
    changes: Vec<Change>,
    at: Timestamp,
) -> Vec<Entry> {
    let mut head: Head = store.head(stream).await.unwrap();
    let mut run = Vec::new();
    for change in changes {
        head = head.after(&change, u64::from(matches!(stream, StreamId::Channel(_))));
        run.push(Entry {
            id: id(at),
            stream,
            seq: head.seq,
            at,
            actor: Some(user),
            key: Key::unique(),
            request: None,
            gv: head.gv,
            ord: head.ord,
            change,
        });
    }
    let appended = store.append(run.clone()).await.unwrap();
    assert_eq!(appended.landed, run.len());
    run
}

pub(crate) fn messages(count: usize, content: &str) -> Vec<Change> {
    let message = || {
        Change::MessageCreated(Box::new(MessageState {
            content: content.to_owned(),
            ..MessageState::default()
        }))
    };
    std::iter::repeat_with(message).take(count).collect()
}

/// Overwrites `what` wherever it stands in a closed database, so that it is no JSON text.
pub(crate) fn damage(file: &Path, what: &[u8]) -> usize {
    let mut bytes = std::fs::read(file).unwrap();
    let windows = bytes.windows(what.len()).enumerate();
    let places = windows.filter(|(_, window)| *window == what);
    let places: Vec<usize> = places.map(|(place, _)| place).collect();
    for place in &places {
        bytes[*place..place + what.len()].fill(b'"');
    }
    std::fs::write(file, bytes).unwrap();
    places.len()
}

/// The next delta's place, passing over control messages.
pub(crate) async fn next(deliveries: &mut Box<dyn Deliveries>) -> (StreamId, Seq) {
    loop {
        let delivery = tokio::time::timeout(Duration::from_secs(5), deliveries.next()).await;
        if let Delivery::Delta(envelope) = delivery.expect("a delta came in time") {
            return envelope.position.expect("it is no ephemeral one");
        }
    }
}

/// A bus that can be switched off, that can refuse some deltas, and that can be slow. It counts.
pub(crate) struct Fragile {
    pub(crate) inner: MemoryBus,
    pub(crate) down: AtomicBool,
    /// Streams whose deltas it refuses.
    pub(crate) refused: Mutex<BTreeSet<StreamId>>,
    /// What each call of `publish` takes.
    delay: Duration,
    published: Mutex<BTreeMap<(StreamId, Seq), usize>>,
}

impl Default for Fragile {
    fn default() -> Self {
        Self {
            inner: MemoryBus::new(NonZeroU16::MIN),
            down: AtomicBool::new(false),
            refused: Mutex::default(),
            delay: Duration::ZERO,
            published: Mutex::default(),
        }
    }
}

impl Fragile {
    pub(crate) fn slow(delay: Duration) -> Self {
        Self {
            delay,
            ..Self::default()
        }
    }

    /// How often what has been published, refused or not.
    pub(crate) fn published(&self) -> BTreeMap<(StreamId, Seq), usize> {
        self.published.lock().unwrap().clone()
    }

    pub(crate) fn published_of(&self, stream: impl Into<StreamId>) -> Vec<Seq> {
        let stream = stream.into();
        let published = self.published();
        let of_stream = published.keys().filter(|(found, _)| *found == stream);
        of_stream.map(|(_, seq)| *seq).collect()
    }

    fn is_refused(&self, announcement: &Announcement) -> bool {
        let Payload::Entry(entry) = &announcement.payload else {
            return false;
        };
        let position = (entry.stream, entry.seq);
        *self.published.lock().unwrap().entry(position).or_default() += 1;
        self.refused.lock().unwrap().contains(&entry.stream)
    }

    fn word(&self) -> Result<(), BusError> {
        match self.down.load(Ordering::SeqCst) {
            true => Err(BusError("off".into())),
            false => Ok(()),
        }
    }
}

#[async_trait]
impl Bus for Fragile {
    async fn publish(&self, announcements: &[Announcement]) -> Vec<Result<(), BusError>> {
        tokio::time::sleep(self.delay).await;
        if self.word().is_err() {
            return announcements.iter().map(|_| self.word()).collect();
        }
        let mut outcomes = Vec::new();
        for announcement in announcements {
            if self.is_refused(announcement) {
                outcomes.push(Err(BusError("refused".into())));
            } else {
                let announcement = std::slice::from_ref(announcement);
                outcomes.extend(self.inner.publish(announcement).await);
            }
        }
        outcomes
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
        self.word()
    }
}
