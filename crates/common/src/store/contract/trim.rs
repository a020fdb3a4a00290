//! Trimming.

use std::sync::Arc;

use futures_util::future::try_join_all;

use super::fixture::{all, at, channel, fence, fill, seqs, text};
use crate::domain::{StreamId, Timestamp};
use crate::store::{Old, Store};

async fn settle_all(store: &dyn Store, stream: StreamId) {
    let pending = store.pending_in(stream, 0, usize::MAX).await.unwrap();
    let settled: Vec<_> = pending.iter().map(|entry| (stream, entry.seq)).collect();
    store.settle(&settled).await.unwrap();
}

pub(in crate::store) async fn trimming_spares_messages_and_pending_entries(store: Arc<dyn Store>) {
    let (stream, other) = (channel(), channel());
    let changes = || [fence(), text("2"), fence(), fence(), fence(), fence()];
    fill(&*store, stream, changes()).await;
    fill(&*store, other, changes()).await;
    settle_all(&*store, other).await;
    let settled = [1, 2, 4, 5, 6].map(|seq| (stream, seq));
    store.settle(&settled).await.unwrap();

    assert_eq!(store.trim(stream, 4).await.unwrap(), 2);
    assert_eq!(store.floor(stream).await.unwrap(), 4);
    assert_eq!(seqs(&all(&*store, stream).await), [2, 3, 5, 6]);
    assert_eq!(store.trim(stream, 4).await.unwrap(), 0);

    // What was pending goes with the next trim, even of less.
    store.settle(&[(stream, 3)]).await.unwrap();
    assert_eq!(store.trim(stream, 1).await.unwrap(), 1);
    assert_eq!(seqs(&all(&*store, stream).await), [2, 5, 6]);
    assert_eq!(all(&*store, other).await.len(), 6);
}

pub(in crate::store) async fn a_head_survives_trimming_everything(store: Arc<dyn Store>) {
    let stream = channel();
    let run = fill(&*store, stream, [text("1"), fence(), fence(), fence()]).await;
    settle_all(&*store, stream).await;
    assert_eq!(store.trim(stream, u64::MAX).await.unwrap(), 2);
    assert_eq!(seqs(&all(&*store, stream).await), [1, 4]);
    assert_eq!(store.head(stream).await.unwrap(), run[3].head());
    assert_eq!(store.heads(&[stream]).await.unwrap(), [4]);
    let next = fill(&*store, stream, [text("5")]).await;
    assert_eq!((next[0].seq, next[0].ord), (5, 2));
}

pub(in crate::store) async fn the_floor_never_falls(store: Arc<dyn Store>) {
    let stream = channel();
    fill(&*store, stream, (0..5).map(|_| fence())).await;
    for (through, floor) in [(0, 0), (3, 3), (1, 3), (0, 3), (4, 4)] {
        store.trim(stream, through).await.unwrap();
        assert_eq!(store.floor(stream).await.unwrap(), floor, "{through}");
    }
    assert_eq!(all(&*store, stream).await.len(), 5, "all are pending");
}

pub(in crate::store) async fn the_floor_stays_under_the_head(store: Arc<dyn Store>) {
    let stream = channel();
    assert_eq!(store.trim(stream, 9).await.unwrap(), 0);
    assert_eq!(store.floor(stream).await.unwrap(), 0);
    fill(&*store, stream, [fence()]).await;
    settle_all(&*store, stream).await;
    assert_eq!(store.trim(stream, 9).await.unwrap(), 0);
    assert_eq!(store.floor(stream).await.unwrap(), 0);
    fill(&*store, stream, [fence()]).await;
    assert_eq!(store.trim(stream, 9).await.unwrap(), 1);
    assert_eq!(store.floor(stream).await.unwrap(), 1);
}

pub(in crate::store) async fn a_long_stream_is_trimmed_at_once(store: Arc<dyn Store>) {
    let stream = channel();
    for _ in 0..6 {
        fill(&*store, stream, (0..200).map(|_| fence())).await;
    }
    settle_all(&*store, stream).await;
    assert_eq!(store.trim(stream, 1199).await.unwrap(), 1199);
    assert_eq!(seqs(&all(&*store, stream).await), [1200]);
}

pub(in crate::store) async fn trimming_twice_at_once_does_no_harm(store: Arc<dyn Store>) {
    let stream = channel();
    for _ in 0..6 {
        fill(&*store, stream, (0..200).map(|_| fence())).await;
    }
    settle_all(&*store, stream).await;
    let trims = [1000, 1199, 900, 1199].map(|through| store.trim(stream, through));
    let deleted = try_join_all(trims).await.unwrap();
    assert_eq!(deleted.into_iter().sum::<u64>(), 1199);
    assert_eq!(store.floor(stream).await.unwrap(), 1199);
    assert_eq!(seqs(&all(&*store, stream).await), [1200]);
}

/// All pages of so many entries.
async fn old(store: &dyn Store, before: Timestamp, limit: usize) -> Vec<Old> {
    let mut found = Vec::new();
    let mut after = None;
    loop {
        let page = store.old_entries(before, after, limit).await.unwrap();
        found.extend(page.streams);
        assert!(page.next.is_none() || page.next > after);
        after = page.next;
        if after.is_none() {
            return found;
        }
    }
}

pub(in crate::store) async fn old_entries_are_found_in_pages(store: Arc<dyn Store>) {
    let mut streams = [channel(), channel(), channel()];
    streams.sort_by_key(|stream| stream.to_bytes());
    let [mixed, messages, others] = streams;
    let changes = || [fence(), text("2"), fence(), fence(), text("5"), fence()];
    fill(&*store, mixed, changes()).await;
    fill(&*store, messages, (0..3).map(|_| text("a"))).await;
    fill(&*store, others, (0..2).map(|_| fence())).await;
    let part = |stream, first, through| Old {
        stream,
        first,
        through,
    };
    // An entry at 4 was made at 4.
    let expected = [part(mixed, 1, 3), part(others, 1, 2)];
    for limit in [3, 4, 6, 7, 100] {
        assert_eq!(old(&*store, at(4), limit).await, expected, "{limit}");
    }
    let expected = [part(mixed, 1, 1), part(mixed, 3, 3)];
    assert_eq!(old(&*store, at(4), 1).await[..2], expected);
    assert_eq!(old(&*store, at(1), 9).await, []);
    let all = [part(mixed, 1, 6), part(others, 1, 2)];
    assert_eq!(old(&*store, at(7), 9).await, all);
}

pub(in crate::store) async fn behind_a_young_entry_nobody_looks(store: Arc<dyn Store>) {
    let stream = channel();
    fill(&*store, stream, (0..200).map(|_| fence())).await;
    let page = store.old_entries(at(3), None, 50).await.unwrap();
    let old = Old {
        stream,
        first: 1,
        through: 2,
    };
    assert_eq!(page.streams, [old]);
    assert_eq!(page.next, Some((stream, u64::MAX)));
    let rest = store.old_entries(at(3), page.next, 50).await.unwrap();
    assert_eq!((rest.streams, rest.next), (vec![], None));
}
