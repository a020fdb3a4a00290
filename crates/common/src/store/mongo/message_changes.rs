//! Changes of messages: edits, deletions, reactions, pins. The state stands in the message's own
//! entry and is rewritten by compare-and-swap on its `applied`; who reacted stands in
//! `reactions`.

use futures_util::try_join;
use mongodb::Database;
use mongodb::bson::{Bson, Document, RawDocumentBuf, doc};

use super::entry::{self, ENTRIES};
use super::field::{signed, stream_name, uuid};
use super::find;
use super::reactions::user;
use super::{Failure, PATIENCE};
use crate::domain::{Change, Kind, MessageState, ReactionCount, Seq, StreamId, UserId};
use crate::store::StateChange;
use crate::store::revision::{self, At, Reactors};

pub(super) const REACTIONS: &str = "reactions";

pub(super) async fn apply(
    database: &Database,
    seq: Seq,
    change: &StateChange,
) -> Result<(), Failure> {
    match change {
        StateChange::EditMessage {
            channel, message, ..
        } => {
            let at = At::new(*channel, *message, seq);
            revise(database, at, change).await?;
            // Only now that the message holds the content, or it is out of date: a reader in
            // between finds it in one of the two.
            remove_copies(database, at, doc! { "n": signed(seq) }).await
        }
        StateChange::DeleteMessage { channel, message } => {
            let at = At::new(*channel, *message, seq);
            revise(database, at, change).await?;
            // Also when the message was deleted already: whoever did that may have got no
            // further.
            retract_all(database, at).await?;
            remove_copies(database, at, Document::new()).await
        }
        StateChange::SetReaction {
            channel, message, ..
        }
        | StateChange::SetPinned {
            channel, message, ..
        } => revise(database, At::new(*channel, *message, seq), change).await,
        _ => Ok(()),
    }
}

impl At {
    /// The message's entry.
    fn message(self) -> Document {
        doc! {
            "s": stream_name(StreamId::from(self.channel)),
            "n": signed(self.message),
            "kind": Kind::MessageCreated.as_str(),
        }
    }

    /// Its reactions.
    fn reactions(self) -> Document {
        doc! { "channel": uuid(self.channel.as_bytes()), "message": signed(self.message) }
    }
}

/// Brings the message's state up to the entry, unless it is there already. Ends because each
/// round is lost only to somebody who brought the state further.
async fn revise(database: &Database, at: At, change: &StateChange) -> Result<(), Failure> {
    while let Some(old) = older_state(database, at).await? {
        let mut new = old.clone();
        revised(database, at, change, &mut new).await?;
        new.applied = at.seq;
        if replace(database, at, &old, new).await? {
            break;
        }
    }
    Ok(())
}

async fn revised(
    database: &Database,
    at: At,
    change: &StateChange,
    state: &mut MessageState,
) -> Result<(), Failure> {
    match change {
        StateChange::EditMessage {
            content,
            mentions,
            edited_at,
            ..
        } => revision::edit(state, content.as_deref(), mentions, *edited_at),
        StateChange::DeleteMessage { .. } => revision::delete(state),
        StateChange::SetPinned { pinned, .. } => revision::pin(state, *pinned),
        StateChange::SetReaction {
            user,
            emoji,
            present,
            ..
        } if !state.deleted => {
            record(database, at, (*user, emoji), *present).await?;
            revision::count(state, emoji, reactors(database, at, emoji).await?);
        }
        _ => {}
    }
    Ok(())
}

/// The message's state if it is older than the entry; None also if there is no such message.
async fn older_state(database: &Database, at: At) -> Result<Option<MessageState>, Failure> {
    let entries = database.collection::<RawDocumentBuf>(ENTRIES);
    let found = entries
        .find_one(at.message())
        .projection(doc! { "data": 1 })
        .max_time(PATIENCE)
        .await?;
    let Some(found) = found else {
        return Ok(None);
    };
    let data = found.get_document("data").map_err(Failure::corrupt)?;
    let state = entry::decode_state(data)?;
    Ok((state.applied < at.seq).then_some(state))
}

/// False if the state is no longer `old`.
async fn replace(
    database: &Database,
    at: At,
    old: &MessageState,
    new: MessageState,
) -> Result<bool, Failure> {
    // The field is left out as long as it is 0.
    let applied = match old.applied {
        0 => Bson::Null,
        applied => Bson::from(signed(applied)),
    };
    let mut filter = at.message();
    filter.insert("data.applied", applied);
    let deleted = new.deleted;
    let data = entry::encode_data(&Change::MessageCreated(Box::new(new)))?;
    let data = Document::try_from(data).map_err(Failure::corrupt)?;
    let entries = database.collection::<Document>(ENTRIES);
    let mut update = doc! { "$set": { "data": data } };
    if deleted {
        // A short content could be found from the hash of its request.
        update.insert("$unset", doc! { "request": 1 });
    }
    let done = entries.update_one(filter, update).await?;
    Ok(done.matched_count == 1)
}

/// Who reacts keeps their place as long as they do.
async fn record(
    database: &Database,
    at: At,
    (user, emoji): (UserId, &str),
    present: bool,
) -> Result<(), Failure> {
    let mut key = at.reactions();
    key.insert("emoji", emoji);
    key.insert("user", uuid(user.as_bytes()));
    let since = doc! { "$cond": ["$present", "$since", signed(at.seq)] };
    let set = doc! { "since": since, "present": present, "applied": signed(at.seq) };
    let reactions = database.collection::<Document>(REACTIONS);
    let key = find::older(key, at.seq);
    find::upsert(&reactions, key, vec![doc! { "$set": set }]).await
}

async fn reactors(database: &Database, at: At, emoji: &str) -> Result<Reactors, Failure> {
    let reactions = database.collection::<RawDocumentBuf>(REACTIONS);
    let mut filter = at.reactions();
    filter.insert("emoji", emoji);
    filter.insert("present", true);
    let count = async {
        let count = reactions
            .count_documents(filter.clone())
            .max_time(PATIENCE)
            .await?;
        u32::try_from(count).map_err(Failure::corrupt)
    };
    let first = async {
        let sample = i64::try_from(ReactionCount::SAMPLE).map_err(Failure::corrupt)?;
        let first = reactions
            .find(filter.clone())
            .sort(doc! { "since": 1 })
            .limit(sample)
            .max_time(PATIENCE)
            .await?;
        find::all(first, user).await
    };
    let (count, first) = try_join!(count, first)?;
    Ok(Reactors { count, first })
}

async fn retract_all(database: &Database, at: At) -> Result<(), Failure> {
    let reactions = database.collection::<Document>(REACTIONS);
    let update = doc! { "$set": { "present": false, "applied": signed(at.seq) } };
    let filter = find::older(at.reactions(), at.seq);
    reactions.update_many(filter, update).await?;
    Ok(())
}

/// Removes the message's content, and whom it mentions, from entries of edits: from those that
/// `which` names besides.
async fn remove_copies(database: &Database, at: At, which: Document) -> Result<(), Failure> {
    let mut filter = doc! {
        "s": stream_name(StreamId::from(at.channel)),
        "copy_of": { "$eq": signed(at.message), "$exists": true },
    };
    filter.extend(which);
    let copies = doc! {
        "data.content": 1, "data.mentions": 1, "data.everyone": 1, "copy_of": 1, "request": 1,
    };
    let update = doc! { "$unset": copies };
    let entries = database.collection::<Document>(ENTRIES);
    entries.update_many(filter, update).await?;
    Ok(())
}
