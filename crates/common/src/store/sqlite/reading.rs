//! Marks, and positions in channels. Who is mentioned where stands in `mentions`, which triggers
//! keep in step with the messages' entries.

use async_trait::async_trait;
use rusqlite::{Connection, Row, params};

use super::row::{self, signed};
use super::{Failure, SqliteStore};
use crate::domain::{ChannelId, GroupId, Place, ReadMark, Seq, StreamId, Timestamp, UserId};
use crate::store::doc::EVERYONE;
use crate::store::{ReadingStore, StoreError};

/// Came after the tables of the first layout.
///
/// A user's id is written in `mentions` as in the entries' data. An entry that names nobody costs
/// the trigger a look at its text.
pub(super) const TABLES: &str = r#"
CREATE TABLE IF NOT EXISTS read_marks (
    user BLOB NOT NULL,
    channel BLOB NOT NULL,
    n INTEGER NOT NULL,
    ord INTEGER NOT NULL,
    at INTEGER NOT NULL,
    PRIMARY KEY (user, channel)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS reading_begun (
    user BLOB NOT NULL,
    grp BLOB NOT NULL,
    channel BLOB NOT NULL,
    joined INTEGER NOT NULL,
    n INTEGER NOT NULL,
    ord INTEGER NOT NULL,
    PRIMARY KEY (user, grp, channel)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS entries_authors ON entries (s, actor, n)
    WHERE kind = 'message.created';
CREATE TABLE IF NOT EXISTS mentions (
    user TEXT NOT NULL,
    s BLOB NOT NULL,
    n INTEGER NOT NULL,
    PRIMARY KEY (user, s, n)
) WITHOUT ROWID;
CREATE TRIGGER IF NOT EXISTS mentions_made AFTER INSERT ON entries
    WHEN NEW.kind = 'message.created' AND instr(NEW.data, '"mentions"') > 0
BEGIN
    INSERT OR IGNORE INTO mentions
        SELECT value, NEW.s, NEW.n FROM json_each(NEW.data, '$.mentions');
END;
CREATE TRIGGER IF NOT EXISTS mentions_changed AFTER UPDATE OF data ON entries
    WHEN NEW.kind = 'message.created'
    AND (instr(OLD.data, '"mentions"') > 0 OR instr(NEW.data, '"mentions"') > 0)
BEGIN
    DELETE FROM mentions WHERE s = OLD.s AND n = OLD.n
        AND user IN (SELECT value FROM json_each(OLD.data, '$.mentions'));
    INSERT OR IGNORE INTO mentions
        SELECT value, NEW.s, NEW.n FROM json_each(NEW.data, '$.mentions');
END;
"#;

#[async_trait]
impl ReadingStore for SqliteStore {
    async fn read_marks(
        &self,
        users: &[UserId],
        channels: &[ChannelId],
    ) -> Result<Vec<(UserId, ChannelId, ReadMark)>, StoreError> {
        let (users, channels) = (users.to_vec(), channels.to_vec());
        self.read(move |connection| marks(connection, &users, &channels))
            .await
    }

    async fn begin_reading(
        &self,
        user: UserId,
        group: GroupId,
        joined: Seq,
        places: &[(ChannelId, Place)],
    ) -> Result<(), StoreError> {
        let places = places.to_vec();
        self.write(move |connection| begin(connection, (user, group), joined, &places))
            .await
    }

    async fn begun_reading(
        &self,
        user: UserId,
        groups: &[GroupId],
    ) -> Result<Vec<(ChannelId, Place)>, StoreError> {
        let groups = groups.to_vec();
        self.read(move |connection| begun(connection, user, &groups))
            .await
    }

    async fn ends(&self, channels: &[ChannelId]) -> Result<Vec<Place>, StoreError> {
        let channels = channels.to_vec();
        self.read(move |connection| ends(connection, &channels))
            .await
    }

    async fn place_at(&self, channel: ChannelId, through: Seq) -> Result<Place, StoreError> {
        self.read(move |connection| {
            let found = one_place(
                connection,
                PLACE,
                params![StreamId::from(channel).to_bytes(), signed(through)],
            )?;
            Ok(found.unwrap_or_default())
        })
        .await
    }

    async fn last_sent_by(
        &self,
        user: UserId,
        channels: &[ChannelId],
    ) -> Result<Vec<(ChannelId, Place)>, StoreError> {
        let channels = channels.to_vec();
        self.read(move |connection| {
            each(connection, &channels, |channel| {
                last_sent(connection, *channel, user)
            })
        })
        .await
    }

    async fn last_sent_in(
        &self,
        channel: ChannelId,
        users: &[UserId],
    ) -> Result<Vec<(UserId, Place)>, StoreError> {
        let users = users.to_vec();
        self.read(move |connection| {
            each(connection, &users, |user| {
                last_sent(connection, channel, *user)
            })
        })
        .await
    }

    async fn mentions(
        &self,
        user: UserId,
        behind: &[(ChannelId, Seq)],
        most: usize,
    ) -> Result<Vec<usize>, StoreError> {
        let behind = behind.to_vec();
        self.read(move |connection| mentions(connection, user, &behind, most))
            .await
    }
}

pub(super) const MARK: &str = "SELECT n, ord, at FROM read_marks WHERE user = ?1 AND channel = ?2";

fn marks(
    connection: &Connection,
    users: &[UserId],
    channels: &[ChannelId],
) -> Result<Vec<(UserId, ChannelId, ReadMark)>, Failure> {
    let snapshot = super::snapshot(connection)?;
    let mut statement = connection.prepare_cached(MARK)?;
    let mut marks = Vec::new();
    for user in users {
        for channel in channels {
            let mut rows = statement.query(params![user.as_bytes(), channel.as_bytes()])?;
            if let Some(row) = rows.next()? {
                let mark = ReadMark {
                    place: place(row)?,
                    at: row::timestamp(row, 2)?,
                };
                marks.push((*user, *channel, mark));
            }
        }
    }
    drop(snapshot);
    Ok(marks)
}

/// See [`StateChange::MoveMark`](crate::store::StateChange::MoveMark).
pub(super) fn move_mark(
    connection: &Connection,
    (user, channel): (UserId, ChannelId),
    place: Place,
    at: Timestamp,
) -> Result<(), Failure> {
    connection
        .prepare_cached(
            "INSERT INTO read_marks (user, channel, n, ord, at) VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT (user, channel) DO UPDATE SET n = excluded.n, ord = excluded.ord,
             at = excluded.at WHERE n < excluded.n",
        )?
        .execute(params![
            user.as_bytes(),
            channel.as_bytes(),
            signed(place.seq),
            signed(place.ord),
            at.as_millis()
        ])?;
    Ok(())
}

fn begin(
    connection: &Connection,
    (user, group): (UserId, GroupId),
    joined: Seq,
    places: &[(ChannelId, Place)],
) -> Result<(), Failure> {
    let mut insert = connection.prepare_cached(
        "INSERT INTO reading_begun (user, grp, channel, joined, n, ord)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)
         ON CONFLICT (user, grp, channel) DO UPDATE SET joined = excluded.joined,
         n = excluded.n, ord = excluded.ord WHERE joined < excluded.joined",
    )?;
    for (channel, place) in places {
        insert.execute(params![
            user.as_bytes(),
            group.as_bytes(),
            channel.as_bytes(),
            signed(joined),
            signed(place.seq),
            signed(place.ord)
        ])?;
    }
    Ok(())
}

pub(super) const BEGUN: &str =
    "SELECT n, ord, channel FROM reading_begun WHERE user = ?1 AND grp = ?2";

fn begun(
    connection: &Connection,
    user: UserId,
    groups: &[GroupId],
) -> Result<Vec<(ChannelId, Place)>, Failure> {
    let snapshot = super::snapshot(connection)?;
    let mut statement = connection.prepare_cached(BEGUN)?;
    let mut begun = Vec::new();
    for group in groups {
        let mut rows = statement.query(params![user.as_bytes(), group.as_bytes()])?;
        while let Some(row) = rows.next()? {
            begun.push((ChannelId::from_bytes(row.get(2)?), place(row)?));
        }
    }
    drop(snapshot);
    Ok(begun)
}

pub(super) const PLACE: &str =
    "SELECT n, ord FROM entries WHERE s = ?1 AND n <= ?2 ORDER BY n DESC LIMIT 1";

/// All as of one moment.
fn ends(connection: &Connection, channels: &[ChannelId]) -> Result<Vec<Place>, Failure> {
    let snapshot = super::snapshot(connection)?;
    let mut ends = Vec::with_capacity(channels.len());
    for channel in channels {
        let stream = StreamId::from(*channel).to_bytes();
        let end = one_place(connection, PLACE, params![stream, i64::MAX])?;
        ends.push(end.unwrap_or_default());
    }
    drop(snapshot);
    Ok(ends)
}

pub(super) const LAST_SENT: &str = "SELECT n, ord FROM entries INDEXED BY entries_authors
    WHERE s = ?1 AND actor = ?2 AND kind = 'message.created' ORDER BY n DESC LIMIT 1";

fn last_sent(
    connection: &Connection,
    channel: ChannelId,
    user: UserId,
) -> Result<Option<Place>, Failure> {
    let stream = StreamId::from(channel).to_bytes();
    one_place(connection, LAST_SENT, params![stream, user.as_bytes()])
}

/// What `find` finds for each, as of one moment.
fn each<T: Copy>(
    connection: &Connection,
    of: &[T],
    find: impl Fn(&T) -> Result<Option<Place>, Failure>,
) -> Result<Vec<(T, Place)>, Failure> {
    let snapshot = super::snapshot(connection)?;
    let mut found = Vec::new();
    for one in of {
        found.extend(find(one)?.map(|place| (*one, place)));
    }
    drop(snapshot);
    Ok(found)
}

fn one_place(
    connection: &Connection,
    sql: &str,
    params: impl rusqlite::Params,
) -> Result<Option<Place>, Failure> {
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(params)?;
    rows.next()?.map(place).transpose()
}

/// Of a row that begins with the two.
fn place(row: &Row<'_>) -> Result<Place, Failure> {
    Ok(Place {
        seq: row::seq(row, 0)?,
        ord: row::seq(row, 1)?,
    })
}

pub(super) const MENTIONS: &str = "
SELECT DISTINCT n FROM mentions WHERE user IN (?1, ?2) AND s = ?3 AND n > ?4 LIMIT ?5";

fn mentions(
    connection: &Connection,
    user: UserId,
    behind: &[(ChannelId, Seq)],
    most: usize,
) -> Result<Vec<usize>, Failure> {
    let snapshot = super::snapshot(connection)?;
    let (user, everyone) = (user.to_string(), EVERYONE.to_string());
    let mut statement = connection.prepare_cached(MENTIONS)?;
    let mut counts = Vec::with_capacity(behind.len());
    for (channel, seq) in behind {
        let stream = StreamId::from(*channel).to_bytes();
        let limit = row::limit(most);
        let mut rows = statement.query(params![user, everyone, stream, signed(*seq), limit])?;
        let mut count = 0;
        while rows.next()?.is_some() {
            count += 1;
        }
        counts.push(count);
    }
    drop(snapshot);
    Ok(counts)
}
