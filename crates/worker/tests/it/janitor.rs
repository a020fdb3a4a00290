//! Behind servers that died.

use std::sync::Arc;
use std::time::Duration;

use tidings_common::bus::{Bus, Delivery, MemoryBus, Recipients};
use tidings_common::clock::ManualClock;
use tidings_common::domain::{Activity, PresenceState, ServerId, UserId};
use tidings_common::presence::{Hold, Liveness as _, MemoryPresence};
use tidings_common::telemetry::Metrics;
use tidings_worker::Janitor;
use tokio::time::timeout;

use super::harness::then;

#[tokio::test]
async fn users_of_a_dead_server_are_announced_once_and_those_of_others_not() {
    let clock = Arc::new(ManualClock::at(then()));
    let presence = Arc::new(MemoryPresence::new(clock.clone()));
    let bus = Arc::new(MemoryBus::new(8.try_into().unwrap()));
    let mut listening = bus.subscribe(ServerId::generate()).await.unwrap();
    let metrics = Metrics::default();
    let janitors = [(); 2].map(|()| Janitor::new(presence.clone(), bus.clone(), &metrics));

    let life = Duration::from_secs(20);
    let (dead, alive) = (ServerId::generate(), ServerId::generate());
    let mut users: Vec<UserId> = (0..450).map(|_| UserId::generate()).collect();
    users.sort_unstable();
    let hold = |user: &UserId| Hold {
        user: *user,
        activity: Some(Activity::Active),
        left_ago: Duration::ZERO,
    };
    let holds: Vec<Hold> = users.iter().map(hold).collect();
    presence.begin(dead, life).await.unwrap();
    presence.hold(dead, &holds).await.unwrap().unwrap();
    assert!(!janitors[0].step().await.unwrap(), "it is alive");

    clock.advance(20_000);
    presence.begin(alive, life).await.unwrap();
    // One was back before anybody looked.
    presence.hold(alive, &holds[7..8]).await.unwrap().unwrap();
    let back = users.remove(7);
    let mut steps = 0;
    while janitors[steps % 2].step().await.unwrap() {
        steps += 1;
    }
    assert_eq!(steps, 2, "450 users, 200 a step");
    let mut told = Vec::new();
    while told.len() < users.len() {
        let next = timeout(Duration::from_secs(10), listening.deliveries.next());
        let Delivery::Delta(envelope) = next.await.unwrap() else {
            panic!("something else");
        };
        assert_eq!(envelope.position, None);
        let Recipients::Watchers(user) = envelope.to else {
            panic!("{envelope:?}");
        };
        let frame = std::str::from_utf8(&envelope.body).unwrap();
        assert!(frame.contains(r#""state":"offline""#), "{frame}");
        told.push(user);
    }
    told.sort_unstable();
    assert_eq!(told, users);
    let state = presence.states(&[back]).await.unwrap()[0].state;
    assert_eq!(state, PresenceState::Online);
    assert!(!janitors[0].step().await.unwrap());
}
