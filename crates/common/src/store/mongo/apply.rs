//! Carries out changes of state, each on its own: every update has its guard in its filter, so
//! that any number of processes may apply an entry at the same time, or once more later.
//!
//! A guard that holds an update back makes it wait, as any update does, until what it met is
//! held by a majority. What users wrote never stands in a pipeline, where `$` has a meaning.

use mongodb::Database;
use mongodb::bson::{Bson, Document, doc};

use super::failure::duplicates;
use super::field::{signed, uuid};
use super::groups::{CHANNELS, GROUPS, MEMBERS};
use super::{Failure, accounts, find, message_changes, moderation, reading};
use crate::domain::{GroupId, Lease, Role, Seq, StreamId, Timestamp, UserId};
use crate::store::StateChange;

/// All changes of one entry, in their order.
pub(super) async fn apply(
    database: &Database,
    stream: StreamId,
    seq: Seq,
    changes: &[StateChange],
) -> Result<(), Failure> {
    if signed(seq) == i64::MAX {
        return Err(Failure::corrupt(format!("no entry {seq} of {stream}")));
    }
    let mut rest = changes;
    while let Some((first, behind)) = rest.split_first() {
        // The members that a group begins with go together.
        let joining: Vec<Joining> = rest.iter().map_while(Joining::of).collect();
        if joining.is_empty() {
            apply_one(database, seq, first).await?;
            rest = behind;
        } else {
            add_members(database, seq, &joining).await?;
            rest = &rest[joining.len()..];
        }
    }
    Ok(())
}

async fn apply_one(database: &Database, seq: Seq, change: &StateChange) -> Result<(), Failure> {
    match change {
        StateChange::CreateSession(session) => {
            accounts::create_session(database, seq, session).await
        }
        StateChange::RevokeSession { session } => {
            accounts::revoke_session(database, seq, *session).await
        }
        StateChange::RenameUser { user, display_name } => {
            accounts::rename(database, seq, *user, display_name).await
        }
        StateChange::MoveMark {
            user,
            channel,
            place,
            at,
        } => reading::move_mark(database, (*user, *channel), *place, *at).await,
        StateChange::CreateGroup { .. }
        | StateChange::RenameGroup { .. }
        | StateChange::SetLease { .. }
        | StateChange::DeleteGroup { .. }
        | StateChange::GroupApplied { .. } => change_group(database, seq, change).await,
        StateChange::AddMember { .. } => Ok(()),
        StateChange::SetRole { group, user, role } => {
            let mut set = doc! { "role": role.as_str() };
            if *role == Role::Owner {
                set.insert("muted_until", Bson::Null);
            }
            change_member(database, seq, (*group, *user), set).await
        }
        StateChange::RemoveMember { group, user } => {
            let set = doc! { "removed": true };
            change_member(database, seq, (*group, *user), set).await
        }
        StateChange::MuteMember { .. }
        | StateChange::BanMember { .. }
        | StateChange::UnbanMember { .. }
        | StateChange::CreateInvite(_)
        | StateChange::UseInvite { .. }
        | StateChange::DeleteInvite { .. } => moderation::apply(database, seq, change).await,
        StateChange::CreateChannel { .. }
        | StateChange::UpdateChannel { .. }
        | StateChange::DeleteChannel { .. } => change_channel(database, seq, change).await,
        StateChange::EditMessage { .. }
        | StateChange::DeleteMessage { .. }
        | StateChange::SetReaction { .. }
        | StateChange::SetPinned { .. } => message_changes::apply(database, seq, change).await,
    }
}

async fn change_group(database: &Database, seq: Seq, change: &StateChange) -> Result<(), Failure> {
    let groups = database.collection::<Document>(GROUPS);
    let n = signed(seq);
    let named = |group: &GroupId| doc! { "_id": uuid(group.as_bytes()) };
    let settings = |group: &GroupId| {
        let mut filter = named(group);
        filter.insert("settings_applied", doc! { "$lt": n });
        filter
    };
    match change {
        StateChange::CreateGroup {
            group,
            kind,
            name,
            created_at,
        } => {
            let document = doc! {
                "_id": uuid(group.as_bytes()),
                "kind": kind.as_str(),
                "name": name.as_deref(),
                "created_at": created_at.as_millis(),
                "version": n,
                "member_count": 0_i64,
                "deleted": false,
                "settings_applied": n,
                "applied": 0_i64,
            };
            find::insert_once(&groups, document).await?;
        }
        StateChange::RenameGroup { group, name } => {
            let set = doc! { "name": name, "version": n, "settings_applied": n };
            let update = doc! { "$set": set };
            groups.update_one(settings(group), update).await?;
        }
        StateChange::SetLease { group, lease } => {
            let update = doc! { "$set": { "lease": lease.as_ref().map(lease_document) } };
            let filter = find::older(named(group), seq);
            groups.update_one(filter, update).await?;
        }
        StateChange::DeleteGroup { group } => {
            let update = doc! { "$set": { "deleted": true, "settings_applied": n } };
            groups.update_one(settings(group), update).await?;
        }
        StateChange::GroupApplied {
            group,
            members,
            fanout_limit,
        } => {
            let filter = find::older(named(group), seq);
            let update = group_applied(seq, *members, *fanout_limit);
            groups.update_one(filter, update).await?;
        }
        _ => {}
    }
    Ok(())
}

fn lease_document(lease: &Lease) -> Document {
    doc! {
        "token": signed(lease.token),
        "session": uuid(lease.session.as_bytes()),
        "user": uuid(lease.user.as_bytes()),
        "since": lease.since.as_millis(),
    }
}

/// [`Size::after`](crate::domain::Size::after) as a pipeline, since nobody else may come between
/// reading and writing.
fn group_applied(seq: Seq, change: i64, fanout_limit: u64) -> Vec<Document> {
    let limit = signed(fanout_limit);
    let count = doc! { "$max": [0_i64, { "$add": ["$member_count", change] }] };
    let was_large = doc! { "$ifNull": ["$large", false] };
    let stays =
        doc! { "$gte": [{ "$multiply": ["$member_count", 10_i64] }, limit.saturating_mul(8)] };
    let turns = doc! { "$gt": ["$member_count", limit] };
    let large = doc! { "$cond": ["$was_large", stays, turns] };
    let turned = doc! { "$cond": [
        { "$eq": ["$large", "$was_large"] },
        { "$ifNull": ["$turned", 0_i64] },
        signed(seq),
    ] };
    vec![
        doc! { "$set": { "member_count": count, "was_large": was_large, "applied": signed(seq) } },
        doc! { "$set": { "large": large } },
        doc! { "$set": { "turned": turned } },
        doc! { "$unset": "was_large" },
    ]
}

/// Somebody who becomes a member.
struct Joining {
    group: GroupId,
    user: UserId,
    role: Role,
    joined_at: Timestamp,
    muted_until: Option<Timestamp>,
}

impl Joining {
    fn of(change: &StateChange) -> Option<Self> {
        match change {
            StateChange::AddMember {
                group,
                user,
                role,
                joined_at,
                muted_until,
            } => Some(Self {
                group: *group,
                user: *user,
                role: *role,
                joined_at: *joined_at,
                muted_until: *muted_until,
            }),
            _ => None,
        }
    }

    /// What the member's document says besides whose it is.
    fn part(&self, seq: Seq) -> Document {
        doc! {
            "role": self.role.as_str(),
            "joined": signed(seq),
            "joined_at": self.joined_at.as_millis(),
            "muted_until": self.muted_until.map(Timestamp::as_millis),
            "removed": false,
            "applied": signed(seq),
        }
    }
}

/// One insert for all who are new, then one update for each kind of those who were members
/// before, or whom somebody else has added already.
async fn add_members(database: &Database, seq: Seq, joining: &[Joining]) -> Result<(), Failure> {
    let members = database.collection::<Document>(MEMBERS);
    let documents = joining.iter().map(|joining| {
        let mut document = member(joining.group, joining.user);
        document.extend(joining.part(seq));
        document
    });
    let Err(error) = members.insert_many(documents).ordered(false).await else {
        return Ok(());
    };
    let mut known: Vec<&Joining> = duplicates(error)?
        .into_iter()
        .filter_map(|index| joining.get(index))
        .collect();
    while let Some(first) = known.first().copied() {
        let alike =
            |other: &&Joining| (other.group, other.part(seq)) == (first.group, first.part(seq));
        let (same, others): (Vec<_>, Vec<_>) = known.into_iter().partition(alike);
        let users: Vec<UserId> = same.iter().map(|joining| joining.user).collect();
        let mut filter = find::older(doc! { "group": uuid(first.group.as_bytes()) }, seq);
        filter.insert("user", doc! { "$in": find::ids(&users, UserId::as_bytes) });
        let update = doc! { "$set": first.part(seq) };
        members.update_many(filter, update).await?;
        known = others;
    }
    Ok(())
}

fn member(group: GroupId, user: UserId) -> Document {
    doc! { "group": uuid(group.as_bytes()), "user": uuid(user.as_bytes()) }
}

async fn change_member(
    database: &Database,
    seq: Seq,
    (group, user): (GroupId, UserId),
    mut set: Document,
) -> Result<(), Failure> {
    set.insert("applied", signed(seq));
    let filter = find::older(member(group, user), seq);
    let members = database.collection::<Document>(MEMBERS);
    members.update_one(filter, doc! { "$set": set }).await?;
    Ok(())
}

async fn change_channel(
    database: &Database,
    seq: Seq,
    change: &StateChange,
) -> Result<(), Failure> {
    let channels = database.collection::<Document>(CHANNELS);
    let n = signed(seq);
    let (group, channel, set) = match change {
        StateChange::CreateChannel {
            group,
            channel,
            name,
            created_at,
        } => {
            // A channel is created once, so one that is there is as new or newer.
            let document = doc! {
                "_id": uuid(channel.as_bytes()),
                "group": uuid(group.as_bytes()),
                "name": name,
                "version": n,
                "created_at": created_at.as_millis(),
                "deleted": false,
                "applied": n,
            };
            return find::insert_once(&channels, document).await;
        }
        StateChange::UpdateChannel {
            group,
            channel,
            name,
            slow_mode_secs,
        } => {
            let mut set = doc! { "name": name, "version": n, "applied": n };
            if let Some(secs) = slow_mode_secs {
                set.insert("slow_mode_secs", i64::from(*secs));
            }
            (group, channel, set)
        }
        StateChange::DeleteChannel { group, channel } => {
            (group, channel, doc! { "deleted": true, "applied": n })
        }
        _ => return Ok(()),
    };
    let named = doc! { "_id": uuid(channel.as_bytes()), "group": uuid(group.as_bytes()) };
    let update = doc! { "$set": set };
    channels.update_one(find::older(named, seq), update).await?;
    Ok(())
}
