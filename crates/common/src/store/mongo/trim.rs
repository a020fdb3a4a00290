//! Entries that may go.

use mongodb::Collection;
use mongodb::bson::{Bson, Document, RawDocumentBuf, doc};
use mongodb::options::ReturnDocument;

use super::field::{self, binary, signed, stream_name};
use super::reads::{self, Entries, collect, find};
use super::{Failure, PATIENCE, indexes, outcome};
use crate::domain::{Seq, StreamId, Timestamp};
use crate::store::OldPage;
use crate::store::old_page::old_page;

/// The collection of floors: `_id` is the stream, `n` the floor.
pub(super) const FLOORS: &str = "floors";
/// Entries deleted by one command.
pub(super) const PART: usize = 500;

type Floors = Collection<RawDocumentBuf>;

pub(super) async fn floor(floors: &Floors, stream: StreamId) -> Result<Seq, Failure> {
    let finding = floors.find_one(doc! { "_id": stream_name(stream) });
    let found = finding.max_time(PATIENCE).await?;
    found.map_or(Ok(0), |floor| field::unsigned(&floor, "n"))
}

/// Raises the floor to `through`, but at most to one below the head. Returns the floor.
pub(super) async fn raise_floor(
    entries: &Entries,
    floors: &Floors,
    stream: StreamId,
    through: Seq,
) -> Result<Seq, Failure> {
    let head = reads::head(entries, stream).await?.seq;
    let wanted = through.min(head.saturating_sub(1));
    if wanted == 0 {
        return floor(floors, stream).await;
    }
    loop {
        let raising = floors
            .find_one_and_update(
                doc! { "_id": stream_name(stream) },
                doc! { "$max": { "n": signed(wanted) } },
            )
            .upsert(true)
            .return_document(ReturnDocument::After);
        match raising.await {
            Ok(Some(raised)) => return field::unsigned(&raised, "n"),
            Ok(None) => return Err(Failure::corrupt("an upsert that leaves nothing")),
            // Two that create it at once: the other has.
            Err(error) if outcome::is_duplicate(&error) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// What may go: the newest entry stands above every floor.
pub(super) fn under(stream: StreamId, floor: Seq) -> Document {
    indexes::others(&doc! {
        "s": stream_name(stream),
        "n": { "$lte": signed(floor) },
        "pending": { "$exists": false },
    })
}

/// Entries that are no messages, in order: those behind `after`.
pub(super) fn others_after(after: Option<(StreamId, Seq)>) -> Document {
    let Some((stream, seq)) = after else {
        return indexes::others(&doc! { "s": { "$gt": binary(&[]) } });
    };
    let stream = stream_name(stream);
    indexes::others_of(&[
        doc! { "s": stream.clone(), "n": { "$gt": signed(seq) } },
        doc! { "s": { "$gt": stream } },
    ])
}

pub(super) async fn old(
    entries: &Entries,
    before: Timestamp,
    after: Option<(StreamId, Seq)>,
    limit: usize,
) -> Result<OldPage, Failure> {
    let finding = find(entries, others_after(after), indexes::OTHERS)
        .sort(doc! { "s": 1, "n": 1 })
        .projection(doc! { "_id": 0, "s": 1, "n": 1, "at": 1 });
    let looked_at = collect(finding, limit, |stored| {
        let (stream, seq) = (field::stream(stored, "s")?, field::unsigned(stored, "n")?);
        Ok((stream, seq, field::timestamp(stored, "at").ok()))
    });
    let looked_at = looked_at.await?;
    Ok(old_page(&looked_at, before, looked_at.len() >= limit))
}

/// Deletes up to [`PART`] entries at or below the floor; answers how many were found and how
/// many were deleted (somebody else may trim as well).
pub(super) async fn delete_part(
    entries: &Entries,
    stream: StreamId,
    floor: Seq,
) -> Result<(usize, u64), Failure> {
    let finding = find(entries, under(stream, floor), indexes::OTHERS);
    let ids = collect(finding.projection(doc! { "_id": 1 }), PART, |stored| {
        let id = stored.get("_id").map_err(Failure::corrupt)?;
        let id = id.ok_or_else(|| Failure::corrupt("a document without an id"))?;
        Bson::try_from(id).map_err(Failure::corrupt)
    });
    let ids = ids.await?;
    if ids.is_empty() {
        return Ok((0, 0));
    }
    let found = ids.len();
    let deleted = entries.delete_many(doc! { "_id": { "$in": ids } }).await?;
    Ok((found, deleted.deleted_count))
}
