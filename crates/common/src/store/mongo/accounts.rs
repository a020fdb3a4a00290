//! Accounts and sessions.

use mongodb::bson::{Bson, Document, RawDocument, RawDocumentBuf, doc};
use mongodb::{Collection, Database};

use super::failure::duplicates;
use super::field::{self, binary, signed, uuid};
use super::find;
use super::{Failure, PATIENCE};
use crate::domain::{Key, Rotation, Seq, Session, SessionId, Timestamp, User, UserId};
use crate::store::{Account, IdWindow, NewUser};

pub(super) const USERS: &str = "users";
pub(super) const SESSIONS: &str = "sessions";

fn stored(database: &Database, collection: &str) -> Collection<RawDocumentBuf> {
    database.collection(collection)
}

/// One insert into a uniquely indexed collection is the commit.
pub(super) async fn create(database: &Database, new: &NewUser) -> Result<Option<Account>, Failure> {
    let document = doc! {
        "_id": uuid(new.user.id.as_bytes()),
        "username": new.user.username.as_str(),
        "display_name": new.user.display_name.as_str(),
        "created_at": new.user.created_at.as_millis(),
        "password_hash": new.password_hash.as_str(),
        "key": binary(new.key.as_bytes()),
        "applied": 0_i64,
    };
    let users = database.collection::<Document>(USERS);
    let taken = match users.insert_many([document]).await {
        Ok(_) => return Ok(None),
        Err(error) => duplicates(error),
    };
    let found = account(database, &new.user.username).await;
    match (taken, found) {
        (Ok(_), found) => match found? {
            Some(found) => Ok(Some(found)),
            None => Err(Failure::corrupt("the id of a new user is taken")),
        },
        // Nobody knows whether it is in, unless it can be read.
        (Err(_), Ok(Some(found))) => Ok((found.user.id != new.user.id).then_some(found)),
        (Err(failure), _) => Err(failure),
    }
}

pub(super) async fn account(
    database: &Database,
    username: &str,
) -> Result<Option<Account>, Failure> {
    let filter = doc! { "username": username };
    let found = stored(database, USERS)
        .find_one(filter)
        .max_time(PATIENCE)
        .await?;
    let Some(found) = found else {
        return Ok(None);
    };
    Ok(Some(Account {
        user: user(&found)?,
        password_hash: field::text(&found, "password_hash")?.to_owned(),
        key: Key::from_bytes(field::bytes(&found, "key")?),
    }))
}

pub(super) async fn users(database: &Database, ids: &[UserId]) -> Result<Vec<User>, Failure> {
    let filter = doc! { "_id": { "$in": find::ids(ids, UserId::as_bytes) } };
    find::all(
        stored(database, USERS)
            .find(filter)
            .max_time(PATIENCE)
            .await?,
        user,
    )
    .await
}

pub(super) async fn users_named(
    database: &Database,
    usernames: &[String],
) -> Result<Vec<User>, Failure> {
    let found = stored(database, USERS)
        .find(doc! { "username": { "$in": usernames } })
        .max_time(PATIENCE)
        .await?;
    find::all(found, user).await
}

fn user(stored: &RawDocument) -> Result<User, Failure> {
    Ok(User {
        id: UserId::from_bytes(field::bytes(stored, "_id")?),
        username: field::text(stored, "username")?.to_owned(),
        display_name: field::text(stored, "display_name")?.to_owned(),
        created_at: field::timestamp(stored, "created_at")?,
    })
}

pub(super) async fn rename(
    database: &Database,
    seq: Seq,
    user: UserId,
    display_name: &str,
) -> Result<(), Failure> {
    let filter = find::older(doc! { "_id": uuid(user.as_bytes()) }, seq);
    let update = doc! { "$set": { "display_name": display_name, "applied": signed(seq) } };
    stored(database, USERS).update_one(filter, update).await?;
    Ok(())
}

pub(super) async fn session(
    database: &Database,
    session: SessionId,
) -> Result<Option<Session>, Failure> {
    let filter = doc! { "_id": uuid(session.as_bytes()) };
    let found = stored(database, SESSIONS)
        .find_one(filter)
        .max_time(PATIENCE)
        .await?;
    found.map(|found| decode_session(&found)).transpose()
}

pub(super) async fn sessions(
    database: &Database,
    user: UserId,
    window: IdWindow<SessionId>,
    limit: usize,
) -> Result<Vec<Session>, Failure> {
    let filter = doc! { "user": uuid(user.as_bytes()), "revoked": false };
    let (sessions, by) = (stored(database, SESSIONS), ("_id", SessionId::as_bytes));
    find::page(&sessions, filter, by, &window, limit, decode_session).await
}

fn decode_session(stored: &RawDocument) -> Result<Session, Failure> {
    let generation = field::unsigned(stored, "generation")?;
    let rotated_at = find::optional(stored, "rotated_at", field::timestamp)?;
    let key = field::optional_bytes(stored, "rotation_key")?.map(Key::from_bytes);
    Ok(Session {
        id: SessionId::from_bytes(field::bytes(stored, "_id")?),
        user: UserId::from_bytes(field::bytes(stored, "user")?),
        device_name: field::text(stored, "device_name")?.to_owned(),
        created_at: field::timestamp(stored, "created_at")?,
        last_used_at: field::timestamp(stored, "last_used_at")?,
        generation: u32::try_from(generation).map_err(Failure::corrupt)?,
        rotation: rotated_at.map(|at| Rotation { at, key }),
        revoked: find::flag(stored, "revoked")?,
    })
}

/// A session is created once, so one that is there is as new or newer.
pub(super) async fn create_session(
    database: &Database,
    seq: Seq,
    session: &Session,
) -> Result<(), Failure> {
    let mut document = doc! {
        "_id": uuid(session.id.as_bytes()),
        "user": uuid(session.user.as_bytes()),
        "device_name": session.device_name.as_str(),
        "created_at": session.created_at.as_millis(),
        "last_used_at": session.last_used_at.as_millis(),
        "generation": i64::from(session.generation),
        "revoked": session.revoked,
        "applied": signed(seq),
    };
    if let Some(rotation) = &session.rotation {
        document.extend(rotated(rotation));
    }
    find::insert_once(&database.collection(SESSIONS), document).await
}

fn rotated(rotation: &Rotation) -> Document {
    let key = rotation.key.as_ref().map(|key| binary(key.as_bytes()));
    doc! {
        "rotated_at": rotation.at.as_millis(),
        "rotation_key": key.map_or(Bson::Null, Bson::from),
    }
}

pub(super) async fn revoke_session(
    database: &Database,
    seq: Seq,
    session: SessionId,
) -> Result<(), Failure> {
    let filter = find::older(doc! { "_id": uuid(session.as_bytes()) }, seq);
    let update = doc! { "$set": { "revoked": true, "applied": signed(seq) } };
    stored(database, SESSIONS)
        .update_one(filter, update)
        .await?;
    Ok(())
}

/// See [`crate::store::StateStore::rotate_session`].
pub(super) async fn rotate(
    database: &Database,
    session: SessionId,
    generation: u32,
    at: Timestamp,
    key: Option<Key>,
) -> Result<bool, Failure> {
    let Some(next) = generation.checked_add(1) else {
        return Ok(false);
    };
    let filter = doc! {
        "_id": uuid(session.as_bytes()),
        "generation": i64::from(generation),
        "revoked": false,
    };
    let mut set = rotated(&Rotation { at, key });
    set.insert("generation", i64::from(next));
    set.insert("last_used_at", at.as_millis());
    let update = doc! { "$set": set };
    let done = stored(database, SESSIONS)
        .update_one(filter, update)
        .await?;
    Ok(done.matched_count == 1)
}
