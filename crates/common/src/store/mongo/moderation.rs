//! Bans, mutes and invites. A ban and a mute stand in the document of the member, which stays
//! when the member goes; who never was one gets a document that says "removed".

use mongodb::Database;
use mongodb::bson::{Bson, Document, RawDocument, RawDocumentBuf, doc};

use super::field::{self, signed, uuid};
use super::find;
use super::groups::MEMBERS;
use super::{Failure, PATIENCE};
use crate::domain::{Ban, GroupId, Invite, InviteId, Restrictions, Role, Seq, Timestamp, UserId};
use crate::store::{IdWindow, StateChange};

pub(super) const INVITES: &str = "invites";

fn named(group: GroupId, user: UserId) -> Document {
    doc! { "group": uuid(group.as_bytes()), "user": uuid(user.as_bytes()) }
}

pub(super) async fn restrictions(
    database: &Database,
    group: GroupId,
    user: UserId,
) -> Result<Restrictions, Failure> {
    let members = database.collection::<RawDocumentBuf>(MEMBERS);
    let found = members
        .find_one(named(group, user))
        .max_time(PATIENCE)
        .await?;
    let Some(found) = found else {
        return Ok(Restrictions::default());
    };
    let banned = find::optional(&found, "banned_at", field::timestamp)?.is_some();
    Ok(Restrictions {
        known: true,
        ban: banned.then(|| decode_ban(&found)).transpose()?,
        muted_until: find::optional(&found, "muted_until", field::timestamp)?,
    })
}

/// Of somebody who is banned.
fn decode_ban(stored: &RawDocument) -> Result<Ban, Failure> {
    let by = field::optional_bytes(stored, "banned_by")?;
    Ok(Ban {
        user: UserId::from_bytes(field::bytes(stored, "user")?),
        by: by.map(UserId::from_bytes),
        at: field::timestamp(stored, "banned_at")?,
    })
}

pub(super) async fn bans(
    database: &Database,
    group: GroupId,
    window: IdWindow<UserId>,
    limit: usize,
) -> Result<Vec<Ban>, Failure> {
    let filter = doc! { "group": uuid(group.as_bytes()), "banned_at": { "$exists": true } };
    let (members, by) = (database.collection(MEMBERS), ("user", UserId::as_bytes));
    find::page(&members, filter, by, &window, limit, decode_ban).await
}

pub(super) async fn invite(database: &Database, id: InviteId) -> Result<Option<Invite>, Failure> {
    let invites = database.collection::<RawDocumentBuf>(INVITES);
    let filter = doc! { "_id": uuid(id.as_bytes()) };
    let found = invites.find_one(filter).max_time(PATIENCE).await?;
    found.map(|found| decode_invite(&found)).transpose()
}

pub(super) async fn invites(
    database: &Database,
    group: GroupId,
    window: IdWindow<InviteId>,
    limit: usize,
) -> Result<Vec<Invite>, Failure> {
    let filter = doc! { "group": uuid(group.as_bytes()), "deleted": false };
    let (invites, by) = (database.collection(INVITES), ("_id", InviteId::as_bytes));
    find::page(&invites, filter, by, &window, limit, decode_invite).await
}

fn decode_invite(stored: &RawDocument) -> Result<Invite, Failure> {
    let created_by = field::optional_bytes(stored, "created_by")?;
    Ok(Invite {
        id: InviteId::from_bytes(field::bytes(stored, "_id")?),
        group: GroupId::from_bytes(field::bytes(stored, "group")?),
        created_by: created_by.map(UserId::from_bytes),
        created_at: field::timestamp(stored, "created_at")?,
        expires_at: find::optional(stored, "expires_at", field::timestamp)?,
        max_uses: find::optional(stored, "max_uses", find::count)?,
        uses: find::count(stored, "uses")?,
        deleted: find::flag(stored, "deleted")?,
    })
}

/// One change, with its guard in its filter.
pub(super) async fn apply(
    database: &Database,
    seq: Seq,
    change: &StateChange,
) -> Result<(), Failure> {
    let members = database.collection::<Document>(MEMBERS);
    let n = signed(seq);
    match change {
        StateChange::MuteMember { group, user, until } => {
            let until = until.map(Timestamp::as_millis);
            let update = doc! { "$set": { "muted_until": until, "applied": n } };
            let filter = find::older(named(*group, *user), seq);
            members.update_one(filter, update).await?;
        }
        StateChange::BanMember { group, ban } => {
            let by: Option<Bson> = ban.by.map(|by| uuid(by.as_bytes()).into());
            let update = doc! {
                "$set": {
                    "removed": true,
                    "banned_at": ban.at.as_millis(),
                    "banned_by": by,
                    "applied": n,
                },
                "$setOnInsert": {
                    "role": Role::Member.as_str(), "joined": 0_i64, "joined_at": 0_i64,
                },
            };
            let filter = find::older(named(*group, ban.user), seq);
            find::upsert(&members, filter, update).await?;
        }
        StateChange::UnbanMember { group, user } => {
            let update = doc! {
                "$set": { "applied": n },
                "$unset": { "banned_at": "", "banned_by": "" },
            };
            let filter = find::older(named(*group, *user), seq);
            members.update_one(filter, update).await?;
        }
        StateChange::CreateInvite(invite) => create_invite(database, seq, invite).await?,
        StateChange::UseInvite { invite, uses, .. } => {
            let set = doc! { "uses": i64::from(*uses) };
            change_invite(database, seq, *invite, set).await?;
        }
        StateChange::DeleteInvite { invite, .. } => {
            change_invite(database, seq, *invite, doc! { "deleted": true }).await?;
        }
        _ => {}
    }
    Ok(())
}

/// An invite is made once, so one that is there is as new or newer.
async fn create_invite(database: &Database, seq: Seq, invite: &Invite) -> Result<(), Failure> {
    let created_by: Option<Bson> = invite.created_by.map(|by| uuid(by.as_bytes()).into());
    let document = doc! {
        "_id": uuid(invite.id.as_bytes()),
        "group": uuid(invite.group.as_bytes()),
        "created_by": created_by,
        "created_at": invite.created_at.as_millis(),
        "expires_at": invite.expires_at.map(Timestamp::as_millis),
        "max_uses": invite.max_uses.map(i64::from),
        "uses": 0_i64,
        "deleted": false,
        "applied": signed(seq),
    };
    find::insert_once(&database.collection(INVITES), document).await
}

async fn change_invite(
    database: &Database,
    seq: Seq,
    invite: InviteId,
    mut set: Document,
) -> Result<(), Failure> {
    set.insert("applied", signed(seq));
    let filter = find::older(doc! { "_id": uuid(invite.as_bytes()) }, seq);
    let invites = database.collection::<Document>(INVITES);
    invites.update_one(filter, doc! { "$set": set }).await?;
    Ok(())
}
