//! Appends whose outcome is unknown, on servers of the tests' own.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use mongodb::bson::{Document, doc};

use super::nodes::{Nodes, eventually};
use super::testing::{Scratch, tasks};
use super::{CALLS, DEADLINE, MongoStore};
use crate::domain::{Entry, Head};
use crate::store::contract::fixture::{after, all, channel, fill, text};
use crate::store::{Appended, LogStore as _, StoreError};

/// What a busy machine may add to a deadline.
const SLACK: Duration = Duration::from_secs(5);

async fn one_node() -> Option<(Nodes, MongoStore)> {
    let nodes = Nodes::start(1).await?;
    let store = MongoStore::open(&nodes.url(), &tasks()).await.unwrap();
    Some((nodes, store))
}

fn times(count: i32) -> Document {
    doc! { "times": count }
}

fn first() -> Entry {
    after(channel(), Head::default(), text("a"))
}

pub(super) async fn append(store: &MongoStore, entry: &Entry) -> Result<usize, StoreError> {
    store
        .append(vec![entry.clone()])
        .await
        .map(|appended| appended.landed)
}

pub(super) fn is_uncertain<T>(outcome: &Result<T, StoreError>) -> bool {
    matches!(outcome, Err(StoreError::Uncertain(_)))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_insert_that_did_not_arrive_is_unknown_and_can_be_repeated() {
    let Some((nodes, store)) = one_node().await else {
        return;
    };
    let close = doc! { "failCommands": ["insert"], "closeConnection": true };
    let entry = first();
    // Once more than the driver tries by itself.
    nodes.fail(0, times(2), close.clone()).await;
    let outcome = append(&store, &entry).await;
    assert!(is_uncertain(&outcome), "{outcome:?}");
    assert_eq!(all(&store, entry.stream).await, []);
    assert_eq!(append(&store, &entry).await.unwrap(), 1);

    nodes.fail(0, times(1), close).await;
    let next = after(entry.stream, entry.head(), text("b"));
    assert_eq!(append(&store, &next).await.unwrap(), 1);
    assert_eq!(all(&store, entry.stream).await, [entry, next]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_insert_whose_answer_is_lost_has_one_effect() {
    let Some((nodes, store)) = one_node().await else {
        return;
    };
    let entry = first();
    // The driver tries again, and the server knows it.
    nodes.lose_answers(0, 1);
    assert_eq!(append(&store, &entry).await.unwrap(), 1);

    nodes.lose_answers(0, 2);
    let next = after(entry.stream, entry.head(), text("b"));
    let outcome = append(&store, &next).await;
    assert!(is_uncertain(&outcome), "{outcome:?}");
    // What is taken is taken by itself: that is for the caller to find out.
    assert_eq!(append(&store, &next).await.unwrap(), 0);
    let found = store.find(next.stream, next.key).await.unwrap();
    assert_eq!(found.as_ref(), Some(&next));
    assert_eq!(all(&store, entry.stream).await, [entry, next]);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_majority_only_what_was_refused_is_known() {
    let Some((nodes, store)) = one_node().await else {
        return;
    };
    let store = Arc::new(store);
    let taken = fill(&*store, channel(), [text("a")]).await.remove(0);
    let waiting = doc! {
        "failCommands": ["insert"],
        "writeConcernError": { "code": 64, "errmsg": "waiting for replication timed out" },
    };
    nodes.fail(0, times(1000), waiting.clone()).await;
    let late = after(taken.stream, Head::default(), text("b"));
    let mut entries: Vec<Entry> = (0..20).map(|_| first()).collect();
    entries.push(late);
    let appends = entries.iter().cloned().map(|entry| {
        let store = store.clone();
        tokio::spawn(async move { append(&store, &entry).await })
    });
    let mut outcomes = join_all(appends).await;
    let refused = outcomes.pop().unwrap().unwrap();
    assert_eq!(refused.unwrap(), 0);
    for outcome in outcomes {
        let outcome = outcome.unwrap();
        assert!(is_uncertain(&outcome), "{outcome:?}");
    }
    // In a run, what stands before the refused is unknown as well.
    let stream = taken.stream;
    let mut run = vec![after(stream, taken.head(), text("c"))];
    run.push(after(stream, run[0].head(), text("again")));
    run[1].key = taken.key;
    let outcome = store.append(run.clone()).await;
    assert!(is_uncertain(&outcome), "{outcome:?}");
    let off = doc! { "configureFailPoint": "failCommand", "mode": "off" };
    assert!(nodes.ask(0, off).await.is_some());
    let next = vec![after(stream, run[0].head(), text("d"))];
    assert_eq!(
        store.append(next.clone()).await.unwrap(),
        Appended { landed: 1 }
    );
    assert_eq!(
        all(&*store, stream).await,
        [taken, run.remove(0), next[0].clone()]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_primary_that_steps_down_is_asked_again() {
    let Some((nodes, store)) = one_node().await else {
        return;
    };
    let entry = first();
    let not_primary = doc! { "failCommands": ["insert"], "errorCode": 10107 };
    nodes.fail(0, times(1), not_primary.clone()).await;
    assert_eq!(append(&store, &entry).await.unwrap(), 1);
    nodes.fail(0, times(2), not_primary).await;
    let next = after(entry.stream, entry.head(), text("b"));
    let outcome = append(&store, &next).await;
    assert!(is_uncertain(&outcome), "{outcome:?}");
    assert_eq!(append(&store, &next).await.unwrap(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_stands_still_holds_up_nobody_for_long() {
    let Some((nodes, store)) = one_node().await else {
        return;
    };
    let store = Arc::new(store);
    let entries: Vec<Entry> = (0..4).map(|_| first()).collect();
    nodes.freeze(0);
    let appends = entries.iter().cloned().map(|entry| {
        let store = store.clone();
        tokio::spawn(async move { append(&store, &entry).await })
    });
    for outcome in join_all(appends).await {
        let outcome = outcome.unwrap();
        assert!(outcome.is_err(), "{outcome:?}");
    }
    nodes.thaw(0);
    for entry in &entries {
        // It may land late; then it is found.
        eventually("the entry", async || {
            append(&store, entry).await.is_ok() && !all(&*store, entry.stream).await.is_empty()
        })
        .await;
        assert_eq!(
            all(&*store, entry.stream).await,
            std::slice::from_ref(entry)
        );
    }
}

/// Far more calls than may be under way at once, twice, while nothing is answered.
#[tokio::test(flavor = "multi_thread")]
async fn calls_of_a_server_that_stands_still_do_not_pile_up() {
    const AT_ONCE: usize = 3000;
    let Some((nodes, store)) = one_node().await else {
        return;
    };
    let store = Arc::new(store);
    let stream = channel();
    fill(&*store, stream, [text("a")]).await;
    let tasks = || {
        tokio::runtime::Handle::current()
            .metrics()
            .num_alive_tasks()
    };
    let before = tasks();
    nodes.freeze(0);
    for _ in 0..2 {
        let calls = (0..AT_ONCE).map(|call| {
            let store = store.clone();
            async move {
                match call % 3 {
                    0 => store.head(stream).await.map(drop),
                    1 => store.settle(&[(stream, 1)]).await,
                    _ => append(&store, &first()).await.map(drop),
                }
            }
        });
        let begun = Instant::now();
        for outcome in join_all(calls).await {
            outcome.unwrap_err();
        }
        assert!(begun.elapsed() < DEADLINE + SLACK, "{:?}", begun.elapsed());
        let left = tasks().saturating_sub(before);
        println!("{left} tasks are left of {AT_ONCE} calls");
        assert!(left <= CALLS + 100, "{left} tasks");
    }
    nodes.thaw(0);
    eventually("the end of all calls", async || {
        store.calls.available_permits() == CALLS
    })
    .await;
    eventually("an answer", async || append(&store, &first()).await.is_ok()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_of_what_appends_ends_the_process() {
    let Some(scratch) = Scratch::new() else {
        return;
    };
    let tasks = tasks();
    let store = MongoStore::open(&scratch.url(), &tasks).await.unwrap();
    // Nothing else calls it like this.
    let outcome = store.appends.append(channel(), Vec::new()).await;
    assert!(outcome.is_err(), "{outcome:?}");
    tasks.shutdown().cancelled().await;
    assert!(tasks.have_failed());
}
