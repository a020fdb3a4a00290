//! Entries that wait to be applied and announced, and those that may go.

use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::row::{self, ENTRY, signed};
use super::{Failure, log_store};
use crate::domain::{Entry, Seq, StreamId, Timestamp};
use crate::store::{Claim, Pending, PendingPage, StoreError};

/// Entries deleted in one transaction.
pub(super) const PART: u64 = 500;

/// The index is named since that of all entries looks as good to the planner, though it leads
/// past everything that is not pending.
const PENDING: &str = "FROM entries INDEXED BY entries_pending WHERE pending IS NOT NULL";

pub(super) fn of_stream_sql() -> String {
    format!("SELECT {ENTRY} {PENDING} AND s = ?1 AND n > ?2 ORDER BY n LIMIT ?3")
}

pub(super) fn of_stream(
    connection: &Connection,
    stream: StreamId,
    after: Seq,
    limit: usize,
) -> Result<Vec<Entry>, Failure> {
    let mut statement = connection.prepare_cached(&of_stream_sql())?;
    statement
        .query_and_then(
            params![stream.to_bytes(), signed(after), row::limit(limit)],
            row::entry,
        )?
        .collect()
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
    let (stream, seq) = match after {
        Some((stream, seq)) => (stream.to_bytes().to_vec(), signed(seq)),
        // Before every name.
        None => (Vec::new(), 0),
    };
    let mut page = PendingPage {
        items: Vec::new(),
        next: None,
    };
    let mut unreadable = Unreadable::default();
    let mut statement = connection.prepare_cached(&of_all_sql())?;
    let mut rows = statement.query(params![before.as_millis(), stream, seq])?;
    // Rows are read as they are asked for. Those of a stream whose name cannot be read do not
    // count: there is no going on from their position, so they must not fill a page.
    let mut looked_at = 0;
    while looked_at < limit {
        let Some(row) = rows.next()? else {
            page.next = None;
            break;
        };
        if let Ok(position) = position(row) {
            page.next = Some(position);
            looked_at += 1;
        }
        match pending(row) {
            Ok(pending) => page.items.push(pending),
            Err(failure) => unreadable.add(row, failure),
        }
    }
    unreadable.log();
    Ok(page)
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

/// The entries of one page that could not be read.
#[derive(Default)]
struct Unreadable {
    count: usize,
    first: Option<(String, i64, StoreError)>,
}

impl Unreadable {
    fn add(&mut self, row: &Row<'_>, failure: Failure) {
        self.count += 1;
        self.first.get_or_insert_with(|| {
            let stream = row::stream(row, 0).map_or_else(
                |_| format!("{:?}", row.get_ref(0)),
                |stream| stream.to_string(),
            );
            (stream, row.get(1).unwrap_or_default(), failure.into())
        });
    }

    /// Says so once: the same ones come again with every pass.
    fn log(self) {
        if let Some((stream, seq, error)) = self.first {
            tracing::error!(
                stream,
                delta.seq = seq,
                entries = self.count,
                error = &error as &dyn std::error::Error,
                "pending entries cannot be read and are not announced; this is the first"
            );
        }
    }
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
