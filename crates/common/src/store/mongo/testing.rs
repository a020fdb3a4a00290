//! Databases to test with, at the server that TIDINGS_TEST_MONGODB_URL names.

use mongodb::Client;
use secrecy::SecretString;
use tokio_util::sync::CancellationToken;

pub(crate) use super::nodes::Nodes;

use super::MongoStore;
use crate::domain::EntryId;
use crate::tasks::Tasks;

/// A database of its own, dropped with all that is in it.
pub(crate) struct Scratch {
    url: String,
    name: String,
}

impl Scratch {
    /// None, said aloud, where no server is named; in CI that is a failure.
    pub(crate) fn new() -> Option<Self> {
        match env("TIDINGS_TEST_MONGODB_URL") {
            Some(server) => Some(Self::at(&server)),
            None if env("CI").as_deref() == Some("true") => {
                panic!("TIDINGS_TEST_MONGODB_URL is not set")
            }
            None => {
                println!("skipped: TIDINGS_TEST_MONGODB_URL is not set");
                None
            }
        }
    }

    /// At `server`, an address without a database.
    pub(super) fn at(server: &str) -> Self {
        let name = format!("tidings-test-{}", EntryId::generate());
        let (hosts, options) = server.split_once('?').unwrap_or((server, ""));
        let hosts = hosts.trim_end_matches('/');
        let url = format!("{hosts}/{name}?{options}");
        Self { url, name }
    }

    pub(crate) fn address(&self) -> &str {
        &self.url
    }

    pub(super) fn url(&self) -> SecretString {
        self.url.clone().into()
    }

    /// As another process would open it.
    pub(crate) async fn open(&self) -> MongoStore {
        MongoStore::open(&self.url(), &tasks()).await.unwrap()
    }

    /// The database, past the store, with nothing promised.
    pub(super) async fn database(&self) -> mongodb::Database {
        let client = Client::with_uri_str(&self.url).await.unwrap();
        client.database(&self.name)
    }
}

impl Drop for Scratch {
    /// On a thread of its own, since dropping cannot wait on the test's runtime.
    fn drop(&mut self) {
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut runtime = tokio::runtime::Builder::new_current_thread();
                let runtime = runtime.enable_all().build().unwrap();
                // What cannot be reached any more cannot be tidied up.
                drop(runtime.block_on(async { self.database().await.drop().await }));
            });
        });
    }
}

/// Tasks that end with the test.
pub(crate) fn tasks() -> Tasks {
    Tasks::new(CancellationToken::new())
}

#[expect(
    clippy::disallowed_methods,
    reason = "names the services that tests run against"
)]
pub(crate) fn env(name: &str) -> Option<String> {
    std::env::var(name).ok()
}
