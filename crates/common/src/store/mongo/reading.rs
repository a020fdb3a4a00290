//! Marks, and positions in channels.

use std::collections::HashMap;

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use mongodb::Database;
use mongodb::bson::{Bson, Document, RawDocument, RawDocumentBuf, doc};

use super::field::{self, binary, signed, stream_name, uuid};
use super::reads::{self, Entries, ROUND, STREAMS, hint};
use super::{Failure, MongoStore, PATIENCE, find, indexes};
use crate::domain::{ChannelId, GroupId, Place, ReadMark, Seq, StreamId, Timestamp, UserId};
use crate::store::doc::EVERYONE;
use crate::store::{ReadingStore, StoreError};

pub(super) const READ_MARKS: &str = "read_marks";
pub(super) const READING_BEGUN: &str = "reading_begun";
/// Channels whose mentions are counted by one command: each is a range of the index to plan.
const RANGES: usize = 100;

#[async_trait]
impl ReadingStore for MongoStore {
    async fn read_marks(
        &self,
        users: &[UserId],
        channels: &[ChannelId],
    ) -> Result<Vec<(UserId, ChannelId, ReadMark)>, StoreError> {
        let (users, channels) = (users.to_vec(), channels.to_vec());
        let database = self.database.clone();
        self.read(async move { marks(&database, &users, &channels).await })
            .await
    }

    async fn begin_reading(
        &self,
        user: UserId,
        group: GroupId,
        joined: Seq,
        places: &[(ChannelId, Place)],
    ) -> Result<(), StoreError> {
        let (database, places) = (self.database.clone(), places.to_vec());
        self.write(async move { begin(&database, (user, group), joined, &places).await })
            .await
    }

    async fn begun_reading(
        &self,
        user: UserId,
        groups: &[GroupId],
    ) -> Result<Vec<(ChannelId, Place)>, StoreError> {
        let (database, groups) = (self.database.clone(), groups.to_vec());
        self.read(async move { begun(&database, user, &groups).await })
            .await
    }

    async fn ends(&self, channels: &[ChannelId]) -> Result<Vec<Place>, StoreError> {
        let (entries, channels) = (self.entries.clone(), channels.to_vec());
        self.read(async move { ends(&entries, &channels).await })
            .await
    }

    async fn place_at(&self, channel: ChannelId, through: Seq) -> Result<Place, StoreError> {
        let entries = self.entries.clone();
        self.read(async move { place_at(&entries, channel, through).await })
            .await
    }

    async fn last_sent_by(
        &self,
        user: UserId,
        channels: &[ChannelId],
    ) -> Result<Vec<(ChannelId, Place)>, StoreError> {
        let (entries, channels) = (self.entries.clone(), channels.to_vec());
        self.read(async move { last_sent_by(&entries, user, &channels).await })
            .await
    }

    async fn last_sent_in(
        &self,
        channel: ChannelId,
        users: &[UserId],
    ) -> Result<Vec<(UserId, Place)>, StoreError> {
        let (entries, users) = (self.entries.clone(), users.to_vec());
        self.read(async move { last_sent_in(&entries, channel, &users).await })
            .await
    }

    async fn mentions(
        &self,
        user: UserId,
        behind: &[(ChannelId, Seq)],
        most: usize,
    ) -> Result<Vec<usize>, StoreError> {
        let (entries, behind) = (self.entries.clone(), behind.to_vec());
        self.read(async move { mentions(&entries, user, &behind, most).await })
            .await
    }
}

async fn marks(
    database: &Database,
    users: &[UserId],
    channels: &[ChannelId],
) -> Result<Vec<(UserId, ChannelId, ReadMark)>, Failure> {
    let collection = database.collection::<RawDocumentBuf>(READ_MARKS);
    let users = find::ids(users, UserId::as_bytes);
    let mut marks = Vec::new();
    for part in channels.chunks(STREAMS) {
        let filter = doc! {
            "user": { "$in": users.clone() },
            "channel": { "$in": find::ids(part, ChannelId::as_bytes) },
        };
        let found = collection
            .find(filter)
            .batch_size(ROUND)
            .max_time(PATIENCE)
            .await?;
        marks.extend(find::all(found, mark).await?);
    }
    Ok(marks)
}

fn mark(stored: &RawDocument) -> Result<(UserId, ChannelId, ReadMark), Failure> {
    let user = UserId::from_bytes(field::bytes(stored, "user")?);
    let channel = ChannelId::from_bytes(field::bytes(stored, "channel")?);
    let mark = ReadMark {
        place: place(stored)?,
        at: field::timestamp(stored, "at")?,
    };
    Ok((user, channel, mark))
}

fn place(stored: &RawDocument) -> Result<Place, Failure> {
    Ok(Place {
        seq: field::unsigned(stored, "n")?,
        ord: field::unsigned(stored, "ord")?,
    })
}

/// See [`StateChange::MoveMark`](crate::store::StateChange::MoveMark).
pub(super) async fn move_mark(
    database: &Database,
    (user, channel): (UserId, ChannelId),
    place: Place,
    at: Timestamp,
) -> Result<(), Failure> {
    let filter = doc! {
        "user": uuid(user.as_bytes()),
        "channel": uuid(channel.as_bytes()),
        "n": { "$lt": signed(place.seq) },
    };
    let set = doc! {
        "n": signed(place.seq),
        "ord": signed(place.ord),
        "at": at.as_millis(),
    };
    let marks = database.collection::<Document>(READ_MARKS);
    find::upsert(&marks, filter, doc! { "$set": set }).await
}

async fn begin(
    database: &Database,
    (user, group): (UserId, GroupId),
    joined: Seq,
    places: &[(ChannelId, Place)],
) -> Result<(), Failure> {
    let places = places.iter().map(|(channel, place)| {
        Bson::from(doc! {
            "channel": uuid(channel.as_bytes()),
            "n": signed(place.seq),
            "ord": signed(place.ord),
        })
    });
    let filter = doc! {
        "user": uuid(user.as_bytes()),
        "group": uuid(group.as_bytes()),
        "joined": { "$lt": signed(joined) },
    };
    let set = doc! { "joined": signed(joined), "places": places.collect::<Vec<_>>() };
    let begun = database.collection::<Document>(READING_BEGUN);
    find::upsert(&begun, filter, doc! { "$set": set }).await
}

async fn begun(
    database: &Database,
    user: UserId,
    groups: &[GroupId],
) -> Result<Vec<(ChannelId, Place)>, Failure> {
    let filter = doc! {
        "user": uuid(user.as_bytes()),
        "group": { "$in": find::ids(groups, GroupId::as_bytes) },
    };
    let collection = database.collection::<RawDocumentBuf>(READING_BEGUN);
    let found = collection.find(filter).max_time(PATIENCE).await?;
    Ok(find::all(found, places).await?.concat())
}

fn places(stored: &RawDocument) -> Result<Vec<(ChannelId, Place)>, Failure> {
    let places = stored.get_array("places").map_err(Failure::corrupt)?;
    let decode = |one: Result<mongodb::bson::RawBsonRef<'_>, _>| {
        let one = one.map_err(Failure::corrupt)?;
        let one = one
            .as_document()
            .ok_or_else(|| Failure::corrupt("a place that is no document"))?;
        let channel = ChannelId::from_bytes(field::bytes(one, "channel")?);
        Ok((channel, place(one)?))
    };
    places.into_iter().map(decode).collect()
}

/// The last place in each group of `by`, which stands behind what `filter` fixes in an index
/// that goes on with the position: one seek for each.
fn last_places(filter: Document, by: &str) -> [Document; 3] {
    [
        doc! { "$match": filter },
        doc! { "$sort": { by: -1, "n": -1 } },
        doc! { "$group": {
            "_id": format!("${by}"), "n": { "$first": "$n" }, "ord": { "$first": "$ord" },
        } },
    ]
}

async fn last<T>(
    entries: &Entries,
    pipeline: [Document; 3],
    index: &str,
    decode: impl Fn(&RawDocument) -> Result<T, Failure>,
) -> Result<Vec<(T, Place)>, Failure> {
    let finding = entries.aggregate(pipeline).hint(hint(index));
    let mut cursor = finding.batch_size(ROUND).max_time(PATIENCE).await?;
    let mut found = Vec::new();
    while cursor.advance().await? {
        let stored = cursor.current();
        found.push((decode(stored)?, place(stored)?));
    }
    Ok(found)
}

fn names(channels: &[ChannelId]) -> Vec<Bson> {
    let streams: Vec<StreamId> = channels.iter().map(|id| StreamId::from(*id)).collect();
    reads::names(&streams)
}

fn channel(stored: &RawDocument) -> Result<ChannelId, Failure> {
    match field::stream(stored, "_id")? {
        StreamId::Channel(channel) => Ok(channel),
        other => Err(Failure::corrupt(format!("{other} is no channel"))),
    }
}

async fn ends(entries: &Entries, channels: &[ChannelId]) -> Result<Vec<Place>, Failure> {
    let mut ends = HashMap::with_capacity(channels.len());
    for part in channels.chunks(STREAMS) {
        let pipeline = last_places(doc! { "s": { "$in": names(part) } }, "s");
        ends.extend(last(entries, pipeline, indexes::POSITION, channel).await?);
    }
    let end = |channel| ends.get(channel).copied().unwrap_or_default();
    Ok(channels.iter().map(end).collect())
}

async fn place_at(entries: &Entries, channel: ChannelId, through: Seq) -> Result<Place, Failure> {
    let filter = doc! { "s": stream_name(channel.into()), "n": { "$lte": signed(through) } };
    let finding = reads::find(entries, filter, indexes::POSITION)
        .sort(doc! { "n": -1 })
        .projection(doc! { "n": 1, "ord": 1 });
    let found = reads::collect(finding, 1, place).await?.pop();
    Ok(found.unwrap_or_default())
}

async fn last_sent_by(
    entries: &Entries,
    user: UserId,
    channels: &[ChannelId],
) -> Result<Vec<(ChannelId, Place)>, Failure> {
    let mut found = Vec::new();
    for part in channels.chunks(STREAMS) {
        let mut filter = indexes::messages();
        filter.insert("s", doc! { "$in": names(part) });
        filter.insert("actor", uuid(user.as_bytes()));
        let pipeline = last_places(filter, "s");
        found.extend(last(entries, pipeline, indexes::AUTHORS, channel).await?);
    }
    Ok(found)
}

async fn last_sent_in(
    entries: &Entries,
    channel: ChannelId,
    users: &[UserId],
) -> Result<Vec<(UserId, Place)>, Failure> {
    let mut filter = indexes::messages();
    filter.insert("s", stream_name(channel.into()));
    filter.insert("actor", doc! { "$in": find::ids(users, UserId::as_bytes) });
    let user = |stored: &RawDocument| Ok(UserId::from_bytes(field::bytes(stored, "_id")?));
    last(
        entries,
        last_places(filter, "actor"),
        indexes::AUTHORS,
        user,
    )
    .await
}

async fn mentions(
    entries: &Entries,
    user: UserId,
    behind: &[(ChannelId, Seq)],
    most: usize,
) -> Result<Vec<usize>, Failure> {
    let mut counts = HashMap::new();
    for part in behind.chunks(RANGES) {
        counts.extend(count(entries, user, part, most).await?);
    }
    let count = |(channel, _): &(ChannelId, Seq)| counts.get(channel).copied().unwrap_or_default();
    Ok(behind.iter().map(|one| count(one).min(most)).collect())
}

/// Looks at `most` mentions for each channel on the average. Where that was not enough one of
/// the channels has so many or more, and may have kept others from being counted: these are then
/// counted by halves. Of one channel by itself there is nothing to keep.
fn count<'a>(
    entries: &'a Entries,
    user: UserId,
    behind: &'a [(ChannelId, Seq)],
    most: usize,
) -> BoxFuture<'a, Result<Vec<(ChannelId, usize)>, Failure>> {
    Box::pin(async move {
        if behind.is_empty() || most == 0 {
            return Ok(Vec::new());
        }
        let limit = most.saturating_mul(behind.len());
        let counted = counted(entries, mentions_pipeline(user, behind, limit)).await?;
        let all: usize = counted.iter().map(|(_, count)| count).sum();
        if all < limit || behind.len() == 1 {
            return Ok(counted);
        }
        let (first, second) = behind.split_at(behind.len() / 2);
        let mut counted = count(entries, user, first, most).await?;
        counted.extend(count(entries, user, second, most).await?);
        Ok(counted)
    })
}

fn mentions_pipeline(user: UserId, behind: &[(ChannelId, Seq)], limit: usize) -> [Document; 3] {
    let ranges = behind.iter().map(|(channel, seq)| {
        Bson::from(doc! {
            "kind": "message.created",
            // As they stand in a message's state, which is written by serde.
            "data.mentions": { "$in": [binary(user.as_bytes()), binary(EVERYONE.as_bytes())] },
            "s": stream_name((*channel).into()),
            "n": { "$gt": signed(*seq) },
        })
    });
    [
        doc! { "$match": { "$or": ranges.collect::<Vec<_>>() } },
        doc! { "$limit": field::limit(limit) },
        doc! { "$group": { "_id": "$s", "count": { "$sum": 1_i64 } } },
    ]
}

async fn counted(
    entries: &Entries,
    pipeline: [Document; 3],
) -> Result<Vec<(ChannelId, usize)>, Failure> {
    let finding = entries.aggregate(pipeline).hint(hint(indexes::MENTIONS));
    let mut cursor = finding.max_time(PATIENCE).await?;
    let mut found = Vec::new();
    while cursor.advance().await? {
        let count = field::unsigned(cursor.current(), "count")?;
        let count = usize::try_from(count).map_err(Failure::corrupt)?;
        found.push((channel(cursor.current())?, count));
    }
    Ok(found)
}
