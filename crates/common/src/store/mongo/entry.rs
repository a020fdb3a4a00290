//! Between documents of the collection `entries` and the domain's entries and messages.

use mongodb::bson::{self, Document, RawDocument, RawDocumentBuf, cstr, doc, rawdoc};

use super::Failure;
use super::field::{self, binary, signed, stream_name, uuid};
use crate::domain::{
    Change, ChannelId, Entry, EntryId, Key, Kind, Message, MessageState, RequestHash, UserId,
    Version,
};
use crate::store::doc::{
    Change as StoredChange, MessageState as StoredState, Version as StoredVersion,
};
use crate::store::run;

/// The collection.
pub(super) const ENTRIES: &str = "entries";

/// A new entry as it is stored: pending since it was made.
pub(super) fn encode(entry: &Entry) -> Result<RawDocumentBuf, Failure> {
    let mut stored = rawdoc! {
        "_id": uuid(entry.id.as_bytes()),
        "s": stream_name(entry.stream),
        "n": signed(entry.seq),
        "kind": entry.change.kind().as_str(),
        "key": binary(entry.key.as_bytes()),
        "at": entry.at.as_millis(),
        "gv": signed(entry.gv),
        "ord": signed(entry.ord),
        "pending": entry.at.as_millis(),
        "data": encode_data(&entry.change)?,
    };
    if let Some(actor) = &entry.actor {
        stored.append(cstr!("actor"), uuid(actor.as_bytes()));
    }
    if let Some(request) = &entry.request {
        stored.append(cstr!("request"), binary(request.as_bytes()));
    }
    if let Some(message) = run::copied_message(&entry.change) {
        stored.append(cstr!("copy_of"), signed(message));
    }
    Ok(stored)
}

/// The fields that [`decode`] reads.
pub(super) fn projection() -> Document {
    doc! {
        "s": 1, "n": 1, "kind": 1, "actor": 1, "key": 1, "request": 1, "at": 1, "data": 1,
        "gv": 1, "ord": 1,
    }
}

pub(super) fn decode(stored: &RawDocument) -> Result<Entry, Failure> {
    Ok(Entry {
        id: EntryId::from_bytes(field::bytes(stored, "_id")?),
        stream: field::stream(stored, "s")?,
        seq: field::unsigned(stored, "n")?,
        at: field::timestamp(stored, "at")?,
        actor: field::optional_bytes(stored, "actor")?.map(UserId::from_bytes),
        key: Key::from_bytes(field::bytes(stored, "key")?),
        request: field::optional_bytes(stored, "request")?.map(RequestHash::from_bytes),
        gv: field::unsigned(stored, "gv")?,
        ord: field::unsigned(stored, "ord")?,
        change: decode_data(field::text(stored, "kind")?, data(stored)?)?,
    })
}

/// The fields that [`decode_message`] reads.
pub(super) fn message_projection() -> Document {
    doc! { "n": 1, "actor": 1, "at": 1, "data": 1 }
}

/// The message whose own entry this is.
pub(super) fn decode_message(channel: ChannelId, stored: &RawDocument) -> Result<Message, Failure> {
    let author = field::optional_bytes(stored, "actor")?.map(UserId::from_bytes);
    Ok(Message {
        channel,
        seq: field::unsigned(stored, "n")?,
        id: EntryId::from_bytes(field::bytes(stored, "_id")?),
        author: author.ok_or_else(|| Failure::corrupt("a message without an author"))?,
        created_at: field::timestamp(stored, "at")?,
        state: decode_state(data(stored)?)?,
    })
}

/// What decides how the message whose own entry this is is shown.
pub(super) fn decode_version(stored: &RawDocument) -> Result<Version, Failure> {
    let seq = field::unsigned(stored, "n")?;
    bson::deserialize_from_slice::<StoredVersion>(data(stored)?.as_bytes())
        .map(|version| version.at(seq))
        .map_err(Failure::corrupt)
}

/// What a change is stored as. Its kind is stored beside it.
pub(super) fn encode_data(change: &Change) -> Result<RawDocumentBuf, Failure> {
    let tagged = bson::serialize_to_raw_document_buf(&StoredChange::from(change));
    let tagged = tagged.map_err(Failure::corrupt)?;
    data(&tagged).map(RawDocument::to_owned)
}

/// The change that `kind` and `data` stand for.
pub(super) fn decode_data(kind: &str, data: &RawDocument) -> Result<Change, Failure> {
    let kind: Kind = kind.parse().map_err(Failure::corrupt)?;
    let mut tagged = RawDocumentBuf::new();
    tagged.append(cstr!("kind"), kind.as_str());
    tagged.append(cstr!("data"), data);
    bson::deserialize_from_slice::<StoredChange>(tagged.as_bytes())
        .map(Change::from)
        .map_err(Failure::corrupt)
}

/// The state inside a message's own entry, from its `data`.
pub(super) fn decode_state(data: &RawDocument) -> Result<MessageState, Failure> {
    bson::deserialize_from_slice::<StoredState>(data.as_bytes())
        .map(MessageState::from)
        .map_err(Failure::corrupt)
}

fn data(stored: &RawDocument) -> Result<&RawDocument, Failure> {
    stored.get_document("data").map_err(Failure::corrupt)
}
