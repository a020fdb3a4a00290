//! Between columns and the domain's types.

use rusqlite::Row;

use super::Failure;
use crate::domain::{
    ChannelId, Entry, EntryId, Key, Message, RequestHash, Seq, StreamId, Timestamp, UserId,
};
use crate::store::{IdWindow, doc};

/// The columns that [`entry`] reads, in its order.
pub(super) const ENTRY: &str = "s, n, id, kind, actor, key, request, at, data, gv, ord";

/// A position as SQLite knows it. No stream gets as far as where this stops counting.
pub(super) fn signed(seq: Seq) -> i64 {
    i64::try_from(seq).unwrap_or(i64::MAX)
}

/// A limit as SQLite knows it.
pub(super) fn limit(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

/// Which way the ids of a window are read. The bound is `?2`, the limit `?3`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    Up,
    Down,
}

impl Direction {
    /// The end of a query for a window of the ids in `column`.
    pub(super) fn sql(self, column: &str) -> String {
        match self {
            Self::Up => format!("AND {column} > ?2 ORDER BY {column} LIMIT ?3"),
            Self::Down => format!("AND {column} < ?2 ORDER BY {column} DESC LIMIT ?3"),
        }
    }

    /// What was read this way, ascending.
    pub(super) fn ascending<T>(self, mut items: Vec<T>) -> Vec<T> {
        if self == Self::Down {
            items.reverse();
        }
        items
    }
}

/// A window's exclusive bound, and the way from there.
pub(super) fn bound<T>(
    window: &IdWindow<T>,
    bytes: impl FnOnce(&T) -> &[u8; 16],
) -> (&[u8], Direction) {
    match window {
        // The empty one is below all.
        IdWindow::First => (&[], Direction::Up),
        IdWindow::After(id) => (bytes(id), Direction::Up),
        IdWindow::Before(id) => (bytes(id), Direction::Down),
    }
}

/// A number that is never negative.
pub(super) fn unsigned(value: i64) -> Result<u64, Failure> {
    u64::try_from(value).map_err(Failure::corrupt)
}

pub(super) fn seq(row: &Row<'_>, column: usize) -> Result<Seq, Failure> {
    unsigned(row.get(column)?)
}

pub(super) fn timestamp(row: &Row<'_>, column: usize) -> Result<Timestamp, Failure> {
    Ok(Timestamp::from_millis(row.get(column)?))
}

pub(super) fn optional_timestamp(
    row: &Row<'_>,
    column: usize,
) -> Result<Option<Timestamp>, Failure> {
    let millis: Option<i64> = row.get(column)?;
    Ok(millis.map(Timestamp::from_millis))
}

pub(super) fn stream(row: &Row<'_>, column: usize) -> Result<StreamId, Failure> {
    let bytes: [u8; 17] = row.get(column)?;
    StreamId::from_bytes(&bytes).map_err(Failure::corrupt)
}

/// A name of one of the domain's small enums.
pub(super) fn name<T>(row: &Row<'_>, column: usize) -> Result<T, Failure>
where
    T: std::str::FromStr,
    T::Err: std::error::Error + Send + Sync + 'static,
{
    let text: String = row.get(column)?;
    text.parse().map_err(Failure::corrupt)
}

pub(super) fn entry(row: &Row<'_>) -> Result<Entry, Failure> {
    let kind = row.get_ref(3)?.as_str().map_err(Failure::corrupt)?;
    let data = row.get_ref(8)?.as_str().map_err(Failure::corrupt)?;
    Ok(Entry {
        stream: stream(row, 0)?,
        seq: seq(row, 1)?,
        id: EntryId::from_bytes(row.get(2)?),
        actor: row.get::<_, Option<_>>(4)?.map(UserId::from_bytes),
        key: Key::from_bytes(row.get(5)?),
        request: row.get::<_, Option<_>>(6)?.map(RequestHash::from_bytes),
        at: timestamp(row, 7)?,
        gv: seq(row, 9)?,
        ord: seq(row, 10)?,
        change: doc::decode(kind, data)?,
    })
}

/// The columns that [`message`] reads, in its order.
pub(super) const MESSAGE: &str = "n, id, actor, at, data";

pub(super) fn message(channel: ChannelId, row: &Row<'_>) -> Result<Message, Failure> {
    let data = row.get_ref(4)?.as_str().map_err(Failure::corrupt)?;
    let author: Option<[u8; 16]> = row.get(2)?;
    Ok(Message {
        channel,
        seq: seq(row, 0)?,
        id: EntryId::from_bytes(row.get(1)?),
        author: author
            .map(UserId::from_bytes)
            .ok_or_else(|| Failure::corrupt("a message without an author"))?,
        created_at: timestamp(row, 3)?,
        state: doc::decode_message(data)?,
    })
}
