//! Clocks that do not agree.

use std::time::Duration;

use tokio::time::Instant;

use super::harness::World;

/// How far the relay's clock is behind that of who committed.
const BEHIND_MS: i64 = 600_000;

/// Passes until `count` entries are finished; returns how long that took.
async fn until_finished(world: &mut World, count: usize) -> Duration {
    let since = Instant::now();
    let mut finished = 0;
    while finished < count {
        assert!(since.elapsed() < Duration::from_secs(10), "{finished}");
        finished += world.pass().await;
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    since.elapsed()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_the_future_for_this_clock_is_announced_once_seen_for_five_seconds() {
    let mut world = World::new();
    world.commit_group().await;
    assert_eq!(world.pass().await, 1);
    world.clock.advance(-BEHIND_MS);
    world.commit_messages(3).await;
    let took = until_finished(&mut world, 3).await;
    assert!(took >= Duration::from_secs(5), "{took:?}");
    assert_eq!(world.bus.published_of(world.channel), [1, 2, 3]);
    assert_eq!(world.pending().await, 0);
}
