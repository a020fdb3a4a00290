//! From an address to a store that keeps its promises.

use std::time::Duration;

use mongodb::Client;
use mongodb::bson::{Document, doc};
use mongodb::options::{ClientOptions, ReadConcern, ReadPreference, SelectionCriteria};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::time::Instant;

use super::failure::Failure;
use super::{MongoStore, schema, write_concern};
use crate::tasks::Tasks;

/// How long an operation waits for a primary.
const SERVER_SELECTION: Duration = Duration::from_secs(5);
const CONNECT: Duration = Duration::from_secs(2);
/// How long a start waits for a MongoDB that is not there yet.
pub(super) const TRYING: Duration = Duration::from_secs(30);
const BETWEEN_TRIES: Duration = Duration::from_secs(1);
/// Calls under way at once, beyond which they wait; what MongoDB's drivers take, but for the one
/// for Rust with its 10. A write spends most of its time waiting for the majority.
const CONNECTIONS: u32 = 100;
/// MongoDB 6.0, the first whose partial indexes know `$or`.
const WIRE_VERSION: i32 = 17;

/// Why the database cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The driver's own words would quote the address, and with it a password.
    #[error("store.url is not an address of MongoDB (is its password percent-encoded?)")]
    Address,
    #[error("store.url cannot begin with mongodb+srv; name the hosts, as in mongodb://host1,host2")]
    Srv,
    #[error("store.url must name a database, as in mongodb://host/tidings?replicaSet=rs0")]
    NoDatabase,
    #[error("MongoDB cannot be reached")]
    Unreachable(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error(
        "MongoDB must be a replica set, of one node at least: only that has majority writes \
         (start mongod with --replSet, then rs.initiate())"
    )]
    NoReplicaSet,
    #[error("MongoDB must be 6.0 or newer")]
    TooOld,
    #[error("MongoDB refuses what is needed")]
    Refused(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error(
        "the database has layout {}, this program knows {}",
        .found.map_or_else(|| "without a number".to_owned(), |found| found.to_string()),
        schema::VERSION
    )]
    Schema { found: Option<i64> },
}

impl OpenError {
    fn of(failure: Failure) -> Self {
        if failure.may_pass() {
            Self::Unreachable(failure.into_source())
        } else {
            Self::Refused(failure.into_source())
        }
    }
}

impl MongoStore {
    /// Connects, and makes sure that collections and indexes are there. Tries for half a minute
    /// while nobody answers or there is no primary, and says so in the program's log; waits as
    /// long as it takes where an index must be built. What it does in the background are `tasks`.
    ///
    /// # Errors
    ///
    /// See [`OpenError`].
    pub async fn open(url: &SecretString, tasks: &Tasks) -> Result<Self, OpenError> {
        let (options, name) = options(url).await?;
        Self::connect(options, &name, TRYING, tasks).await
    }

    pub(super) async fn connect(
        options: ClientOptions,
        name: &str,
        patience: Duration,
        tasks: &Tasks,
    ) -> Result<Self, OpenError> {
        let client = Client::with_options(options.clone()).map_err(|_| OpenError::Address)?;
        let store = Self::new(client.database(name), tasks);
        let end = Instant::now() + patience;
        loop {
            match store.prepare(&options).await {
                Ok(()) => return Ok(store),
                Err(OpenError::Unreachable(reason)) if Instant::now() < end => {
                    tracing::warn!(error = %reason, "MongoDB cannot be reached yet; trying again");
                    tokio::time::sleep(BETWEEN_TRIES).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn prepare(&self, options: &ClientOptions) -> Result<(), OpenError> {
        match self.hello().await {
            Ok(hello) => check_hello(&hello)?,
            Err(failure) => return Err(diagnosis(options, failure).await),
        }
        let database = self.database.clone();
        let version = self.answer(async move { schema::version(&database).await });
        match version.await.map_err(OpenError::of)? {
            Some(schema::VERSION) => {}
            found => return Err(OpenError::Schema { found }),
        }
        let database = self.database.clone();
        let create = self
            .tasks
            .runtime()
            .spawn(async move { schema::create(&database).await });
        match create.await {
            Ok(created) => created.map_err(OpenError::of),
            Err(ended) => Err(OpenError::Refused(ended.into())),
        }
    }

    /// How the primary introduces itself.
    async fn hello(&self) -> Result<Document, Failure> {
        let database = self.database.clone();
        self.answer(async move { Ok(database.run_command(doc! { "hello": 1 }).await?) })
            .await
    }
}

/// The driver's options for an address, and the name of the database.
pub(super) async fn options(url: &SecretString) -> Result<(ClientOptions, String), OpenError> {
    let url = url.expose_secret();
    if url.starts_with("mongodb+srv:") {
        return Err(OpenError::Srv);
    }
    let parsed = ClientOptions::parse(url).await;
    let mut options = parsed.map_err(|_| OpenError::Address)?;
    let name = options.default_database.clone();
    let name = name.ok_or(OpenError::NoDatabase)?;
    promise(&mut options);
    Ok((options, name))
}

/// What an address must not weaken.
fn promise(options: &mut ClientOptions) {
    options.write_concern = Some(write_concern());
    options.read_concern = Some(ReadConcern::majority());
    options.selection_criteria = Some(SelectionCriteria::ReadPreference(ReadPreference::Primary));
    options.retry_writes = Some(true);
    options.retry_reads = Some(true);
    // A single node would be taken as it is, a secondary too, and not left when it fails.
    options.direct_connection = Some(false);
    options.load_balanced = None;
    options.server_selection_timeout = Some(SERVER_SELECTION);
    options.connect_timeout = Some(CONNECT);
    options.max_pool_size.get_or_insert(CONNECTIONS);
    options.app_name.get_or_insert_with(|| "tidings".to_owned());
}

pub(super) fn check_hello(hello: &Document) -> Result<(), OpenError> {
    let in_a_set = hello.contains_key("setName");
    let in_front_of_shards = hello.get_str("msg").is_ok_and(|msg| msg == "isdbgrid");
    if !in_a_set && !in_front_of_shards {
        return Err(OpenError::NoReplicaSet);
    }
    if hello.get_i32("maxWireVersion").unwrap_or_default() < WIRE_VERSION {
        return Err(OpenError::TooOld);
    }
    Ok(())
}

/// Why there is no primary. To an address that names a replica set, a MongoDB without one is
/// nobody at all: so each host is asked by itself.
async fn diagnosis(options: &ClientOptions, failure: Failure) -> OpenError {
    let error = OpenError::of(failure);
    if let OpenError::Unreachable(_) = error {
        for host in &options.hosts {
            let mut alone = options.clone();
            alone.hosts = vec![host.clone()];
            alone.repl_set_name = None;
            alone.direct_connection = Some(true);
            alone.server_selection_timeout = Some(CONNECT);
            let Ok(client) = Client::with_options(alone) else {
                continue;
            };
            let admin = client.database("admin");
            // One that is to be a replica set, but is not initiated yet, says so.
            if let Ok(hello) = admin.run_command(doc! { "hello": 1 }).await
                && !hello.contains_key("isreplicaset")
                && let Err(OpenError::NoReplicaSet) = check_hello(&hello)
            {
                return OpenError::NoReplicaSet;
            }
        }
    }
    error
}
