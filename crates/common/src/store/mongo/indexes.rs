//! The indexes, besides those of `_id`. `floors` (by stream), `groups` and `meta` need no other.

use mongodb::IndexModel;
use mongodb::bson::{Document, doc};
use mongodb::options::IndexOptions;

use super::accounts::{SESSIONS, USERS};
use super::entry::ENTRIES;
use super::groups::{CHANNELS, MEMBERS};
use super::message_changes::REACTIONS;
use super::moderation::INVITES;
use super::reading::{READ_MARKS, READING_BEGUN};

/// One index.
pub(super) struct Index {
    pub(super) collection: &'static str,
    pub(super) name: &'static str,
    /// Field and direction.
    pub(super) keys: &'static [(&'static str, i32)],
    pub(super) unique: bool,
    /// Which documents it holds; None: all.
    pub(super) partial: Option<fn() -> Document>,
}

pub(super) const LOG: &[Index] = &[
    Index {
        collection: ENTRIES,
        name: POSITION,
        keys: &[("s", 1), ("n", 1)],
        unique: true,
        partial: None,
    },
    Index {
        collection: ENTRIES,
        name: KEY,
        keys: &[("s", 1), ("key", 1)],
        unique: true,
        partial: None,
    },
    Index {
        collection: ENTRIES,
        name: MESSAGES,
        keys: &[("s", 1), ("n", 1)],
        unique: false,
        partial: Some(messages),
    },
    Index {
        collection: ENTRIES,
        name: PINNED,
        keys: &[("s", 1), ("n", 1)],
        unique: false,
        partial: Some(pinned),
    },
    Index {
        collection: ENTRIES,
        name: OTHERS,
        keys: &[("s", 1), ("n", 1)],
        unique: false,
        partial: Some(|| others(&Document::new())),
    },
    Index {
        collection: ENTRIES,
        name: PENDING,
        keys: &[("s", 1), ("n", 1), ("pending", 1)],
        unique: false,
        partial: Some(pending),
    },
    Index {
        collection: ENTRIES,
        name: "copies",
        keys: &[("s", 1), ("copy_of", 1)],
        unique: false,
        partial: Some(copies),
    },
    Index {
        collection: ENTRIES,
        name: AUTHORS,
        // The kind is the same in all; named here it needs no look at the entry.
        keys: &[("s", 1), ("kind", 1), ("actor", 1), ("n", 1)],
        unique: false,
        partial: Some(messages),
    },
    Index {
        collection: ENTRIES,
        name: MENTIONS,
        keys: &[("data.mentions", 1), ("s", 1), ("n", 1)],
        unique: false,
        partial: Some(mentioning),
    },
];

pub(super) const STATE: &[Index] = &[
    Index {
        collection: USERS,
        name: "username",
        keys: &[("username", 1)],
        unique: true,
        partial: None,
    },
    Index {
        collection: SESSIONS,
        name: "of_user",
        keys: &[("user", 1), ("_id", 1)],
        unique: false,
        partial: Some(not_revoked),
    },
    Index {
        collection: MEMBERS,
        name: "of_group",
        keys: &[("group", 1), ("user", 1)],
        unique: true,
        partial: None,
    },
    Index {
        collection: MEMBERS,
        name: "of_user",
        keys: &[("user", 1), ("group", 1)],
        unique: false,
        partial: Some(not_removed),
    },
    Index {
        collection: MEMBERS,
        name: "banned",
        keys: &[("group", 1), ("user", 1)],
        unique: false,
        partial: Some(banned),
    },
    Index {
        collection: INVITES,
        name: "of_group",
        keys: &[("group", 1), ("_id", 1)],
        unique: false,
        partial: Some(not_deleted),
    },
    Index {
        collection: CHANNELS,
        name: "of_group",
        keys: &[("group", 1), ("_id", 1)],
        unique: false,
        partial: None,
    },
    Index {
        collection: REACTIONS,
        name: OF_MESSAGE,
        keys: &[("channel", 1), ("message", 1), ("emoji", 1), ("user", 1)],
        unique: true,
        partial: None,
    },
    Index {
        collection: REACTIONS,
        name: "since",
        keys: &[
            ("channel", 1),
            ("message", 1),
            ("emoji", 1),
            ("present", 1),
            ("since", 1),
        ],
        unique: false,
        partial: None,
    },
    Index {
        collection: READ_MARKS,
        name: "of_user",
        keys: &[("user", 1), ("channel", 1)],
        unique: true,
        partial: None,
    },
    Index {
        collection: READING_BEGUN,
        name: "of_user",
        keys: &[("user", 1), ("group", 1)],
        unique: true,
        partial: None,
    },
];

/// Few messages mention anybody.
fn mentioning() -> Document {
    doc! { "kind": "message.created", "data.mentions": { "$exists": true } }
}

fn not_revoked() -> Document {
    doc! { "revoked": false }
}

fn not_removed() -> Document {
    doc! { "removed": false }
}

fn not_deleted() -> Document {
    doc! { "deleted": false }
}

fn banned() -> Document {
    doc! { "banned_at": { "$exists": true } }
}

pub(super) const POSITION: &str = "position";
pub(super) const KEY: &str = "key";
pub(super) const MESSAGES: &str = "messages";
pub(super) const OF_MESSAGE: &str = "of_message";
pub(super) const PINNED: &str = "pinned";
pub(super) const OTHERS: &str = "others";
pub(super) const PENDING: &str = "pending";
pub(super) const AUTHORS: &str = "authors";
pub(super) const MENTIONS: &str = "mentions";

/// What a query says to be answered from [`MESSAGES`].
pub(super) fn messages() -> Document {
    doc! { "kind": "message.created" }
}

/// What a query says to be answered from [`PINNED`].
pub(super) fn pinned() -> Document {
    doc! { "kind": "message.created", "data.pinned": true }
}

/// `common` for entries that are no messages, as a query has to say it to be answered from
/// [`OTHERS`]: a partial index knows no "unequal".
pub(super) fn others(common: &Document) -> Document {
    others_of(std::slice::from_ref(common))
}

/// [`others`] of any of these `parts`.
pub(super) fn others_of(parts: &[Document]) -> Document {
    let side = |part: &Document, comparison: &str| {
        let mut side = part.clone();
        side.insert("kind", doc! { comparison: "message.created" });
        side
    };
    let sides = parts
        .iter()
        .flat_map(|part| [side(part, "$lt"), side(part, "$gt")]);
    doc! { "$or": sides.collect::<Vec<_>>() }
}

/// What a query says to be answered from [`PENDING`].
pub(super) fn pending() -> Document {
    doc! { "pending": { "$exists": true } }
}

/// What a query says to be answered from the index of contents outside their messages.
pub(super) fn copies() -> Document {
    doc! { "copy_of": { "$exists": true } }
}

impl Index {
    pub(super) fn model(&self) -> IndexModel {
        let keys = self
            .keys
            .iter()
            .map(|(field, direction)| ((*field).to_owned(), mongodb::bson::Bson::from(*direction)));
        let options = IndexOptions::builder()
            .name(self.name.to_owned())
            .unique(self.unique.then_some(true))
            .partial_filter_expression(self.partial.map(|partial| partial()))
            .build();
        IndexModel::builder()
            .keys(keys.collect::<Document>())
            .options(options)
            .build()
    }
}
