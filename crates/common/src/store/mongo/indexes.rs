//! The indexes of the collections that hold the log. `floors` needs none but that of its `_id`,
//! the stream.

use mongodb::IndexModel;
use mongodb::bson::{Document, doc};
use mongodb::options::IndexOptions;

use super::entry::ENTRIES;

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
];

pub(super) const POSITION: &str = "position";
pub(super) const KEY: &str = "key";
pub(super) const MESSAGES: &str = "messages";
pub(super) const OTHERS: &str = "others";
pub(super) const PENDING: &str = "pending";

/// What a query says to be answered from [`MESSAGES`].
pub(super) fn messages() -> Document {
    doc! { "kind": "message.created" }
}

/// `common` for entries that are no messages, as a query has to say it to be answered from
/// [`OTHERS`]: a partial index knows no "unequal".
pub(super) fn others(common: &Document) -> Document {
    let side = |comparison: &str| {
        let mut side = common.clone();
        side.insert("kind", doc! { comparison: "message.created" });
        side
    };
    doc! { "$or": [side("$lt"), side("$gt")] }
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
