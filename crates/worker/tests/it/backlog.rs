//! More than a pass can do: an hour of an installation whose broker was away.

use std::sync::Arc;
use std::time::Duration;

use tidings_common::clock::{Clock, ManualClock, SystemClock};
use tidings_common::domain::{ChannelId, Entry, GroupId, StreamId, UserId};
use tidings_common::store::{MongoStore, Store, project};
use tidings_common::tasks::Tasks;
use tidings_worker::Relay;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::harness::{Fragile, Scratch, commit, messages, new_group, pending, relay};

const CHANNELS: usize = 300;
const PER_CHANNEL: usize = 20;
const HOUR_MS: i64 = 3_600_000;
/// A relay whose clock is right leaves entries alone for at least so long.
const ABANDONED: Duration = Duration::from_secs(4);

struct Backlog {
    store: Arc<dyn Store>,
    bus: Arc<Fragile>,
    relay: Relay,
    user: UserId,
    channels: Vec<ChannelId>,
}

impl Backlog {
    /// Messages so old, none of them announced, in channels of ten groups. The last channel,
    /// which comes last, is empty.
    async fn new(
        store: Arc<dyn Store>,
        delay: Duration,
        clock: Arc<dyn Clock>,
        age_ms: i64,
    ) -> Self {
        let old = SystemClock.now().plus_millis(-age_ms);
        let user = UserId::generate();
        let mut channels: Vec<_> = (0..CHANNELS).map(|_| ChannelId::generate()).collect();
        channels.sort_unstable();
        for of_group in channels.chunks(CHANNELS / 10) {
            let created = vec![new_group(user, of_group.to_vec())];
            let stream = GroupId::generate().into();
            let group = commit(&*store, user, stream, created, old).await;
            let changes = project(&group[0], 1000);
            store.apply(stream, 1, changes).await.unwrap();
            store.settle(&[(stream, 1)]).await.unwrap();
        }
        for some in channels[..CHANNELS - 1].chunks(64) {
            let committing = some.iter().map(|channel| {
                let (store, stream) = (store.clone(), StreamId::from(*channel));
                let messages = messages(PER_CHANNEL, "hello");
                tokio::spawn(async move { commit(&*store, user, stream, messages, old).await })
            });
            for committed in committing.collect::<Vec<_>>() {
                committed.await.unwrap();
            }
        }
        let bus = Arc::new(Fragile::slow(delay));
        let relay = relay(store.clone(), bus.clone(), clock);
        Self {
            store,
            bus,
            relay,
            user,
            channels,
        }
    }

    async fn commit_now(&self, channel: ChannelId) -> Entry {
        let (message, now) = (messages(1, "fresh"), SystemClock.now());
        commit(&*self.store, self.user, channel.into(), message, now)
            .await
            .remove(0)
    }

    /// How many entries a pass finishes.
    async fn pass(&mut self) -> usize {
        let finished = self.relay.pass().await.unwrap();
        tokio::time::sleep(Duration::from_millis(10)).await;
        finished
    }
}

/// The old entries drain, each announced once and in its stream's order.
async fn check_drain(store: Arc<dyn Store>) {
    const OLD: usize = (CHANNELS - 1) * PER_CHANNEL;
    let clock = Arc::new(SystemClock);
    let mut backlog = Backlog::new(store, Duration::ZERO, clock, HOUR_MS).await;
    let since = Instant::now();
    let mut finished = 0;
    while finished < OLD {
        assert!(since.elapsed() < Duration::from_secs(60), "{finished}");
        finished += backlog.pass().await;
    }
    let seconds = since.elapsed().as_secs_f64();
    eprintln!("{OLD} entries, {:.0} a second", OLD as f64 / seconds);
    assert_eq!(pending(&*backlog.store, 9).await, 0);
    let published = backlog.bus.published();
    assert_eq!(published.len(), OLD);
    assert!(published.values().all(|times| *times == 1));
}

/// What is committed while an old backlog drains slowly is announced within 10 s.
async fn check_fresh(store: Arc<dyn Store>, clock: Arc<dyn Clock>, abandoned_for: Duration) {
    // 256 at most in 0.7 s: all of it takes longer than the fresh one may.
    let slow = Duration::from_millis(700);
    let mut backlog = Backlog::new(store, slow, clock, HOUR_MS).await;
    let last = backlog.channels[CHANNELS - 1];
    assert!(backlog.pass().await > 0);
    let fresh = backlog.commit_now(last).await;
    let since = Instant::now();
    while backlog.bus.published_of(fresh.stream).is_empty() {
        assert!(since.elapsed() < Duration::from_secs(10));
        backlog.pass().await;
    }
    let took = since.elapsed();
    assert!(took >= abandoned_for, "{took:?}: it was not abandoned");
    let left = pending(&*backlog.store, 100_000).await;
    eprintln!("after {took:?}, {left} old entries wait");
    assert!(left > 1_000, "the backlog was too small");
    let settled = backlog.store.pending_in(fresh.stream, 0, 1).await.unwrap();
    assert_eq!(settled, []);
}

/// Nor does it wait for all of a backlog that is young itself, wherever in a pass it comes.
#[tokio::test(flavor = "multi_thread")]
async fn a_young_backlog_starves_nothing_fresh() {
    let scratch = Scratch::new();
    let (slow, clock) = (Duration::from_millis(700), Arc::new(SystemClock));
    let mut backlog = Backlog::new(scratch.open(), slow, clock, HOUR_MS / 6).await;
    let last = backlog.channels[CHANNELS - 1];
    assert!(backlog.pass().await > 0);
    let (store, user) = (backlog.store.clone(), backlog.user);
    let committing = tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(2_100)).await;
        let (message, now) = (messages(1, "fresh"), SystemClock.now());
        commit(&*store, user, last.into(), message, now).await;
        Instant::now()
    });
    while backlog.bus.published_of(last).is_empty() {
        backlog.pass().await;
    }
    let took = committing.await.unwrap().elapsed();
    assert!(took < Duration::from_secs(10), "{took:?}");
    let left = pending(&*backlog.store, 100_000).await;
    assert!(left > 1_000, "the backlog was too small: {left}");
}

/// An empty database at TIDINGS_TEST_MONGODB_URL. It is left behind: only the store has a driver.
#[expect(
    clippy::disallowed_methods,
    reason = "names the services that tests run against"
)]
async fn mongo() -> Option<Arc<dyn Store>> {
    let Ok(server) = std::env::var("TIDINGS_TEST_MONGODB_URL") else {
        assert_ne!(std::env::var("CI").as_deref(), Ok("true"));
        eprintln!("skipped: TIDINGS_TEST_MONGODB_URL is not set");
        return None;
    };
    let (hosts, options) = server.split_once('?').unwrap_or((&server, ""));
    let name = format!("tidings-test-{}", GroupId::generate());
    let url = format!("{}/{name}?{options}", hosts.trim_end_matches('/'));
    let tasks = Tasks::new(CancellationToken::new());
    let store = MongoStore::open(&url.into(), &tasks).await.unwrap();
    Some(Arc::new(store))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backlog_drains_from_sqlite() {
    let scratch = Scratch::new();
    check_drain(scratch.open()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backlog_in_sqlite_starves_nothing_fresh() {
    let scratch = Scratch::new();
    check_fresh(scratch.open(), Arc::new(SystemClock), ABANDONED).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backlog_drains_from_mongodb() {
    if let Some(store) = mongo().await {
        check_drain(store).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backlog_in_mongodb_starves_nothing_fresh() {
    if let Some(store) = mongo().await {
        check_fresh(store, Arc::new(SystemClock), ABANDONED).await;
    }
}

/// Nor does a clock that is ten minutes behind that of who commits.
#[tokio::test(flavor = "multi_thread")]
async fn a_slow_clock_hides_nothing_behind_a_backlog() {
    let scratch = Scratch::new();
    let behind = SystemClock.now().plus_millis(-HOUR_MS / 6);
    let clock = Arc::new(ManualClock::at(behind));
    check_fresh(scratch.open(), clock, ABANDONED).await;
}

/// A fast one takes everything for abandoned, and finds it.
#[tokio::test(flavor = "multi_thread")]
async fn a_fast_clock_hides_nothing_behind_a_backlog() {
    let scratch = Scratch::new();
    let ahead = SystemClock.now().plus_millis(HOUR_MS / 6);
    let clock = Arc::new(ManualClock::at(ahead));
    check_fresh(scratch.open(), clock.clone(), Duration::ZERO).await;
    if let Some(store) = mongo().await {
        check_fresh(store, clock, Duration::ZERO).await;
    }
}
