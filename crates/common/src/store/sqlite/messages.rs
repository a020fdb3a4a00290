//! Pages of messages. A message is its own `message.created` entry, found by a partial index.

use rusqlite::{Connection, Row, params};

use super::Failure;
use super::row::{self, MESSAGE, signed};
use crate::domain::{ChannelId, Message, Seq, StreamId, Version};
use crate::store::{Page, Window, doc};

/// Which messages of a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Which {
    All,
    Pinned,
}

/// The kind stands in the text of each query: only so SQLite can take the partial index. It is
/// named since the index of all entries looks as good to the planner.
const OF_CHANNEL: &str = "FROM entries INDEXED BY entries_messages
    WHERE s = ?1 AND kind = 'message.created'";

/// The few that are pinned are looked up one by one.
const PINNED: &str = "FROM pins CROSS JOIN entries INDEXED BY entries_messages USING (s)
    WHERE s = ?1 AND n = pin AND kind = 'message.created'";

impl Which {
    fn source(self) -> (&'static str, &'static str) {
        match self {
            Self::All => (OF_CHANNEL, "n"),
            Self::Pinned => (PINNED, "pin"),
        }
    }
}

pub(super) fn page(
    connection: &Connection,
    which: Which,
    channel: ChannelId,
    window: Window,
    limit: usize,
) -> Result<Page<Message>, Failure> {
    // No position is beyond what SQLite can count to.
    let end = Seq::MAX;
    match window {
        Window::Newest => before(connection, which, channel, end, limit),
        Window::Before(seq) => before(connection, which, channel, seq, limit),
        Window::After(seq) => from(connection, which, channel, seq.saturating_add(1), limit),
        Window::Around(seq) => {
            let snapshot = super::snapshot(connection)?;
            let mut page = before(connection, which, channel, seq, limit / 2)?;
            let rest = from(connection, which, channel, seq, limit - limit / 2)?;
            drop(snapshot);
            page.items.extend(rest.items);
            page.more |= rest.more;
            Ok(page)
        }
    }
}

pub(super) fn before_sql(which: Which) -> String {
    let (source, n) = which.source();
    format!("SELECT {MESSAGE} {source} AND {n} < ?2 ORDER BY {n} DESC LIMIT ?3")
}

pub(super) fn from_sql(which: Which) -> String {
    let (source, n) = which.source();
    format!("SELECT {MESSAGE} {source} AND {n} >= ?2 ORDER BY {n} LIMIT ?3")
}

fn before(
    connection: &Connection,
    which: Which,
    channel: ChannelId,
    seq: Seq,
    limit: usize,
) -> Result<Page<Message>, Failure> {
    let mut page = select(connection, &before_sql(which), channel, seq, limit)?;
    page.items.reverse();
    Ok(page)
}

fn from(
    connection: &Connection,
    which: Which,
    channel: ChannelId,
    seq: Seq,
    limit: usize,
) -> Result<Page<Message>, Failure> {
    select(connection, &from_sql(which), channel, seq, limit)
}

/// Reads one more than asked for, to know whether there is more.
fn select(
    connection: &Connection,
    sql: &str,
    channel: ChannelId,
    seq: Seq,
    limit: usize,
) -> Result<Page<Message>, Failure> {
    let mut statement = connection.prepare_cached(sql)?;
    let mut items = statement
        .query_and_then(
            params![
                StreamId::from(channel).to_bytes(),
                signed(seq),
                row::limit(limit.saturating_add(1))
            ],
            |row| row::message(channel, row),
        )?
        .collect::<Result<Vec<_>, _>>()?;
    let more = items.len() > limit;
    items.truncate(limit);
    Ok(Page { items, more })
}

pub(super) fn versions_sql() -> String {
    format!("SELECT n, data {OF_CHANNEL} AND n > ?2 AND n <= ?3 ORDER BY n")
}

pub(super) fn versions(
    connection: &Connection,
    channel: ChannelId,
    (after, through): (Seq, Seq),
) -> Result<Vec<Version>, Failure> {
    let mut statement = connection.prepare_cached(&versions_sql())?;
    let stream = StreamId::from(channel).to_bytes();
    statement
        .query_and_then(params![stream, signed(after), signed(through)], version)?
        .collect()
}

/// `seqs` ascending.
pub(super) fn versions_at(
    connection: &Connection,
    channel: ChannelId,
    seqs: &[Seq],
) -> Result<Vec<Version>, Failure> {
    let snapshot = super::snapshot(connection)?;
    let mut statement =
        connection.prepare_cached(&format!("SELECT n, data {OF_CHANNEL} AND n = ?2"))?;
    let stream = StreamId::from(channel).to_bytes();
    let mut versions = Vec::new();
    for seq in seqs {
        let mut found = statement.query_and_then(params![stream, signed(*seq)], version)?;
        versions.extend(found.next().transpose()?);
    }
    drop(snapshot);
    Ok(versions)
}

fn version(row: &Row<'_>) -> Result<Version, Failure> {
    let data = row.get_ref(1)?.as_str().map_err(Failure::corrupt)?;
    Ok(doc::decode_version(row::seq(row, 0)?, data)?)
}

/// `seqs` ascending.
pub(super) fn at(
    connection: &Connection,
    channel: ChannelId,
    seqs: &[Seq],
) -> Result<Vec<Message>, Failure> {
    let snapshot = super::snapshot(connection)?;
    let mut statement =
        connection.prepare_cached(&format!("SELECT {MESSAGE} {OF_CHANNEL} AND n = ?2"))?;
    let mut messages = Vec::new();
    for seq in seqs {
        let mut found = statement.query_and_then(
            params![StreamId::from(channel).to_bytes(), signed(*seq)],
            |row| row::message(channel, row),
        )?;
        messages.extend(found.next().transpose()?);
    }
    drop(snapshot);
    Ok(messages)
}
