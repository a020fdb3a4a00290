//! Entries that wait to be applied and announced: reading them.

use mongodb::bson::{Document, RawDocument, doc};

use super::field::{self, binary, signed, stream_name, uuid};
use super::indexes::PENDING;
use super::reads::{Entries, ROUND, STREAMS, collect, find, hint, names};
use super::{Failure, PATIENCE, entry};
use crate::domain::{Entry, Seq, StreamId, Timestamp};
use crate::store::pending_page::{Filling, Next};
use crate::store::{Claim, Pending, PendingPage};

pub(super) async fn of_stream(
    entries: &Entries,
    stream: StreamId,
    after: Seq,
    limit: usize,
) -> Result<Vec<Entry>, Failure> {
    let filter = doc! {
        "s": stream_name(stream), "n": { "$gt": signed(after) }, "pending": { "$exists": true },
    };
    let mut found = Vec::new();
    if limit == 0 {
        return Ok(found);
    }
    // One more, so that a page that is not full is known to be the last.
    let batch = u32::try_from(limit).map_or(ROUND, |limit| limit.min(ROUND) + 1);
    let mut cursor = find(entries, filter, PENDING)
        .sort(doc! { "n": 1 })
        .projection(entry::projection())
        .batch_size(batch)
        .await?;
    while found.len() < limit && cursor.advance().await? {
        let stored = cursor.current();
        let read = entry::decode(stored).map_err(Failure::of_read);
        match Next::of(read, field::text(stored, "kind").ok()) {
            Next::Entry(entry) => found.push(*entry),
            Next::PassOver => {}
            Next::Unreadable(error) if found.is_empty() => return Err(Failure::corrupt(error)),
            Next::Unreadable(_) => break,
        }
    }
    Ok(found)
}

/// Ids tell when they were made. What cannot be read is reported by whoever reads all that is
/// pending.
pub(super) async fn lately(
    entries: &Entries,
    since: Timestamp,
    limit: usize,
) -> Result<Vec<Pending>, Failure> {
    let mut first = [0; 16];
    first[..6].copy_from_slice(&since.as_millis().to_be_bytes()[2..]);
    let filter = doc! { "_id": { "$gte": uuid(&first) }, "pending": { "$exists": true } };
    let mut projection = entry::projection();
    projection.insert("pending", 1);
    let finding = find(entries, filter, "_id_")
        .sort(doc! { "_id": 1 })
        .projection(projection);
    let found = collect(finding, limit, |stored| Ok(pending(stored).ok()));
    Ok(found.await?.into_iter().flatten().collect())
}

/// Answered from the index alone.
pub(super) async fn later(
    entries: &Entries,
    than: Timestamp,
    limit: usize,
) -> Result<Vec<Claim>, Failure> {
    let filter = doc! { "s": { "$gt": binary(&[]) }, "pending": { "$gt": than.as_millis() } };
    let finding = find(entries, filter, PENDING)
        .sort(doc! { "s": 1, "n": 1 })
        .projection(doc! { "_id": 0, "s": 1, "n": 1, "pending": 1 });
    let found = collect(finding, limit, |stored| {
        let Ok((stream, seq)) = position(stored) else {
            return Ok(None);
        };
        let seen = field::timestamp(stored, "pending")?;
        Ok(Some(Claim { stream, seq, seen }))
    });
    Ok(found.await?.into_iter().flatten().collect())
}

/// Finds out by one seek per stream. That `pending` is a number is for the planner, which
/// would look into the documents to see whether it exists.
pub(super) fn with_pending_pipeline(streams: &[StreamId]) -> [Document; 3] {
    [
        doc! { "$match": { "s": { "$in": names(streams) }, "pending": { "$gte": 0_i64 } } },
        doc! { "$sort": { "s": 1, "n": 1 } },
        doc! { "$group": { "_id": "$s", "n": { "$first": "$n" } } },
    ]
}

pub(super) async fn with_pending(
    entries: &Entries,
    streams: &[StreamId],
) -> Result<Vec<StreamId>, Failure> {
    let mut found = Vec::new();
    for part in streams.chunks(STREAMS) {
        let finding = entries.aggregate(with_pending_pipeline(part));
        let finding = finding.hint(hint(PENDING)).max_time(PATIENCE);
        let mut cursor = finding.await?;
        while cursor.advance().await? {
            found.push(field::stream(cursor.current(), "_id")?);
        }
    }
    Ok(found)
}

/// A branch for the rest of a stream and one for those behind it, which the server merges: so
/// both are intervals of the index.
pub(super) fn due(before: Timestamp, after: Option<(StreamId, Seq)>) -> Document {
    let before = || doc! { "$lte": before.as_millis() };
    match after {
        None => doc! { "s": { "$gt": binary(&[]) }, "pending": before() },
        Some((stream, seq)) => {
            let stream = stream_name(stream);
            doc! { "$or": [
                { "s": stream.clone(), "n": { "$gt": signed(seq) }, "pending": before() },
                { "s": { "$gt": stream }, "pending": before() },
            ] }
        }
    }
}

pub(super) async fn of_all(
    entries: &Entries,
    before: Timestamp,
    after: Option<(StreamId, Seq)>,
    limit: usize,
) -> Result<PendingPage, Failure> {
    let mut filling = Filling::new(limit);
    if filling.is_full() {
        return Ok(filling.finish(true));
    }
    let batch = u32::try_from(limit).unwrap_or(u32::MAX);
    let finding = find(entries, due(before, after), PENDING).sort(doc! { "s": 1, "n": 1 });
    let mut cursor = finding.batch_size(batch).await?;
    while !filling.is_full() {
        if !cursor.advance().await? {
            return Ok(filling.finish(true));
        }
        let stored = cursor.current();
        let read = pending(stored).map_err(Failure::of_read);
        filling.add(position(stored).ok(), read, || place(stored));
    }
    Ok(filling.finish(false))
}

fn position(stored: &RawDocument) -> Result<(StreamId, Seq), Failure> {
    Ok((field::stream(stored, "s")?, field::unsigned(stored, "n")?))
}

fn pending(stored: &RawDocument) -> Result<Pending, Failure> {
    Ok(Pending {
        entry: entry::decode(stored)?,
        since: field::timestamp(stored, "pending")?,
    })
}

/// Where an unreadable entry stands, as far as that can be told.
fn place(stored: &RawDocument) -> (String, i64) {
    let stream = field::stream(stored, "s").map_or_else(
        |_| format!("{:?}", stored.get("s")),
        |stream| stream.to_string(),
    );
    (stream, stored.get_i64("n").unwrap_or_default())
}
