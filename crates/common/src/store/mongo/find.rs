//! What queries and updates of several collections have in common.

use mongodb::bson::{Bson, Document, RawBsonRef, RawDocument, RawDocumentBuf, doc};
use mongodb::options::UpdateModifications;
use mongodb::{Collection, Cursor};

use super::failure::{duplicates, is_duplicate};
use super::field::{signed, uuid};
use super::reads::collect;
use super::{Failure, PATIENCE};
use crate::domain::Seq;
use crate::store::IdWindow;

/// Everything the cursor has.
pub(super) async fn all<T>(
    mut cursor: Cursor<RawDocumentBuf>,
    decode: impl Fn(&RawDocument) -> Result<T, Failure>,
) -> Result<Vec<T>, Failure> {
    let mut found = Vec::new();
    while cursor.advance().await? {
        found.push(decode(cursor.current())?);
    }
    Ok(found)
}

/// Ids, to look for any of them.
pub(super) fn ids<'a, T: 'a>(
    ids: impl IntoIterator<Item = &'a T>,
    bytes: impl Fn(&T) -> &[u8; 16],
) -> Vec<Bson> {
    ids.into_iter()
        .map(|id| Bson::from(uuid(bytes(id))))
        .collect()
}

/// Which way the ids of a window are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    Up,
    Down,
}

impl Direction {
    /// Adds the window's exclusive bound on `field` to `filter`.
    pub(super) fn bound<T>(
        filter: &mut Document,
        field: &str,
        window: &IdWindow<T>,
        bytes: impl Fn(&T) -> &[u8; 16],
    ) -> Self {
        match window {
            IdWindow::First => Self::Up,
            IdWindow::After(id) => {
                filter.insert(field, doc! { "$gt": uuid(bytes(id)) });
                Self::Up
            }
            IdWindow::Before(id) => {
                filter.insert(field, doc! { "$lt": uuid(bytes(id)) });
                Self::Down
            }
        }
    }

    pub(super) fn sort(self, field: &str) -> Document {
        match self {
            Self::Up => doc! { field: 1 },
            Self::Down => doc! { field: -1 },
        }
    }

    /// What was read this way, ascending.
    pub(super) fn ascending<T>(self, mut items: Vec<T>) -> Vec<T> {
        if self == Self::Down {
            items.reverse();
        }
        items
    }
}

/// The documents that `filter` names whose ids, in `field`, lie in the window: at most `limit`,
/// ascending.
pub(super) async fn page<Id, T>(
    collection: &Collection<RawDocumentBuf>,
    mut filter: Document,
    (field, bytes): (&str, impl Fn(&Id) -> &[u8; 16]),
    window: &IdWindow<Id>,
    limit: usize,
    decode: impl Fn(&RawDocument) -> Result<T, Failure>,
) -> Result<Vec<T>, Failure> {
    let direction = Direction::bound(&mut filter, field, window, bytes);
    let finding = collection.find(filter).sort(direction.sort(field));
    let found = collect(finding.max_time(PATIENCE), limit, decode).await?;
    Ok(direction.ascending(found))
}

/// What `filter` says, if the entry at `seq` has not been applied to it yet, nor a later one.
pub(super) fn older(mut filter: Document, seq: Seq) -> Document {
    filter.insert("applied", doc! { "$lt": signed(seq) });
    filter
}

/// Inserts a document of a thing that is made once: if it is there, nothing is done.
pub(super) async fn insert_once(
    collection: &Collection<Document>,
    document: Document,
) -> Result<(), Failure> {
    // A refused insert waits, as any does, until what refused it is held by a majority. Of
    // `insert_one` the driver does not say whether that wait failed.
    match collection.insert_many([document]).await {
        Err(error) => duplicates(error).map(|_| ()),
        Ok(_) => Ok(()),
    }
}

/// Updates what `filter` names, or makes it. The filter begins with the whole of a unique index.
pub(super) async fn upsert(
    collection: &Collection<Document>,
    filter: Document,
    update: impl Into<UpdateModifications>,
) -> Result<(), Failure> {
    let update = update.into();
    let first = collection.update_one(filter.clone(), update.clone());
    match first.upsert(true).await {
        // It is there: kept from the update by the rest of the filter, or made by somebody else
        // just now. It will not go away.
        Err(error) if is_duplicate(&error) => collection.update_one(filter, update).await?,
        outcome => outcome?,
    };
    Ok(())
}

pub(super) fn flag(document: &RawDocument, name: &str) -> Result<bool, Failure> {
    document.get_bool(name).map_err(Failure::corrupt)
}

/// What `read` finds; None where the field is absent or null.
pub(super) fn optional<'a, T>(
    document: &'a RawDocument,
    name: &str,
    read: impl Fn(&'a RawDocument, &str) -> Result<T, Failure>,
) -> Result<Option<T>, Failure> {
    match document.get(name).map_err(Failure::corrupt)? {
        None | Some(RawBsonRef::Null) => Ok(None),
        Some(_) => read(document, name).map(Some),
    }
}

/// A number that fits into 32 bits.
pub(super) fn count(document: &RawDocument, name: &str) -> Result<u32, Failure> {
    u32::try_from(super::field::unsigned(document, name)?).map_err(Failure::corrupt)
}

/// A name of one of the domain's small enums.
pub(super) fn name<T>(document: &RawDocument, field: &str) -> Result<T, Failure>
where
    T: std::str::FromStr,
    T::Err: std::error::Error + Send + Sync + 'static,
{
    let text = super::field::text(document, field)?;
    text.parse().map_err(Failure::corrupt)
}
