//! Reading groups, memberships and channels.
//!
//! A reader sees what was applied at some time while it read: a group is read before its
//! members and channels, so these are at least as new as its `applied`.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use futures_util::try_join;
use mongodb::Database;
use mongodb::bson::{Bson, Document, RawDocument, RawDocumentBuf, doc};

use super::field::{self, uuid};
use super::find::{self, Direction};
use super::{Failure, PATIENCE};
use crate::domain::{
    Channel, ChannelId, Group, GroupId, Lease, Member, Membership, SessionId, Size, StreamId,
    UserId,
};
use crate::store::IdWindow;

pub(super) const GROUPS: &str = "groups";
pub(super) const MEMBERS: &str = "members";
pub(super) const CHANNELS: &str = "channels";

/// With its members among `whom`; None: with all, unless it is large.
pub(super) async fn group(
    database: &Database,
    id: GroupId,
    whom: Option<&[UserId]>,
) -> Result<Option<Group>, Failure> {
    let filter = doc! { "_id": uuid(id.as_bytes()) };
    let groups = database.collection::<RawDocumentBuf>(GROUPS);
    let Some(found) = groups.find_one(filter).max_time(PATIENCE).await? else {
        return Ok(None);
    };
    let mut group = decode_group(id, &found)?;
    let alone = [id];
    let large = group.size.large;
    let members = async {
        match whom {
            Some(users) => members_among(database, id, users).await,
            None if large => Ok(Vec::new()),
            None => members(database, id, IdWindow::First, usize::MAX).await,
        }
    };
    let (members, channels) = try_join!(members, channels(database, &alone))?;
    group.members = members.into_iter().collect();
    group.channels = channels
        .into_iter()
        .map(|channel| (channel.id, channel))
        .collect();
    Ok(Some(group))
}

/// Without members and channels.
fn decode_group(id: GroupId, stored: &RawDocument) -> Result<Group, Failure> {
    Ok(Group {
        id,
        kind: find::name(stored, "kind")?,
        name: find::optional(stored, "name", field::text)?.map(str::to_owned),
        created_at: field::timestamp(stored, "created_at")?,
        version: field::unsigned(stored, "version")?,
        applied: field::unsigned(stored, "applied")?,
        deleted: find::flag(stored, "deleted")?,
        lease: decode_lease(stored)?,
        size: decode_size(stored)?,
        members: BTreeMap::new(),
        channels: BTreeMap::new(),
    })
}

/// Groups of before there were leases do not have the field.
fn decode_lease(group: &RawDocument) -> Result<Option<Lease>, Failure> {
    find::optional(group, "lease", |group, name| {
        let stored = group.get_document(name).map_err(Failure::corrupt)?;
        Ok(Lease {
            token: field::unsigned(stored, "token")?,
            session: SessionId::from_bytes(field::bytes(stored, "session")?),
            user: UserId::from_bytes(field::bytes(stored, "user")?),
            since: field::timestamp(stored, "since")?,
        })
    })
}

/// One that no entry was applied to since groups may be large says only how many there are.
fn decode_size(stored: &RawDocument) -> Result<Size, Failure> {
    Ok(Size {
        members: field::unsigned(stored, "member_count")?,
        large: find::optional(stored, "large", find::flag)?.unwrap_or(false),
        turned: find::optional(stored, "turned", field::unsigned)?.unwrap_or(0),
    })
}

pub(super) async fn group_of(
    database: &Database,
    channel: ChannelId,
) -> Result<Option<GroupId>, Failure> {
    let filter = doc! { "_id": uuid(channel.as_bytes()) };
    let channels = database.collection::<RawDocumentBuf>(CHANNELS);
    let found = channels.find_one(filter).max_time(PATIENCE).await?;
    found.map(|found| group_id(&found, "group")).transpose()
}

fn group_id(stored: &RawDocument, name: &str) -> Result<GroupId, Failure> {
    Ok(GroupId::from_bytes(field::bytes(stored, name)?))
}

pub(super) async fn members(
    database: &Database,
    group: GroupId,
    window: IdWindow<UserId>,
    limit: usize,
) -> Result<Vec<(UserId, Member)>, Failure> {
    let filter = doc! { "group": uuid(group.as_bytes()), "removed": false };
    let (members, by) = (database.collection(MEMBERS), ("user", UserId::as_bytes));
    find::page(&members, filter, by, &window, limit, decode_member).await
}

pub(super) async fn members_among(
    database: &Database,
    group: GroupId,
    users: &[UserId],
) -> Result<Vec<(UserId, Member)>, Failure> {
    if users.is_empty() {
        return Ok(Vec::new());
    }
    let among = doc! { "$in": find::ids(users, UserId::as_bytes) };
    let filter = doc! { "group": uuid(group.as_bytes()), "user": among, "removed": false };
    let cursor = database
        .collection::<RawDocumentBuf>(MEMBERS)
        .find(filter)
        .max_time(PATIENCE)
        .await?;
    find::all(cursor, decode_member).await
}

fn decode_member(stored: &RawDocument) -> Result<(UserId, Member), Failure> {
    let member = Member {
        role: find::name(stored, "role")?,
        joined: field::unsigned(stored, "joined")?,
        joined_at: field::timestamp(stored, "joined_at")?,
        muted_until: find::optional(stored, "muted_until", field::timestamp)?,
    };
    Ok((UserId::from_bytes(field::bytes(stored, "user")?), member))
}

/// The channels of `groups` that are not deleted; those of one group ascending by id.
async fn channels(database: &Database, groups: &[GroupId]) -> Result<Vec<Channel>, Failure> {
    let groups = find::ids(groups, GroupId::as_bytes);
    let cursor = database
        .collection::<RawDocumentBuf>(CHANNELS)
        .find(doc! { "group": { "$in": groups }, "deleted": false })
        .sort(doc! { "group": 1, "_id": 1 })
        .max_time(PATIENCE)
        .await?;
    find::all(cursor, decode_channel).await
}

fn decode_channel(stored: &RawDocument) -> Result<Channel, Failure> {
    Ok(Channel {
        id: ChannelId::from_bytes(field::bytes(stored, "_id")?),
        group: group_id(stored, "group")?,
        name: field::text(stored, "name")?.to_owned(),
        version: field::unsigned(stored, "version")?,
        // One that was never changed since there is slow mode does not say.
        slow_mode_secs: find::optional(stored, "slow_mode_secs", find::count)?.unwrap_or(0),
        created_at: field::timestamp(stored, "created_at")?,
    })
}

pub(super) async fn membership(
    database: &Database,
    user: UserId,
    group: GroupId,
) -> Result<Option<Membership>, Failure> {
    let part = doc! { "user": uuid(user.as_bytes()), "group": uuid(group.as_bytes()) };
    let alone = [group];
    let (mut found, channels) = try_join!(
        with_groups(database, part, Direction::Up, 1),
        channels(database, &alone),
    )?;
    let Some(mut membership) = found.pop() else {
        return Ok(None);
    };
    membership.channels = channels;
    Ok(Some(membership))
}

pub(super) async fn memberships(
    database: &Database,
    user: UserId,
    window: IdWindow<GroupId>,
    limit: usize,
) -> Result<Vec<Membership>, Failure> {
    if limit == 0 {
        return Ok(Vec::new());
    }
    let mut parts = doc! { "user": uuid(user.as_bytes()) };
    let direction = Direction::bound(&mut parts, "group", &window, GroupId::as_bytes);
    let mut found = with_groups(database, parts, direction, limit).await?;
    let groups: Vec<GroupId> = found.iter().map(|membership| membership.group).collect();
    let mut of_groups: HashMap<GroupId, Vec<Channel>> = HashMap::new();
    for channel in channels(database, &groups).await? {
        of_groups.entry(channel.group).or_default().push(channel);
    }
    for membership in &mut found {
        membership.channels = of_groups.remove(&membership.group).unwrap_or_default();
    }
    Ok(direction.ascending(found))
}

/// The `parts` that users have in groups, neither gone. Without channels.
async fn with_groups(
    database: &Database,
    mut parts: Document,
    direction: Direction,
    limit: usize,
) -> Result<Vec<Membership>, Failure> {
    parts.insert("removed", false);
    let pipeline = [
        doc! { "$match": parts },
        doc! { "$sort": direction.sort("group") },
        doc! { "$lookup": {
            "from": GROUPS, "localField": "group", "foreignField": "_id", "as": "of",
        } },
        doc! { "$unwind": "$of" },
        doc! { "$match": { "of.deleted": false } },
        doc! { "$limit": field::limit(limit) },
    ];
    let members = database.collection::<RawDocumentBuf>(MEMBERS);
    let cursor = members
        .aggregate(pipeline)
        .max_time(PATIENCE)
        .with_type()
        .await?;
    find::all(cursor, decode_membership).await
}

fn decode_membership(stored: &RawDocument) -> Result<Membership, Failure> {
    let group = stored.get_document("of").map_err(Failure::corrupt)?;
    Ok(Membership {
        group: group_id(stored, "group")?,
        kind: find::name(group, "kind")?,
        name: find::optional(group, "name", field::text)?.map(str::to_owned),
        created_at: field::timestamp(group, "created_at")?,
        version: field::unsigned(group, "version")?,
        role: find::name(stored, "role")?,
        size: decode_size(group)?,
        lease: decode_lease(group)?,
        channels: Vec::new(),
    })
}

/// Who of `users` is in which group that is not deleted.
async fn parts(database: &Database, users: Vec<Bson>) -> Result<Vec<(UserId, GroupId)>, Failure> {
    let cursor = database
        .collection::<RawDocumentBuf>(MEMBERS)
        .find(doc! { "user": { "$in": users }, "removed": false })
        .projection(doc! { "_id": 0, "user": 1, "group": 1 })
        .max_time(PATIENCE)
        .await?;
    let decode = |stored: &RawDocument| {
        let user = UserId::from_bytes(field::bytes(stored, "user")?);
        Ok((user, group_id(stored, "group")?))
    };
    let mut parts = find::all(cursor, decode).await?;
    let groups: BTreeSet<GroupId> = parts.iter().map(|(_, group)| *group).collect();
    let cursor = database
        .collection::<RawDocumentBuf>(GROUPS)
        .find(doc! { "_id": { "$in": find::ids(&groups, GroupId::as_bytes) }, "deleted": false })
        .projection(doc! { "_id": 1 })
        .max_time(PATIENCE)
        .await?;
    let live = find::all(cursor, |stored| group_id(stored, "_id")).await?;
    let live: BTreeSet<GroupId> = live.into_iter().collect();
    parts.retain(|(_, group)| live.contains(group));
    Ok(parts)
}

async fn groups_of(database: &Database, user: UserId) -> Result<Vec<GroupId>, Failure> {
    let parts = parts(database, find::ids([&user], UserId::as_bytes)).await?;
    Ok(parts.into_iter().map(|(_, group)| group).collect())
}

pub(super) async fn group_counts(
    database: &Database,
    users: &[UserId],
) -> Result<Vec<u64>, Failure> {
    let mut counts: HashMap<UserId, u64> = HashMap::new();
    for (user, _) in parts(database, find::ids(users, UserId::as_bytes)).await? {
        *counts.entry(user).or_default() += 1;
    }
    let count = |user| counts.get(user).copied().unwrap_or_default();
    Ok(users.iter().map(count).collect())
}

pub(super) async fn streams_of(
    database: &Database,
    user: UserId,
) -> Result<Vec<StreamId>, Failure> {
    let groups = groups_of(database, user).await?;
    let channels = channels(database, &groups).await?;
    let mut streams: Vec<StreamId> = groups.into_iter().map(StreamId::from).collect();
    streams.extend(channels.iter().map(|channel| StreamId::from(channel.id)));
    streams.sort_unstable();
    Ok(streams)
}

pub(super) async fn shared_groups(
    database: &Database,
    user: UserId,
    others: &[UserId],
) -> Result<Vec<(UserId, GroupId)>, Failure> {
    let own: BTreeSet<GroupId> = groups_of(database, user).await?.into_iter().collect();
    // By the user and not by both: with hundreds of each, seeking every pair would cost more.
    let cursor = database
        .collection::<RawDocumentBuf>(MEMBERS)
        .find(doc! { "user": { "$in": find::ids(others, UserId::as_bytes) }, "removed": false })
        .projection(doc! { "_id": 0, "user": 1, "group": 1 })
        .max_time(PATIENCE)
        .await?;
    let decode = |stored: &RawDocument| {
        let user = UserId::from_bytes(field::bytes(stored, "user")?);
        Ok((user, group_id(stored, "group")?))
    };
    let parts = find::all(cursor, decode).await?.into_iter();
    let shared: BTreeMap<UserId, GroupId> =
        parts.filter(|(_, group)| own.contains(group)).collect();
    Ok(shared.into_iter().collect())
}

pub(super) async fn acquaintances(
    database: &Database,
    user: UserId,
    limit: usize,
) -> Result<Vec<UserId>, Failure> {
    let groups = groups_of(database, user).await?;
    let groups = find::ids(&groups, GroupId::as_bytes);
    let mut members = database
        .collection::<RawDocumentBuf>(MEMBERS)
        .find(doc! { "group": { "$in": groups }, "removed": false })
        .projection(doc! { "_id": 0, "user": 1 })
        .max_time(PATIENCE)
        .await?;
    let mut found = BTreeSet::new();
    while found.len() < limit && members.advance().await? {
        let other = UserId::from_bytes(field::bytes(members.current(), "user")?);
        if other != user {
            found.insert(other);
        }
    }
    Ok(found.into_iter().collect())
}
