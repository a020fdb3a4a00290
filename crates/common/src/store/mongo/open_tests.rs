//! Which databases are opened.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use mongodb::bson::{Document, doc};
use secrecy::{ExposeSecret as _, SecretString};

use super::indexes::{LOG, STATE};
use super::open::{check_hello, options};
use super::testing::{Scratch, tasks};
use super::{MongoStore, OpenError};
use crate::store::StateStore as _;

async fn refused(url: &str) -> OpenError {
    MongoStore::open(&SecretString::from(url), &tasks())
        .await
        .err()
        .unwrap()
}

#[tokio::test]
async fn an_address_that_cannot_be_used_is_refused_at_once() {
    let begun = Instant::now();
    for (url, expected) in [
        ("mongodb+srv://db.example/tidings", "mongodb+srv"),
        (
            "mongodb://localhost/?replicaSet=rs0",
            "must name a database",
        ),
        ("mongodb://localhost:x/tidings", "not an address"),
        ("http://localhost/tidings", "not an address"),
    ] {
        let error = refused(url).await;
        assert!(error.to_string().contains(expected), "{url}: {error}");
    }
    assert!(begun.elapsed() < Duration::from_secs(1));
}

#[test]
fn only_a_replica_set_of_today_will_do() {
    let set = doc! { "setName": "rs0", "maxWireVersion": 17 };
    assert!(check_hello(&set).is_ok());
    let shards = doc! { "msg": "isdbgrid", "maxWireVersion": 21 };
    assert!(check_hello(&shards).is_ok());
    let alone = doc! { "maxWireVersion": 17 };
    assert!(matches!(check_hello(&alone), Err(OpenError::NoReplicaSet)));
    let old = doc! { "setName": "rs0", "maxWireVersion": 13 };
    assert!(matches!(check_hello(&old), Err(OpenError::TooOld)));
}

#[tokio::test]
async fn a_mongodb_that_does_not_answer_is_tried_for_a_while() {
    // Nobody listens there.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let url = SecretString::from(format!("mongodb://127.0.0.1:{port}/tidings?replicaSet=rs0"));
    let (options, name) = options(&url).await.unwrap();
    let begun = Instant::now();
    let patience = Duration::from_secs(6);
    let refused = MongoStore::connect(options, &name, patience, &tasks()).await;
    let error = refused.err().unwrap();
    assert!(matches!(error, OpenError::Unreachable(_)), "{error}");
    // A try takes 5 seconds: this was more than one.
    assert!(begun.elapsed() >= patience, "{:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn processes_that_start_together_find_the_same_database() {
    let Some(scratch) = Scratch::new() else {
        return;
    };
    let stores = join_all((0..6).map(|_| scratch.open())).await;
    let mut metas = Vec::new();
    for store in &stores {
        metas.push(store.meta().await.unwrap());
    }
    assert!(metas.windows(2).all(|pair| pair[0] == pair[1]), "{metas:?}");
    let database = scratch.database().await;
    for index in LOG.iter().chain(STATE) {
        let collection = database.collection::<Document>(index.collection);
        let names = collection.list_index_names().await.unwrap();
        let name = index.name.to_owned();
        assert!(names.contains(&name), "{}: {names:?}", index.collection);
    }
}

#[tokio::test]
async fn another_layout_is_refused_and_left_alone() {
    let Some(scratch) = Scratch::new() else {
        return;
    };
    let database = scratch.database().await;
    let meta = database.collection::<Document>("meta");
    for (schema, said) in [(doc! { "schema": 2_i64 }, "layout 2"), (doc! {}, "without")] {
        let mut record = doc! { "_id": "installation" };
        record.extend(schema);
        meta.delete_many(doc! {}).await.unwrap();
        meta.insert_one(record).await.unwrap();
        let error = refused(scratch.url().expose_secret()).await;
        assert!(matches!(error, OpenError::Schema { .. }), "{error}");
        assert!(error.to_string().contains(said), "{error}");
    }
    assert_eq!(database.list_collection_names().await.unwrap(), ["meta"]);
}

#[tokio::test]
async fn reopening_keeps_everything() {
    let Some(scratch) = Scratch::new() else {
        return;
    };
    let store = scratch.open().await;
    assert_eq!(store.begin_epoch().await.unwrap(), 2);
    let meta = store.meta().await.unwrap();
    drop(store);
    assert_eq!(scratch.open().await.meta().await.unwrap(), meta);
    let other = Scratch::new().unwrap();
    assert_ne!(other.open().await.meta().await.unwrap(), meta);
}
