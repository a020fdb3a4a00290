//! Bans, mutes and invites.

use rusqlite::{Connection, Row, params};

use super::Failure;
use super::row::{self, Direction, signed};
use crate::domain::{Ban, GroupId, Invite, InviteId, Restrictions, Seq, Timestamp, UserId};
use crate::store::{IdWindow, StateChange};

pub(super) fn restrictions(
    connection: &Connection,
    group: GroupId,
    user: UserId,
) -> Result<Restrictions, Failure> {
    let mut statement = connection.prepare_cached(
        "SELECT user, banned_by, banned_at, muted_until FROM members
         WHERE grp = ?1 AND user = ?2",
    )?;
    let found = statement
        .query_and_then(params![group.as_bytes(), user.as_bytes()], |row| {
            let banned = row::optional_timestamp(row, 2)?.is_some();
            Ok::<_, Failure>(Restrictions {
                known: true,
                ban: banned.then(|| ban(row)).transpose()?,
                muted_until: row::optional_timestamp(row, 3)?,
            })
        })?
        .next()
        .transpose()?;
    Ok(found.unwrap_or_default())
}

/// Of somebody who is banned.
fn ban(row: &Row<'_>) -> Result<Ban, Failure> {
    Ok(Ban {
        user: UserId::from_bytes(row.get(0)?),
        by: row.get::<_, Option<_>>(1)?.map(UserId::from_bytes),
        at: row::timestamp(row, 2)?,
    })
}

pub(super) fn bans_sql(direction: Direction) -> String {
    let window = direction.sql("user");
    // By itself SQLite takes the primary key, and looks at every member.
    format!(
        "SELECT user, banned_by, banned_at FROM members INDEXED BY members_banned
         WHERE grp = ?1 AND banned_at IS NOT NULL {window}"
    )
}

pub(super) fn bans(
    connection: &Connection,
    group: GroupId,
    window: IdWindow<UserId>,
    limit: usize,
) -> Result<Vec<Ban>, Failure> {
    let (bound, direction) = row::bound(&window, UserId::as_bytes);
    let mut statement = connection.prepare_cached(&bans_sql(direction))?;
    let found = statement
        .query_and_then(params![group.as_bytes(), bound, row::limit(limit)], ban)?
        .collect::<Result<_, Failure>>()?;
    Ok(direction.ascending(found))
}

/// What [`decode_invite`] reads.
const INVITE: &str = "SELECT id, grp, created_by, created_at, expires_at, max_uses, uses,
    deleted FROM invites";

pub(super) fn invite(connection: &Connection, id: InviteId) -> Result<Option<Invite>, Failure> {
    let mut statement = connection.prepare_cached(&format!("{INVITE} WHERE id = ?1"))?;
    let mut found = statement.query_and_then([id.as_bytes()], decode_invite)?;
    found.next().transpose()
}

pub(super) fn invites_sql(direction: Direction) -> String {
    let window = direction.sql("id");
    format!("{INVITE} WHERE deleted = 0 AND grp = ?1 {window}")
}

pub(super) fn invites(
    connection: &Connection,
    group: GroupId,
    window: IdWindow<InviteId>,
    limit: usize,
) -> Result<Vec<Invite>, Failure> {
    let (bound, direction) = row::bound(&window, InviteId::as_bytes);
    let mut statement = connection.prepare_cached(&invites_sql(direction))?;
    let found = statement
        .query_and_then(
            params![group.as_bytes(), bound, row::limit(limit)],
            decode_invite,
        )?
        .collect::<Result<_, Failure>>()?;
    Ok(direction.ascending(found))
}

fn decode_invite(row: &Row<'_>) -> Result<Invite, Failure> {
    Ok(Invite {
        id: InviteId::from_bytes(row.get(0)?),
        group: GroupId::from_bytes(row.get(1)?),
        created_by: row.get::<_, Option<_>>(2)?.map(UserId::from_bytes),
        created_at: row::timestamp(row, 3)?,
        expires_at: row::optional_timestamp(row, 4)?,
        max_uses: row.get(5)?,
        uses: row.get(6)?,
        deleted: row.get(7)?,
    })
}

/// One change, with its guard in its `WHERE`.
pub(super) fn apply(
    connection: &Connection,
    seq: Seq,
    change: &StateChange,
) -> Result<(), Failure> {
    match change {
        StateChange::MuteMember { group, user, until } => {
            let mut statement = connection.prepare_cached(
                "UPDATE members SET muted_until = ?4, applied = ?3
                 WHERE grp = ?1 AND user = ?2 AND applied < ?3",
            )?;
            let until = until.map(Timestamp::as_millis);
            statement.execute(params![
                group.as_bytes(),
                user.as_bytes(),
                signed(seq),
                until
            ])?;
        }
        StateChange::BanMember { group, ban } => ban_member(connection, seq, *group, ban)?,
        StateChange::UnbanMember { group, user } => {
            let mut statement = connection.prepare_cached(
                "UPDATE members SET banned_at = NULL, banned_by = NULL, applied = ?3
                 WHERE grp = ?1 AND user = ?2 AND applied < ?3",
            )?;
            statement.execute(params![group.as_bytes(), user.as_bytes(), signed(seq)])?;
        }
        StateChange::CreateInvite(invite) => create_invite(connection, seq, invite)?,
        StateChange::UseInvite { invite, uses, .. } => {
            let mut statement = connection.prepare_cached(
                "UPDATE invites SET uses = ?3, applied = ?2 WHERE id = ?1 AND applied < ?2",
            )?;
            statement.execute(params![invite.as_bytes(), signed(seq), uses])?;
        }
        StateChange::DeleteInvite { invite, .. } => {
            let mut statement = connection.prepare_cached(
                "UPDATE invites SET deleted = 1, applied = ?2 WHERE id = ?1 AND applied < ?2",
            )?;
            statement.execute(params![invite.as_bytes(), signed(seq)])?;
        }
        _ => {}
    }
    Ok(())
}

/// Somebody who never was a member leaves what a removed one does.
fn ban_member(connection: &Connection, seq: Seq, group: GroupId, ban: &Ban) -> Result<(), Failure> {
    connection
        .prepare_cached(
            "INSERT INTO members (grp, user, role, joined, joined_at, removed, banned_at,
             banned_by, applied) VALUES (?1, ?2, 'member', 0, 0, 1, ?4, ?5, ?3)
             ON CONFLICT (grp, user) DO UPDATE SET removed = 1, banned_at = excluded.banned_at,
             banned_by = excluded.banned_by, applied = excluded.applied
             WHERE applied < excluded.applied",
        )?
        .execute(params![
            group.as_bytes(),
            ban.user.as_bytes(),
            signed(seq),
            ban.at.as_millis(),
            ban.by.as_ref().map(UserId::as_bytes)
        ])?;
    Ok(())
}

/// An invite is made once, so one that is there is as new or newer.
fn create_invite(connection: &Connection, seq: Seq, invite: &Invite) -> Result<(), Failure> {
    connection
        .prepare_cached(
            "INSERT INTO invites (id, grp, created_by, created_at, expires_at, max_uses, uses,
             deleted, applied) VALUES (?1, ?3, ?4, ?5, ?6, ?7, 0, 0, ?2)
             ON CONFLICT (id) DO NOTHING",
        )?
        .execute(params![
            invite.id.as_bytes(),
            signed(seq),
            invite.group.as_bytes(),
            invite.created_by.as_ref().map(UserId::as_bytes),
            invite.created_at.as_millis(),
            invite.expires_at.map(Timestamp::as_millis),
            invite.max_uses
        ])?;
    Ok(())
}
