//! Pages of messages.

use std::sync::Arc;

use super::fixture::{channel, channel_id, commit, fence, fill, text};
use crate::domain::{Change, Message, MessageState, ReactionCount, StreamId, UserId, Version};
use crate::store::{Store, Window};

/// A channel with messages at 1, 2, 4, 5 and 7.
async fn history(store: &dyn Store) -> StreamId {
    let stream = channel();
    fill(store, channel(), [text("elsewhere")]).await;
    let changes = [
        text("1"),
        text("2"),
        fence(),
        text("4"),
        text("5"),
        Change::ReactionAdded {
            message: 5,
            now: ReactionCount::nobody("👍"),
        },
        text("7"),
        fence(),
    ];
    fill(store, stream, changes).await;
    stream
}

fn seqs(messages: &[Message]) -> Vec<u64> {
    messages.iter().map(|message| message.seq).collect()
}

async fn check(store: &dyn Store, stream: StreamId, cases: &[(Window, usize, &[u64], bool)]) {
    for (window, limit, expected, more) in cases {
        let page = store
            .messages(channel_id(stream), *window, *limit)
            .await
            .unwrap();
        assert_eq!(
            (seqs(&page.items).as_slice(), page.more),
            (*expected, *more),
            "{window:?}, {limit}"
        );
        for message in page.items {
            assert_eq!(message.state.content, message.seq.to_string());
        }
    }
}

pub(in crate::store) async fn pages_go_both_ways(store: Arc<dyn Store>) {
    let stream = history(&*store).await;
    let cases: &[(Window, usize, &[u64], bool)] = &[
        (Window::Newest, 2, &[5, 7], true),
        (Window::Newest, 5, &[1, 2, 4, 5, 7], false),
        (Window::Newest, usize::MAX, &[1, 2, 4, 5, 7], false),
        (Window::Before(5), 2, &[2, 4], true),
        (Window::Before(3), 2, &[1, 2], false),
        (Window::Before(1), 2, &[], false),
        (Window::Before(0), 2, &[], false),
        (Window::Before(u64::MAX), 1, &[7], true),
        (Window::After(0), 3, &[1, 2, 4], true),
        (Window::After(2), 3, &[4, 5, 7], false),
        (Window::After(7), 3, &[], false),
        (Window::After(u64::MAX), 3, &[], false),
    ];
    check(&*store, stream, cases).await;
    check(&*store, channel(), &[(Window::Newest, 3, &[], false)]).await;
}

pub(in crate::store) async fn a_page_around_a_message_has_two_halves(store: Arc<dyn Store>) {
    let stream = history(&*store).await;
    let cases: &[(Window, usize, &[u64], bool)] = &[
        (Window::Around(4), 4, &[1, 2, 4, 5], true),
        (Window::Around(4), 2, &[2, 4], true),
        (Window::Around(4), 6, &[1, 2, 4, 5, 7], false),
        (Window::Around(3), 2, &[2, 4], true),
        (Window::Around(1), 4, &[1, 2], true),
        (Window::Around(7), 4, &[4, 5, 7], true),
        (Window::Around(u64::MAX), 4, &[5, 7], true),
        (Window::Around(0), 20, &[1, 2, 4, 5, 7], false),
    ];
    check(&*store, stream, cases).await;
}

pub(in crate::store) async fn pages_hold_deleted_messages(store: Arc<dyn Store>) {
    let stream = history(&*store).await;
    let change = Change::MessageDeleted { message: 4 };
    commit(&*store, stream, UserId::generate(), change).await;
    let page = store
        .messages(channel_id(stream), Window::After(2), 2)
        .await
        .unwrap();
    assert_eq!(seqs(&page.items), [4, 5]);
    assert!(page.items[0].state.deleted);
}

pub(in crate::store) async fn pinned_messages_come_in_pages(store: Arc<dyn Store>) {
    let stream = history(&*store).await;
    let elsewhere = channel();
    fill(&*store, elsewhere, [text("1"), text("2")]).await;
    let pinned = async |stream, window, limit| {
        let found = store.pinned(channel_id(stream), window, limit).await;
        let page = found.unwrap();
        for message in &page.items {
            assert!(message.state.pinned && !message.state.deleted);
            assert_eq!(message.state.content, message.seq.to_string());
        }
        (seqs(&page.items), page.more)
    };
    assert_eq!(pinned(stream, Window::Newest, 9).await, (vec![], false));
    let user = UserId::generate();
    let pin = |message| Change::MessagePinned { message };
    let unpin = |message| Change::MessageUnpinned { message };
    for message in [5, 1, 7, 4, 5] {
        commit(&*store, stream, user, pin(message)).await;
    }
    commit(&*store, elsewhere, user, pin(2)).await;
    let cases: &[(Window, usize, &[u64], bool)] = &[
        (Window::Newest, 9, &[1, 4, 5, 7], false),
        (Window::Newest, 2, &[5, 7], true),
        (Window::Before(5), 1, &[4], true),
        (Window::Before(5), 2, &[1, 4], false),
        (Window::After(0), 2, &[1, 4], true),
        (Window::After(4), 9, &[5, 7], false),
        (Window::After(7), 9, &[], false),
        (Window::Around(5), 2, &[4, 5], true),
    ];
    for (window, limit, expected, more) in cases {
        let found = pinned(stream, *window, *limit).await;
        assert_eq!(found, (expected.to_vec(), *more), "{window:?}, {limit}");
    }
    commit(&*store, stream, user, unpin(4)).await;
    commit(&*store, stream, user, unpin(2)).await;
    commit(&*store, stream, user, Change::MessageDeleted { message: 1 }).await;
    assert_eq!(pinned(stream, Window::Newest, 9).await, (vec![5, 7], false));
    commit(&*store, stream, user, pin(1)).await;
    commit(&*store, stream, user, pin(4)).await;
    assert_eq!(
        pinned(stream, Window::Newest, 9).await,
        (vec![4, 5, 7], false)
    );
    assert_eq!(pinned(elsewhere, Window::Newest, 9).await, (vec![2], false));
    assert_eq!(pinned(channel(), Window::Newest, 9).await, (vec![], false));
}

pub(in crate::store) async fn messages_at_positions_come_ascending(store: Arc<dyn Store>) {
    let stream = channel();
    let run = fill(&*store, stream, [text("1"), fence(), text("3")]).await;
    let found = store
        .messages_at(channel_id(stream), &[3, 9, u64::MAX, 2, 1, 3, 0])
        .await
        .unwrap();
    assert_eq!(seqs(&found), [1, 3]);
    let message = &found[1];
    assert_eq!(message.id, run[2].id);
    assert_eq!(message.channel, channel_id(stream));
    assert_eq!(Some(message.author), run[2].actor);
    assert_eq!(message.created_at, run[2].at);
    assert_eq!(message.state.content, "3");
}

pub(in crate::store) async fn versions_tell_what_decides_a_message(store: Arc<dyn Store>) {
    let stream = history(&*store).await;
    let of = channel_id(stream);
    let reply = Change::MessageCreated(Box::new(MessageState {
        content: "9".to_owned(),
        reply_to: Some(2),
        ..MessageState::default()
    }));
    let user = UserId::generate();
    commit(&*store, stream, user, reply).await;
    let pinned = commit(&*store, stream, user, Change::MessagePinned { message: 5 }).await;
    let deleted = commit(&*store, stream, user, Change::MessageDeleted { message: 2 }).await;
    let version = |seq, applied, reply_to| Version {
        seq,
        applied,
        reply_to,
    };
    let all = [
        version(1, 0, None),
        version(2, deleted.seq, None),
        version(4, 0, None),
        version(5, pinned.seq, None),
        version(7, 0, None),
        version(9, 0, Some(2)),
    ];
    for (after, through, expected) in [
        (0, u64::MAX, &all[..]),
        (0, 9, &all),
        (1, 5, &all[1..4]),
        (2, 3, &[]),
        (9, 99, &[]),
        (u64::MAX, u64::MAX, &[]),
    ] {
        let found = store.versions(of, after, through).await.unwrap();
        assert_eq!(found, expected, "{after} {through}");
    }
    let found = store.versions_at(of, &[9, 3, 2, 77, 2, u64::MAX]).await;
    assert_eq!(found.unwrap(), [all[1], all[5]]);
    assert_eq!(store.versions_at(of, &[]).await.unwrap(), []);
    let messages = store.messages_at(of, &[1, 2, 4, 5, 7, 9]).await.unwrap();
    let versions: Vec<Version> = messages.iter().map(Version::from).collect();
    assert_eq!(versions, all);
}
