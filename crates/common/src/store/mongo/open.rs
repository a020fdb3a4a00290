//! From an address to a store that keeps its promises.

use std::time::Duration;

use mongodb::Client;
use mongodb::options::{
    Acknowledgment, ClientOptions, ReadConcern, ReadPreference, SelectionCriteria, WriteConcern,
};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::runtime::Handle;

use super::MongoStore;

/// How long an operation waits for a primary.
const SERVER_SELECTION: Duration = Duration::from_secs(5);
const CONNECT: Duration = Duration::from_secs(2);

/// Why the database cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("store.url is not an address of MongoDB")]
    Address(#[source] mongodb::error::Error),
    #[error("store.url must name a database, as in mongodb://host/tidings?replicaSet=rs0")]
    NoDatabase,
    #[error("MongoDB cannot be reached")]
    Unreachable(#[source] mongodb::error::Error),
}

impl MongoStore {
    /// Connects and makes sure that collections and indexes are there.
    ///
    /// # Errors
    ///
    /// See [`OpenError`].
    pub async fn open(url: &SecretString) -> Result<Self, OpenError> {
        let parsed = ClientOptions::parse(url.expose_secret()).await;
        let mut options = parsed.map_err(OpenError::Address)?;
        let name = options.default_database.clone();
        let name = name.ok_or(OpenError::NoDatabase)?;
        promise(&mut options);
        let client = Client::with_options(options).map_err(OpenError::Address)?;
        Ok(Self {
            database: client.database(&name),
            runtime: Handle::current(),
        })
    }
}

/// What an address must not weaken.
fn promise(options: &mut ClientOptions) {
    let majority = WriteConcern::builder().w(Acknowledgment::Majority);
    options.write_concern = Some(majority.journal(true).build());
    options.read_concern = Some(ReadConcern::majority());
    options.selection_criteria = Some(SelectionCriteria::ReadPreference(ReadPreference::Primary));
    options.retry_writes = Some(true);
    options.retry_reads = Some(true);
    options.server_selection_timeout = Some(SERVER_SELECTION);
    options.connect_timeout = Some(CONNECT);
    options.app_name.get_or_insert_with(|| "tidings".to_owned());
}
