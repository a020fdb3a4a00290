//! Entries that cannot be finished, and what is away as a whole.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tidings_common::domain::{Change, ChannelId, Role, UserId};
use tidings_worker::Away;
use tokio::time::Instant;

use super::harness::{World, messages};

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_is_passed_over_and_tried_again_later() {
    let mut world = World::new();
    world.commit_group().await;
    assert_eq!(world.pass().await, 1);
    world
        .bus
        .refused
        .lock()
        .unwrap()
        .insert(world.channel.into());
    world.commit_messages(2).await;
    let published = |world: &World| {
        let published = world.bus.published();
        published[&(world.channel.into(), 1)]
    };
    let start = Instant::now();
    let mut tries = Vec::new();
    while tries.len() < 4 {
        // A group of its own, which comes after the channel and does not wait for it.
        world.group = tidings_common::domain::GroupId::generate();
        let channel = std::mem::replace(&mut world.channel, ChannelId::generate());
        world.commit_group().await;
        world.channel = channel;
        assert_eq!(world.pass().await, 1);
        assert_eq!(world.pending().await, 2);
        if published(&world) > tries.len() {
            tries.push(start.elapsed());
        }
        // By the clock it is due again at once.
        world.clock.advance(6_000);
        assert!(start.elapsed() < Duration::from_secs(60), "{tries:?}");
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    for (one, next) in tries.iter().zip(&tries[1..]) {
        let waited = *next - *one;
        assert!(waited >= Duration::from_secs(5), "{tries:?}");
        // Doubled, the third would be 20 s.
        assert!(waited < Duration::from_secs(15), "{tries:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn when_the_bus_is_back_nothing_waits_for_having_failed() {
    let mut world = World::new();
    world.commit_group().await;
    assert_eq!(world.pass().await, 1);
    world.commit_messages(3).await;
    world.bus.down.store(true, Ordering::SeqCst);
    for _ in 0..30 {
        let away = world.relay.pass().await.unwrap_err();
        assert!(matches!(away, Away::Bus(_)), "{away:?}");
        world.clock.advance(6_000);
    }
    assert_eq!(world.pending().await, 3);
    world.bus.down.store(false, Ordering::SeqCst);
    assert_eq!(world.pass().await, 3);
    assert_eq!(world.pending().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_bus_is_away_what_derives_from_entries_is_appended() {
    let mut world = World::new();
    world.commit_group().await;
    let (user, role) = (UserId::generate(), Role::Member);
    let added = Change::member_added(user, role);
    world.commit(world.group, vec![added]).await;
    while world.pending().await > 0 {
        world.pass().await;
        world.clock.advance(6_000);
    }
    let before = world.store.head(world.channel.into()).await.unwrap().seq;
    world.bus.down.store(true, Ordering::SeqCst);
    world.commit_messages(1).await;
    world.relay.pass().await.unwrap_err();

    let removed = Change::MemberRemoved { user };
    world.commit(world.group, vec![removed]).await;
    let away = world.relay.pass().await.unwrap_err();
    assert!(matches!(away, Away::Bus(_)), "{away:?}");
    let channel = world.channel.into();
    let entries = world.store.entries(channel, before, 99, 9).await.unwrap();
    let fence = Change::MembersChanged { gv: 3 };
    assert!(entries.iter().any(|entry| entry.change == fence));
    let waiting = world.store.pending_in(world.group.into(), 0, 9).await;
    assert_eq!(waiting.unwrap().len(), 1);
    assert_eq!(world.bus.published_of(world.group), [1, 2]);

    world.bus.down.store(false, Ordering::SeqCst);
    assert!(world.pass().await > 0);
    assert_eq!(world.bus.published_of(world.group), [1, 2, 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_confirmed_is_left_alone_for_five_seconds() {
    let mut world = World::new();
    world.commit_group().await;
    assert_eq!(world.pass().await, 1);
    world.commit_messages(3).await;
    world.bus.down.store(true, Ordering::SeqCst);
    world.relay.pass().await.unwrap_err();
    world.bus.down.store(false, Ordering::SeqCst);
    assert_eq!(world.pass().await, 0, "it has just been taken in hand");
    world.clock.advance(5_000);
    assert_eq!(world.pass().await, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_settled_whose_recipients_are_not_known() {
    let mut world = World::new();
    world.commit(world.channel, messages(1, "")).await;
    assert_eq!(world.pass().await, 0);
    assert_eq!(world.pending().await, 1);
}
