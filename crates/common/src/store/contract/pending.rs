//! Pending entries: claims and settling.

use std::sync::Arc;

use futures_util::future::join_all;

use super::fixture::{after, at, channel, fence, fill, seqs, text};
use crate::domain::{Entry, EntryId, GroupId, Head, Seq, StreamId, Timestamp, UserId};
use crate::store::{Claim, Pending, Store};

/// A time by which all entries have been made, as `fixture::at` counts.
const LATE: u64 = 1_000_000;

pub(in crate::store) async fn entries_are_pending_since_they_were_made(store: Arc<dyn Store>) {
    let stream = channel();
    let run = fill(&*store, stream, [text("a"), fence()]).await;
    let found = store.pending(at(LATE), None, 10).await.unwrap().items;
    assert_eq!(found.len(), 2);
    for (pending, entry) in found.iter().zip(&run) {
        assert_eq!((&pending.entry, pending.since), (entry, entry.at));
    }
    // The first was made at 1: "since before or earlier".
    for (before, expected) in [(0, vec![]), (1, vec![1]), (2, vec![1, 2])] {
        let found = store.pending(at(before), None, 10).await.unwrap().items;
        assert_eq!(seqs(found.iter().map(|found| &found.entry)), expected);
    }
}

pub(in crate::store) async fn settled_entries_are_pending_no_more(store: Arc<dyn Store>) {
    let stream = channel();
    fill(&*store, stream, [text("a"), fence(), text("b")]).await;
    let settled = [(stream, 1), (stream, 3), (stream, 9), (channel(), 1)];
    for _ in 0..2 {
        store.settle(&settled).await.unwrap();
        let found = store.pending_in(stream, 0, 10).await.unwrap();
        assert_eq!(seqs(&found), [2]);
    }
    let found = store.pending(at(LATE), None, 10).await.unwrap().items;
    assert_eq!(seqs(found.iter().map(|found| &found.entry)), [2]);
    let entries = store.entries(stream, 0, 9, 9).await.unwrap();
    assert_eq!(seqs(&entries), [1, 2, 3]);
}

pub(in crate::store) async fn pending_entries_of_a_stream_come_in_pages(store: Arc<dyn Store>) {
    let stream = channel();
    fill(&*store, channel(), [fence()]).await;
    fill(&*store, stream, (0..6).map(|_| text("a"))).await;
    store.settle(&[(stream, 3)]).await.unwrap();
    for (after, limit, expected) in [
        (0, 2, vec![1, 2]),
        (2, 2, vec![4, 5]),
        (5, 2, vec![6]),
        (u64::MAX, 2, vec![]),
        (0, 0, vec![]),
    ] {
        let found = store.pending_in(stream, after, limit).await.unwrap();
        assert_eq!(seqs(&found), expected, "after {after}, {limit}");
    }
}

pub(in crate::store) async fn streams_with_pending_entries_are_told_apart(store: Arc<dyn Store>) {
    let [waiting, settled, empty] = [channel(), channel(), channel()];
    fill(&*store, waiting, [fence(), fence()]).await;
    fill(&*store, settled, [fence()]).await;
    fill(&*store, channel(), [fence()]).await;
    store.settle(&[(waiting, 1), (settled, 1)]).await.unwrap();
    let found = store.with_pending(&[empty, waiting, settled]).await;
    assert_eq!(found.unwrap(), [waiting]);
    assert_eq!(store.with_pending(&[]).await.unwrap(), []);
}

pub(in crate::store) async fn all_pending_entries_come_in_pages(store: Arc<dyn Store>) {
    let mut streams = vec![
        StreamId::User(UserId::generate()),
        StreamId::Group(GroupId::generate()),
        StreamId::Sessions,
        channel(),
        channel(),
    ];
    for stream in &streams {
        fill(&*store, *stream, (0..4).map(|_| fence())).await;
        store.settle(&[(*stream, 2)]).await.unwrap();
    }
    streams.sort_by_key(|stream| stream.to_bytes());
    let expected: Vec<(StreamId, Seq)> = streams
        .iter()
        .flat_map(|stream| [1, 3, 4].map(|seq| (*stream, seq)))
        .collect();
    for limit in [1, 2, 5, 100] {
        let mut found: Vec<(StreamId, Seq)> = Vec::new();
        let mut after = None;
        loop {
            let page = store.pending(at(LATE), after, limit).await.unwrap();
            assert!(page.items.len() <= limit);
            let items = page.items.iter();
            found.extend(items.map(|found| (found.entry.stream, found.entry.seq)));
            after = page.next;
            if after.is_none() {
                break;
            }
            assert_eq!(after, found.last().copied());
        }
        assert_eq!(found, expected, "{limit}");
    }
}

pub(in crate::store) async fn a_claim_compares_when_it_was_last_taken(store: Arc<dyn Store>) {
    let stream = channel();
    fill(&*store, stream, (0..3).map(|_| fence())).await;
    store.settle(&[(stream, 3)]).await.unwrap();
    let claim = |seq, seen| Claim { stream, seq, seen };
    let claims = [
        claim(2, at(1)),
        claim(1, at(1)),
        claim(3, at(3)),
        claim(9, at(9)),
        claim(1, at(1)),
    ];
    let won = store.claim(&claims, at(50)).await.unwrap();
    assert_eq!(won, [false, true, false, false, false]);
    let found = store.pending(at(LATE), None, 9).await.unwrap().items;
    let since: Vec<_> = found.iter().map(|found| found.since).collect();
    assert_eq!(since, [at(50), at(2)]);
    // Those taken lately are left alone.
    let old = store.pending(at(49), None, 9).await.unwrap().items;
    assert_eq!(seqs(old.iter().map(|found| &found.entry)), [2]);
    assert_eq!(
        store.claim(&[claim(1, at(1))], at(60)).await.unwrap(),
        [false]
    );
    assert_eq!(
        store.claim(&[claim(1, at(50))], at(60)).await.unwrap(),
        [true]
    );
}

pub(in crate::store) async fn of_claims_at_the_time_seen_one_wins(store: Arc<dyn Store>) {
    let stream = channel();
    fill(&*store, stream, [fence()]).await;
    let seen = at(1);
    let claim = Claim {
        stream,
        seq: 1,
        seen,
    };
    let won = store.claim(&[claim, claim], seen).await.unwrap();
    assert_eq!(won, [true, false]);
    let found = store.pending(at(LATE), None, 9).await.unwrap().items;
    assert_eq!(found[0].since, at(2));
}

pub(in crate::store) async fn one_of_many_claims_wins(store: Arc<dyn Store>) {
    let stream = channel();
    let seqs: Vec<Seq> = (1..=20).collect();
    fill(&*store, stream, seqs.iter().map(|_| fence())).await;
    let claims: Vec<Claim> = seqs
        .iter()
        .map(|seq| Claim {
            stream,
            seq: *seq,
            seen: at(*seq),
        })
        .collect();
    let claimers = (0..8).map(|n| {
        let (store, claims) = (Arc::clone(&store), claims.clone());
        tokio::spawn(async move { store.claim(&claims, at(100 + n)).await.unwrap() })
    });
    let mut wins = vec![0; seqs.len()];
    for won in join_all(claimers).await {
        for (wins, won) in wins.iter_mut().zip(won.unwrap()) {
            *wins += u32::from(won);
        }
    }
    assert_eq!(wins, vec![1; seqs.len()]);
}

/// An entry of a stream of its own, with an id as of the time it was made.
fn made(millis: i64) -> Entry {
    let at = Timestamp::from_millis(1_000_000_000_000 + millis);
    let mut id = [0; 16];
    id[..6].copy_from_slice(&at.as_millis().to_be_bytes()[2..]);
    id[8..].copy_from_slice(&UserId::generate().as_bytes()[8..]);
    Entry {
        at,
        id: EntryId::from_bytes(id),
        ..after(channel(), Head::default(), text("a"))
    }
}

pub(in crate::store) async fn what_was_committed_lately_is_found(store: Arc<dyn Store>) {
    let entries: Vec<Entry> = [10, 20, 30, 40, 50].map(made).into();
    for entry in &entries {
        store.append(vec![entry.clone()]).await.unwrap();
    }
    store.settle(&[(entries[2].stream, 1)]).await.unwrap();
    let claim = Claim {
        stream: entries[4].stream,
        seq: 1,
        seen: entries[4].at,
    };
    // Who has taken it in hand, and when, is no matter.
    store.claim(&[claim], at(1)).await.unwrap();
    for (since, limit, expected) in [
        (0, 9, vec![0, 1, 3, 4]),
        (20, 9, vec![1, 3, 4]),
        (21, 9, vec![3, 4]),
        (51, 9, vec![]),
    ] {
        let since = Timestamp::from_millis(1_000_000_000_000 + since);
        let mut found = store.pending_lately(since, limit).await.unwrap();
        found.sort_by_key(|found| found.entry.at);
        let taken = |index: usize| if index == 4 { at(1) } else { entries[index].at };
        let pending = |index: usize| Pending {
            entry: entries[index].clone(),
            since: taken(index),
        };
        let expected: Vec<Pending> = expected.into_iter().map(pending).collect();
        assert_eq!(found, expected);
    }
    let few = store.pending_lately(Timestamp::from_millis(0), 2).await;
    assert_eq!(few.unwrap().len(), 2);
}

pub(in crate::store) async fn marks_later_than_a_time_are_found(store: Arc<dyn Store>) {
    let mut streams = [channel(), StreamId::Sessions, channel()];
    streams.sort_by_key(|stream| stream.to_bytes());
    for stream in streams {
        fill(&*store, stream, (0..4).map(|_| fence())).await;
    }
    store.settle(&[(streams[1], 4)]).await.unwrap();
    let mark = |stream: usize, seq| Claim {
        stream: streams[stream],
        seq,
        seen: at(seq),
    };
    let all = [mark(0, 3), mark(0, 4), mark(1, 3), mark(2, 3), mark(2, 4)];
    assert_eq!(store.pending_later(at(2), 9).await.unwrap(), all);
    assert_eq!(store.pending_later(at(2), 3).await.unwrap(), all[..3]);
    assert_eq!(store.pending_later(at(4), 3).await.unwrap(), []);
}
