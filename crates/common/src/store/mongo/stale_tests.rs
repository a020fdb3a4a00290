//! A primary that has been replaced and does not know it yet: cut off from its peers, not from
//! this client.

use std::time::{Duration, Instant};

use mongodb::bson::doc;

use super::MongoStore;
use super::nodes::{Nodes, eventually};
use super::testing::tasks;
use crate::domain::{Entry, Key};
use crate::store::contract::fixture::{after, channel, fill, text};
use crate::store::{LogStore as _, StoreError};

/// Long enough for another to be elected, and to commit, before the old primary gives up.
const PATIENT: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn a_primary_that_was_replaced_says_of_no_key_that_it_is_not_there() {
    let Some(nodes) = Nodes::start_with(3, PATIENT).await else {
        return;
    };
    let store = MongoStore::open(&nodes.url(), &tasks()).await.unwrap();
    let stream = channel();
    let known = fill(&store, stream, [text("a")]).await.remove(0);
    measure(&store, &known).await;
    let old = nodes.primary().await;
    let new = (old + 1) % 3;
    nodes.cut_off(old);
    nodes.elect(new).await;
    let committed = after(stream, known.head(), text("b"));
    nodes
        .write_at(new, &committed, doc! { "w": "majority" })
        .await;

    // That it is stale shows in reads that need no confirmation.
    assert!(nodes.is_primary(old).await, "it took too long");
    assert_eq!(store.head(stream).await.unwrap(), known.head());
    let begun = Instant::now();
    let found = store.find(stream, committed.key).await;
    assert!(
        matches!(found, Err(StoreError::Unavailable(_))),
        "{found:?}"
    );
    assert!(
        begun.elapsed() < Duration::from_secs(8),
        "{:?}",
        begun.elapsed()
    );

    nodes.heal();
    eventually("the new primary", async || {
        let found = store.find(stream, committed.key).await;
        found.is_ok_and(|found| found.as_ref() == Some(&committed))
    })
    .await;
}

/// Says what it costs that a majority confirms an answer.
async fn measure(store: &MongoStore, known: &Entry) {
    const CALLS: u32 = 300;
    let begun = Instant::now();
    for _ in 0..CALLS {
        assert_eq!(store.newest(known.stream, 1).await.unwrap().len(), 1);
    }
    let majority = begun.elapsed() / CALLS;
    let begun = Instant::now();
    for _ in 0..CALLS {
        let found = store.find(known.stream, Key::unique()).await.unwrap();
        assert_eq!(found, None);
    }
    let confirmed = begun.elapsed() / CALLS;
    println!("a majority read takes {majority:?}, that there is nothing {confirmed:?}");
}
