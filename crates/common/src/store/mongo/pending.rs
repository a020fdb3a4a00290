//! Entries that wait to be applied and announced: reading them.

use mongodb::bson::{Document, RawDocument, doc};

use super::field::{self, binary, signed, stream_name, uuid};
use super::indexes::PENDING;
use super::reads::{Entries, ROUND, STREAMS, collect, find, hint, names};
use super::{Failure, PATIENCE, entry};
use crate::domain::{Entry, Seq, StreamId, Timestamp};
use crate::store::mark_page::mark_page;
use crate::store::pending_page::{Filling, Next};
use crate::store::{Claim, MarkPage, Pending, PendingPage};

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

/// Entries looked at for what was committed lately.
pub(super) const LATEST: i64 = 50_000;

/// Ids tell when they were made. So many of the latest are looked at and no more, whatever they
/// say: those that a fast clock has made match for longer than they should.
pub(super) fn lately_pipeline(since: Timestamp, looked_at: i64, limit: usize) -> [Document; 6] {
    let mut first = [0; 16];
    first[..6].copy_from_slice(&since.as_millis().to_be_bytes()[2..]);
    let mut projection = entry::projection();
    projection.insert("pending", 1);
    [
        doc! { "$match": { "_id": { "$gte": uuid(&first) } } },
        doc! { "$sort": { "_id": -1 } },
        doc! { "$limit": looked_at },
        doc! { "$match": { "pending": { "$exists": true } } },
        doc! { "$limit": field::limit(limit) },
        doc! { "$project": projection },
    ]
}

/// What cannot be read is reported by whoever reads all that is pending.
pub(super) async fn lately(
    entries: &Entries,
    since: Timestamp,
    limit: usize,
) -> Result<Vec<Pending>, Failure> {
    let mut found = Vec::new();
    if limit == 0 {
        return Ok(found);
    }
    let finding = entries.aggregate(lately_pipeline(since, LATEST, limit));
    let finding = finding.hint(hint("_id_")).batch_size(ROUND);
    let mut cursor = finding.max_time(PATIENCE).await?;
    while cursor.advance().await? {
        found.extend(pending(cursor.current()).ok());
    }
    Ok(found)
}

/// What is pending behind `after`, as the index alone answers it: that `pending` is a number is
/// for the planner, which would look into the documents to see whether it exists.
fn marks_after(after: Option<(StreamId, Seq)>) -> Document {
    let marked = || doc! { "$gte": 0_i64 };
    let Some((stream, seq)) = after else {
        return doc! { "s": { "$gt": binary(&[]) }, "pending": marked() };
    };
    let stream = stream_name(stream);
    doc! { "$or": [
        { "s": stream.clone(), "n": { "$gt": signed(seq) }, "pending": marked() },
        { "s": { "$gt": stream }, "pending": marked() },
    ] }
}

pub(super) async fn later(
    entries: &Entries,
    than: Timestamp,
    after: Option<(StreamId, Seq)>,
    limit: usize,
) -> Result<MarkPage, Failure> {
    let finding = find(entries, marks_after(after), PENDING)
        .sort(doc! { "s": 1, "n": 1 })
        .projection(doc! { "_id": 0, "s": 1, "n": 1, "pending": 1 });
    let found = collect(finding, limit, |stored| {
        // What cannot be read is reported by whoever reads all that is pending.
        let read = (position(stored), field::timestamp(stored, "pending"));
        let (Ok((stream, seq)), Ok(seen)) = read else {
            return Ok(None);
        };
        Ok(Some(Claim { stream, seq, seen }))
    });
    let found = found.await?;
    let looked_at = found.len();
    let marks = found.into_iter().flatten().collect();
    Ok(mark_page(marks, than, (looked_at, limit)))
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
