//! Who reacts to a message.

use rusqlite::{Connection, params};

use super::Failure;
use super::row::{self, Direction, signed};
use crate::domain::{ChannelId, Reacting, ReactionCount, Seq, UserId};
use crate::store::IdWindow;

/// Those who react with one emoji.
const OF_EMOJI: &str = "FROM reactions
    WHERE channel = ?1 AND message = ?4 AND emoji = ?5 AND present = 1";

pub(super) fn reactors_sql(direction: Direction) -> String {
    let window = direction.sql("user");
    format!("SELECT user {OF_EMOJI} {window}")
}

pub(super) fn reactors(
    connection: &Connection,
    (channel, message, emoji): (ChannelId, Seq, &str),
    window: IdWindow<UserId>,
    limit: usize,
) -> Result<Vec<UserId>, Failure> {
    let (bound, direction) = row::bound(&window, UserId::as_bytes);
    let mut statement = connection.prepare_cached(&reactors_sql(direction))?;
    let found = statement
        .query_and_then(
            params![
                channel.as_bytes(),
                bound,
                row::limit(limit),
                signed(message),
                emoji
            ],
            user,
        )?
        .collect::<Result<_, Failure>>()?;
    Ok(direction.ascending(found))
}

pub(super) fn reacting(
    connection: &Connection,
    (channel, message, emoji): (ChannelId, Seq, &str),
    who: UserId,
) -> Result<Reacting, Failure> {
    let snapshot = super::snapshot(connection)?;
    let already = connection
        .prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM reactions WHERE channel = ?1 AND message = ?2
             AND emoji = ?3 AND user = ?4 AND present = 1)",
        )?
        .query_row(
            params![channel.as_bytes(), signed(message), emoji, who.as_bytes()],
            |row| row.get(0),
        )?;
    let mut statement = connection.prepare_cached(
        "SELECT user FROM reactions
         WHERE channel = ?1 AND message = ?2 AND emoji = ?3 AND present = 1
         ORDER BY since LIMIT ?4",
    )?;
    let first = statement
        .query_and_then(
            params![
                channel.as_bytes(),
                signed(message),
                emoji,
                row::limit(ReactionCount::SAMPLE + 1)
            ],
            user,
        )?
        .collect::<Result<_, Failure>>()?;
    drop(snapshot);
    Ok(Reacting { already, first })
}

fn user(row: &rusqlite::Row<'_>) -> Result<UserId, Failure> {
    Ok(UserId::from_bytes(row.get(0)?))
}
