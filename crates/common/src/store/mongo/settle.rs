//! Entries that wait to be applied and announced: taking them over, and being done with them.

use std::collections::{BTreeMap, HashMap};

use mongodb::Database;
use mongodb::bson::{self, Bson, Document, doc};
use uuid::Uuid;

use super::entry::ENTRIES;
use super::field::{self, binary, signed, stream_name, uuid};
use super::indexes::{PENDING, POSITION};
use super::reads::{Entries, collect, find};
use super::{Failure, write_concern};
use crate::domain::{Seq, StreamId, Timestamp};
use crate::store::Claim;

/// Statements in one command.
const STATEMENTS: usize = 500;

/// Each claim leaves a mark of its own, by which the winners are told apart afterwards: the
/// answer to many updates says how many have matched, not which.
pub(super) async fn claim(
    database: &Database,
    entries: &Entries,
    claims: &[Claim],
    now: Timestamp,
) -> Result<Vec<bool>, Failure> {
    let mut won = Vec::with_capacity(claims.len());
    for part in claims.chunks(STATEMENTS) {
        let marks: Vec<[u8; 16]> = part.iter().map(|_| *Uuid::new_v4().as_bytes()).collect();
        let statement = |(claim, mark): (&Claim, &[u8; 16])| {
            doc! {
                "q": {
                    "s": stream_name(claim.stream),
                    "n": signed(claim.seq),
                    "pending": claim.seen.as_millis(),
                },
                "u": { "$set": { "pending": claim.taken(now).as_millis(), "claim": uuid(mark) } },
                "hint": POSITION,
            }
        };
        update(database, part.iter().zip(&marks).map(statement)).await?;
        let found = marks_of(entries, part.iter().map(|claim| (claim.stream, claim.seq))).await?;
        let is_mine = |(claim, mark): (&Claim, &[u8; 16])| {
            found.get(&(claim.stream, claim.seq)) == Some(mark)
        };
        won.extend(part.iter().zip(&marks).map(is_mine));
    }
    Ok(won)
}

/// Who has taken these entries over, as far as they are pending.
async fn marks_of(
    entries: &Entries,
    positions: impl Iterator<Item = (StreamId, Seq)>,
) -> Result<HashMap<(StreamId, Seq), [u8; 16]>, Failure> {
    let streams = by_stream(positions).into_iter().map(|(stream, seqs)| {
        doc! { "s": binary(&stream), "n": { "$in": seqs }, "pending": { "$gte": 0_i64 } }
    });
    let filter = doc! { "$or": streams.collect::<Vec<_>>() };
    let finding = find(entries, filter, PENDING).projection(doc! { "s": 1, "n": 1, "claim": 1 });
    let marks = collect(finding, usize::MAX, |stored| {
        let position = (field::stream(stored, "s")?, field::unsigned(stored, "n")?);
        Ok(field::optional_bytes(stored, "claim")?.map(|mark| (position, mark)))
    });
    Ok(marks.await?.into_iter().flatten().collect())
}

pub(super) async fn settle(
    database: &Database,
    settled: &[(StreamId, Seq)],
) -> Result<(), Failure> {
    for part in settled.chunks(STATEMENTS) {
        let statements = by_stream(part.iter().copied())
            .into_iter()
            .map(|(stream, seqs)| {
                doc! {
                    "q": { "s": binary(&stream), "n": { "$in": seqs } },
                    "u": { "$unset": { "pending": "", "claim": "" } },
                    "multi": true,
                    "hint": POSITION,
                }
            });
        update(database, statements).await?;
    }
    Ok(())
}

fn by_stream(positions: impl Iterator<Item = (StreamId, Seq)>) -> BTreeMap<[u8; 17], Vec<Bson>> {
    let mut by_stream: BTreeMap<_, Vec<Bson>> = BTreeMap::new();
    for (stream, seq) in positions {
        let seqs = by_stream.entry(stream.to_bytes()).or_default();
        seqs.push(signed(seq).into());
    }
    by_stream
}

/// Many updates in one command, for which the driver has no method before MongoDB 8.
async fn update(
    database: &Database,
    statements: impl Iterator<Item = Document>,
) -> Result<(), Failure> {
    let statements: Vec<Document> = statements.collect();
    if statements.is_empty() {
        return Ok(());
    }
    let concern = bson::serialize_to_bson(&write_concern()).map_err(Failure::corrupt)?;
    let command = doc! {
        "update": ENTRIES, "updates": statements, "ordered": false, "writeConcern": concern,
    };
    let answer = database.run_command(command).await?;
    if answer.contains_key("writeErrors") || answer.contains_key("writeConcernError") {
        return Err(Failure::Refused(answer));
    }
    Ok(())
}
