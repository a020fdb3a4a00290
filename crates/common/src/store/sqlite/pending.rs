//! Entries that wait to be applied and announced, and those that may go.

use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::row::{self, ENTRY, signed};
use super::{Failure, log_store};
use crate::domain::{Entry, Seq, StreamId, Timestamp};
use crate::store::mark_page::mark_page;
use crate::store::old_page::old_page;
use crate::store::pending_page::{Filling, Next};
use crate::store::{Claim, MarkPage, OldPage, Pending, PendingPage, StoreError};

/// Entries deleted in one transaction.
pub(super) const PART: u64 = 500;

/// The index is named since that of all entries looks as good to the planner, though it leads
/// past everything that is not pending.
const PENDING: &str = "FROM entries INDEXED BY entries_pending WHERE pending IS NOT NULL";

pub(super) fn of_stream_sql() -> String {
    format!("SELECT {ENTRY} {PENDING} AND s = ?1 AND n > ?2 ORDER BY n")
}

pub(super) fn of_stream(
    connection: &Connection,
    stream: StreamId,
    after: Seq,
    limit: usize,
) -> Result<Vec<Entry>, Failure> {
    let mut statement = connection.prepare_cached(&of_stream_sql())?;
    let mut rows = statement.query(params![stream.to_bytes(), signed(after)])?;
    let mut found = Vec::new();
    // Rows are read as they are asked for.
    while found.len() < limit
        && let Some(row) = rows.next()?
    {
        let kind = row.get_ref(3)?.as_str().ok();
        match Next::of(row::entry(row).map_err(StoreError::from), kind) {
            Next::Entry(entry) => found.push(*entry),
            Next::PassOver => {}
            Next::Unreadable(error) if found.is_empty() => return Err(Failure::corrupt(error)),
            Next::Unreadable(_) => break,
        }
    }
    Ok(found)
}

pub(super) const ANY_SQL: &str = "SELECT 1 FROM entries INDEXED BY entries_pending
     WHERE pending IS NOT NULL AND s = ?1 LIMIT 1";

pub(super) fn with_pending(
    connection: &Connection,
    streams: &[StreamId],
) -> Result<Vec<StreamId>, Failure> {
    let mut statement = connection.prepare_cached(ANY_SQL)?;
    let mut found = Vec::new();
    for stream in streams {
        if statement.exists([stream.to_bytes()])? {
            found.push(*stream);
        }
    }
    Ok(found)
}

pub(super) fn of_all_sql() -> String {
    format!(
        "SELECT {ENTRY}, pending {PENDING}
         AND pending <= ?1 AND (s, n) > (?2, ?3) ORDER BY s, n"
    )
}

pub(super) fn of_all(
    connection: &Connection,
    before: Timestamp,
    after: Option<(StreamId, Seq)>,
    limit: usize,
) -> Result<PendingPage, Failure> {
    let (stream, seq) = bound(after);
    let mut filling = Filling::new(limit);
    let mut statement = connection.prepare_cached(&of_all_sql())?;
    let mut rows = statement.query(params![before.as_millis(), stream, seq])?;
    // Rows are read as they are asked for.
    while !filling.is_full() {
        let Some(row) = rows.next()? else {
            return Ok(filling.finish(true));
        };
        let read = pending(row).map_err(StoreError::from);
        filling.add(position(row).ok(), read, || place(row));
    }
    Ok(filling.finish(false))
}

fn bound(after: Option<(StreamId, Seq)>) -> (Vec<u8>, i64) {
    match after {
        Some((stream, seq)) => (stream.to_bytes().to_vec(), signed(seq)),
        // Before every name.
        None => (Vec::new(), 0),
    }
}

fn position(row: &Row<'_>) -> Result<(StreamId, Seq), Failure> {
    Ok((row::stream(row, 0)?, row::seq(row, 1)?))
}

fn pending(row: &Row<'_>) -> Result<Pending, Failure> {
    Ok(Pending {
        entry: row::entry(row)?,
        since: row::timestamp(row, 11)?,
    })
}

/// Where an unreadable entry stands, as far as that can be told.
fn place(row: &Row<'_>) -> (String, i64) {
    let stream = row::stream(row, 0).map_or_else(
        |_| format!("{:?}", row.get_ref(0)),
        |stream| stream.to_string(),
    );
    (stream, row.get(1).unwrap_or_default())
}

/// Of the latest entries, which end where those begin that are older.
const LATEST: i64 = 50_000;

/// Rows are numbered as they are inserted: the latest one is the newest of its stream, which
/// stays, so no number comes twice.
pub(super) fn lately_sql() -> String {
    format!(
        "SELECT {ENTRY}, pending FROM entries NOT INDEXED
         WHERE rowid > (SELECT max(rowid) FROM entries) - {LATEST}
         AND pending IS NOT NULL AND at >= ?1 ORDER BY rowid DESC LIMIT ?2"
    )
}

pub(super) fn lately(
    connection: &Connection,
    since: Timestamp,
    limit: usize,
) -> Result<Vec<Pending>, Failure> {
    let mut statement = connection.prepare_cached(&lately_sql())?;
    let mut rows = statement.query(params![since.as_millis(), row::limit(limit)])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        // What cannot be read is reported by whoever reads all that is pending.
        found.extend(pending(row).ok());
    }
    Ok(found)
}

pub(super) const LATER_SQL: &str = "SELECT s, n, pending FROM entries INDEXED BY entries_pending
     WHERE pending IS NOT NULL AND (s, n) > (?1, ?2) ORDER BY s, n LIMIT ?3";

pub(super) fn later(
    connection: &Connection,
    than: Timestamp,
    after: Option<(StreamId, Seq)>,
    limit: usize,
) -> Result<MarkPage, Failure> {
    let (stream, seq) = bound(after);
    let mut statement = connection.prepare_cached(LATER_SQL)?;
    let mut rows = statement.query(params![stream, seq, row::limit(limit)])?;
    let (mut found, mut looked_at) = (Vec::new(), 0);
    while let Some(row) = rows.next()? {
        looked_at += 1;
        // What cannot be read is reported by whoever reads all that is pending.
        if let (Ok((stream, seq)), Ok(seen)) = (position(row), row::timestamp(row, 2)) {
            found.push(Claim { stream, seq, seen });
        }
    }
    Ok(mark_page(found, than, (looked_at, limit)))
}

pub(super) fn claim(
    connection: &Connection,
    claims: &[Claim],
    now: Timestamp,
) -> Result<Vec<bool>, Failure> {
    let mut statement = connection.prepare_cached(
        "UPDATE entries SET pending = ?4 WHERE s = ?1 AND n = ?2 AND pending = ?3",
    )?;
    let mut won = Vec::with_capacity(claims.len());
    for claim in claims {
        let changed = statement.execute(params![
            claim.stream.to_bytes(),
            signed(claim.seq),
            claim.seen.as_millis(),
            claim.taken(now).as_millis(),
        ])?;
        won.push(changed == 1);
    }
    Ok(won)
}

pub(super) fn settle(connection: &Connection, entries: &[(StreamId, Seq)]) -> Result<(), Failure> {
    let mut statement = connection.prepare_cached(
        "UPDATE entries SET pending = NULL WHERE s = ?1 AND n = ?2 AND pending IS NOT NULL",
    )?;
    for (stream, seq) in entries {
        statement.execute(params![stream.to_bytes(), signed(*seq)])?;
    }
    Ok(())
}

pub(super) fn floor(connection: &Connection, stream: StreamId) -> Result<Seq, Failure> {
    let floor: Option<i64> = connection
        .prepare_cached("SELECT n FROM floors WHERE s = ?1")?
        .query_row([stream.to_bytes()], |row| row.get(0))
        .optional()?;
    row::unsigned(floor.unwrap_or_default())
}

pub(super) fn raise_floor(
    connection: &Connection,
    stream: StreamId,
    through: Seq,
) -> Result<(), Failure> {
    let head = log_store::head(connection, stream)?.seq;
    let floor = through.min(head.saturating_sub(1));
    if floor > 0 {
        connection
            .prepare_cached(
                "INSERT INTO floors (s, n) VALUES (?1, ?2)
                 ON CONFLICT (s) DO UPDATE SET n = max(n, excluded.n)",
            )?
            .execute(params![stream.to_bytes(), signed(floor)])?;
    }
    Ok(())
}

pub(super) const OLD_SQL: &str = "SELECT s, n, at FROM entries INDEXED BY entries_others
     WHERE kind <> 'message.created' AND (s, n) > (?1, ?2) ORDER BY s, n LIMIT ?3";

pub(super) fn old(
    connection: &Connection,
    before: Timestamp,
    after: Option<(StreamId, Seq)>,
    limit: usize,
) -> Result<OldPage, Failure> {
    let (stream, seq) = bound(after);
    let mut statement = connection.prepare_cached(OLD_SQL)?;
    let looked_at: Vec<_> = statement
        .query_and_then(params![stream, seq, row::limit(limit)], |row| {
            let (stream, seq) = position(row)?;
            Ok::<_, Failure>((stream, seq, row::timestamp(row, 2).ok()))
        })?
        .collect::<Result<_, _>>()?;
    Ok(old_page(&looked_at, before, looked_at.len() >= limit))
}

/// What may go: the newest entry stands above every floor.
pub(super) const UNDER_FLOOR: &str = "SELECT rowid FROM entries INDEXED BY entries_others
    WHERE s = ?1 AND n <= (SELECT n FROM floors WHERE s = ?1)
    AND kind <> 'message.created' AND pending IS NULL ORDER BY n LIMIT ?2";

/// Deletes up to [`PART`] entries under the floor; answers how many.
pub(super) fn delete_part(connection: &Connection, stream: StreamId) -> Result<u64, Failure> {
    let deleted = connection
        .prepare_cached(&format!(
            "DELETE FROM entries WHERE rowid IN ({UNDER_FLOOR})"
        ))?
        .execute(params![stream.to_bytes(), signed(PART)])?;
    Ok(deleted as u64)
}
