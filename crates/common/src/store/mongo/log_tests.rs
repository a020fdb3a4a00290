//! What is MongoDB's own in the log: what queries cost, what shares an insert, and documents
//! that cannot be read.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures_util::future::join_all;
use mongodb::Database;
use mongodb::bson::{Bson, Document, doc};

use super::entry::ENTRIES;
use super::field::stream_name;
use super::recording::Recording;
use super::testing::Scratch;
use super::{indexes, pending, reads, trim};
use crate::domain::{Entry, Head, StreamId};
use crate::store::LogStore as _;
use crate::store::contract::fixture::{after, all, at, channel, fence, fill, text};

fn name_of(command: &Document) -> &str {
    command.keys().next().unwrap()
}

/// How many keys of an index a command looked at, and how many documents.
async fn examined(database: &Database, command: Document) -> (i64, i64) {
    let explain = doc! { "explain": command, "verbosity": "executionStats" };
    let answer = Bson::from(database.run_command(explain).await.unwrap());
    let number = |name: &str| match deep(&answer, name) {
        Some(Bson::Int32(number)) => i64::from(*number),
        Some(Bson::Int64(number)) => *number,
        other => panic!("{name} is {other:?} in {answer}"),
    };
    (number("totalKeysExamined"), number("totalDocsExamined"))
}

/// The first field of this name at any depth.
fn deep<'a>(value: &'a Bson, name: &str) -> Option<&'a Bson> {
    match value {
        Bson::Document(document) => document
            .get(name)
            .or_else(|| document.values().find_map(|value| deep(value, name))),
        Bson::Array(values) => values.iter().find_map(|value| deep(value, name)),
        _ => None,
    }
}

fn aggregate(pipeline: [Document; 3], index: &str) -> Document {
    doc! { "aggregate": ENTRIES, "pipeline": pipeline.to_vec(), "cursor": {}, "hint": index }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_streams_cost_a_seek_each() {
    let Some(scratch) = Scratch::new() else {
        return;
    };
    let store = scratch.open().await;
    let database = scratch.database().await;
    let streams: Vec<StreamId> = (0..40).map(|_| channel()).collect();
    for stream in &streams {
        fill(&store, *stream, (0..50).map(|_| text("a"))).await;
    }
    // Of half of the streams nothing is pending, of the others much.
    for stream in &streams[..20] {
        let settled: Vec<_> = (1..=50).map(|seq| (*stream, seq)).collect();
        store.settle(&settled).await.unwrap();
    }
    for (command, most) in [
        (
            aggregate(reads::heads_pipeline(&streams), indexes::POSITION),
            80,
        ),
        (
            aggregate(pending::with_pending_pipeline(&streams), indexes::PENDING),
            80,
        ),
    ] {
        let (keys, documents) = examined(&database, command.clone()).await;
        assert!(keys <= most, "{keys} keys for {command}");
        assert_eq!(documents, 0, "{command}");
    }
    assert_eq!(store.heads(&streams).await.unwrap(), vec![50; 40]);
    let waiting = store.with_pending(&streams).await.unwrap();
    assert_eq!(
        BTreeSet::from_iter(waiting),
        BTreeSet::from_iter(streams[20..].to_vec())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn queries_look_only_at_what_they_find() {
    let Some(scratch) = Scratch::new() else {
        return;
    };
    let store = scratch.open().await;
    let database = scratch.database().await;
    let (stream, other) = (channel(), channel());
    // Messages and others in turn, of which the oldest are settled.
    let changes = || (0..100).map(|n| if n % 2 == 0 { text("a") } else { fence() });
    for stream in [stream, other] {
        fill(&store, stream, changes()).await;
        let settled: Vec<_> = (1..=50).map(|seq| (stream, seq)).collect();
        store.settle(&settled).await.unwrap();
    }
    let find = |filter: Document, sort: Document, limit: i32, index: &str| {
        doc! { "find": ENTRIES, "filter": filter, "sort": sort, "limit": limit, "hint": index }
    };
    let mut messages = indexes::messages();
    messages.extend(doc! { "s": stream_name(stream), "n": { "$lt": 90 } });
    let first = stream.min(other);
    for (command, most) in [
        (find(messages, doc! { "n": -1 }, 10, indexes::MESSAGES), 12),
        (
            find(
                pending::due(at(999), None),
                doc! { "s": 1, "n": 1 },
                10,
                indexes::PENDING,
            ),
            12,
        ),
        (
            find(
                pending::due(at(999), Some((first, 95))),
                doc! { "s": 1, "n": 1 },
                10,
                indexes::PENDING,
            ),
            14,
        ),
        (
            find(trim::under(stream, 40), doc! {}, 10, indexes::OTHERS),
            12,
        ),
        (
            find(
                trim::others_after(None),
                doc! { "s": 1, "n": 1 },
                5,
                indexes::OTHERS,
            ),
            14,
        ),
        (
            find(
                trim::others_after(Some((first, 95))),
                doc! { "s": 1, "n": 1 },
                5,
                indexes::OTHERS,
            ),
            18,
        ),
    ] {
        let (keys, documents) = examined(&database, command.clone()).await;
        assert!(keys <= most, "{keys} keys for {command}");
        assert!(documents <= 10, "{documents} documents for {command}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_of_thousands_of_streams_come_in_one_call() {
    let Some(scratch) = Scratch::new() else {
        return;
    };
    let store = scratch.open().await;
    let mut streams: Vec<StreamId> = (0..2 * reads::STREAMS + 7).map(|_| channel()).collect();
    let mut expected = vec![0; streams.len()];
    for place in [0, reads::STREAMS, streams.len() - 1] {
        fill(&store, streams[place], [fence(), fence()]).await;
        expected[place] = 2;
    }
    assert_eq!(store.heads(&streams).await.unwrap(), expected);
    streams.sort_unstable();
    assert_eq!(store.with_pending(&streams).await.unwrap().len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_shares_an_insert_lands_or_fails_alone() {
    let Some(scratch) = Scratch::new() else {
        return;
    };
    let sent = Recording::default();
    let store = Arc::new(sent.open(scratch.address()).await);
    let mut firsts = Vec::new();
    for _ in 0..200 {
        firsts.push(after(channel(), Head::default(), text("first")));
    }
    let append = |entry: Entry| {
        let store = store.clone();
        tokio::spawn(async move { store.append(vec![entry]).await.unwrap().landed })
    };
    for landed in join_all(firsts.iter().cloned().map(append)).await {
        assert_eq!(landed.unwrap(), 1);
    }
    sent.take();
    // Every fourth: lands, has its position taken, its key taken, both.
    let seconds: Vec<Entry> = firsts.iter().enumerate().map(second).collect();
    let landed = join_all(seconds.iter().cloned().map(append)).await;
    for (number, landed) in landed.into_iter().enumerate() {
        assert_eq!(landed.unwrap(), usize::from(number % 4 == 0), "{number}");
    }
    for (number, (first, second)) in firsts.iter().zip(&seconds).enumerate() {
        let expected = [first.clone(), second.clone()];
        let length = if number % 4 == 0 { 2 } else { 1 };
        assert_eq!(all(&*store, first.stream).await, expected[..length]);
    }
    let inserts = sent
        .take()
        .into_iter()
        .filter(|command| name_of(command) == "insert");
    let inserts: Vec<Document> = inserts.collect();
    assert!(
        inserts.len() < 100,
        "{} inserts for 200 appends",
        inserts.len()
    );
    assert!(
        inserts
            .iter()
            .all(|insert| insert.get("ordered") == Some(&false.into()))
    );
}

fn second((number, first): (usize, &Entry)) -> Entry {
    let mut second = after(first.stream, first.head(), text("second"));
    if number % 2 == 1 {
        second.seq = first.seq;
    }
    if number % 4 >= 2 {
        second.key = first.key;
    }
    second
}

#[tokio::test(flavor = "multi_thread")]
async fn entries_that_cannot_be_read_are_passed_over() {
    let Some(scratch) = Scratch::new() else {
        return;
    };
    let store = scratch.open().await;
    let database = scratch.database().await;
    let entries = database.collection::<Document>(ENTRIES);
    let streams = [channel(), channel()];
    for stream in streams {
        fill(&store, stream, (0..4).map(|_| fence())).await;
        for (seq, damage) in [
            (1_i64, doc! { "$set": { "kind": "message.lost" } }),
            (3, doc! { "$unset": { "data": "" } }),
        ] {
            let which = doc! { "s": stream_name(stream), "n": seq };
            entries.update_one(which, damage).await.unwrap();
        }
    }
    let strange = doc! {
        "s": super::field::binary(&[b'z'; 17]), "n": 1_i64, "key": 1, "kind": "?", "pending": 1_i64,
    };
    entries.insert_one(strange).await.unwrap();
    let mut found = Vec::new();
    let mut position = None;
    loop {
        let page = store.pending(at(99), position, 2).await.unwrap();
        found.extend(
            page.items
                .iter()
                .map(|found| (found.entry.stream, found.entry.seq)),
        );
        position = page.next;
        if position.is_none() {
            break;
        }
    }
    let mut expected: Vec<_> = streams.iter().flat_map(|s| [(*s, 2), (*s, 4)]).collect();
    expected.sort_by_key(|(stream, seq)| (stream.to_bytes(), *seq));
    assert_eq!(found, expected);
    // A kind that is not known, and one that is and changes no state.
    store.pending_in(streams[0], 0, 9).await.unwrap_err();
    let rest = store.pending_in(streams[0], 1, 9).await.unwrap();
    assert_eq!(rest.iter().map(|e| e.seq).collect::<Vec<_>>(), [2, 4]);
    let error = store.newest(streams[0], 9).await.unwrap_err();
    assert!(
        matches!(error, crate::store::StoreError::Corrupt(_)),
        "{error:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_whose_time_cannot_be_read_goes_with_the_old_ones_behind_it() {
    let Some(scratch) = Scratch::new() else {
        return;
    };
    let store = scratch.open().await;
    let stream = channel();
    fill(&store, stream, (0..3).map(|_| fence())).await;
    let entries = scratch.database().await.collection::<Document>(ENTRIES);
    let which = doc! { "s": stream_name(stream), "n": 2_i64 };
    let damage = doc! { "$set": { "at": "yesterday" } };
    entries.update_one(which, damage).await.unwrap();
    let page = store.old_entries(at(99), None, 9).await.unwrap();
    let found: Vec<_> = page
        .streams
        .iter()
        .map(|old| (old.first, old.through))
        .collect();
    assert_eq!(found, [(1, 3)]);
}
