//! Carries out changes of state. Each statement has its guard in its `WHERE`.

use rusqlite::{Connection, params};

use super::row::signed;
use super::{Failure, accounts, message_changes, reading};
use crate::domain::{ChannelId, GroupId, Role, Seq, StreamId, Timestamp, UserId};
use crate::store::StateChange;

/// All changes of one entry, in one transaction.
pub(super) fn apply(
    connection: &Connection,
    stream: StreamId,
    seq: Seq,
    changes: &[StateChange],
) -> Result<(), Failure> {
    if signed(seq) == i64::MAX {
        return Err(Failure::corrupt(format!("no entry {seq} of {stream}")));
    }
    changes
        .iter()
        .try_for_each(|change| apply_one(connection, seq, change))
}

fn apply_one(connection: &Connection, seq: Seq, change: &StateChange) -> Result<(), Failure> {
    match change {
        StateChange::CreateSession(session) => accounts::create_session(connection, seq, session),
        StateChange::RevokeSession { session } => {
            accounts::revoke_session(connection, seq, *session)
        }
        StateChange::RenameUser { user, display_name } => {
            accounts::rename(connection, seq, *user, display_name)
        }
        StateChange::MoveMark {
            user,
            channel,
            place,
            at,
        } => reading::move_mark(connection, (*user, *channel), *place, *at),
        StateChange::CreateGroup { .. }
        | StateChange::RenameGroup { .. }
        | StateChange::DeleteGroup { .. }
        | StateChange::GroupApplied { .. } => change_group(connection, seq, change),
        StateChange::AddMember {
            group,
            user,
            role,
            joined_at,
        } => add_member(connection, seq, (*group, *user), *role, *joined_at),
        StateChange::SetRole { group, user, role } => {
            set_role(connection, seq, (*group, *user), *role)
        }
        StateChange::RemoveMember { group, user } => {
            remove_member(connection, seq, (*group, *user))
        }
        StateChange::CreateChannel { .. }
        | StateChange::RenameChannel { .. }
        | StateChange::DeleteChannel { .. } => change_channel(connection, seq, change),
        StateChange::EditMessage { .. }
        | StateChange::DeleteMessage { .. }
        | StateChange::SetReaction { .. } => message_changes::apply(connection, seq, change),
    }
}

fn change_group(connection: &Connection, seq: Seq, change: &StateChange) -> Result<(), Failure> {
    match change {
        StateChange::CreateGroup {
            group,
            kind,
            name,
            created_at,
        } => connection
            .prepare_cached(
                "INSERT INTO groups (id, kind, name, created_at, version, member_count, deleted,
                 settings_applied, applied) VALUES (?1, ?3, ?4, ?5, ?2, 0, 0, ?2, 0)
                 ON CONFLICT (id) DO NOTHING",
            )?
            .execute(params![
                group.as_bytes(),
                signed(seq),
                kind.as_str(),
                name,
                created_at.as_millis()
            ])?,
        StateChange::RenameGroup { group, name } => connection
            .prepare_cached(
                "UPDATE groups SET name = ?3, version = ?2, settings_applied = ?2
                 WHERE id = ?1 AND settings_applied < ?2",
            )?
            .execute(params![group.as_bytes(), signed(seq), name])?,
        StateChange::DeleteGroup { group } => connection
            .prepare_cached(
                "UPDATE groups SET deleted = 1, settings_applied = ?2
                 WHERE id = ?1 AND settings_applied < ?2",
            )?
            .execute(params![group.as_bytes(), signed(seq)])?,
        StateChange::GroupApplied { group, members } => connection
            .prepare_cached(
                "UPDATE groups SET member_count = max(0, member_count + ?3), applied = ?2
                 WHERE id = ?1 AND applied < ?2",
            )?
            .execute(params![group.as_bytes(), signed(seq), members])?,
        _ => 0,
    };
    Ok(())
}

fn add_member(
    connection: &Connection,
    seq: Seq,
    (group, user): (GroupId, UserId),
    role: Role,
    joined_at: Timestamp,
) -> Result<(), Failure> {
    connection
        .prepare_cached(
            "INSERT INTO members (grp, user, role, joined, joined_at, removed, applied)
             VALUES (?1, ?2, ?4, ?3, ?5, 0, ?3)
             ON CONFLICT (grp, user) DO UPDATE SET role = excluded.role,
             joined = excluded.joined, joined_at = excluded.joined_at, removed = 0,
             applied = excluded.applied WHERE applied < excluded.applied",
        )?
        .execute(params![
            group.as_bytes(),
            user.as_bytes(),
            signed(seq),
            role.as_str(),
            joined_at.as_millis()
        ])?;
    Ok(())
}

fn set_role(
    connection: &Connection,
    seq: Seq,
    (group, user): (GroupId, UserId),
    role: Role,
) -> Result<(), Failure> {
    connection
        .prepare_cached(
            "UPDATE members SET role = ?4, applied = ?3
             WHERE grp = ?1 AND user = ?2 AND applied < ?3",
        )?
        .execute(params![
            group.as_bytes(),
            user.as_bytes(),
            signed(seq),
            role.as_str()
        ])?;
    Ok(())
}

fn remove_member(
    connection: &Connection,
    seq: Seq,
    (group, user): (GroupId, UserId),
) -> Result<(), Failure> {
    connection
        .prepare_cached(
            "UPDATE members SET removed = 1, applied = ?3
             WHERE grp = ?1 AND user = ?2 AND applied < ?3",
        )?
        .execute(params![group.as_bytes(), user.as_bytes(), signed(seq)])?;
    Ok(())
}

fn change_channel(connection: &Connection, seq: Seq, change: &StateChange) -> Result<(), Failure> {
    match change {
        StateChange::CreateChannel {
            group,
            channel,
            name,
            created_at,
        } => create_channel(connection, seq, (*group, *channel), name, *created_at)?,
        StateChange::RenameChannel {
            group,
            channel,
            name,
        } => connection
            .prepare_cached(
                "UPDATE channels SET name = ?4, version = ?3, applied = ?3
                 WHERE grp = ?1 AND id = ?2 AND applied < ?3",
            )?
            .execute(params![
                group.as_bytes(),
                channel.as_bytes(),
                signed(seq),
                name
            ])?,
        StateChange::DeleteChannel { group, channel } => connection
            .prepare_cached(
                "UPDATE channels SET deleted = 1, applied = ?3
                 WHERE grp = ?1 AND id = ?2 AND applied < ?3",
            )?
            .execute(params![group.as_bytes(), channel.as_bytes(), signed(seq)])?,
        _ => 0,
    };
    Ok(())
}

/// A channel is created once, so one that is there is as new or newer.
fn create_channel(
    connection: &Connection,
    seq: Seq,
    (group, channel): (GroupId, ChannelId),
    name: &str,
    created_at: Timestamp,
) -> Result<usize, Failure> {
    Ok(connection
        .prepare_cached(
            "INSERT INTO channels (id, grp, name, version, created_at, deleted, applied)
             VALUES (?2, ?1, ?4, ?3, ?5, 0, ?3) ON CONFLICT (id) DO NOTHING",
        )?
        .execute(params![
            group.as_bytes(),
            channel.as_bytes(),
            signed(seq),
            name,
            created_at.as_millis()
        ])?)
}
