//! What a database holds before the first entry: collections, indexes, and the installation's
//! record.

use std::collections::BTreeMap;

use mongodb::bson::{Document, RawDocument, RawDocumentBuf, doc};
use mongodb::error::ErrorKind;
use mongodb::options::ReturnDocument;
use mongodb::{Database, IndexModel};

use super::field::{self, uuid};
use super::find;
use super::groups::GROUPS;
use super::indexes::{LOG, STATE};
use super::trim::FLOORS;
use super::{Failure, PATIENCE};
use crate::domain::{DeploymentId, Timestamp};
use crate::store::{BusLayout, Meta};

/// The layout that this program reads and writes.
pub(super) const VERSION: i64 = 1;
/// The epoch of a new installation.
const FIRST_EPOCH: i64 = 1;

const META: &str = "meta";
/// The document of `meta` that says who the installation is.
const INSTALLATION: &str = "installation";
/// The document of `meta` that [`check`] writes.
const CHECK: &str = "check";
/// MongoDB's code for a collection that is there already.
const NAMESPACE_EXISTS: i32 = 48;

/// The layout of the database, which becomes this program's if there was none. It is recorded
/// before anything else is made, so that nothing is changed in a database of another layout.
pub(super) async fn version(database: &Database) -> Result<Option<i64>, Failure> {
    let new = doc! {
        "_id": INSTALLATION,
        "deployment": uuid(DeploymentId::generate().as_bytes()),
        "epoch": FIRST_EPOCH,
        "schema": VERSION,
    };
    find::insert_once(&database.collection(META), new).await?;
    Ok(installation(database).await?.get_i64("schema").ok())
}

/// Makes collections and indexes that are not there. Several processes may do so at once; those
/// that come second wait until an index is built. Reads and writes go on meanwhile.
pub(super) async fn create(database: &Database) -> Result<(), Failure> {
    for collection in [GROUPS, FLOORS] {
        match database.create_collection(collection).await {
            Err(error) if exists(&error) => {}
            outcome => outcome?,
        }
    }
    let mut indexes: BTreeMap<&str, Vec<IndexModel>> = BTreeMap::new();
    for index in LOG.iter().chain(STATE) {
        let of_collection = indexes.entry(index.collection).or_default();
        of_collection.push(index.model());
    }
    for (collection, indexes) in indexes {
        let collection = database.collection::<Document>(collection);
        collection.create_indexes(indexes).await?;
    }
    Ok(())
}

fn exists(error: &mongodb::error::Error) -> bool {
    matches!(&*error.kind, ErrorKind::Command(error) if error.code == NAMESPACE_EXISTS)
}

async fn installation(database: &Database) -> Result<RawDocumentBuf, Failure> {
    let meta = database.collection::<RawDocumentBuf>(META);
    let found = meta
        .find_one(doc! { "_id": INSTALLATION })
        .max_time(PATIENCE)
        .await?;
    found.ok_or_else(|| Failure::corrupt("the installation's record is gone"))
}

pub(super) async fn meta(database: &Database) -> Result<Meta, Failure> {
    let found = installation(database).await?;
    Ok(Meta {
        deployment: DeploymentId::from_bytes(field::bytes(&found, "deployment")?),
        epoch: field::unsigned(&found, "epoch")?,
    })
}

/// Records `layout` unless one is recorded; returns what is.
pub(super) async fn agree(database: &Database, layout: &BusLayout) -> Result<BusLayout, Failure> {
    let bus = doc! {
        "prefix": layout.prefix.as_str(),
        "partitions": i64::from(layout.partitions),
        "exchanges": i64::from(layout.exchanges),
    };
    let filter = doc! { "_id": INSTALLATION, "bus": { "$exists": false } };
    let meta = database.collection::<Document>(META);
    meta.update_one(filter, doc! { "$set": { "bus": bus } })
        .await?;
    let found = installation(database).await?;
    let bus = found.get_document("bus").map_err(Failure::corrupt)?;
    Ok(BusLayout {
        prefix: field::text(bus, "prefix")?.to_owned(),
        partitions: small(bus, "partitions")?,
        exchanges: small(bus, "exchanges")?,
    })
}

fn small(document: &RawDocument, name: &str) -> Result<u16, Failure> {
    u16::try_from(field::unsigned(document, name)?).map_err(Failure::corrupt)
}

pub(super) async fn begin_epoch(database: &Database) -> Result<u64, Failure> {
    let raised = database
        .collection::<RawDocumentBuf>(META)
        .find_one_and_update(
            doc! { "_id": INSTALLATION },
            doc! { "$inc": { "epoch": 1_i64 } },
        )
        .return_document(ReturnDocument::After)
        .await?;
    let raised = raised.ok_or_else(|| Failure::corrupt("the installation's record is gone"))?;
    field::unsigned(&raised, "epoch")
}

/// Reads, and writes what nobody reads; returns the primary's clock.
pub(super) async fn check(database: &Database) -> Result<Timestamp, Failure> {
    meta(database).await?;
    let update = doc! { "$currentDate": { "at": true } };
    let checked = database.collection::<Document>(META);
    find::upsert(&checked, doc! { "_id": CHECK }, update).await?;
    let hello = database.run_command(doc! { "hello": 1 }).await?;
    let clock = hello.get_datetime("localTime").map_err(Failure::corrupt)?;
    Ok(Timestamp::from_millis(clock.timestamp_millis()))
}
