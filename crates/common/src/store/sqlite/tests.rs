//! What is SQLite's own: files, locks, plans and the sharing of commits.

use std::path::PathBuf;
use std::sync::Arc;

use futures_util::future::join_all;
use rusqlite::Connection;

use super::messages::Which;
use super::row::{self, Direction};
use super::{
    OpenError, SqliteStore, accounts, groups, log_store, message_changes, messages, moderation,
    pending, reactions, reading, schema,
};
use crate::domain::{
    Change, ChannelId, Entry, EntryId, Head, Key, MessageState, StreamId, Timestamp, UserId,
};
use crate::store::contract::{Fresh, store_contract};
use crate::store::{LogStore, StateStore as _, StoreError};

/// A directory of its own, removed with all that is in it.
pub(super) struct Scratch(PathBuf);

impl Scratch {
    pub(super) fn new() -> Self {
        Self(std::env::temp_dir().join(format!("tidings-store-{}", EntryId::generate())))
    }

    pub(super) fn database(&self) -> PathBuf {
        self.0.join("nested").join("tidings.db")
    }

    pub(super) fn open(&self) -> SqliteStore {
        SqliteStore::open(&self.database()).unwrap()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // A test that opened nothing has made no directory.
        drop(std::fs::remove_dir_all(&self.0));
    }
}

async fn fresh_store() -> Option<Fresh> {
    let scratch = Scratch::new();
    Some(Fresh {
        store: Arc::new(scratch.open()),
        guard: Box::new(scratch),
    })
}

mod contract {
    use super::*;

    store_contract!(super::super::fresh_store);
}

pub(super) fn message(stream: StreamId, seq: u64) -> Entry {
    let state = MessageState {
        content: "hello".to_owned(),
        ..MessageState::default()
    };
    Entry {
        id: EntryId::generate(),
        stream,
        seq,
        at: Timestamp::from_millis(1),
        actor: Some(UserId::generate()),
        key: Key::unique(),
        request: None,
        gv: 1,
        ord: seq,
        change: Change::MessageCreated(Box::new(state)),
    }
}

pub(super) fn channel() -> StreamId {
    StreamId::Channel(ChannelId::generate())
}

pub(super) async fn append(store: &SqliteStore, entry: &Entry) -> usize {
    store.append(vec![entry.clone()]).await.unwrap().landed
}

#[tokio::test]
async fn reopening_keeps_everything() {
    let scratch = Scratch::new();
    let store = scratch.open();
    let entry = message(channel(), 1);
    assert_eq!(append(&store, &entry).await, 1);
    let meta = store.meta().await.unwrap();
    drop(store);
    let store = scratch.open();
    assert_eq!(store.newest(entry.stream, 9).await.unwrap(), [entry]);
    assert_eq!(store.meta().await.unwrap(), meta);
    let other = Scratch::new();
    assert_ne!(other.open().meta().await.unwrap(), meta);
}

#[tokio::test]
async fn a_second_open_is_refused() {
    let scratch = Scratch::new();
    let store = scratch.open();
    let refused = SqliteStore::open(&scratch.database()).err().unwrap();
    assert!(matches!(refused, OpenError::InUse { .. }), "{refused}");
    assert_eq!(store.meta().await.unwrap().epoch, 1);
    drop(store);
    drop(scratch.open());
}

#[test]
fn another_layout_is_refused() {
    let scratch = Scratch::new();
    drop(scratch.open());
    let connection = Connection::open(scratch.database()).unwrap();
    connection
        .execute("UPDATE meta SET schema = 2", [])
        .unwrap();
    drop(connection);
    let refused = SqliteStore::open(&scratch.database()).err().unwrap();
    let schema = matches!(refused, OpenError::Schema { found: Some(2) });
    assert!(schema, "{refused}");
}

#[test]
fn what_is_no_database_is_refused() {
    let scratch = Scratch::new();
    std::fs::create_dir_all(scratch.database().parent().unwrap()).unwrap();
    std::fs::write(scratch.database(), "no database ".repeat(1000)).unwrap();
    let refused = SqliteStore::open(&scratch.database()).err().unwrap();
    assert!(matches!(refused, OpenError::Database(_)), "{refused}");
}

#[cfg(unix)]
#[test]
fn others_cannot_read_the_file() {
    use std::os::unix::fs::PermissionsExt as _;
    let scratch = Scratch::new();
    let _store = scratch.open();
    for suffix in ["", "-wal"] {
        let mut path = scratch.database().into_os_string();
        path.push(suffix);
        let mode = std::fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{suffix}");
    }
}

#[tokio::test]
async fn a_run_that_would_leave_a_hole_is_refused() {
    let scratch = Scratch::new();
    let store = scratch.open();
    let stream = channel();
    assert_eq!(append(&store, &message(stream, 1)).await, 1);
    let bad_runs = [
        vec![message(stream, 3)],
        vec![message(stream, 0)],
        vec![message(stream, u64::MAX)],
        vec![message(stream, 2), message(stream, 4)],
        vec![message(stream, 2), message(channel(), 3)],
    ];
    for run in bad_runs {
        let refused = store.append(run).await.unwrap_err();
        assert!(matches!(refused, StoreError::Corrupt(_)), "{refused}");
    }
    assert_eq!(store.heads(&[stream]).await.unwrap(), [1]);
}

#[tokio::test]
async fn a_trimmed_position_stays_taken() {
    let scratch = Scratch::new();
    let store = scratch.open();
    let stream = channel();
    let fence = |seq| Entry {
        change: Change::MembersChanged { gv: 1 },
        ..message(stream, seq)
    };
    store.append(vec![fence(1), fence(2)]).await.unwrap();
    store.settle(&[(stream, 1), (stream, 2)]).await.unwrap();
    assert_eq!(store.trim(stream, 1).await.unwrap(), 1);
    assert_eq!(append(&store, &fence(1)).await, 0);
}

#[tokio::test]
async fn damaged_data_is_reported_as_such() {
    let scratch = Scratch::new();
    let store = scratch.open();
    let entry = message(channel(), 1);
    append(&store, &entry).await;
    let spoil = |connection: &Connection| {
        connection.execute("UPDATE entries SET data = '{'", [])?;
        Ok(())
    };
    store.write(spoil).await.unwrap();
    let failed = store.newest(entry.stream, 1).await.unwrap_err();
    assert!(matches!(failed, StoreError::Corrupt(_)), "{failed}");
    assert_eq!(store.heads(&[entry.stream]).await.unwrap(), [1]);
}

#[tokio::test]
async fn unreadable_entries_are_left_out_of_what_is_pending() {
    let scratch = Scratch::new();
    let store = scratch.open();
    let mut streams = [channel(), channel(), channel(), channel()];
    streams.sort_unstable();
    for stream in streams {
        store
            .append((1..=3).map(|seq| message(stream, seq)).collect())
            .await
            .unwrap();
    }
    let [first, second, third, fourth] = streams.map(StreamId::to_bytes);
    let spoil = move |connection: &Connection| {
        let set = |what: &str, stream: [u8; 17], seq: u64| {
            let sql = format!("UPDATE entries SET {what} WHERE s = ?1 AND n = ?2");
            connection.execute(&sql, (stream, row::signed(seq)))
        };
        set("kind = 'from.the.future'", first, 2)?;
        set("data = '{'", second, 1)?;
        set("data = x'ff'", second, 2)?;
        set("key = x'00'", second, 3)?;
        for seq in 1..=3 {
            // A kind of stream that is not known either; behind the second, before the fourth.
            set("s = x'63ffffffffffff'", third, seq)?;
        }
        set("gv = -1", fourth, 3)?;
        Ok(())
    };
    store.write(spoil).await.unwrap();
    let [first, second, _, fourth] = streams;
    let expected = [(first, 1), (first, 3), (fourth, 1), (fourth, 2)];
    for limit in 1..=12 {
        let mut found = Vec::new();
        let mut after = None;
        loop {
            let far = Timestamp::from_millis(i64::MAX);
            let page = store.pending(far, after, limit).await.unwrap();
            let items = page.items.iter();
            found.extend(items.map(|found| (found.entry.stream, found.entry.seq)));
            assert!(page.next.is_none() || page.next > after, "{limit}");
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(found, expected, "{limit}");
    }
    assert_eq!(store.heads(&[second]).await.unwrap(), [3]);
}

#[tokio::test]
async fn an_entry_whose_time_cannot_be_read_goes_with_the_old_ones_behind_it() {
    let scratch = Scratch::new();
    let store = scratch.open();
    let stream = channel();
    let fence = |seq| Entry {
        change: Change::MembersChanged { gv: 1 },
        ..message(stream, seq)
    };
    store.append((1..=3).map(fence).collect()).await.unwrap();
    let spoil = |connection: &Connection| {
        connection.execute("UPDATE entries SET at = 'yesterday' WHERE n = 2", [])?;
        Ok(())
    };
    store.write(spoil).await.unwrap();
    let far = Timestamp::from_millis(i64::MAX);
    let page = store.old_entries(far, None, 9).await.unwrap();
    let found: Vec<_> = page
        .streams
        .iter()
        .map(|old| (old.first, old.through))
        .collect();
    assert_eq!(found, [(1, 3)]);
}

#[tokio::test]
async fn of_a_stream_what_is_pending_comes_up_to_what_cannot_be_read() {
    let scratch = Scratch::new();
    let store = scratch.open();
    let stream = channel();
    let edit = |seq| Entry {
        change: Change::MessageDeleted { message: 1 },
        ..message(stream, seq)
    };
    let run = vec![
        edit(1),
        message(stream, 2),
        edit(3),
        edit(4),
        message(stream, 5),
    ];
    assert_eq!(store.append(run).await.unwrap().landed, 5);
    let spoil = |connection: &Connection| {
        connection.execute("UPDATE entries SET data = '{' WHERE n IN (2, 4)", [])?;
        Ok(())
    };
    store.write(spoil).await.unwrap();
    // The message is passed over, the change is not.
    for (after, limit, expected) in [
        (0, 1, vec![1]),
        (0, 9, vec![1, 3]),
        (1, 1, vec![3]),
        (4, 9, vec![5]),
    ] {
        let found = store.pending_in(stream, after, limit).await.unwrap();
        let seqs: Vec<u64> = found.iter().map(|entry| entry.seq).collect();
        assert_eq!(seqs, expected, "{after}, {limit}");
    }
    let failed = store.pending_in(stream, 3, 9).await.unwrap_err();
    assert!(matches!(failed, StoreError::Corrupt(_)), "{failed}");
    let far = Timestamp::from_millis(i64::MAX);
    assert_eq!(store.pending(far, None, 9).await.unwrap().unreadable, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn appends_that_wait_together_share_a_commit() {
    let scratch = Scratch::new();
    let store = Arc::new(scratch.open());
    let before = store.commits();
    let appends = (0..256).map(|_| {
        let store = Arc::clone(&store);
        tokio::spawn(async move { append(&store, &message(channel(), 1)).await })
    });
    for landed in join_all(appends).await {
        assert_eq!(landed.unwrap(), 1);
    }
    let commits = store.commits() - before;
    assert!(commits <= 128, "{commits} commits for 256 appends");
}

#[test]
fn calls_work_on_any_runtime() {
    let scratch = Scratch::new();
    let store = scratch.open();
    let stream = channel();
    for seq in 1..=3 {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        let landed = runtime.block_on(append(&store, &message(stream, seq)));
        assert_eq!(landed, 1);
        let head = runtime.block_on(store.head(stream)).unwrap();
        assert_eq!(
            head,
            Head {
                seq,
                gv: 1,
                ord: seq
            }
        );
    }
}

#[test]
fn queries_take_their_index() {
    let scratch = Scratch::new();
    drop(scratch.open());
    let connection = schema::connect_reader(&scratch.database()).unwrap();
    for (sql, index) in [
        (log_store::HEAD.to_owned(), "entries_position"),
        (messages::before_sql(Which::All), "entries_messages"),
        (messages::from_sql(Which::All), "entries_messages"),
        (messages::versions_sql(), "entries_messages"),
        (messages::before_sql(Which::Pinned), "PRIMARY KEY"),
        (messages::from_sql(Which::Pinned), "entries_messages"),
        (pending::of_stream_sql(), "entries_pending"),
        (pending::ANY_SQL.to_owned(), "entries_pending"),
        (pending::of_all_sql(), "entries_pending"),
        (pending::LATER_SQL.to_owned(), "entries_pending"),
        (pending::lately_sql(), "INTEGER PRIMARY KEY"),
        (pending::OLD_SQL.to_owned(), "entries_others"),
        (pending::UNDER_FLOOR.to_owned(), "entries_others"),
        (message_changes::COPIES.to_owned(), "entries_copies"),
        (accounts::NAMED.to_owned(), "username"),
        (accounts::sessions_sql(Direction::Up), "sessions_of"),
        (accounts::sessions_sql(Direction::Down), "sessions_of"),
        (groups::members_sql(Direction::Up), "PRIMARY KEY"),
        (groups::members_sql(Direction::Down), "PRIMARY KEY"),
        (moderation::bans_sql(Direction::Up), "members_banned"),
        (moderation::bans_sql(Direction::Down), "members_banned"),
        (moderation::invites_sql(Direction::Up), "invites_of"),
        (moderation::invites_sql(Direction::Down), "invites_of"),
        (reactions::reactors_sql(Direction::Up), "PRIMARY KEY"),
        (reactions::reactors_sql(Direction::Down), "PRIMARY KEY"),
        (groups::memberships_sql(Direction::Up), "members_of"),
        (groups::memberships_sql(Direction::Down), "members_of"),
        (groups::STREAMS.to_owned(), "members_of"),
        (groups::ACQUAINTANCES.to_owned(), "members_of"),
        (groups::SHARED.to_owned(), "members_of"),
        (reading::MARK.to_owned(), "PRIMARY KEY"),
        (reading::BEGUN.to_owned(), "PRIMARY KEY"),
        (reading::PLACE.to_owned(), "entries_position"),
        (reading::LAST_SENT.to_owned(), "entries_authors"),
        (reading::MENTIONS.to_owned(), "PRIMARY KEY"),
    ] {
        let mut statement = connection
            .prepare(&format!("EXPLAIN QUERY PLAN {sql}"))
            .unwrap();
        let steps: Vec<String> = statement
            .raw_query()
            .mapped(|row| row.get(3))
            .collect::<Result<_, _>>()
            .unwrap();
        let plan = steps.join("; ");
        assert!(plan.contains(index), "{sql}: {plan}");
        assert!(plan.starts_with("SEARCH"), "{sql}: {plan}");
        assert!(!plan.contains("SCAN"), "{sql}: {plan}");
        assert!(!plan.contains("TEMP B-TREE FOR ORDER"), "{sql}: {plan}");
    }
}
