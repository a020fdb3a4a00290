//! What the trimmer takes, when, and who does it.

use std::sync::Arc;
use std::time::Duration;

use tidings_common::clock::ManualClock;
use tidings_common::domain::{Change, ChannelId, Seq, StreamId, UserId};
use tidings_common::store::{LogStore as _, SqliteStore, Store};
use tidings_common::telemetry::Metrics;
use tidings_worker::{Trimmed, Trimmer};
use tokio_util::sync::CancellationToken;

use super::harness::{Scratch, commit, messages, then};

const DAY_MS: i64 = 86_400_000;
const RETENTION: Duration = Duration::from_secs(2 * 86_400);

fn fences(count: usize) -> Vec<Change> {
    vec![Change::MembersChanged { gv: 1 }; count]
}

/// Commits so many days after [`then`], and settles.
async fn committed(store: &dyn Store, stream: StreamId, changes: Vec<Change>, days: i64) {
    let at = then().plus_millis(days * DAY_MS);
    let run = commit(store, UserId::generate(), stream, changes, at).await;
    let settled: Vec<_> = run.iter().map(|entry| (stream, entry.seq)).collect();
    store.settle(&settled).await.unwrap();
}

/// A trimmer so many days after [`then`].
fn trimmer(store: &Arc<SqliteStore>, days: i64, metrics: &Metrics) -> Trimmer {
    let clock = Arc::new(ManualClock::at(then().plus_millis(days * DAY_MS)));
    Trimmer::new(store.clone(), clock, RETENTION, metrics)
}

async fn seqs(store: &dyn Store, stream: StreamId) -> Vec<Seq> {
    let entries = store.entries(stream, 0, Seq::MAX, 10_000).await.unwrap();
    entries.iter().map(|entry| entry.seq).collect()
}

fn channel() -> StreamId {
    ChannelId::generate().into()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_older_than_the_retention_goes_but_messages_and_the_newest() {
    let scratch = Scratch::new();
    let store = scratch.open();
    let [mixed, long, all_old, single, young] = [(); 5].map(|()| channel());
    committed(&*store, mixed, fences(1), 0).await;
    committed(&*store, mixed, messages(1, "stays"), 0).await;
    committed(&*store, mixed, fences(2), 1).await;
    committed(&*store, mixed, fences(2), 3).await;
    // More than is looked at together.
    for _ in 0..6 {
        committed(&*store, long, fences(200), 0).await;
    }
    committed(&*store, long, fences(1), 3).await;
    committed(&*store, all_old, fences(3), 0).await;
    committed(&*store, single, fences(1), 0).await;
    committed(&*store, young, fences(3), 3).await;

    let metrics = Metrics::default();
    let trimmer = trimmer(&store, 4, &metrics);
    let shutdown = CancellationToken::new();
    assert_eq!(trimmer.pass(&shutdown).await.unwrap(), Trimmed::All);
    assert_eq!(seqs(&*store, mixed).await, [2, 5, 6]);
    assert_eq!(seqs(&*store, long).await, [1201]);
    assert_eq!(seqs(&*store, all_old).await, [3]);
    assert_eq!(seqs(&*store, single).await, [1]);
    assert_eq!(seqs(&*store, young).await, [1, 2, 3]);
    for (stream, floor) in [(mixed, 4), (long, 1200), (all_old, 2), (single, 0)] {
        assert_eq!(store.floor(stream).await.unwrap(), floor);
    }
    let told = metrics.encode();
    assert!(
        told.contains("tidings_trimmer_entries_deleted_total 1205"),
        "{told}"
    );
    assert!(
        told.contains("tidings_trimmer_last_pass_timestamp_seconds 346600"),
        "{told}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_pending_stays_until_it_is_settled() {
    let scratch = Scratch::new();
    let store = scratch.open();
    let stream = channel();
    commit(&*store, UserId::generate(), stream, fences(3), then()).await;
    store.settle(&[(stream, 1)]).await.unwrap();
    let trimmer = trimmer(&store, 4, &Metrics::default());
    let shutdown = CancellationToken::new();
    trimmer.pass(&shutdown).await.unwrap();
    assert_eq!(seqs(&*store, stream).await, [2, 3]);
    store.settle(&[(stream, 2), (stream, 3)]).await.unwrap();
    trimmer.pass(&shutdown).await.unwrap();
    assert_eq!(seqs(&*store, stream).await, [3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_worker_trims_and_another_when_that_has_ended() {
    let scratch = Scratch::new();
    let store = scratch.open();
    let stream = channel();
    let shutdown = CancellationToken::new();
    let one = trimmer(&store, 4, &Metrics::default());
    let other = trimmer(&store, 4, &Metrics::default());
    assert_eq!(one.pass(&shutdown).await.unwrap(), Trimmed::All);
    committed(&*store, stream, fences(3), 0).await;
    assert_eq!(other.pass(&shutdown).await.unwrap(), Trimmed::Elsewhere);
    assert_eq!(seqs(&*store, stream).await, [1, 2, 3]);
    // It gives its turn back.
    shutdown.cancel();
    one.run(shutdown).await;
    let shutdown = CancellationToken::new();
    assert_eq!(other.pass(&shutdown).await.unwrap(), Trimmed::All);
    assert_eq!(seqs(&*store, stream).await, [3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pass_ends_when_the_process_does() {
    let scratch = Scratch::new();
    let store = scratch.open();
    // By its pauses alone, this takes several seconds.
    for _ in 0..400 {
        committed(&*store, channel(), fences(2), 0).await;
    }
    let trimmer = trimmer(&store, 4, &Metrics::default());
    let shutdown = CancellationToken::new();
    let (trimmed, ()) = tokio::join!(trimmer.pass(&shutdown), async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        shutdown.cancel();
    });
    assert_eq!(trimmed.unwrap(), Trimmed::Stopped);
}
