//! Reading entries.

use mongodb::Collection;
use mongodb::action::Find;
use mongodb::bson::{Bson, Document, RawDocument, RawDocumentBuf, doc};
use mongodb::options::{Hint, ReadConcern};

use super::field::{self, binary, signed, stream_name};
use super::indexes::POSITION;
use super::{Failure, PATIENCE, entry};
use crate::domain::{Entry, Head, Key, Seq, StreamId};

/// Entries come over the wire at most so many at a time.
pub(super) const ROUND: u32 = 1000;
/// Streams asked for in one command.
pub(super) const STREAMS: usize = 1000;

pub(super) type Entries = Collection<RawDocumentBuf>;

/// The streams' names, for `$in`.
pub(super) fn names(streams: &[StreamId]) -> Vec<Bson> {
    let names = streams.iter().map(|stream| stream_name(*stream));
    names.map(Bson::from).collect()
}

pub(super) fn hint(index: &str) -> Hint {
    Hint::Name(index.to_owned())
}

/// Looks for documents through one index. The index is named, since others look as good to the
/// planner.
pub(super) fn find<'a>(
    entries: &'a Entries,
    filter: Document,
    index: &str,
) -> Find<'a, RawDocumentBuf> {
    let finding = entries.find(filter).hint(hint(index));
    finding.batch_size(ROUND).max_time(PATIENCE)
}

/// What was found, in order: at most `limit`.
pub(super) async fn collect<T>(
    finding: Find<'_, RawDocumentBuf>,
    limit: usize,
    decode: impl Fn(&RawDocument) -> Result<T, Failure>,
) -> Result<Vec<T>, Failure> {
    let mut found = Vec::new();
    if limit == 0 {
        return Ok(found);
    }
    let mut cursor = finding.limit(field::limit(limit)).await?;
    while cursor.advance().await? {
        found.push(decode(cursor.current())?);
    }
    Ok(found)
}

pub(super) async fn head(entries: &Entries, stream: StreamId) -> Result<Head, Failure> {
    let newest = find(entries, doc! { "s": stream_name(stream) }, POSITION)
        .sort(doc! { "n": -1 })
        .projection(doc! { "n": 1, "gv": 1, "ord": 1 });
    let head = collect(newest, 1, |stored| {
        Ok(Head {
            seq: field::unsigned(stored, "n")?,
            gv: field::unsigned(stored, "gv")?,
            ord: field::unsigned(stored, "ord")?,
        })
    });
    Ok(head.await?.pop().unwrap_or_default())
}

/// Finds the last position of each stream by one seek.
pub(super) fn heads_pipeline(streams: &[StreamId]) -> [Document; 3] {
    [
        doc! { "$match": { "s": { "$in": names(streams) } } },
        doc! { "$sort": { "s": -1, "n": -1 } },
        doc! { "$group": { "_id": "$s", "n": { "$first": "$n" } } },
    ]
}

/// In the order of `streams`.
pub(super) async fn heads(entries: &Entries, streams: &[StreamId]) -> Result<Vec<Seq>, Failure> {
    let mut heads = std::collections::HashMap::with_capacity(streams.len());
    for part in streams.chunks(STREAMS) {
        let finding = entries.aggregate(heads_pipeline(part)).hint(hint(POSITION));
        let mut cursor = finding.batch_size(ROUND).max_time(PATIENCE).await?;
        while cursor.advance().await? {
            let stream = field::stream(cursor.current(), "_id")?;
            heads.insert(stream, field::unsigned(cursor.current(), "n")?);
        }
    }
    let head = |stream| heads.get(stream).copied().unwrap_or_default();
    Ok(streams.iter().map(head).collect())
}

/// Looks for one entry. What a majority has is there; that there is nothing is confirmed by a
/// majority, after everything that the caller has read before, because what is refused rests on
/// it: a primary that has been replaced and does not know it yet answers other reads as of then,
/// and this one not at all.
pub(super) async fn by_key(
    entries: &Entries,
    stream: StreamId,
    key: Key,
) -> Result<Option<Entry>, Failure> {
    let filter = doc! { "s": stream_name(stream), "key": binary(key.as_bytes()) };
    let finding = || {
        let finding = find(entries, filter.clone(), super::indexes::KEY);
        finding.projection(entry::projection())
    };
    if let Some(found) = collect(finding(), 1, entry::decode).await?.pop() {
        return Ok(Some(found));
    }
    let finding = finding().read_concern(ReadConcern::linearizable());
    Ok(collect(finding, 1, entry::decode).await?.pop())
}

pub(super) async fn between(
    entries: &Entries,
    stream: StreamId,
    (after, through): (Seq, Seq),
    limit: usize,
) -> Result<Vec<Entry>, Failure> {
    let filter = doc! {
        "s": stream_name(stream),
        "n": { "$gt": signed(after), "$lte": signed(through) },
    };
    let finding = find(entries, filter, POSITION)
        .sort(doc! { "n": 1 })
        .projection(entry::projection());
    collect(finding, limit, entry::decode).await
}

pub(super) async fn newest(
    entries: &Entries,
    stream: StreamId,
    limit: usize,
) -> Result<Vec<Entry>, Failure> {
    let finding = find(entries, doc! { "s": stream_name(stream) }, POSITION)
        .sort(doc! { "n": -1 })
        .projection(entry::projection());
    collect(finding, limit, entry::decode).await
}
