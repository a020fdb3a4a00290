//! Accounts and sessions.

use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::Failure;
use super::row::{self, Direction, signed};
use crate::domain::{Key, Rotation, Seq, Session, SessionId, Timestamp, User, UserId};
use crate::store::{Account, IdWindow, NewUser};

const USER: &str = "id, username, display_name, created_at";
const SESSION: &str = "id, user, device_name, created_at, last_used_at, generation, rotated_at, \
                       rotation_key, revoked";

pub(super) fn create(connection: &Connection, new: &NewUser) -> Result<Option<Account>, Failure> {
    let created = connection
        .prepare_cached(
            "INSERT INTO users
             (id, username, display_name, created_at, password_hash, key, applied)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, 0) ON CONFLICT (username) DO NOTHING",
        )?
        .execute(params![
            new.user.id.as_bytes(),
            new.user.username,
            new.user.display_name,
            new.user.created_at.as_millis(),
            new.password_hash,
            new.key.as_bytes(),
        ])?;
    if created == 1 {
        return Ok(None);
    }
    account(connection, &new.user.username)
}

pub(super) fn account(connection: &Connection, username: &str) -> Result<Option<Account>, Failure> {
    let mut statement = connection.prepare_cached(&format!(
        "SELECT {USER}, password_hash, key FROM users WHERE username = ?1"
    ))?;
    statement
        .query_and_then([username], |row| {
            Ok(Account {
                user: user(row)?,
                password_hash: row.get(4)?,
                key: Key::from_bytes(row.get(5)?),
            })
        })?
        .next()
        .transpose()
}

pub(super) fn users(connection: &Connection, ids: &[UserId]) -> Result<Vec<User>, Failure> {
    let snapshot = super::snapshot(connection)?;
    let mut statement =
        connection.prepare_cached(&format!("SELECT {USER} FROM users WHERE id = ?1"))?;
    let mut users = Vec::with_capacity(ids.len());
    for id in ids {
        let mut found = statement.query_and_then([id.as_bytes()], user)?;
        users.extend(found.next().transpose()?);
    }
    drop(snapshot);
    Ok(users)
}

pub(super) const NAMED: &str =
    "SELECT id, username, display_name, created_at FROM users WHERE username = ?1";

pub(super) fn users_named(
    connection: &Connection,
    usernames: &[String],
) -> Result<Vec<User>, Failure> {
    let snapshot = super::snapshot(connection)?;
    let mut statement = connection.prepare_cached(NAMED)?;
    let mut users = Vec::new();
    for username in usernames {
        let mut found = statement.query_and_then([username], user)?;
        users.extend(found.next().transpose()?);
    }
    drop(snapshot);
    Ok(users)
}

fn user(row: &Row<'_>) -> Result<User, Failure> {
    Ok(User {
        id: UserId::from_bytes(row.get(0)?),
        username: row.get(1)?,
        display_name: row.get(2)?,
        created_at: row::timestamp(row, 3)?,
    })
}

pub(super) fn rename(
    connection: &Connection,
    seq: Seq,
    user: UserId,
    display_name: &str,
) -> Result<(), Failure> {
    connection
        .prepare_cached(
            "UPDATE users SET display_name = ?3, applied = ?2 WHERE id = ?1 AND applied < ?2",
        )?
        .execute(params![user.as_bytes(), signed(seq), display_name])?;
    Ok(())
}

pub(super) fn session(
    connection: &Connection,
    session: SessionId,
) -> Result<Option<Session>, Failure> {
    let mut statement =
        connection.prepare_cached(&format!("SELECT {SESSION} FROM sessions WHERE id = ?1"))?;
    statement
        .query_and_then([session.as_bytes()], session_of)?
        .next()
        .transpose()
}

pub(super) fn sessions_sql(direction: Direction) -> String {
    let window = direction.sql("id");
    format!("SELECT {SESSION} FROM sessions WHERE user = ?1 AND revoked = 0 {window}")
}

pub(super) fn sessions(
    connection: &Connection,
    user: UserId,
    window: IdWindow<SessionId>,
    limit: usize,
) -> Result<Vec<Session>, Failure> {
    let (bound, direction) = row::bound(&window, SessionId::as_bytes);
    let mut statement = connection.prepare_cached(&sessions_sql(direction))?;
    let sessions = statement
        .query_and_then(
            params![user.as_bytes(), bound, row::limit(limit)],
            session_of,
        )?
        .collect::<Result<_, _>>()?;
    Ok(direction.ascending(sessions))
}

fn session_of(row: &Row<'_>) -> Result<Session, Failure> {
    let rotated_at: Option<i64> = row.get(6)?;
    let key: Option<[u8; 16]> = row.get(7)?;
    Ok(Session {
        id: SessionId::from_bytes(row.get(0)?),
        user: UserId::from_bytes(row.get(1)?),
        device_name: row.get(2)?,
        created_at: row::timestamp(row, 3)?,
        last_used_at: row::timestamp(row, 4)?,
        generation: row.get(5)?,
        rotation: rotated_at.map(|at| Rotation {
            at: Timestamp::from_millis(at),
            key: key.map(Key::from_bytes),
        }),
        revoked: row.get(8)?,
    })
}

/// A session is created once, so one that is there is as new or newer.
pub(super) fn create_session(
    connection: &Connection,
    seq: Seq,
    session: &Session,
) -> Result<(), Failure> {
    let rotation = session.rotation.as_ref();
    connection
        .prepare_cached(
            "INSERT INTO sessions
             (id, user, device_name, created_at, last_used_at, generation, rotated_at,
              rotation_key, revoked, applied)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10) ON CONFLICT (id) DO NOTHING",
        )?
        .execute(params![
            session.id.as_bytes(),
            session.user.as_bytes(),
            session.device_name,
            session.created_at.as_millis(),
            session.last_used_at.as_millis(),
            session.generation,
            rotation.map(|rotation| rotation.at.as_millis()),
            rotation.and_then(|rotation| rotation.key.as_ref().map(Key::as_bytes)),
            session.revoked,
            signed(seq),
        ])?;
    Ok(())
}

pub(super) fn revoke_session(
    connection: &Connection,
    seq: Seq,
    session: SessionId,
) -> Result<(), Failure> {
    connection
        .prepare_cached(
            "UPDATE sessions SET revoked = 1, applied = ?2 WHERE id = ?1 AND applied < ?2",
        )?
        .execute(params![session.as_bytes(), signed(seq)])?;
    Ok(())
}

/// The exchange of a session's token for the next one.
pub(super) struct Exchange {
    pub(super) session: SessionId,
    pub(super) generation: u32,
    pub(super) rotation: Rotation,
}

pub(super) fn rotate(connection: &Connection, exchange: &Exchange) -> Result<bool, Failure> {
    let Some(next) = exchange.generation.checked_add(1) else {
        return Ok(false);
    };
    let changed = connection
        .prepare_cached(
            "UPDATE sessions SET generation = ?3, last_used_at = ?4, rotated_at = ?4,
             rotation_key = ?5 WHERE id = ?1 AND generation = ?2 AND revoked = 0",
        )?
        .execute(params![
            exchange.session.as_bytes(),
            exchange.generation,
            next,
            exchange.rotation.at.as_millis(),
            exchange.rotation.key.as_ref().map(Key::as_bytes),
        ])?;
    Ok(changed == 1)
}

/// The groups, not deleted, that each of `users` is a member of.
pub(super) fn group_counts(connection: &Connection, users: &[UserId]) -> Result<Vec<u64>, Failure> {
    let snapshot = super::snapshot(connection)?;
    let mut statement = connection.prepare_cached(
        "SELECT count(*) FROM members m JOIN groups g ON g.id = m.grp
         WHERE m.user = ?1 AND m.removed = 0 AND g.deleted = 0",
    )?;
    let mut counts = Vec::with_capacity(users.len());
    for user in users {
        let count: Option<i64> = statement
            .query_row([user.as_bytes()], |row| row.get(0))
            .optional()?;
        counts.push(row::unsigned(count.unwrap_or_default())?);
    }
    drop(snapshot);
    Ok(counts)
}
