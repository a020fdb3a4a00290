//! Stored documents: what an entry's change looks like on disk, in every store.
//!
//! Types of their own, so that the model and the disk layout can change at different speeds.
//! Readers ignore fields they do not know and fill in those that are left out when empty.
//! Nothing in here knows a database.

mod change;
mod message;

pub(super) use change::Change;
pub(super) use message::{EVERYONE, MessageState, Reaction, Version};

use serde_json::Value;

use crate::domain;

/// What is stored is not a change.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unreadable {
    #[error("an unknown kind of change")]
    Kind(#[from] domain::UnknownKind),
    #[error("the data of a {kind} entry")]
    Data {
        kind: domain::Kind,
        source: serde_json::Error,
    },
}

/// The data of a change as JSON text. Its kind is stored beside it.
pub(super) fn encode(change: &domain::Change) -> Result<String, Unreadable> {
    let failed = |source| Unreadable::Data {
        kind: change.kind(),
        source,
    };
    let mut tagged = serde_json::to_value(Change::from(change)).map_err(failed)?;
    let data = tagged.get_mut("data").map_or(Value::Null, Value::take);
    Ok(data.to_string())
}

/// The change that `kind` and `data` stand for.
pub(super) fn decode(kind: &str, data: &str) -> Result<domain::Change, Unreadable> {
    let kind: domain::Kind = kind.parse()?;
    let failed = |source| Unreadable::Data { kind, source };
    let data: Value = serde_json::from_str(data).map_err(failed)?;
    let mut tagged = serde_json::Map::new();
    tagged.insert("kind".to_owned(), Value::from(kind.as_str()));
    tagged.insert("data".to_owned(), data);
    serde_json::from_value::<Change>(Value::Object(tagged))
        .map(domain::Change::from)
        .map_err(failed)
}

/// The state inside a message's own entry.
pub(super) fn decode_message(data: &str) -> Result<domain::MessageState, Unreadable> {
    serde_json::from_str::<MessageState>(data)
        .map(domain::MessageState::from)
        .map_err(|source| Unreadable::Data {
            kind: domain::Kind::MessageCreated,
            source,
        })
}

/// [`decode_message`] of what decides how the message is shown, at `seq`.
pub(super) fn decode_version(seq: domain::Seq, data: &str) -> Result<domain::Version, Unreadable> {
    serde_json::from_str::<Version>(data)
        .map(|version| version.at(seq))
        .map_err(|source| Unreadable::Data {
            kind: domain::Kind::MessageCreated,
            source,
        })
}

#[cfg(test)]
pub(in crate::store) mod tests;
