//! The log over MongoDB: its contract, appenders in several processes, and primaries that are
//! cut off.

use std::collections::BTreeMap;
use std::io::BufRead as _;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::contract::{check_stream, log_contract};
use super::testing::{Always, RecordingBus, World, append, start};
use super::{AppendError, Log};
use crate::domain::{Change, Entry, Key, Seq, StreamId, UserId};
use crate::store::mongo_testing::{Nodes, Scratch, env, tasks};
use crate::store::{MongoStore, Store};

async fn fresh_store() -> Option<(Arc<dyn Store>, Scratch)> {
    let scratch = Scratch::new()?;
    Some((Arc::new(scratch.open().await), scratch))
}

mod contract {
    use super::*;

    log_contract!(super::fresh_store);
}

fn rename(name: &str) -> Always {
    let display_name = name.to_owned();
    Always(Change::UserUpdated { display_name }, false)
}

fn names(entries: &[Entry]) -> Vec<&str> {
    fn name(entry: &Entry) -> &str {
        match &entry.change {
            Change::UserUpdated { display_name } => display_name,
            other => panic!("{other:?}"),
        }
    }
    entries.iter().map(name).collect()
}

async fn everything(store: &dyn Store, stream: impl Into<StreamId>) -> Vec<Entry> {
    let all = store.entries(stream.into(), 0, Seq::MAX, 100_000).await;
    all.unwrap()
}

const PROCESSES: usize = 4;
/// Who sends at the same time in one process.
const SENDERS: usize = 8;
const EACH: usize = 25;

/// What tells a process that it is to append: the database's address and the user.
const TASK: &str = "TIDINGS_TEST_APPENDER";

/// One of the processes of [`appenders_in_several_processes_share_one_stream`]: says on
/// standard output what it was acknowledged. Run as a test of its own it has nothing to do.
#[tokio::test(flavor = "multi_thread")]
async fn an_appender_in_another_process() {
    let Some(task) = env(TASK) else {
        return;
    };
    let (url, user) = task.rsplit_once(' ').unwrap();
    let user: UserId = user.parse().unwrap();
    let store = MongoStore::open(&url.to_owned().into(), &tasks())
        .await
        .unwrap();
    let log = start(Arc::new(store), Arc::new(RecordingBus::default()));
    let senders = (0..SENDERS).map(|sender| {
        let log = log.clone();
        tokio::spawn(async move {
            for message in 0..EACH {
                let name = format!("{}-{sender}-{message}", std::process::id());
                let committed = append(&log, user, user, Key::unique(), rename(&name)).await;
                println!("acknowledged {} {name}", committed.unwrap().entry.seq);
            }
        })
    });
    for sender in senders.collect::<Vec<_>>() {
        sender.await.unwrap();
    }
    log.stop().await;
}

fn spawn_appender(url: &str, user: UserId) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "log::mongo_tests::an_appender_in_another_process",
        ])
        .args(["--nocapture", "--test-threads=1"])
        .env(TASK, format!("{url} {user}"))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Reads what a process was acknowledged; kills it after so many.
fn acknowledged(mut process: Child, kill_after: usize) -> BTreeMap<Seq, String> {
    let output = std::io::BufReader::new(process.stdout.take().unwrap());
    let mut acknowledged = BTreeMap::new();
    for line in output.lines().map_while(Result::ok) {
        // The harness writes its own words on the first line.
        let Some((_, what)) = line.split_once("acknowledged ") else {
            continue;
        };
        let (seq, name) = what.split_once(' ').unwrap();
        acknowledged.insert(seq.parse().unwrap(), name.to_owned());
        if acknowledged.len() == kill_after {
            process.kill().unwrap();
        }
    }
    let ended = process.wait().unwrap();
    assert_eq!(ended.success(), kill_after > SENDERS * EACH);
    acknowledged
}

#[tokio::test(flavor = "multi_thread")]
async fn appenders_in_several_processes_share_one_stream() {
    let Some(scratch) = Scratch::new() else {
        return;
    };
    let store = scratch.open().await;
    let user = UserId::generate();
    // One of them is killed in the midst of it.
    let readers = (0..PROCESSES).map(|number| {
        let process = spawn_appender(scratch.address(), user);
        let kill_after = if number == 0 { 40 } else { usize::MAX };
        tokio::task::spawn_blocking(move || acknowledged(process, kill_after))
    });
    let begun = Instant::now();
    let mut all = BTreeMap::new();
    for reader in readers.collect::<Vec<_>>() {
        for (seq, name) in reader.await.unwrap() {
            assert!(all.insert(seq, name).is_none(), "a position twice");
        }
    }
    let entries = everything(&store, user).await;
    println!("{} entries in {:?}", entries.len(), begun.elapsed());
    check_stream(&entries);
    let stored = names(&entries);
    for (seq, name) in &all {
        assert_eq!(stored[usize::try_from(seq - 1).unwrap()], name);
    }
    assert!(all.len() >= (PROCESSES - 1) * SENDERS * EACH + 40);
    // What is in without having been acknowledged can only be of the one that was killed.
    assert!(entries.len() - all.len() <= SENDERS, "{}", entries.len());
}

/// Appends until the outcome is known.
async fn insist(log: &Log, user: UserId, key: Key, name: &str) -> super::Committed {
    let deadline = Instant::now() + Duration::from_secs(40);
    loop {
        match append(log, user, user, key, rename(name)).await {
            Ok(committed) => return committed,
            Err(AppendError::Unavailable) if Instant::now() < deadline => {}
            Err(error) => panic!("{error:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_is_no_replay() {
    let Some(nodes) = Nodes::start(1).await else {
        return;
    };
    let store = Arc::new(MongoStore::open(&nodes.url(), &tasks()).await.unwrap());
    let world = World::new(store.clone(), &[]).await;
    let user = UserId::generate();
    // More than the driver tries by itself: the log meets its own entry.
    for lost in [1, 2, 4] {
        nodes.lose_answers(0, lost);
        let name = format!("after {lost}");
        let committed = append(&world.log, user, user, Key::unique(), rename(&name)).await;
        let committed = committed.unwrap();
        assert!(!committed.replayed, "its own entry is no replay");
        let entries = everything(&*store, user).await;
        check_stream(&entries);
        assert_eq!(entries.last(), Some(&committed.entry));
    }
    let entries = everything(&*store, user).await;
    assert_eq!(names(&entries), ["after 1", "after 2", "after 4"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_while_the_primary_is_cut_off_gets_the_first_entry() {
    let Some(nodes) = Nodes::start(3).await else {
        return;
    };
    let store: Arc<dyn Store> = Arc::new(MongoStore::open(&nodes.url(), &tasks()).await.unwrap());
    let world = World::new(store.clone(), &[]).await;
    let elsewhere = Arc::new(MongoStore::open(&nodes.url(), &tasks()).await.unwrap());
    let elsewhere = start(elsewhere, Arc::new(RecordingBus::default()));
    let user = UserId::generate();
    let key = Key::unique();
    let first = insist(&world.log, user, key, "first").await.entry;

    let old = nodes.primary().await;
    nodes.freeze(old);
    // Both ask a primary that does not answer, until another one is elected.
    let [here, there] = [world.log.clone(), elsewhere.clone()]
        .map(|log| tokio::spawn(async move { insist(&log, user, key, "first").await }));
    let begun_there = {
        let log = elsewhere.clone();
        let key = Key::unique();
        tokio::spawn(async move { insist(&log, user, key, "second").await })
    };
    for replay in [here, there] {
        let replay = replay.await.unwrap();
        assert!(replay.replayed);
        assert_eq!(replay.entry, first);
    }
    // A try that was told nothing may have landed: then the next one is its replay.
    begun_there.await.unwrap();
    assert_eq!(names(&everything(&*store, user).await), ["first", "second"]);

    nodes.thaw(old);
    let third = insist(&world.log, user, Key::unique(), "third").await;
    assert_eq!(third.entry.seq, 3);
    let entries = everything(&*store, user).await;
    check_stream(&entries);
    assert_eq!(names(&entries), ["first", "second", "third"]);
}
