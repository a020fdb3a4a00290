//! The production form: two processes of each of the three servers on MongoDB, RabbitMQ and
//! Redis, behind nginx.

use std::process::ExitStatus;
use std::time::Duration;

use anyhow::{Context as _, Result};
use futures_util::future::try_join_all;

use crate::client::{Api, Client};
use crate::nginx::Nginx;
use crate::server::Server;
use crate::services::{self, MONGODB, RABBITMQ, REDIS};
use crate::stack::{Link, Links, Stack};
use crate::wait::{self, SOON};

/// A database, a bus and a presence of its own in the services that tests share, and the
/// processes on it. Each can be reached, killed, paused and started again by itself.
#[derive(Debug)]
pub struct Cluster {
    /// Through nginx, as clients do.
    pub api: Api,
    pub apis: Vec<Server>,
    pub ws_pushes: Vec<Server>,
    pub workers: Vec<Server>,
    pub nginx: Nginx,
    /// The ways of the processes to services of the test's own.
    pub links: Links,
}

impl Cluster {
    /// How many processes hold connections.
    pub const WS_PUSH_SERVERS: usize = 2;
    /// Whether nginx stands before it, which answers some requests itself.
    pub const PROXIED: bool = true;

    /// Starts a cluster with default settings but for cheap password hashes.
    ///
    /// # Errors
    /// A service is missing, or a process is not ready in time.
    pub async fn start() -> Result<Self> {
        Self::with(&[]).await
    }

    /// Starts a cluster with these settings besides in every process.
    ///
    /// # Errors
    /// A service is missing, or a process is not ready in time.
    pub async fn with(settings: &[(&str, &str)]) -> Result<Self> {
        let mut cluster = Self::prepare(settings)?;
        cluster.launch().await?;
        Ok(cluster)
    }

    /// A cluster on services of the test's own, of which nothing runs yet. Every process has a
    /// way of its own to the broker and to Redis: [`Cluster::links`].
    ///
    /// # Errors
    /// A program is missing, or there is no place for files.
    pub async fn on(stack: &Stack, settings: &[(&str, &str)]) -> Result<Self> {
        let name = new_name();
        let mut cluster = Self::of(&system(&name, &stack.mongo.url(&name)), settings)?;
        for server in cluster.apis.iter_mut() {
            cluster.links.apis.push(linked(server, stack).await?);
        }
        for server in cluster.ws_pushes.iter_mut() {
            cluster.links.ws_pushes.push(linked(server, stack).await?);
        }
        for server in cluster.workers.iter_mut() {
            cluster.links.workers.push(linked(server, stack).await?);
        }
        Ok(cluster)
    }

    /// A cluster of which nothing runs yet, so that single processes can get other settings.
    ///
    /// # Errors
    /// A service is missing, or there is no place for files.
    pub fn prepare(settings: &[(&str, &str)]) -> Result<Self> {
        Self::of(&shared_settings()?, settings)
    }

    fn of(shared: &[(String, String)], settings: &[(&str, &str)]) -> Result<Self> {
        let (apis, ws_pushes) = (pair("tidings-api")?, pair("tidings-ws-push")?);
        let addresses =
            |servers: &[Server]| servers.iter().map(Server::address).collect::<Vec<_>>();
        let nginx = Nginx::before(&addresses(&apis), &addresses(&ws_pushes))?;
        let mut cluster = Self {
            api: nginx.api.clone(),
            apis,
            ws_pushes,
            workers: pair("tidings-worker")?,
            nginx,
            links: Links::default(),
        };
        let public = [("public_url", &*cluster.api.base.clone())].map(own);
        let settings = settings.iter().copied().map(own);
        let shared = shared.iter().cloned();
        let all: Vec<_> = shared.chain(public).chain(settings).collect();
        for server in cluster.servers_mut() {
            for (key, value) in &all {
                server.set(key, value);
            }
        }
        Ok(cluster)
    }

    /// Starts nginx and all servers, and waits until they are ready.
    ///
    /// # Errors
    /// One cannot be started or is not ready in time.
    pub async fn launch(&mut self) -> Result<()> {
        self.nginx.start().await?;
        self.restart().await
    }

    /// Starts all servers and waits until they are ready.
    ///
    /// # Errors
    /// One cannot be started or is not ready in time.
    pub async fn restart(&mut self) -> Result<()> {
        for server in self.servers_mut() {
            server.launch()?;
        }
        try_join_all(self.servers_mut().map(Server::ready)).await?;
        // Servers that nginx has just found gone are left alone for a second.
        wait::until("nginx finds the servers", SOON, async || {
            let answer = self.api.get("/openapi.json").await?;
            Ok((answer.status == 200).then_some(()))
        })
        .await
    }

    /// Each process that serves the API.
    #[must_use]
    pub fn every_api(&self) -> Vec<Api> {
        self.apis.iter().map(|server| server.api.clone()).collect()
    }

    /// Each process that holds connections.
    #[must_use]
    pub fn every_ws_push(&self) -> Vec<Api> {
        let servers = self.ws_pushes.iter();
        servers.map(|server| server.api.clone()).collect()
    }

    /// SIGKILL to all servers. nginx stays.
    ///
    /// # Errors
    /// One does not run.
    pub async fn kill(&mut self) -> Result<()> {
        try_join_all(self.servers_mut().map(Server::kill)).await?;
        Ok(())
    }

    /// SIGTERM to all servers. [`Cluster::ended`] waits for them.
    ///
    /// # Errors
    /// One does not run.
    pub fn terminate(&self) -> Result<()> {
        self.servers().try_for_each(Server::terminate)
    }

    /// Waits until all servers have ended, and returns a status that is a failure if one is.
    ///
    /// # Errors
    /// One still runs after `limit`.
    pub async fn ended(&mut self, limit: Duration) -> Result<ExitStatus> {
        let ends = self.servers_mut().map(|server| server.ended(limit));
        let statuses = try_join_all(ends).await?;
        let failed = statuses.iter().find(|status| !status.success());
        failed.or(statuses.first()).copied().context("a server")
    }

    /// A new user, logged in.
    ///
    /// # Errors
    /// The server refuses it.
    pub async fn user(&self, name: &str) -> Result<Client> {
        self.api.user(name).await
    }

    /// `count` new users, `<prefix>0` and so on, logged in.
    ///
    /// # Errors
    /// The server refuses one of them.
    pub async fn users(&self, prefix: &str, count: usize) -> Result<Vec<Client>> {
        self.api.users(prefix, count).await
    }

    fn servers(&self) -> impl Iterator<Item = &Server> {
        self.apis.iter().chain(&self.ws_pushes).chain(&self.workers)
    }

    fn servers_mut(&mut self) -> impl Iterator<Item = &mut Server> {
        let (apis, ws_pushes) = (&mut self.apis, &mut self.ws_pushes);
        apis.iter_mut().chain(ws_pushes).chain(&mut self.workers)
    }
}

fn pair(program: &'static str) -> Result<Vec<Server>> {
    Ok(vec![Server::of(program)?, Server::of(program)?])
}

fn own((key, value): (&str, &str)) -> (String, String) {
    (key.to_owned(), value.to_owned())
}

/// Leads a server to the services through proxies of its own.
async fn linked(server: &mut Server, stack: &Stack) -> Result<Link> {
    let link = Link::to(stack).await?;
    for (key, value) in link.settings() {
        server.set(key, &value);
    }
    Ok(link)
}

fn new_name() -> String {
    format!("tidings_test_{:016x}", fastrand::u64(..))
}

/// What makes the processes of a cluster one system in the services that tests share.
fn shared_settings() -> Result<Vec<(String, String)>> {
    let name = new_name();
    let mongodb = services::address(MONGODB)?;
    let (servers, options) = mongodb.split_once("/?").context("options in its address")?;
    let services = [
        ("bus.urls", &*services::address(RABBITMQ)?),
        ("presence.url", &services::address(REDIS)?),
    ];
    let mut settings = system(&name, &format!("{servers}/{name}?{options}"));
    settings.extend(services.map(own));
    Ok(settings)
}

/// What makes the processes of a cluster one system, apart from those of other tests. Where its
/// broker and its Redis are is not said here.
fn system(name: &str, store: &str) -> Vec<(String, String)> {
    let settings = [
        ("store.kind", "mongodb"),
        ("store.url", store),
        ("bus.kind", "rabbitmq"),
        ("bus.prefix", name),
        ("presence.kind", "redis"),
        ("presence.prefix", name),
        ("auth.secret", "a secret of tests, 32 bytes or more"),
    ];
    settings.map(own).into()
}
