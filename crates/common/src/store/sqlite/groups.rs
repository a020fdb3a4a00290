//! Reading groups, memberships and channels.

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::Failure;
use super::row::{self, Direction};
use crate::domain::{
    Channel, ChannelId, Group, GroupId, Lease, Member, Membership, SessionId, Size, StreamId,
    UserId,
};
use crate::store::IdWindow;

/// With its members among `whom`; None: with all, unless it is large.
pub(super) fn group(
    connection: &Connection,
    id: GroupId,
    whom: Option<&[UserId]>,
) -> Result<Option<Group>, Failure> {
    let snapshot = super::snapshot(connection)?;
    let mut statement = connection.prepare_cached(
        "SELECT kind, name, created_at, version, applied, deleted, member_count, large, turned,
         lease_token, lease_session, lease_user, lease_since FROM groups WHERE id = ?1",
    )?;
    let found = statement
        .query_and_then([id.as_bytes()], |row| {
            Ok::<_, Failure>(Group {
                id,
                kind: row::name(row, 0)?,
                name: row.get(1)?,
                created_at: row::timestamp(row, 2)?,
                version: row::seq(row, 3)?,
                applied: row::seq(row, 4)?,
                deleted: row.get(5)?,
                size: size(row, 6)?,
                lease: lease(row, 9)?,
                members: BTreeMap::new(),
                channels: BTreeMap::new(),
            })
        })?
        .next()
        .transpose()?;
    let Some(mut group) = found else {
        return Ok(None);
    };
    let found = match whom {
        Some(users) => members_among(connection, id, users)?,
        None if group.size.large => Vec::new(),
        None => members(connection, id, IdWindow::First, usize::MAX)?,
    };
    group.members = found.into_iter().collect();
    group.channels = channels(connection, id)?
        .into_iter()
        .map(|channel| (channel.id, channel))
        .collect();
    drop(snapshot);
    Ok(Some(group))
}

/// The edit lease in four columns from `first` on.
fn lease(row: &Row<'_>, first: usize) -> Result<Option<Lease>, Failure> {
    let Some(token) = row.get::<_, Option<i64>>(first)? else {
        return Ok(None);
    };
    Ok(Some(Lease {
        token: row::unsigned(token)?,
        session: SessionId::from_bytes(row.get(first + 1)?),
        user: UserId::from_bytes(row.get(first + 2)?),
        since: row::timestamp(row, first + 3)?,
    }))
}

/// From three columns.
pub(super) fn size(row: &Row<'_>, first: usize) -> Result<Size, Failure> {
    Ok(Size {
        members: row::seq(row, first)?,
        large: row.get(first + 1)?,
        turned: row::seq(row, first + 2)?,
    })
}

pub(super) fn group_of(
    connection: &Connection,
    channel: ChannelId,
) -> Result<Option<GroupId>, Failure> {
    let group: Option<[u8; 16]> = connection
        .prepare_cached("SELECT grp FROM channels WHERE id = ?1")?
        .query_row([channel.as_bytes()], |row| row.get(0))
        .optional()?;
    Ok(group.map(GroupId::from_bytes))
}

pub(super) fn members_sql(direction: Direction) -> String {
    let window = direction.sql("user");
    format!(
        "SELECT user, role, joined, joined_at, muted_until FROM members
         WHERE grp = ?1 AND removed = 0 {window}"
    )
}

pub(super) fn members(
    connection: &Connection,
    group: GroupId,
    window: IdWindow<UserId>,
    limit: usize,
) -> Result<Vec<(UserId, Member)>, Failure> {
    let (bound, direction) = row::bound(&window, UserId::as_bytes);
    let mut statement = connection.prepare_cached(&members_sql(direction))?;
    let members = statement
        .query_and_then(
            params![group.as_bytes(), bound, row::limit(limit)],
            member_of,
        )?
        .collect::<Result<_, Failure>>()?;
    Ok(direction.ascending(members))
}

pub(super) fn members_among(
    connection: &Connection,
    group: GroupId,
    users: &[UserId],
) -> Result<Vec<(UserId, Member)>, Failure> {
    let mut statement = connection.prepare_cached(
        "SELECT user, role, joined, joined_at, muted_until FROM members
         WHERE grp = ?1 AND user = ?2 AND removed = 0",
    )?;
    let mut found = Vec::new();
    for user in users {
        let mut rows =
            statement.query_and_then(params![group.as_bytes(), user.as_bytes()], member_of)?;
        found.extend(rows.next().transpose()?);
    }
    Ok(found)
}

fn member_of(row: &Row<'_>) -> Result<(UserId, Member), Failure> {
    let member = Member {
        role: row::name(row, 1)?,
        joined: row::seq(row, 2)?,
        joined_at: row::timestamp(row, 3)?,
        muted_until: row::optional_timestamp(row, 4)?,
    };
    Ok((UserId::from_bytes(row.get(0)?), member))
}

fn channels(connection: &Connection, group: GroupId) -> Result<Vec<Channel>, Failure> {
    let mut statement = connection.prepare_cached(
        "SELECT id, name, version, created_at, slow_mode_secs FROM channels
         WHERE grp = ?1 AND deleted = 0 ORDER BY id",
    )?;
    statement
        .query_and_then([group.as_bytes()], |row| {
            Ok(Channel {
                id: ChannelId::from_bytes(row.get(0)?),
                group,
                name: row.get(1)?,
                version: row::seq(row, 2)?,
                slow_mode_secs: row.get(4)?,
                created_at: row::timestamp(row, 3)?,
            })
        })?
        .collect()
}

/// What [`membership_of`] reads; a member and its group, neither gone.
const MEMBERSHIP: &str = "
    SELECT g.id, g.kind, g.name, g.created_at, g.version, m.role, g.member_count, g.large,
    g.turned, g.lease_token, g.lease_session, g.lease_user, g.lease_since
    FROM members m JOIN groups g ON g.id = m.grp
    WHERE m.user = ?1 AND m.removed = 0 AND g.deleted = 0";

pub(super) fn membership(
    connection: &Connection,
    user: UserId,
    group: GroupId,
) -> Result<Option<Membership>, Failure> {
    let snapshot = super::snapshot(connection)?;
    let mut statement = connection.prepare_cached(&format!("{MEMBERSHIP} AND m.grp = ?2"))?;
    let found = statement
        .query_and_then(params![user.as_bytes(), group.as_bytes()], membership_of)?
        .next()
        .transpose()?;
    let Some(mut membership) = found else {
        return Ok(None);
    };
    membership.channels = channels(connection, group)?;
    drop(snapshot);
    Ok(Some(membership))
}

pub(super) fn memberships_sql(direction: Direction) -> String {
    let window = direction.sql("m.grp");
    format!("{MEMBERSHIP} {window}")
}

pub(super) fn memberships(
    connection: &Connection,
    user: UserId,
    window: IdWindow<GroupId>,
    limit: usize,
) -> Result<Vec<Membership>, Failure> {
    let (bound, direction) = row::bound(&window, GroupId::as_bytes);
    let snapshot = super::snapshot(connection)?;
    let mut statement = connection.prepare_cached(&memberships_sql(direction))?;
    let mut memberships = statement
        .query_and_then(
            params![user.as_bytes(), bound, row::limit(limit)],
            membership_of,
        )?
        .collect::<Result<Vec<_>, _>>()?;
    for membership in &mut memberships {
        membership.channels = channels(connection, membership.group)?;
    }
    drop(snapshot);
    Ok(direction.ascending(memberships))
}

/// Without its channels.
fn membership_of(row: &Row<'_>) -> Result<Membership, Failure> {
    Ok(Membership {
        group: GroupId::from_bytes(row.get(0)?),
        kind: row::name(row, 1)?,
        name: row.get(2)?,
        created_at: row::timestamp(row, 3)?,
        version: row::seq(row, 4)?,
        role: row::name(row, 5)?,
        size: size(row, 6)?,
        lease: lease(row, 9)?,
        channels: Vec::new(),
    })
}

pub(super) const STREAMS: &str = "SELECT m.grp, c.id
    FROM members m JOIN groups g ON g.id = m.grp
    LEFT JOIN channels c ON c.grp = m.grp AND c.deleted = 0
    WHERE m.user = ?1 AND m.removed = 0 AND g.deleted = 0";

pub(super) fn streams_of(connection: &Connection, user: UserId) -> Result<Vec<StreamId>, Failure> {
    let mut statement = connection.prepare_cached(STREAMS)?;
    let mut streams = Vec::new();
    let mut rows = statement.query([user.as_bytes()])?;
    while let Some(row) = rows.next()? {
        streams.push(StreamId::Group(GroupId::from_bytes(row.get(0)?)));
        let channel: Option<[u8; 16]> = row.get(1)?;
        streams.extend(channel.map(|id| StreamId::Channel(ChannelId::from_bytes(id))));
    }
    streams.sort_unstable();
    streams.dedup();
    Ok(streams)
}

pub(super) const SHARED: &str = "SELECT m.grp
    FROM members m JOIN groups g ON g.id = m.grp JOIN members o ON o.grp = m.grp
    WHERE m.user = ?1 AND m.removed = 0 AND g.deleted = 0
    AND o.user = ?2 AND o.removed = 0 LIMIT 1";

pub(super) fn shared_groups(
    connection: &Connection,
    user: UserId,
    others: &[UserId],
) -> Result<Vec<(UserId, GroupId)>, Failure> {
    let mut statement = connection.prepare_cached(SHARED)?;
    let mut shared = Vec::new();
    for other in others.iter().collect::<BTreeSet<_>>() {
        let mut rows = statement.query([user.as_bytes(), other.as_bytes()])?;
        if let Some(row) = rows.next()? {
            shared.push((*other, GroupId::from_bytes(row.get(0)?)));
        }
    }
    Ok(shared)
}

pub(super) const ACQUAINTANCES: &str = "SELECT DISTINCT o.user
    FROM members m JOIN groups g ON g.id = m.grp JOIN members o ON o.grp = m.grp
    WHERE m.user = ?1 AND m.removed = 0 AND g.deleted = 0
    AND o.removed = 0 AND o.user <> ?1 LIMIT ?2";

pub(super) fn acquaintances(
    connection: &Connection,
    user: UserId,
    limit: usize,
) -> Result<Vec<UserId>, Failure> {
    let mut statement = connection.prepare_cached(ACQUAINTANCES)?;
    statement
        .query_and_then(params![user.as_bytes(), row::limit(limit)], |row| {
            Ok(UserId::from_bytes(row.get(0)?))
        })?
        .collect()
}
