//! Appending.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::join_all;

use super::fixture::{after, all, at, channel, fence, fill, run, seqs, text};
use crate::domain::{
    Change, Entry, EntryId, GroupId, Head, Key, RequestHash, SessionId, StreamId, UserId,
};
use crate::store::Store;

pub(in crate::store) async fn what_an_entry_holds_is_read_back(store: Arc<dyn Store>) {
    let user = UserId::generate();
    let session = SessionId::generate();
    let examples = [
        (StreamId::User(user), Change::SessionRevoked { session }),
        (StreamId::Group(GroupId::generate()), Change::GroupDeleted),
        (StreamId::Sessions, Change::SessionEnded { session, user }),
        (channel(), text("with 'quotes' and\0a zero")),
    ];
    for (stream, change) in examples {
        let head = store.head(stream).await.unwrap();
        let with_all = Entry {
            request: Some(RequestHash::of("POST", &[b"body"])),
            ..after(stream, head, change.clone())
        };
        let with_least = Entry {
            actor: match change {
                Change::MessageCreated(_) => Some(user),
                _ => None,
            },
            ..after(stream, with_all.head(), change)
        };
        let run = vec![with_all, with_least];
        assert_eq!(store.append(run.clone()).await.unwrap().landed, 2);
        assert_eq!(all(&*store, stream).await, run);
        assert_eq!(store.head(stream).await.unwrap(), run[1].head());
    }
}

pub(in crate::store) async fn a_run_lands_in_order(store: Arc<dyn Store>) {
    let stream = channel();
    let first = fill(&*store, stream, (0..3).map(|n| text(&n.to_string()))).await;
    let second = fill(&*store, stream, [fence()]).await;
    assert_eq!(all(&*store, stream).await, [first, second].concat());
}

pub(in crate::store) async fn a_taken_position_refuses_a_run(store: Arc<dyn Store>) {
    let stream = channel();
    let run_of_two = fill(&*store, stream, [text("a"), text("b")]).await;
    let late = run(stream, run_of_two[0].head(), [text("c"), text("d")]);
    assert_eq!(store.append(late).await.unwrap().landed, 0);
    assert_eq!(all(&*store, stream).await, run_of_two);
}

pub(in crate::store) async fn a_taken_key_lands_what_stands_before_it(store: Arc<dyn Store>) {
    let stream = channel();
    let old = fill(&*store, stream, [text("a")]).await;
    let mut run = run(
        stream,
        old[0].head(),
        [text("b"), text("again"), text("not tried")],
    );
    run[1].key = old[0].key;
    assert_eq!(store.append(run.clone()).await.unwrap().landed, 1);
    assert_eq!(all(&*store, stream).await, [old[0].clone(), run[0].clone()]);
    assert_eq!(store.find(stream, run[2].key).await.unwrap(), None);
}

pub(in crate::store) async fn a_key_stands_once_in_a_run(store: Arc<dyn Store>) {
    let stream = channel();
    let mut run = run(stream, Head::default(), [text("a"), text("b")]);
    run[1].key = run[0].key;
    assert_eq!(store.append(run.clone()).await.unwrap().landed, 1);
    assert_eq!(all(&*store, stream).await, run[..1]);
}

pub(in crate::store) async fn a_key_is_unique_in_its_stream_only(store: Arc<dyn Store>) {
    let key = Key::of_entry(EntryId::generate());
    let streams = [channel(), channel(), StreamId::User(UserId::generate())];
    for stream in streams {
        let mut entry = after(stream, Head::default(), fence());
        entry.key = key;
        assert_eq!(store.append(vec![entry]).await.unwrap().landed, 1);
        let mut entry = after(stream, store.head(stream).await.unwrap(), fence());
        entry.key = key;
        assert_eq!(store.append(vec![entry]).await.unwrap().landed, 0);
    }
}

pub(in crate::store) async fn a_position_has_one_winner(store: Arc<dyn Store>) {
    let stream = channel();
    let attempts = (0..32).map(|n| {
        let store = Arc::clone(&store);
        let entry = after(stream, Head::default(), text(&n.to_string()));
        tokio::spawn(async move {
            let landed = store.append(vec![entry.clone()]).await.unwrap().landed;
            (landed == 1).then_some(entry)
        })
    });
    let winners: Vec<Entry> = join_all(attempts)
        .await
        .into_iter()
        .filter_map(Result::unwrap)
        .collect();
    assert_eq!(winners.len(), 1);
    assert_eq!(all(&*store, stream).await, winners);
}

pub(in crate::store) async fn concurrent_appenders_leave_no_hole(store: Arc<dyn Store>) {
    let stream = channel();
    let appenders = (0..8).map(|_| {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            let mut mine = Vec::new();
            while mine.len() < 20 {
                let head = store.head(stream).await.unwrap();
                let run = run(stream, head, [text("one"), text("two")]);
                let landed = store.append(run.clone()).await.unwrap().landed;
                mine.extend(run.into_iter().take(landed));
            }
            mine
        })
    });
    let mut sent: Vec<Entry> = Vec::new();
    for mine in join_all(appenders).await {
        sent.extend(mine.unwrap());
    }
    sent.sort_by_key(|entry| entry.seq);
    assert_eq!(seqs(&sent), (1..=160).collect::<Vec<_>>());
    assert_eq!(all(&*store, stream).await, sent);
}

pub(in crate::store) async fn a_thousand_streams_at_once(store: Arc<dyn Store>) {
    let streams: Vec<StreamId> = (0..1000).map(|_| channel()).collect();
    let appends = streams.iter().map(|stream| {
        let store = Arc::clone(&store);
        let run = run(*stream, Head::default(), [text("a"), fence()]);
        tokio::spawn(async move { store.append(run).await.unwrap().landed })
    });
    for landed in join_all(appends).await {
        assert_eq!(landed.unwrap(), 2);
    }
    assert_eq!(store.heads(&streams).await.unwrap(), vec![2; 1000]);
}

pub(in crate::store) async fn an_abandoned_append_leaves_a_prefix(store: Arc<dyn Store>) {
    for _ in 0..20 {
        let stream = channel();
        let abandoned = run(stream, Head::default(), (0..3).map(|_| text("abandoned")));
        if let Some(done) = store.append(abandoned.clone()).now_or_never() {
            assert_eq!(done.unwrap().landed, 3);
        }
        // It may still land, at any time; so the next appender may have to try again.
        let mine = loop {
            let mut entry = after(stream, store.head(stream).await.unwrap(), text("mine"));
            entry.at = at(0);
            if store.append(vec![entry.clone()]).await.unwrap().landed == 1 {
                break entry;
            }
        };
        let found = all(&*store, stream).await;
        assert_eq!(seqs(&found), (1..=found.len() as u64).collect::<Vec<_>>());
        let keys: BTreeSet<Key> = found.iter().map(|entry| entry.key).collect();
        assert_eq!(keys.len(), found.len());
        let prefix: Vec<Entry> = found.into_iter().filter(|entry| *entry != mine).collect();
        assert_eq!(prefix, abandoned[..prefix.len()]);
    }
}
