//! Entries that wait to be applied and announced: reading them.

use mongodb::bson::{Document, RawDocument, doc};

use super::field::{self, binary, signed, stream_name};
use super::indexes::PENDING;
use super::reads::{Entries, STREAMS, collect, find, hint, names};
use super::{Failure, PATIENCE, entry};
use crate::domain::{Entry, Seq, StreamId, Timestamp};
use crate::store::{Pending, PendingPage, StoreError};

pub(super) async fn of_stream(
    entries: &Entries,
    stream: StreamId,
    after: Seq,
    limit: usize,
) -> Result<Vec<Entry>, Failure> {
    let filter = doc! {
        "s": stream_name(stream), "n": { "$gt": signed(after) }, "pending": { "$exists": true },
    };
    let finding = find(entries, filter, PENDING)
        .sort(doc! { "n": 1 })
        .projection(entry::projection());
    collect(finding, limit, entry::decode).await
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
    let mut page = PendingPage {
        items: Vec::new(),
        next: None,
    };
    if limit == 0 {
        return Ok(page);
    }
    let batch = u32::try_from(limit).unwrap_or(u32::MAX);
    let finding = find(entries, due(before, after), PENDING).sort(doc! { "s": 1, "n": 1 });
    let mut cursor = finding.batch_size(batch).await?;
    let mut unreadable = Unreadable::default();
    // Those of a stream whose name cannot be read do not count: there is no going on from their
    // position, so they must not fill a page.
    let mut looked_at = 0;
    while looked_at < limit {
        if !cursor.advance().await? {
            page.next = None;
            break;
        }
        let stored = cursor.current();
        if let Ok(position) = position(stored) {
            page.next = Some(position);
            looked_at += 1;
        }
        match pending(stored) {
            Ok(pending) => page.items.push(pending),
            Err(failure) => unreadable.add(stored, failure),
        }
    }
    unreadable.log();
    Ok(page)
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

/// The entries of one page that could not be read.
#[derive(Default)]
struct Unreadable {
    count: usize,
    first: Option<(String, i64, StoreError)>,
}

impl Unreadable {
    fn add(&mut self, stored: &RawDocument, failure: Failure) {
        self.count += 1;
        self.first.get_or_insert_with(|| {
            let stream = field::stream(stored, "s").map_or_else(
                |_| format!("{:?}", stored.get("s")),
                |stream| stream.to_string(),
            );
            let seq = stored.get_i64("n").unwrap_or_default();
            (stream, seq, failure.of_read())
        });
    }

    /// Says so once: the same ones come again with every pass.
    fn log(self) {
        if let Some((stream, seq, error)) = self.first {
            tracing::error!(
                stream,
                delta.seq = seq,
                entries = self.count,
                error = &error as &dyn std::error::Error,
                "pending entries cannot be read and are not announced; this is the first"
            );
        }
    }
}
