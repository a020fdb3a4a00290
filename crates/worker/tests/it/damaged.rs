//! Entries that cannot be read.

use tidings_common::domain::{Change, ChannelId, Mentions, Seq, UserId};

use super::harness::{Scratch, World, commit, damage, messages, next, then};

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_holds_up_nobody_else() {
    // More than a page of them, in a stream that comes before those of groups.
    const UNREADABLE: usize = 501;
    let scratch = Scratch::new();
    let store = scratch.open();
    let broken = ChannelId::generate().into();
    let spoilt = messages(UNREADABLE, "spoil me");
    commit(&*store, UserId::generate(), broken, spoilt, then()).await;
    drop(store);
    // Pages that are in use no more may hold some of them twice.
    assert!(damage(&scratch.file(), b"spoil me") >= UNREADABLE);

    let mut world = World::over(scratch);
    let mut deliveries = world.listen().await;
    world.commit_group().await;
    assert_eq!(world.pass().await, 1);
    assert_eq!(next(&mut deliveries).await, (world.group.into(), 1));
    assert_eq!(world.pending().await, 0);
    let heads = world.store.heads(&[broken]).await.unwrap();
    assert_eq!(heads, [UNREADABLE as Seq]);
}

/// A channel of one readable message and these changes, whose contents `spoil me` cannot be
/// read; returns the positions that a pass announces.
async fn announced(changes: Vec<Change>) -> (Vec<Seq>, World) {
    let scratch = Scratch::new();
    let store = scratch.open();
    let (user, channel) = (UserId::generate(), ChannelId::generate());
    let mut all = messages(1, "fine");
    all.extend(changes);
    commit(&*store, user, channel.into(), all, then()).await;
    drop(store);
    assert!(damage(&scratch.file(), b"spoil me") >= 1);
    let mut world = World::over(scratch);
    (world.user, world.channel) = (user, channel);
    world.commit_group().await;
    // The channel comes first and waits for its group.
    world.pass().await;
    world.clock.advance(6_000);
    world.relay = world.another_relay();
    world.pass().await;
    let announced = world.bus.published_of(channel);
    (announced, world)
}

fn edit(message: Seq, content: &str) -> Change {
    Change::MessageEdited {
        message,
        content: Some(content.to_owned()),
        mentions: Mentions::default(),
        edited_at: then(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_change_holds_up_the_changes_behind_it_alone() {
    let mut changes = vec![edit(1, "before"), edit(1, "spoil me"), edit(1, "after")];
    changes.extend(messages(1, "also fine"));
    let (announced, world) = announced(changes).await;
    assert_eq!(announced, [1, 2, 5]);
    let message = world.store.messages_at(world.channel, &[1]).await.unwrap();
    assert_eq!(message[0].state.content, "before");
    assert_eq!(world.pending().await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_message_holds_up_nothing() {
    let mut changes = messages(1, "spoil me");
    changes.extend([edit(1, "after"), edit(2, "who knows")]);
    changes.extend(messages(1, "also fine"));
    let (announced, world) = announced(changes).await;
    assert!(announced.starts_with(&[1, 3]), "{announced:?}");
    assert!(announced.ends_with(&[5]), "{announced:?}");
    let message = world.store.messages_at(world.channel, &[1]).await.unwrap();
    assert_eq!(message[0].state.content, "after");
}
