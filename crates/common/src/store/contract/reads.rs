//! Reading entries.

use std::sync::Arc;

use futures_util::future::join_all;

use super::fixture::{all, channel, fence, fill, seqs, text};
use crate::domain::{Head, Key, StreamId, UserId};
use crate::store::Store;

pub(in crate::store) async fn the_head_of_an_empty_stream_is_zero(store: Arc<dyn Store>) {
    assert_eq!(store.head(channel()).await.unwrap(), Head::default());
    assert_eq!(all(&*store, channel()).await, []);
    assert_eq!(store.newest(channel(), 5).await.unwrap(), []);
    assert_eq!(store.floor(channel()).await.unwrap(), 0);
}

pub(in crate::store) async fn heads_come_in_the_order_asked(store: Arc<dyn Store>) {
    let (long, short, empty) = (channel(), channel(), StreamId::User(UserId::generate()));
    fill(&*store, long, (0..5).map(|_| text("a"))).await;
    fill(&*store, short, [fence()]).await;
    let heads = store.heads(&[short, empty, long, short]).await.unwrap();
    assert_eq!(heads, [1, 0, 5, 1]);
    assert_eq!(store.heads(&[]).await.unwrap(), Vec::<u64>::new());
}

pub(in crate::store) async fn entries_are_bounded_on_both_sides_and_by_a_limit(
    store: Arc<dyn Store>,
) {
    let stream = channel();
    fill(&*store, channel(), [fence()]).await;
    fill(&*store, stream, (0..6).map(|_| text("a"))).await;
    for (after, through, limit, expected) in [
        (0, u64::MAX, usize::MAX, 1..7),
        (2, 4, 10, 3..5),
        (2, 6, 3, 3..6),
        (2, 2, 10, 0..0),
        (4, 2, 10, 0..0),
        (0, 6, 0, 0..0),
        (6, 9, 10, 0..0),
        (u64::MAX, u64::MAX, 10, 0..0),
    ] {
        let found = store.entries(stream, after, through, limit).await.unwrap();
        assert_eq!(
            seqs(&found),
            expected.collect::<Vec<_>>(),
            "after {after} through {through}, {limit}"
        );
    }
}

pub(in crate::store) async fn the_newest_entries_come_first(store: Arc<dyn Store>) {
    let stream = channel();
    fill(&*store, stream, [text("a"), fence(), text("b")]).await;
    for (limit, expected) in [(0, vec![]), (2, vec![3, 2]), (9, vec![3, 2, 1])] {
        assert_eq!(
            seqs(&store.newest(stream, limit).await.unwrap()),
            expected,
            "{limit}"
        );
    }
}

pub(in crate::store) async fn a_key_is_found_in_its_stream_only(store: Arc<dyn Store>) {
    let stream = channel();
    let run = fill(&*store, stream, [text("a"), text("b")]).await;
    let found = store.find(stream, run[1].key).await.unwrap();
    assert_eq!(found.as_ref(), Some(&run[1]));
    assert_eq!(store.find(channel(), run[1].key).await.unwrap(), None);
    assert_eq!(store.find(stream, Key::unique()).await.unwrap(), None);
}

pub(in crate::store) async fn what_is_committed_is_read_at_once(store: Arc<dyn Store>) {
    let writers = (0..32).map(|_| {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            let stream = channel();
            for seq in 1..=5 {
                let entry = fill(&*store, stream, [text("a")]).await.remove(0);
                assert_eq!(store.heads(&[stream]).await.unwrap(), [seq]);
                let found = store.find(stream, entry.key).await.unwrap();
                assert_eq!(found.as_ref(), Some(&entry));
                let newest = store.newest(stream, 1).await.unwrap();
                assert_eq!(newest, [entry]);
            }
        })
    });
    for writer in join_all(writers).await {
        writer.unwrap();
    }
}
