//! Leases: who does a piece of work of which one process at a time is enough.

use std::time::Duration;

use mongodb::Database;
use mongodb::bson::{DateTime, Document, RawDocumentBuf, doc};
use mongodb::options::ReturnDocument;

use super::Failure;
use super::field::{self, uuid};
use super::outcome;
use crate::domain::ServerId;

/// The collection: `_id` is the lease's name.
const LEASES: &str = "leases";

/// One update, judged by the server's clock. The filter is the name alone, since an upsert may
/// not look at `$$NOW` in its filter.
fn taking(holder: ServerId, lifetime: Duration) -> Vec<Document> {
    let lifetime = i64::try_from(lifetime.as_millis()).unwrap_or(i64::MAX / 2);
    let holder = || uuid(holder.as_bytes());
    let until = doc! { "$ifNull": ["$until", DateTime::from_millis(0)] };
    let free = doc! { "$or": [
        { "$eq": ["$holder", holder()] },
        { "$lte": [until, "$$NOW"] },
    ] };
    let mine = |then: mongodb::bson::Bson, old: &str| doc! { "$cond": ["$free", then, old] };
    vec![
        doc! { "$set": { "free": free } },
        doc! { "$set": {
            "holder": mine(holder().into(), "$holder"),
            "until": mine(doc! { "$add": ["$$NOW", lifetime] }.into(), "$until"),
        } },
        doc! { "$unset": "free" },
    ]
}

pub(super) async fn take(
    database: &Database,
    name: &str,
    holder: ServerId,
    lifetime: Duration,
) -> Result<bool, Failure> {
    let leases = database.collection::<RawDocumentBuf>(LEASES);
    loop {
        let taken = leases
            .find_one_and_update(doc! { "_id": name }, taking(holder, lifetime))
            .upsert(true)
            .return_document(ReturnDocument::After)
            .await;
        match taken {
            Ok(Some(lease)) => {
                let holds: [u8; 16] = field::bytes(&lease, "holder")?;
                return Ok(holds == *holder.as_bytes());
            }
            Ok(None) => return Err(Failure::corrupt("an upsert that leaves nothing")),
            // Two that create it at once: the other has.
            Err(error) if outcome::is_duplicate(&error) => {}
            Err(error) => return Err(error.into()),
        }
    }
}
