//! Services of a test's own, which it may kill, pause, cut off and start again: a replica set of
//! MongoDB, RabbitMQ and Redis. [`Cluster::on`] is a cluster on them.
//!
//! A fault is injected into a process ([`MongoSet::kill`], [`Broker::pause`] and so on), or into
//! the way to it: every member of the set stands behind a [`Proxy`], and every process of a
//! cluster reaches the broker and Redis through proxies of its own ([`Link`]).
//!
//! [`Cluster::on`]: crate::cluster::Cluster::on

mod broker;
mod link;
mod mongo;
mod mongo_shell;
mod process;
mod proxy;
mod redis;
mod watch;

use std::path::{Path, PathBuf};

use anyhow::Result;

pub use broker::Broker;
pub use link::{Link, Links};
pub use mongo::MongoSet;
pub use proxy::Proxy;
pub use redis::Redis;
pub use watch::{Seen, Side, Watch};

use crate::server::new_directory;

/// All of it ends, and its data go, when it is dropped.
#[derive(Debug)]
pub struct Stack {
    pub mongo: MongoSet,
    pub broker: Broker,
    pub redis: Redis,
    // Dropped last.
    directory: Directory,
}

impl Stack {
    /// Starts all services and waits until they serve.
    ///
    /// # Errors
    /// Tests have no services, or one does not start.
    pub async fn start() -> Result<Self> {
        let directory = Directory(new_directory()?);
        let (mongo, broker, redis) = tokio::try_join!(
            MongoSet::begin(&directory.0),
            Broker::begin(&directory.0),
            Redis::begin(&directory.0),
        )?;
        Ok(Self {
            mongo,
            broker,
            redis,
            directory,
        })
    }

    /// Where the services have their data and logs.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory.0
    }
}

#[derive(Debug)]
struct Directory(PathBuf);

impl Drop for Directory {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            eprintln!("cannot remove {}: {error}", self.0.display());
        }
    }
}
