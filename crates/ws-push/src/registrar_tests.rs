//! What presence and watchers are told while presence comes and goes.

use std::num::NonZeroU16;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use async_trait::async_trait;
use tidings_common::bus::{Delivery, MemoryBus, Recipients};
use tidings_common::clock::Clock;
use tidings_common::domain::{PresenceState, Timestamp, UserId, UserPresence};
use tidings_common::presence::{Buried, MemoryPresence, PresenceError};
use tidings_common::telemetry::Metrics;
use tokio::time::timeout;

use super::*;
use crate::binder::Partitions;
use crate::hub::HubLimits;
use crate::metrics::PushMetrics;

/// The clock that tests move.
#[derive(Debug)]
struct Paused(Instant);

impl Clock for Paused {
    fn now(&self) -> Timestamp {
        let millis = i64::try_from(self.0.elapsed().as_millis()).unwrap();
        Timestamp::from_millis(1_000_000 + millis)
    }
}

/// Presence that is away, or forgets, when it is told to.
struct Moody {
    clock: Arc<Paused>,
    presence: Mutex<Arc<MemoryPresence>>,
    away: AtomicBool,
    most_at_once: AtomicUsize,
}

impl Moody {
    fn new() -> Arc<Self> {
        let clock = Arc::new(Paused(Instant::now()));
        Arc::new(Self {
            presence: Mutex::new(Arc::new(MemoryPresence::new(clock.clone()))),
            clock,
            away: AtomicBool::new(false),
            most_at_once: AtomicUsize::new(0),
        })
    }

    fn forget(&self) {
        let empty = Arc::new(MemoryPresence::new(self.clock.clone()));
        *self.presence.lock().unwrap() = empty;
    }

    fn inner(&self) -> Result<Arc<MemoryPresence>, PresenceError> {
        if self.away.load(Ordering::SeqCst) {
            return Err(PresenceError("it is away".into()));
        }
        Ok(self.presence.lock().unwrap().clone())
    }

    async fn state(&self, user: UserId) -> PresenceState {
        self.states(&[user]).await.unwrap()[0].state
    }
}

#[async_trait]
impl Liveness for Moody {
    async fn begin(&self, server: ServerId, lifetime: Duration) -> Result<(), PresenceError> {
        self.inner()?.begin(server, lifetime).await
    }

    async fn renew(&self, server: ServerId, lifetime: Duration) -> Result<bool, PresenceError> {
        self.inner()?.renew(server, lifetime).await
    }

    async fn hold(
        &self,
        server: ServerId,
        holds: &[Hold],
    ) -> Result<Option<Vec<Recorded>>, PresenceError> {
        self.most_at_once.fetch_max(holds.len(), Ordering::SeqCst);
        self.inner()?.hold(server, holds).await
    }

    async fn states(&self, users: &[UserId]) -> Result<Vec<UserPresence>, PresenceError> {
        self.inner()?.states(users).await
    }

    async fn bury(&self, limit: usize) -> Result<Buried, PresenceError> {
        self.inner()?.bury(limit).await
    }
}

struct World {
    hub: Arc<Hub>,
    presence: Arc<Moody>,
    told: Box<dyn tidings_common::bus::Deliveries>,
    stop: CancellationToken,
    running: tokio::task::JoinHandle<()>,
}

impl World {
    async fn new() -> Self {
        let limits = HubLimits {
            connections: 10_000,
            connections_per_user: 10,
        };
        let metrics = PushMetrics::register(&Metrics::default());
        let count = NonZeroU16::new(8).unwrap();
        let partitions = Partitions::new(count, Duration::from_secs(60));
        let (hub, presence) = (Hub::new(limits, metrics, partitions), Moody::new());
        let bus = Arc::new(MemoryBus::new(count));
        let told = bus
            .subscribe(ServerId::generate())
            .await
            .unwrap()
            .deliveries;
        let registrar = Registrar::new(hub.clone(), presence.clone(), bus);
        let stop = CancellationToken::new();
        Self {
            hub,
            presence,
            told,
            running: tokio::spawn(registrar.run(stop.clone())),
            stop,
        }
    }

    fn arrive(&self) -> UserId {
        let user = UserId::generate();
        self.hub.roster().arrive(user);
        user
    }

    /// Whom watchers were told of since, in order.
    async fn told(&mut self) -> Vec<UserId> {
        let mut users = Vec::new();
        while let Ok(delivery) = timeout(Duration::from_millis(1), self.told.next()).await {
            let Delivery::Delta(envelope) = delivery else {
                panic!("{delivery:?}");
            };
            let Recipients::Watchers(user) = envelope.to else {
                panic!("{envelope:?}");
            };
            users.push(user);
        }
        users
    }
}

#[tokio::test(start_paused = true)]
async fn who_comes_and_goes_is_told_once() {
    let mut world = World::new().await;
    let user = world.arrive();
    sleep(Duration::from_secs(1)).await;
    assert_eq!(world.presence.state(user).await, PresenceState::Online);
    assert_eq!(world.told().await, [user]);
    sleep(Duration::from_secs(60)).await;
    assert_eq!(world.presence.state(user).await, PresenceState::Online);
    assert_eq!(world.told().await, []);
    world.hub.roster().leave(user, true);
    sleep(LINGER - Duration::from_secs(1)).await;
    assert_eq!(world.presence.state(user).await, PresenceState::Online);
    sleep(Duration::from_secs(2)).await;
    assert_eq!(world.presence.state(user).await, PresenceState::Offline);
    assert_eq!(world.told().await, [user]);
}

#[tokio::test(start_paused = true)]
async fn many_who_come_at_once_are_told_at_2000_a_second() {
    let mut world = World::new().await;
    sleep(Duration::from_secs(1)).await;
    let users: Vec<UserId> = (0..4_000).map(|_| world.arrive()).collect();
    sleep(Duration::from_millis(1_000)).await;
    let so_far = world.told().await.len();
    assert!((1_000..=2_200).contains(&so_far), "{so_far}");
    sleep(Duration::from_millis(1_500)).await;
    assert_eq!(so_far + world.told().await.len(), users.len());
    assert_eq!(world.presence.most_at_once.load(Ordering::SeqCst), BATCH);
}

#[tokio::test(start_paused = true)]
async fn presence_that_has_forgotten_is_told_again_in_seconds() {
    let mut world = World::new().await;
    let user = world.arrive();
    sleep(Duration::from_secs(1)).await;
    world.told().await;
    world.presence.forget();
    assert_eq!(world.presence.state(user).await, PresenceState::Offline);
    sleep(RENEW_EVERY + Duration::from_secs(1)).await;
    assert_eq!(world.presence.state(user).await, PresenceState::Online);
    assert_eq!(world.told().await, [user]);
    // It is found out sooner when there is something to tell.
    world.presence.forget();
    let other = world.arrive();
    sleep(Duration::from_secs(1)).await;
    for user in [user, other] {
        assert_eq!(world.presence.state(user).await, PresenceState::Online);
    }
}

#[tokio::test(start_paused = true)]
async fn presence_that_was_away_is_told_what_is_so_when_it_is_back() {
    for away in [Duration::from_secs(7), Duration::from_secs(60)] {
        let mut world = World::new().await;
        let [stays, turns, goes] = [(); 3].map(|()| world.arrive());
        sleep(Duration::from_secs(1)).await;
        world.told().await;
        world.presence.away.store(true, Ordering::SeqCst);
        let comes = world.arrive();
        world.hub.roster().turn(turns, false);
        world.hub.roster().leave(goes, true);
        sleep(away).await;
        world.presence.away.store(false, Ordering::SeqCst);
        sleep(LINGER + Duration::from_secs(2)).await;
        let mut states = Vec::new();
        for user in [stays, turns, goes, comes] {
            states.push(world.presence.state(user).await);
        }
        let [online, away] = [PresenceState::Online, PresenceState::Away];
        assert_eq!(states, [online, away, PresenceState::Offline, online]);
        let told = world.told().await;
        assert!(told.contains(&turns) && told.contains(&comes));
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_stops_is_alive_for_as_long_as_its_users_may_come_back_elsewhere() {
    let world = World::new().await;
    let user = world.arrive();
    sleep(Duration::from_secs(1)).await;
    assert_eq!(world.presence.state(user).await, PresenceState::Online);
    world.stop.cancel();
    world.running.await.unwrap();
    sleep(LINGER - Duration::from_secs(1)).await;
    assert_eq!(world.presence.state(user).await, PresenceState::Online);
    sleep(Duration::from_secs(2)).await;
    assert_eq!(world.presence.state(user).await, PresenceState::Offline);
    let buried = world.presence.bury(10).await.unwrap();
    assert_eq!(buried.changed.len(), 1);
}
