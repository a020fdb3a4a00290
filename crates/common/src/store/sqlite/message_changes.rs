//! Changes of messages: edits, deletions, reactions, pins. The state stands in the message's own
//! entry, guarded by its `applied`; who reacted stands in `reactions`.

use rusqlite::{Connection, params};

use super::Failure;
use super::row::{self, signed};
use crate::domain::{Change, Kind, Mentions, MessageState, ReactionCount, Seq, StreamId, UserId};
use crate::store::revision::{self, At, Reactors};
use crate::store::{StateChange, doc};

pub(super) fn apply(
    connection: &Connection,
    seq: Seq,
    change: &StateChange,
) -> Result<(), Failure> {
    match change {
        StateChange::EditMessage {
            channel,
            message,
            content,
            mentions,
            edited_at,
        } => {
            let at = At::new(*channel, *message, seq);
            if let Some(mut state) = read_older(connection, at)? {
                revision::edit(&mut state, content.as_deref(), mentions, *edited_at);
                write(connection, at, state)?;
            }
            // What it holds has moved into the message, or is out of date: either way it goes
            // from here.
            remove_copies(connection, at, Copies::Of(at.seq))
        }
        StateChange::DeleteMessage { channel, message } => {
            delete(connection, At::new(*channel, *message, seq))
        }
        StateChange::SetReaction {
            channel,
            message,
            user,
            emoji,
            present,
        } => {
            let at = At::new(*channel, *message, seq);
            react(connection, at, *user, emoji, *present)
        }
        StateChange::SetPinned {
            channel,
            message,
            pinned,
        } => pin(connection, At::new(*channel, *message, seq), *pinned),
        _ => Ok(()),
    }
}

impl At {
    fn stream(self) -> [u8; 17] {
        StreamId::from(self.channel).to_bytes()
    }
}

fn delete(connection: &Connection, at: At) -> Result<(), Failure> {
    let Some(mut state) = read_older(connection, at)? else {
        return Ok(());
    };
    revision::delete(&mut state);
    write(connection, at, state)?;
    connection
        .prepare_cached(
            "UPDATE reactions SET present = 0, applied = ?3
             WHERE channel = ?1 AND message = ?2 AND applied < ?3",
        )?
        .execute(params![
            at.channel.as_bytes(),
            signed(at.message),
            signed(at.seq)
        ])?;
    list_pin(connection, at, false)?;
    remove_copies(connection, at, Copies::All)
}

fn pin(connection: &Connection, at: At, pinned: bool) -> Result<(), Failure> {
    let Some(mut state) = read_older(connection, at)? else {
        return Ok(());
    };
    revision::pin(&mut state, pinned);
    list_pin(connection, at, state.pinned)?;
    write(connection, at, state)
}

fn list_pin(connection: &Connection, at: At, pinned: bool) -> Result<(), Failure> {
    let sql = if pinned {
        "INSERT INTO pins (s, pin) VALUES (?1, ?2) ON CONFLICT DO NOTHING"
    } else {
        "DELETE FROM pins WHERE s = ?1 AND pin = ?2"
    };
    connection
        .prepare_cached(sql)?
        .execute(params![at.stream(), signed(at.message)])?;
    Ok(())
}

fn react(
    connection: &Connection,
    at: At,
    user: UserId,
    emoji: &str,
    present: bool,
) -> Result<(), Failure> {
    let Some(mut state) = read_older(connection, at)? else {
        return Ok(());
    };
    if !state.deleted {
        connection
            .prepare_cached(
                "INSERT INTO reactions (channel, message, emoji, user, present, since, applied)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?6)
                 ON CONFLICT (channel, message, emoji, user) DO UPDATE SET
                 since = CASE WHEN present THEN since ELSE excluded.since END,
                 present = excluded.present, applied = excluded.applied
                 WHERE applied < excluded.applied",
            )?
            .execute(params![
                at.channel.as_bytes(),
                signed(at.message),
                emoji,
                user.as_bytes(),
                present,
                signed(at.seq)
            ])?;
        let reactors = reactors(connection, at, emoji)?;
        revision::count(&mut state, emoji, reactors);
    }
    write(connection, at, state)
}

fn reactors(connection: &Connection, at: At, emoji: &str) -> Result<Reactors, Failure> {
    let mut statement = connection.prepare_cached(
        "SELECT user FROM reactions
         WHERE channel = ?1 AND message = ?2 AND emoji = ?3 AND present = 1 ORDER BY since",
    )?;
    let mut reactors = Reactors {
        count: 0,
        first: Vec::new(),
    };
    let mut rows = statement.query(params![at.channel.as_bytes(), signed(at.message), emoji])?;
    while let Some(row) = rows.next()? {
        reactors.count += 1;
        if reactors.first.len() < ReactionCount::SAMPLE {
            reactors.first.push(UserId::from_bytes(row.get(0)?));
        }
    }
    Ok(reactors)
}

/// The message's state if it is older than the entry; None also if there is no such message.
fn read_older(connection: &Connection, at: At) -> Result<Option<MessageState>, Failure> {
    let mut statement = connection.prepare_cached(
        "SELECT data FROM entries WHERE s = ?1 AND n = ?2 AND kind = 'message.created'",
    )?;
    let mut rows = statement.query(params![at.stream(), signed(at.message)])?;
    let Some(row) = rows.next()? else {
        return Ok(None);
    };
    let data = row.get_ref(0)?.as_str().map_err(Failure::corrupt)?;
    let state = doc::decode_message(data)?;
    Ok((state.applied < at.seq).then_some(state))
}

fn write(connection: &Connection, at: At, mut state: MessageState) -> Result<(), Failure> {
    state.applied = at.seq;
    let deleted = state.deleted;
    let data = doc::encode(&Change::MessageCreated(Box::new(state)))?;
    // A short content could be found from the hash of its request.
    let sql = "UPDATE entries SET data = ?3, request = CASE WHEN ?4 THEN NULL ELSE request END
        WHERE s = ?1 AND n = ?2";
    connection.prepare_cached(sql)?.execute(params![
        at.stream(),
        signed(at.message),
        data,
        deleted
    ])?;
    Ok(())
}

#[derive(Clone, Copy)]
enum Copies {
    /// In the entry at this position alone.
    Of(Seq),
    All,
}

pub(super) const COPIES: &str = "SELECT n, data FROM entries INDEXED BY entries_copies
    WHERE s = ?1 AND copy_of = ?2 AND (?3 IS NULL OR n = ?3)";

/// Removes the message's content, and whom it mentions, from entries of edits.
fn remove_copies(connection: &Connection, at: At, which: Copies) -> Result<(), Failure> {
    let mut holding = connection.prepare_cached(COPIES)?;
    let only = match which {
        Copies::Of(seq) => Some(signed(seq)),
        Copies::All => None,
    };
    let found = holding
        .query_and_then(params![at.stream(), signed(at.message), only], |row| {
            Ok((row::seq(row, 0)?, row.get(1)?))
        })?
        .collect::<Result<Vec<(Seq, String)>, Failure>>()?;
    for (seq, data) in found {
        let mut change = doc::decode(Kind::MessageEdited.as_str(), &data)?;
        if let Change::MessageEdited {
            content, mentions, ..
        } = &mut change
        {
            (*content, *mentions) = (None, Mentions::default());
        }
        connection
            .prepare_cached(
                "UPDATE entries SET data = ?3, copy_of = NULL, request = NULL
                 WHERE s = ?1 AND n = ?2",
            )?
            .execute(params![at.stream(), signed(seq), doc::encode(&change)?])?;
    }
    Ok(())
}
