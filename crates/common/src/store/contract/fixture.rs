//! Entries to append.

use crate::domain::{
    Change, ChannelId, Entry, EntryId, Head, Key, Mentions, MessageState, RequestHash, StreamId,
    Timestamp, UserId,
};
use crate::store::{IdWindow, Store, project};

/// When the entry at `seq` was made.
pub(in crate::store) fn at(seq: u64) -> Timestamp {
    Timestamp::from_millis(1_795_262_400_000 + i64::try_from(seq).unwrap())
}

pub(in crate::store) fn channel() -> StreamId {
    StreamId::Channel(ChannelId::generate())
}

pub(in crate::store) fn channel_id(stream: StreamId) -> ChannelId {
    match stream {
        StreamId::Channel(id) => id,
        _ => panic!("{stream} is no channel"),
    }
}

pub(in crate::store) fn text(content: &str) -> Change {
    Change::MessageCreated(Box::new(MessageState {
        content: content.to_owned(),
        ..MessageState::default()
    }))
}

pub(in crate::store) fn fence() -> Change {
    Change::MembersChanged { gv: 1 }
}

pub(in crate::store) fn edit(message: u64, content: &str) -> Change {
    Change::MessageEdited {
        message,
        content: Some(content.to_owned()),
        mentions: Mentions::default(),
        edited_at: at(500),
    }
}

/// The entry behind `head`, by somebody new.
pub(in crate::store) fn after(stream: StreamId, head: Head, change: Change) -> Entry {
    let head = head.after(&change, 1);
    Entry {
        id: EntryId::generate(),
        stream,
        seq: head.seq,
        at: at(head.seq),
        actor: Some(UserId::generate()),
        key: Key::unique(),
        request: Some(RequestHash::of("POST", &[b"body"])),
        gv: head.gv,
        ord: head.ord,
        change,
    }
}

/// A run of entries behind `head`.
pub(in crate::store) fn run(
    stream: StreamId,
    mut head: Head,
    changes: impl IntoIterator<Item = Change>,
) -> Vec<Entry> {
    let mut run = Vec::new();
    for change in changes {
        let entry = after(stream, head, change);
        head = entry.head();
        run.push(entry);
    }
    run
}

/// Appends a run at the stream's head and expects all of it to land.
pub(in crate::store) async fn fill(
    store: &dyn Store,
    stream: StreamId,
    changes: impl IntoIterator<Item = Change>,
) -> Vec<Entry> {
    let run = run(stream, store.head(stream).await.unwrap(), changes);
    let appended = store.append(run.clone()).await.unwrap();
    assert_eq!(appended.landed, run.len());
    run
}

/// Appends one entry by `actor` and applies it.
pub(in crate::store) async fn commit(
    store: &dyn Store,
    stream: StreamId,
    actor: UserId,
    change: Change,
) -> Entry {
    let mut entry = after(stream, store.head(stream).await.unwrap(), change);
    entry.actor = Some(actor);
    let appended = store.append(vec![entry.clone()]).await.unwrap();
    assert_eq!(appended.landed, 1);
    apply(store, &entry).await;
    entry
}

/// Above so many members a group is large in the contract's tests.
pub(in crate::store) const FANOUT_LIMIT: u64 = 100;

pub(in crate::store) async fn apply(store: &dyn Store, entry: &Entry) {
    apply_at(store, entry, FANOUT_LIMIT).await;
}

/// Above `fanout_limit` members a group is large.
pub(in crate::store) async fn apply_at(store: &dyn Store, entry: &Entry, fanout_limit: u64) {
    store
        .apply(entry.stream, entry.seq, project(entry, fanout_limit))
        .await
        .unwrap();
}

pub(in crate::store) async fn all(store: &dyn Store, stream: StreamId) -> Vec<Entry> {
    store
        .entries(stream, 0, u64::MAX, usize::MAX)
        .await
        .unwrap()
}

pub(in crate::store) fn seqs<'a>(entries: impl IntoIterator<Item = &'a Entry>) -> Vec<u64> {
    entries.into_iter().map(|entry| entry.seq).collect()
}

/// Reads a list that is to hold `expected` page by page, upwards and downwards, and from
/// bounds that it does not hold: one made by `newer` is above all.
pub(in crate::store) async fn check_both_ways<T>(
    expected: &[T],
    newer: impl Fn() -> T,
    read: impl AsyncFn(IdWindow<T>, usize) -> Vec<T>,
) where
    T: Copy + Ord + std::fmt::Debug,
{
    for limit in [1, 3, expected.len(), usize::MAX] {
        let mut upwards = Vec::new();
        loop {
            let page = read(IdWindow::following(upwards.last().copied()), limit).await;
            if page.is_empty() {
                break;
            }
            assert!(page.len() <= limit);
            upwards.extend(page);
        }
        assert_eq!(upwards, expected, "{limit}");
        let mut downwards = Vec::new();
        let mut bound = newer();
        loop {
            let mut page = read(IdWindow::Before(bound), limit).await;
            let Some(lowest) = page.first() else { break };
            bound = *lowest;
            assert!(page.is_sorted() && page.len() <= limit);
            page.append(&mut downwards);
            downwards = page;
        }
        assert_eq!(downwards, expected, "{limit}");
    }
    assert_eq!(read(IdWindow::After(newer()), 9).await, []);
    for window in [IdWindow::First, IdWindow::Before(newer())] {
        assert_eq!(read(window, 0).await, []);
    }
}
