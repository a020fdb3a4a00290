//! The log in SQLite: appending and reading entries.

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension as _, params};

use super::messages::Which;
use super::row::{self, ENTRY, signed};
use super::{Failure, SqliteStore, messages, pending};
use crate::domain::{ChannelId, Entry, Head, Key, Message, Seq, StreamId, Timestamp, Version};
use crate::store::run::{NOT_A_RUN, copied_message, is_run};
use crate::store::{
    Appended, Claim, LogStore, MarkPage, OldPage, Page, Pending, PendingPage, StoreError, Window,
    doc,
};

#[async_trait]
impl LogStore for SqliteStore {
    async fn append(&self, run: Vec<Entry>) -> Result<Appended, StoreError> {
        let mut rows = Vec::with_capacity(run.len());
        for entry in run {
            // Encoded here: the writer's time is everybody's.
            let data = doc::encode(&entry.change).map_err(Failure::from)?;
            rows.push((entry, data));
        }
        self.write(move |connection| append(connection, &rows))
            .await
    }

    async fn head(&self, stream: StreamId) -> Result<Head, StoreError> {
        self.read(move |connection| head(connection, stream)).await
    }

    async fn heads(&self, streams: &[StreamId]) -> Result<Vec<Seq>, StoreError> {
        let streams = streams.to_vec();
        self.read(move |connection| heads(connection, &streams))
            .await
    }

    async fn find(&self, stream: StreamId, key: Key) -> Result<Option<Entry>, StoreError> {
        self.read(move |connection| find(connection, stream, key))
            .await
    }

    async fn entries(
        &self,
        stream: StreamId,
        after: Seq,
        through: Seq,
        limit: usize,
    ) -> Result<Vec<Entry>, StoreError> {
        self.read(move |connection| entries(connection, stream, (after, through), limit))
            .await
    }

    async fn newest(&self, stream: StreamId, limit: usize) -> Result<Vec<Entry>, StoreError> {
        self.read(move |connection| newest(connection, stream, limit))
            .await
    }

    async fn messages(
        &self,
        channel: ChannelId,
        window: Window,
        limit: usize,
    ) -> Result<Page<Message>, StoreError> {
        self.read(move |connection| messages::page(connection, Which::All, channel, window, limit))
            .await
    }

    async fn pinned(
        &self,
        channel: ChannelId,
        window: Window,
        limit: usize,
    ) -> Result<Page<Message>, StoreError> {
        self.read(move |connection| {
            messages::page(connection, Which::Pinned, channel, window, limit)
        })
        .await
    }

    async fn messages_at(
        &self,
        channel: ChannelId,
        seqs: &[Seq],
    ) -> Result<Vec<Message>, StoreError> {
        let mut seqs = seqs.to_vec();
        seqs.sort_unstable();
        seqs.dedup();
        self.read(move |connection| messages::at(connection, channel, &seqs))
            .await
    }

    async fn versions(
        &self,
        channel: ChannelId,
        after: Seq,
        through: Seq,
    ) -> Result<Vec<Version>, StoreError> {
        self.read(move |connection| messages::versions(connection, channel, (after, through)))
            .await
    }

    async fn versions_at(
        &self,
        channel: ChannelId,
        seqs: &[Seq],
    ) -> Result<Vec<Version>, StoreError> {
        let mut seqs = seqs.to_vec();
        seqs.sort_unstable();
        seqs.dedup();
        self.read(move |connection| messages::versions_at(connection, channel, &seqs))
            .await
    }

    async fn with_pending(&self, streams: &[StreamId]) -> Result<Vec<StreamId>, StoreError> {
        let streams = streams.to_vec();
        self.read(move |connection| pending::with_pending(connection, &streams))
            .await
    }

    async fn pending_in(
        &self,
        stream: StreamId,
        after: Seq,
        limit: usize,
    ) -> Result<Vec<Entry>, StoreError> {
        self.read(move |connection| pending::of_stream(connection, stream, after, limit))
            .await
    }

    async fn pending(
        &self,
        before: Timestamp,
        after: Option<(StreamId, Seq)>,
        limit: usize,
    ) -> Result<PendingPage, StoreError> {
        self.read(move |connection| pending::of_all(connection, before, after, limit))
            .await
    }

    async fn pending_lately(
        &self,
        since: Timestamp,
        limit: usize,
    ) -> Result<Vec<Pending>, StoreError> {
        self.read(move |connection| pending::lately(connection, since, limit))
            .await
    }

    async fn pending_later(
        &self,
        than: Timestamp,
        after: Option<(StreamId, Seq)>,
        limit: usize,
    ) -> Result<MarkPage, StoreError> {
        self.read(move |connection| pending::later(connection, than, after, limit))
            .await
    }

    async fn claim(&self, claims: &[Claim], now: Timestamp) -> Result<Vec<bool>, StoreError> {
        let claims = claims.to_vec();
        self.write(move |connection| pending::claim(connection, &claims, now))
            .await
    }

    async fn settle(&self, entries: &[(StreamId, Seq)]) -> Result<(), StoreError> {
        let entries = entries.to_vec();
        self.write(move |connection| pending::settle(connection, &entries))
            .await
    }

    async fn floor(&self, stream: StreamId) -> Result<Seq, StoreError> {
        self.read(move |connection| pending::floor(connection, stream))
            .await
    }

    async fn old_entries(
        &self,
        before: Timestamp,
        after: Option<(StreamId, Seq)>,
        limit: usize,
    ) -> Result<OldPage, StoreError> {
        self.read(move |connection| pending::old(connection, before, after, limit))
            .await
    }

    async fn trim(&self, stream: StreamId, through: Seq) -> Result<u64, StoreError> {
        self.write(move |connection| pending::raise_floor(connection, stream, through))
            .await?;
        let mut deleted = 0;
        loop {
            // In parts, so that appends do not wait for the end of a long trim.
            let part = self
                .write(move |connection| pending::delete_part(connection, stream))
                .await?;
            deleted += part;
            if part < pending::PART {
                return Ok(deleted);
            }
        }
    }
}

const INSERT: &str = "INSERT INTO entries
    (s, n, id, kind, actor, key, request, at, data, gv, ord, pending, copy_of)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?8, ?12)
    ON CONFLICT DO NOTHING";

fn append(connection: &Connection, run: &[(Entry, String)]) -> Result<Appended, Failure> {
    let Some((first, _)) = run.first() else {
        return Ok(Appended { landed: 0 });
    };
    if !is_run(run.iter().map(|(entry, _)| entry)) {
        return Err(Failure::corrupt(NOT_A_RUN));
    }
    let head = head(connection, first.stream)?.seq;
    if first.seq > head + 1 {
        return Err(Failure::corrupt(format!(
            "entry {} of {} would leave a hole after {head}",
            first.seq, first.stream
        )));
    }
    if first.seq <= head {
        // Also where the entry that took the position has been trimmed since.
        return Ok(Appended { landed: 0 });
    }
    let mut insert = connection.prepare_cached(INSERT)?;
    for (landed, (entry, data)) in run.iter().enumerate() {
        let inserted = insert.execute(params![
            entry.stream.to_bytes(),
            signed(entry.seq),
            entry.id.as_bytes(),
            entry.change.kind().as_str(),
            entry.actor.as_ref().map(|actor| actor.as_bytes()),
            entry.key.as_bytes(),
            entry.request.as_ref().map(|request| request.as_bytes()),
            entry.at.as_millis(),
            data,
            signed(entry.gv),
            signed(entry.ord),
            copied_message(&entry.change).map(signed),
        ])?;
        if inserted == 0 {
            return Ok(Appended { landed });
        }
    }
    Ok(Appended { landed: run.len() })
}

pub(super) fn head(connection: &Connection, stream: StreamId) -> Result<Head, Failure> {
    let mut statement = connection
        .prepare_cached("SELECT n, gv, ord FROM entries WHERE s = ?1 ORDER BY n DESC LIMIT 1")?;
    let head = statement
        .query_and_then([stream.to_bytes()], |row| {
            Ok::<_, Failure>(Head {
                seq: row::seq(row, 0)?,
                gv: row::seq(row, 1)?,
                ord: row::seq(row, 2)?,
            })
        })?
        .next()
        .transpose()?;
    Ok(head.unwrap_or_default())
}

pub(super) const HEAD: &str = "SELECT n FROM entries WHERE s = ?1 ORDER BY n DESC LIMIT 1";

/// All as of one moment, as one read transaction sees it.
fn heads(connection: &Connection, streams: &[StreamId]) -> Result<Vec<Seq>, Failure> {
    let snapshot = super::snapshot(connection)?;
    let mut statement = connection.prepare_cached(HEAD)?;
    let mut heads = Vec::with_capacity(streams.len());
    for stream in streams {
        let head: Option<i64> = statement
            .query_row([stream.to_bytes()], |row| row.get(0))
            .optional()?;
        heads.push(row::unsigned(head.unwrap_or_default())?);
    }
    drop(snapshot);
    Ok(heads)
}

fn find(connection: &Connection, stream: StreamId, key: Key) -> Result<Option<Entry>, Failure> {
    let mut statement = connection.prepare_cached(&format!(
        "SELECT {ENTRY} FROM entries WHERE s = ?1 AND key = ?2"
    ))?;
    statement
        .query_and_then(params![stream.to_bytes(), key.as_bytes()], row::entry)?
        .next()
        .transpose()
}

fn entries(
    connection: &Connection,
    stream: StreamId,
    (after, through): (Seq, Seq),
    limit: usize,
) -> Result<Vec<Entry>, Failure> {
    let mut statement = connection.prepare_cached(&format!(
        "SELECT {ENTRY} FROM entries WHERE s = ?1 AND n > ?2 AND n <= ?3 ORDER BY n LIMIT ?4"
    ))?;
    statement
        .query_and_then(
            params![
                stream.to_bytes(),
                signed(after),
                signed(through),
                row::limit(limit)
            ],
            row::entry,
        )?
        .collect()
}

fn newest(connection: &Connection, stream: StreamId, limit: usize) -> Result<Vec<Entry>, Failure> {
    let mut statement = connection.prepare_cached(&format!(
        "SELECT {ENTRY} FROM entries WHERE s = ?1 ORDER BY n DESC LIMIT ?2"
    ))?;
    statement
        .query_and_then(params![stream.to_bytes(), row::limit(limit)], row::entry)?
        .collect()
}
