//! Carries out changes of state. Each statement has its guard in its `WHERE`.

use rusqlite::{Connection, params};

use super::row::signed;
use super::{Failure, accounts, groups, message_changes, moderation, reading};
use crate::domain::{ChannelId, GroupId, Lease, Role, Seq, StreamId, Timestamp, UserId};
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
        | StateChange::SetLease { .. }
        | StateChange::DeleteGroup { .. }
        | StateChange::GroupApplied { .. } => change_group(connection, seq, change),
        StateChange::AddMember { .. } => add_member(connection, seq, change),
        StateChange::SetRole { group, user, role } => {
            set_role(connection, seq, (*group, *user), *role)
        }
        StateChange::RemoveMember { group, user } => {
            remove_member(connection, seq, (*group, *user))
        }
        StateChange::MuteMember { .. }
        | StateChange::BanMember { .. }
        | StateChange::UnbanMember { .. }
        | StateChange::CreateInvite(_)
        | StateChange::UseInvite { .. }
        | StateChange::DeleteInvite { .. } => moderation::apply(connection, seq, change),
        StateChange::CreateChannel { .. }
        | StateChange::UpdateChannel { .. }
        | StateChange::DeleteChannel { .. } => change_channel(connection, seq, change),
        StateChange::EditMessage { .. }
        | StateChange::DeleteMessage { .. }
        | StateChange::SetReaction { .. }
        | StateChange::SetPinned { .. } => message_changes::apply(connection, seq, change),
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
        StateChange::SetLease { group, lease } => set_lease(connection, seq, *group, *lease)?,
        StateChange::DeleteGroup { group } => connection
            .prepare_cached(
                "UPDATE groups SET deleted = 1, settings_applied = ?2
                 WHERE id = ?1 AND settings_applied < ?2",
            )?
            .execute(params![group.as_bytes(), signed(seq)])?,
        StateChange::GroupApplied {
            group,
            members,
            fanout_limit,
        } => group_applied(connection, seq, *group, (*members, *fanout_limit))?,
        _ => 0,
    };
    Ok(())
}

fn set_lease(
    connection: &Connection,
    seq: Seq,
    group: GroupId,
    lease: Option<Lease>,
) -> Result<usize, Failure> {
    let changed = connection
        .prepare_cached(
            "UPDATE groups SET lease_token = ?3, lease_session = ?4, lease_user = ?5,
             lease_since = ?6 WHERE id = ?1 AND applied < ?2",
        )?
        .execute(params![
            group.as_bytes(),
            signed(seq),
            lease.map(|lease| signed(lease.token)),
            lease.as_ref().map(|lease| lease.session.as_bytes()),
            lease.as_ref().map(|lease| lease.user.as_bytes()),
            lease.map(|lease| lease.since.as_millis()),
        ])?;
    Ok(changed)
}

/// What it reads is what it writes over: this connection is the only one that writes.
fn group_applied(
    connection: &Connection,
    seq: Seq,
    group: GroupId,
    (change, fanout_limit): (i64, u64),
) -> Result<usize, Failure> {
    let sql = "SELECT member_count, large, turned FROM groups WHERE id = ?1 AND applied < ?2";
    let size = connection
        .prepare_cached(sql)?
        .query_and_then(params![group.as_bytes(), signed(seq)], |row| {
            groups::size(row, 0)
        })?
        .next()
        .transpose()?;
    let Some(size) = size else {
        return Ok(0);
    };
    let size = size.after(seq, change, fanout_limit);
    Ok(connection
        .prepare_cached(
            "UPDATE groups SET member_count = ?3, large = ?4, turned = ?5, applied = ?2
             WHERE id = ?1",
        )?
        .execute(params![
            group.as_bytes(),
            signed(seq),
            signed(size.members),
            size.large,
            signed(size.turned)
        ])?)
}

fn add_member(connection: &Connection, seq: Seq, change: &StateChange) -> Result<(), Failure> {
    let StateChange::AddMember {
        group,
        user,
        role,
        joined_at,
        muted_until,
    } = change
    else {
        return Ok(());
    };
    connection
        .prepare_cached(
            "INSERT INTO members (grp, user, role, joined, joined_at, muted_until, removed,
             applied) VALUES (?1, ?2, ?4, ?3, ?5, ?6, 0, ?3)
             ON CONFLICT (grp, user) DO UPDATE SET role = excluded.role,
             joined = excluded.joined, joined_at = excluded.joined_at,
             muted_until = excluded.muted_until, removed = 0,
             applied = excluded.applied WHERE applied < excluded.applied",
        )?
        .execute(params![
            group.as_bytes(),
            user.as_bytes(),
            signed(seq),
            role.as_str(),
            joined_at.as_millis(),
            muted_until.map(Timestamp::as_millis)
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
            "UPDATE members SET role = ?4, applied = ?3,
             muted_until = iif(?4 = 'owner', NULL, muted_until)
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
        StateChange::UpdateChannel {
            group,
            channel,
            name,
            slow_mode_secs,
        } => connection
            .prepare_cached(
                "UPDATE channels SET name = ?4, version = ?3, applied = ?3,
                 slow_mode_secs = ifnull(?5, slow_mode_secs)
                 WHERE grp = ?1 AND id = ?2 AND applied < ?3",
            )?
            .execute(params![
                group.as_bytes(),
                channel.as_bytes(),
                signed(seq),
                name,
                slow_mode_secs
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
