//! The writer at its limits: failing jobs, a full disk, a stalled thread.

use std::sync::mpsc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::tests::{Scratch, append, channel, message};
use crate::store::{LogStore, StateStore as _, StoreError};

#[tokio::test]
async fn a_job_that_fails_takes_nobody_with_it() {
    let scratch = Scratch::new();
    let store = scratch.open();
    let (one, two) = (message(channel(), 1), message(channel(), 1));
    let fails = store.write(|connection| {
        connection.execute("DELETE FROM entries", [])?;
        connection.execute("INSERT INTO nowhere VALUES (1)", [])?;
        Ok(())
    });
    let resume = stall(&store).await;
    // Polled in this order, all three wait for one commit.
    let before = store.commits();
    let (one_landed, failed, two_landed, ()) =
        tokio::join!(append(&store, &one), fails, append(&store, &two), async {
            resume.send(()).unwrap();
        });
    assert_eq!((one_landed, two_landed), (1, 1));
    failed.unwrap_err();
    assert_eq!(store.commits() - before, 2, "the stalled one and these");
    let heads = store.heads(&[one.stream, two.stream]).await.unwrap();
    assert_eq!(heads, [1, 1]);
}

#[tokio::test]
async fn a_full_disk_is_answered_truthfully() {
    let scratch = Scratch::new();
    let store = scratch.open();
    let (one, two) = (message(channel(), 1), message(channel(), 1));
    let fills_up = store.write(|connection| {
        connection.pragma_update(None, "max_page_count", 1)?;
        connection.execute(
            "INSERT INTO floors (s, n) VALUES (zeroblob(1000000), 1)",
            [],
        )?;
        Ok(())
    });
    let resume = stall(&store).await;
    let (one_answer, full, two_answer, ()) = tokio::join!(
        store.append(vec![one.clone()]),
        fills_up,
        store.append(vec![two.clone()]),
        async { resume.send(()).unwrap() }
    );
    assert!(matches!(full, Err(StoreError::Unavailable(_))), "{full:?}");
    for (entry, answer) in [(&one, one_answer), (&two, two_answer)] {
        let found = store.heads(&[entry.stream]).await.unwrap();
        assert_eq!(found, [u64::from(answer.is_ok())], "{answer:?}");
    }
    let freed = store.write(|connection| {
        connection.pragma_update(None, "max_page_count", 1_000_000)?;
        Ok(())
    });
    freed.await.unwrap();
    assert_eq!(append(&store, &message(channel(), 1)).await, 1);
}

#[tokio::test]
async fn a_write_without_an_answer_in_time_is_uncertain() {
    let scratch = Scratch::new();
    let store = scratch.open();
    let entry = message(channel(), 1);
    let resume = stall(&store).await;
    let late = store.writer.call(Duration::from_millis(1), |connection| {
        connection.execute("INSERT INTO floors (s, n) VALUES (x'00', 7)", [])?;
        Ok(())
    });
    let answer = late.await;
    assert!(
        matches!(answer, Err(StoreError::Uncertain(_))),
        "{answer:?}"
    );
    // Reads do not wait for the writer.
    assert_eq!(store.heads(&[entry.stream]).await.unwrap(), [0]);
    resume.send(()).unwrap();
    // It was queued before this one, and has been done.
    assert_eq!(append(&store, &entry).await, 1);
    let floor = store.read(|connection| {
        let sql = "SELECT n FROM floors WHERE s = x'00'";
        Ok(connection.query_row(sql, [], |row| row.get::<_, i64>(0))?)
    });
    assert_eq!(floor.await.unwrap(), 7);
}

#[tokio::test]
async fn a_read_without_an_answer_in_time_is_unavailable() {
    let scratch = Scratch::new();
    let store = scratch.open();
    let (resume, stalled) = mpsc::channel::<()>();
    let late = store.readers.call(Duration::from_millis(1), move |_| {
        // Ends when the sender is dropped, too.
        stalled.recv().ok();
        Ok(())
    });
    let answer = late.await;
    assert!(
        matches!(answer, Err(StoreError::Unavailable(_))),
        "{answer:?}"
    );
    assert_eq!(
        store.heads(&[channel()]).await.unwrap(),
        [0],
        "others go on"
    );
    drop(resume);
}

#[tokio::test]
async fn what_is_queued_is_done_before_the_file_is_let_go() {
    let scratch = Scratch::new();
    let store = scratch.open();
    let entry = message(channel(), 1);
    let resume = stall(&store).await;
    {
        let mut abandoned = store.append(vec![entry.clone()]);
        assert!(futures_util::poll!(&mut abandoned).is_pending());
    }
    resume.send(()).unwrap();
    drop(store);
    let store = scratch.open();
    assert_eq!(store.newest(entry.stream, 9).await.unwrap(), [entry]);
}

#[tokio::test]
async fn a_check_tells_a_full_disk_until_there_is_room() {
    let scratch = Scratch::new();
    let store = scratch.open();
    let set_most_pages = async |pages: i64| {
        let set = store.write(move |connection| {
            connection.pragma_update(None, "max_page_count", pages)?;
            Ok(())
        });
        set.await.unwrap();
    };
    set_most_pages(1).await;
    // Nobody has noticed yet.
    store.check().await.unwrap();
    let fills_up = store.write(|connection| {
        connection.execute(
            "INSERT INTO floors (s, n) VALUES (zeroblob(1000000), 1)",
            [],
        )?;
        Ok(())
    });
    fills_up.await.unwrap_err();
    for _ in 0..3 {
        // What changes nothing can still be done, and is no sign of room.
        store.settle(&[(channel(), 1)]).await.unwrap();
        check_unavailable(store.check().await.map(drop));
    }
    set_most_pages(1_000_000).await;
    store.check().await.unwrap();
    let floors = store.read(|connection| {
        let sql = "SELECT count(*) FROM floors";
        Ok(connection.query_row(sql, [], |row| row.get::<_, i64>(0))?)
    });
    assert_eq!(floors.await.unwrap(), 0, "a check leaves nothing");
    assert_eq!(append(&store, &message(channel(), 1)).await, 1);
    store.check().await.unwrap();
}

#[tokio::test]
async fn a_check_passes_again_after_a_write_that_succeeds() {
    let scratch = Scratch::new();
    let store = scratch.open();
    let entry = message(channel(), 1);
    // Ends the batch's transaction, as a disk that fails does.
    let fails = store.write(|connection| {
        connection.execute_batch("ROLLBACK")?;
        Ok(())
    });
    fails.await.unwrap_err();
    assert!(store.writer.is_failing());
    assert_eq!(append(&store, &entry).await, 1);
    assert!(!store.writer.is_failing());
    store.check().await.unwrap();
}

#[tokio::test]
async fn a_check_tells_a_writer_that_is_stuck() {
    let scratch = Scratch::new();
    let store = scratch.open();
    let resume = stall(&store).await;
    check_unavailable(store.writer.check(Duration::from_millis(1)).await);
    resume.send(()).unwrap();
    store.check().await.unwrap();
}

#[tokio::test]
async fn a_check_tells_a_writer_that_has_died() {
    let scratch = Scratch::new();
    let store = scratch.open();
    let dies = store.write(|_| -> Result<(), _> { std::panic::resume_unwind(Box::new(())) });
    dies.await.unwrap_err();
    check_unavailable(store.check().await.map(drop));
}

fn check_unavailable(answer: Result<(), StoreError>) {
    assert!(
        matches!(answer, Err(StoreError::Unavailable(_))),
        "{answer:?}"
    );
}

/// Keeps the writer busy until the answer is used or dropped.
async fn stall(store: &super::SqliteStore) -> mpsc::Sender<()> {
    let (resume, stalled) = mpsc::channel::<()>();
    let (start, started) = oneshot::channel();
    {
        let job = store.write(move |_| {
            start.send(()).ok();
            stalled.recv().ok();
            Ok(())
        });
        let mut job = std::pin::pin!(job);
        assert!(futures_util::poll!(&mut job).is_pending());
    }
    started.await.unwrap();
    resume
}
