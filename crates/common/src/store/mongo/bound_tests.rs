//! How much the relay's reads look at while there is a backlog.

use mongodb::Database;
use mongodb::bson::{Document, doc};
use secrecy::ExposeSecret as _;

use super::command_tests::plan;
use super::entry::ENTRIES;
use super::pending::{LATEST, lately_pipeline};
use super::recording::Recording;
use super::testing::Scratch;
use crate::domain::Timestamp;
use crate::store::LogStore as _;
use crate::store::contract::fixture::{at, channel, fence, fill};

const PENDING: usize = 1000;

/// How many keys and documents a command looks at.
pub(super) async fn looked_at(database: &Database, command: &Document) -> (usize, usize) {
    let plan = plan(database, command).await;
    let most = |name: &str| {
        let told = plan.split(name).skip(1).map(|rest| {
            let digits = rest.trim_start_matches(|char: char| !char.is_ascii_digit());
            let end = digits.find(|char: char| !char.is_ascii_digit());
            digits[..end.unwrap_or(digits.len())].parse().unwrap()
        });
        told.max().unwrap_or_else(|| panic!("no {name} in {plan}"))
    };
    (most("\"totalKeysExamined\""), most("\"totalDocsExamined\""))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_a_backlog_only_so_many_marks_are_looked_at() {
    let Some(scratch) = Scratch::new() else {
        return;
    };
    let recording = Recording::default();
    let store = recording.open(scratch.url().expose_secret()).await;
    let stream = channel();
    fill(&store, stream, (0..PENDING).map(|_| fence())).await;
    recording.take();
    // Nothing of it is later.
    let late = at(1_000_000);
    let first = store.pending_later(late, None, 100).await.unwrap();
    assert_eq!((first.marks, first.next), (vec![], Some((stream, 100))));
    let second = store.pending_later(late, first.next, 100).await.unwrap();
    assert_eq!(second.next, Some((stream, 200)));
    let database = scratch.database().await;
    let commands = recording.take();
    assert_eq!(commands.len(), 2, "{commands:?}");
    for command in commands {
        let (keys, documents) = looked_at(&database, &command).await;
        assert!((100..110).contains(&keys), "{keys} keys: {command}");
        assert_eq!(documents, 0, "{command}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_the_latest_entries_only_so_many_are_looked_at() {
    let Some(scratch) = Scratch::new() else {
        return;
    };
    let recording = Recording::default();
    let store = recording.open(scratch.url().expose_secret()).await;
    let stream = channel();
    let run = fill(&store, stream, (0..PENDING).map(|_| fence())).await;
    // None of them matches.
    let settled: Vec<_> = run.iter().map(|entry| (stream, entry.seq)).collect();
    store.settle(&settled).await.unwrap();
    recording.take();
    let ever = Timestamp::from_millis(0);
    assert_eq!(store.pending_lately(ever, 9).await.unwrap(), []);
    let sent = recording.take();
    assert!(
        sent[0].to_string().contains(&LATEST.to_string()),
        "{sent:?}"
    );
    let pipeline = lately_pipeline(ever, 100, 9).to_vec();
    let command = doc! { "aggregate": ENTRIES, "pipeline": pipeline, "cursor": {}, "hint": "_id_" };
    let (keys, documents) = looked_at(&scratch.database().await, &command).await;
    assert!((100..110).contains(&keys), "{keys} keys");
    assert!((100..110).contains(&documents), "{documents} documents");
}
