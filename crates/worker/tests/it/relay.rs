//! What the relay does with what was abandoned.

use tidings_common::domain::{Change, Role, Seq, SessionId, StreamId, Timestamp, UserId};
use tidings_common::store::{Claim, Store};

use super::harness::{World, next};

#[tokio::test(flavor = "multi_thread")]
async fn abandoned_entries_are_applied_announced_and_settled() {
    let mut world = World::new();
    let mut deliveries = world.listen().await;
    world.commit_group().await;
    assert_eq!(world.store.group(world.group).await.unwrap(), None);

    assert_eq!(world.pass().await, 1);
    let group = world.store.group(world.group).await.unwrap().unwrap();
    assert!(group.members.contains_key(&world.user));
    assert_eq!(next(&mut deliveries).await, (world.group.into(), 1));

    world.commit_messages(3).await;
    assert_eq!(world.pass().await, 3);
    for seq in 1..=3 {
        assert_eq!(next(&mut deliveries).await, (world.channel.into(), seq));
    }
    assert_eq!(world.pending().await, 0);
    assert_eq!(world.pass().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn fresh_entries_are_left_to_those_who_committed_them() {
    let mut world = World::new();
    world.commit_group().await;
    world.clock.advance(-2_000);
    assert_eq!(world.pass().await, 0);
    world.clock.advance(2_000);
    assert_eq!(world.pass().await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_derives_from_an_abandoned_entry_is_appended() {
    let mut world = World::new();
    world.commit_group().await;
    let other = UserId::generate();
    let role = Role::Member;
    let added = Change::member_added(other, role);
    world.commit(world.group, vec![added]).await;
    let session = SessionId::generate();
    let login = Change::SessionCreated {
        session,
        device_name: "laptop".to_owned(),
    };
    let logout = Change::SessionRevoked { session };
    world.commit(world.user, vec![login, logout]).await;

    assert_eq!(world.pass().await, 4);
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
    let mut world = World::new();
    world.commit_group().await;
    assert_eq!(world.pass().await, 1);
    let mut deliveries = world.listen().await;
    world.commit_messages(101).await;
    assert_eq!(world.pass().await, 101);
    assert_eq!(next(&mut deliveries).await, (world.channel.into(), 101));
    assert_eq!(world.pending().await, 0);
}

/// Also where the pages of the relay (of 500) end with the stream.
#[tokio::test(flavor = "multi_thread")]
async fn of_a_backlog_of_many_pages_only_the_newest_is_announced() {
    for count in [1000, 1350] {
        let mut world = World::new();
        world.commit_group().await;
        assert_eq!(world.pass().await, 1);
        world.commit_messages(count).await;
        let mut finished = 0;
        while finished < count {
            finished += world.pass().await;
        }
        let announced = world.bus.published_of(world.channel);
        assert_eq!(announced, [count as Seq]);
        assert_eq!(world.pending().await, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_relays_share_the_work() {
    let mut world = World::new();
    world.commit_group().await;
    assert_eq!(world.pass().await, 1);
    world.commit_messages(99).await;
    let mut other = world.another_relay();
    let (one, two) = tokio::join!(world.relay.pass(), other.pass());
    assert_eq!(one.unwrap() + two.unwrap(), 99);
    assert_eq!(world.pending().await, 0);
    let published = world.bus.published();
    assert_eq!(published.len(), 100);
    let once = published.values().all(|times| *times == 1);
    assert!(once, "each entry is claimed once: {published:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_dies_with_a_claim_is_succeeded_after_five_seconds() {
    let mut world = World::new();
    world.commit_group().await;
    assert_eq!(world.pass().await, 1);
    world.commit_messages(3).await;
    let far = Timestamp::from_millis(i64::MAX);
    let found = world.store.pending(far, None, 9).await.unwrap().items;
    let claims: Vec<Claim> = found
        .iter()
        .map(|found| Claim {
            stream: found.entry.stream,
            seq: found.entry.seq,
            seen: found.since,
        })
        .collect();
    let now = tidings_common::clock::Clock::now(&*world.clock);
    let store: &dyn Store = &*world.store;
    assert_eq!(store.claim(&claims, now).await.unwrap(), [true; 3]);
    assert_eq!(world.pass().await, 0);
    world.clock.advance(4_999);
    assert_eq!(world.pass().await, 0);
    world.clock.advance(1);
    assert_eq!(world.pass().await, 3);
}
