//! Edits, deletions and reactions.

use std::sync::Arc;

use super::fixture::{
    after, all, apply, at, channel, channel_id, check_both_ways, commit, edit, fence, fill, text,
};
use crate::domain::{
    Change, Entry, Mentions, MessageState, Reacting, ReactionCount, StreamId, UserId,
};
use crate::store::{IdWindow, Store, Window};

/// The state of message 1.
async fn state(store: &dyn Store, stream: StreamId) -> MessageState {
    let mut found = store.messages_at(channel_id(stream), &[1]).await.unwrap();
    found.remove(0).state
}

fn reaction(emoji: &str, present: bool) -> Change {
    let (message, now) = (1, ReactionCount::nobody(emoji));
    if present {
        Change::ReactionAdded { message, now }
    } else {
        Change::ReactionRemoved { message, now }
    }
}

fn count(emoji: &str, count: u32, users: &[UserId]) -> ReactionCount {
    ReactionCount {
        emoji: emoji.to_owned(),
        count,
        users: users.to_vec(),
    }
}

fn content(entry: &Entry) -> Option<&str> {
    match &entry.change {
        Change::MessageEdited { content, .. } => content.as_deref(),
        other => panic!("{other:?}"),
    }
}

pub(in crate::store) async fn an_edit_moves_its_content_into_the_message(store: Arc<dyn Store>) {
    let stream = channel();
    fill(&*store, stream, [text("old"), edit(1, "new")]).await;
    let entries = all(&*store, stream).await;
    assert_eq!(content(&entries[1]), Some("new"), "until it is applied");
    assert_eq!(state(&*store, stream).await.content, "old");

    apply(&*store, &entries[1]).await;
    let expected = MessageState {
        content: "new".to_owned(),
        edited_at: Some(at(500)),
        applied: 2,
        ..MessageState::default()
    };
    assert_eq!(state(&*store, stream).await, expected);
    let entries = all(&*store, stream).await;
    assert_eq!(content(&entries[1]), None);

    // Whoever read it after that applies it without content.
    apply(&*store, &entries[1]).await;
    assert_eq!(state(&*store, stream).await, expected);
}

pub(in crate::store) async fn an_edit_moves_whom_it_mentions_into_the_message(
    store: Arc<dyn Store>,
) {
    let stream = channel();
    let whom = |users: &[UserId], everyone| Mentions {
        users: users.to_vec(),
        everyone,
    };
    let (one, two) = (UserId::generate(), UserId::generate());
    let first = whom(&[one], true);
    let message = Change::MessageCreated(Box::new(MessageState {
        content: "old".to_owned(),
        mentions: first.clone(),
        ..MessageState::default()
    }));
    let second = whom(&[two, one], false);
    let edited = Change::MessageEdited {
        message: 1,
        content: Some("new".to_owned()),
        mentions: second.clone(),
        edited_at: at(500),
    };
    let run = fill(&*store, stream, [message, edited.clone()]).await;
    assert_eq!(state(&*store, stream).await.mentions, first);
    assert_eq!(all(&*store, stream).await[1].change, edited);
    for _ in 0..2 {
        apply(&*store, &run[1]).await;
        assert_eq!(state(&*store, stream).await.mentions, second);
        let left = all(&*store, stream).await.remove(1).change;
        let expected = Change::MessageEdited {
            message: 1,
            content: None,
            mentions: Mentions::default(),
            edited_at: at(500),
        };
        assert_eq!(left, expected);
    }
    commit(&*store, stream, one, Change::MessageDeleted { message: 1 }).await;
    let now = state(&*store, stream).await;
    assert_eq!(now.mentions, Mentions::default());
}

pub(in crate::store) async fn a_late_or_repeated_edit_changes_nothing(store: Arc<dyn Store>) {
    let stream = channel();
    let changes = [text("old"), edit(1, "first"), edit(1, "second")];
    let run = fill(&*store, stream, changes).await;
    apply(&*store, &run[1]).await;
    apply(&*store, &run[2]).await;
    for late in [&run[1], &run[2], &run[1]] {
        apply(&*store, late).await;
        assert_eq!(state(&*store, stream).await.content, "second");
        assert_eq!(state(&*store, stream).await.applied, 3);
    }
}

pub(in crate::store) async fn every_read_shows_a_message_as_it_is_now(store: Arc<dyn Store>) {
    let stream = channel();
    let user = UserId::generate();
    let message = fill(&*store, stream, [text("old")]).await.remove(0);
    commit(&*store, stream, user, edit(1, "new")).await;
    let now = state(&*store, stream).await;
    assert_eq!(now.content, "new");
    let newest = store.newest(stream, 2).await.unwrap().remove(1);
    let found = store.find(stream, message.key).await.unwrap().unwrap();
    let pending = store.pending_in(stream, 0, 1).await.unwrap().remove(0);
    let claimable = store
        .pending(at(99), None, 1)
        .await
        .unwrap()
        .items
        .remove(0);
    let listed = all(&*store, stream).await.remove(0);
    for entry in [newest, found, pending, claimable.entry, listed] {
        assert_eq!(entry.change, Change::MessageCreated(Box::new(now.clone())));
    }
    let page = store.messages(channel_id(stream), Window::Newest, 1).await;
    assert_eq!(page.unwrap().items[0].state, now);
}

pub(in crate::store) async fn a_deletion_reaches_every_copy(store: Arc<dyn Store>) {
    let stream = channel();
    let user = UserId::generate();
    let message = Change::MessageCreated(Box::new(MessageState {
        content: "secret".to_owned(),
        reply_to: Some(7),
        mentions: Mentions {
            users: vec![user],
            everyone: true,
        },
        ..MessageState::default()
    }));
    fill(&*store, stream, [message, text("other"), edit(2, "kept")]).await;
    commit(&*store, stream, user, reaction("👍", true)).await;
    commit(&*store, stream, user, edit(1, "secret too")).await;
    // One edit was never applied, though somebody settled it.
    let unapplied = fill(&*store, stream, [edit(1, "secret as well")]).await;
    store.settle(&[(stream, unapplied[0].seq)]).await.unwrap();
    let deletion = commit(&*store, stream, user, Change::MessageDeleted { message: 1 }).await;

    let expected = MessageState {
        reply_to: Some(7),
        edited_at: Some(at(500)),
        deleted: true,
        applied: deletion.seq,
        ..MessageState::default()
    };
    assert_eq!(state(&*store, stream).await, expected);
    let entries = all(&*store, stream).await;
    let newest = store.newest(stream, 99).await.unwrap();
    let pending = store.pending(at(999), None, 99).await.unwrap();
    let pages = store.messages(channel_id(stream), Window::Newest, 99).await;
    let everything = format!("{entries:?} {newest:?} {pending:?} {:?}", pages.unwrap());
    assert!(!everything.contains("secret"), "{everything}");
    assert_eq!(content(&entries[2]), Some("kept"), "another message's edit");

    // It arrives late, with the content it once had.
    apply(&*store, &unapplied[0]).await;
    assert_eq!(state(&*store, stream).await, expected);
}

pub(in crate::store) async fn a_deleted_message_stays_deleted(store: Arc<dyn Store>) {
    let stream = channel();
    let user = UserId::generate();
    fill(&*store, stream, [text("old")]).await;
    commit(&*store, stream, user, reaction("👍", true)).await;
    commit(&*store, stream, user, Change::MessagePinned { message: 1 }).await;
    let deletion = commit(&*store, stream, user, Change::MessageDeleted { message: 1 }).await;
    let edited = commit(&*store, stream, user, edit(1, "back")).await;
    let pinned = commit(&*store, stream, user, Change::MessagePinned { message: 1 }).await;
    let reacted = commit(&*store, stream, user, reaction("👎", true)).await;
    for again in [&deletion, &edited, &pinned, &reacted] {
        let expected = MessageState {
            deleted: true,
            applied: reacted.seq,
            ..MessageState::default()
        };
        assert_eq!(state(&*store, stream).await, expected);
        apply(&*store, again).await;
    }
    let entries = all(&*store, stream).await;
    assert_eq!(content(&entries[4]), None);
}

pub(in crate::store) async fn who_reacts_is_told_in_pages(store: Arc<dyn Store>) {
    let stream = channel();
    let of = channel_id(stream);
    fill(&*store, stream, [text("a"), text("b")]).await;
    let mut users: Vec<UserId> = (0..6).map(|_| UserId::generate()).collect();
    let mut order = users.clone();
    fastrand::shuffle(&mut order);
    for user in &order {
        commit(&*store, stream, *user, reaction("👍", true)).await;
    }
    let gone = order.remove(1);
    users.retain(|user| *user != gone);
    commit(&*store, stream, gone, reaction("👍", false)).await;
    commit(&*store, stream, gone, reaction("🎉", true)).await;
    let read = async |window, limit| {
        let found = store.reactors(of, 1, "👍", window, limit).await;
        found.unwrap()
    };
    check_both_ways(&users, UserId::generate, read).await;

    for (user, already) in [(order[4], true), (gone, false)] {
        let reacting = store.reacting(of, 1, "👍", user).await.unwrap();
        let first = order[..4].to_vec();
        assert_eq!(reacting, Reacting { already, first });
    }
    for (message, emoji) in [(1, "❤"), (2, "👍"), (9, "👍")] {
        let found = store.reactors(of, message, emoji, IdWindow::First, 9).await;
        assert_eq!(found.unwrap(), []);
        let reacting = store.reacting(of, message, emoji, gone).await.unwrap();
        assert_eq!(reacting, Reacting::default());
    }

    commit(&*store, stream, gone, Change::MessageDeleted { message: 1 }).await;
    for emoji in ["👍", "🎉"] {
        let found = store.reactors(of, 1, emoji, IdWindow::First, 9).await;
        assert_eq!(found.unwrap(), []);
    }
}

pub(in crate::store) async fn reactions_are_counted_and_the_first_three_named(
    store: Arc<dyn Store>,
) {
    let stream = channel();
    fill(&*store, stream, [text("a"), fence()]).await;
    let users: Vec<UserId> = (0..5).map(|_| UserId::generate()).collect();
    // Not in the order of their ids.
    let order = [3, 1, 4, 0, 2].map(|n: usize| users[n]);
    for user in order {
        commit(&*store, stream, user, reaction("👍", true)).await;
    }
    let all_five = count("👍", 5, &order[..3]);
    assert_eq!(state(&*store, stream).await.reactions, [all_five]);

    commit(&*store, stream, order[1], reaction("👍", false)).await;
    let without = count("👍", 4, &[order[0], order[2], order[3]]);
    assert_eq!(
        state(&*store, stream).await.reactions,
        std::slice::from_ref(&without)
    );

    // Who comes back stands at the end.
    commit(&*store, stream, order[1], reaction("👍", true)).await;
    let again = ReactionCount {
        count: 5,
        ..without
    };
    assert_eq!(
        state(&*store, stream).await.reactions,
        std::slice::from_ref(&again)
    );

    // Reacting twice is reacting once.
    let twice = commit(&*store, stream, order[0], reaction("👍", true)).await;
    let after = state(&*store, stream).await;
    assert_eq!((after.reactions, after.applied), (vec![again], twice.seq));
}

pub(in crate::store) async fn an_emoji_keeps_its_place_while_it_is_used(store: Arc<dyn Store>) {
    let stream = channel();
    fill(&*store, stream, [text("a")]).await;
    let (one, two) = (UserId::generate(), UserId::generate());
    commit(&*store, stream, one, reaction("👍", true)).await;
    commit(&*store, stream, one, reaction("🎉", true)).await;
    commit(&*store, stream, two, reaction("👍", true)).await;
    commit(&*store, stream, one, reaction("👍", false)).await;
    let reactions = state(&*store, stream).await.reactions;
    assert_eq!(reactions, [count("👍", 1, &[two]), count("🎉", 1, &[one])]);

    commit(&*store, stream, two, reaction("👍", false)).await;
    let reactions = state(&*store, stream).await.reactions;
    assert_eq!(reactions, [count("🎉", 1, &[one])]);

    commit(&*store, stream, two, reaction("👍", true)).await;
    let reactions = state(&*store, stream).await.reactions;
    assert_eq!(reactions, [count("🎉", 1, &[one]), count("👍", 1, &[two])]);
}

pub(in crate::store) async fn a_repeated_reaction_changes_nothing(store: Arc<dyn Store>) {
    let stream = channel();
    fill(&*store, stream, [text("a")]).await;
    let (one, two) = (UserId::generate(), UserId::generate());
    let history = [
        commit(&*store, stream, one, reaction("👍", true)).await,
        commit(&*store, stream, two, reaction("👍", true)).await,
        commit(&*store, stream, one, reaction("👍", false)).await,
    ];
    let expected = state(&*store, stream).await;
    assert_eq!(expected.reactions, [count("👍", 1, &[two])]);
    for late in &history {
        apply(&*store, late).await;
        assert_eq!(state(&*store, stream).await, expected);
    }
}

pub(in crate::store) async fn a_late_or_repeated_pin_changes_nothing(store: Arc<dyn Store>) {
    let stream = channel();
    fill(&*store, stream, [text("a")]).await;
    let user = UserId::generate();
    let history = [
        commit(&*store, stream, user, Change::MessagePinned { message: 1 }).await,
        commit(
            &*store,
            stream,
            user,
            Change::MessageUnpinned { message: 1 },
        )
        .await,
    ];
    for late in &history {
        apply(&*store, late).await;
        let now = state(&*store, stream).await;
        assert_eq!((now.pinned, now.applied), (false, 3));
        let listed = store.pinned(channel_id(stream), Window::Newest, 9).await;
        assert_eq!(listed.unwrap().items, []);
    }
    let again = commit(&*store, stream, user, Change::MessagePinned { message: 1 }).await;
    apply(&*store, &history[1]).await;
    let now = state(&*store, stream).await;
    assert_eq!((now.pinned, now.applied), (true, again.seq));
}

pub(in crate::store) async fn changes_of_what_is_no_message_have_no_effect(store: Arc<dyn Store>) {
    let stream = channel();
    fill(&*store, stream, [fence(), text("2")]).await;
    let before = all(&*store, stream).await;
    for message in [1, 77, u64::MAX] {
        let changes = [
            Change::MessageDeleted { message },
            edit(message, "nowhere"),
            Change::ReactionAdded {
                message,
                now: ReactionCount::nobody("👍"),
            },
            Change::MessagePinned { message },
        ];
        for change in changes {
            let entry = after(stream, before[1].head(), change);
            apply(&*store, &entry).await;
        }
    }
    assert_eq!(all(&*store, stream).await, before);
}
