//! A replica set of a test's own, whose members it may stop, cut off and make fail.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use mongodb::bson::{Document, doc};
use mongodb::options::ClientOptions;
use mongodb::{Client, Database};
use secrecy::SecretString;
use tokio::net::TcpListener;

use super::entry;
use super::links::{Links, Proxy};
use super::testing::env;
use crate::domain::{Entry, EntryId};

/// Nodes that the test started, ended with it. Each stands behind a proxy, for its clients and
/// for its peers.
pub(crate) struct Nodes {
    folder: PathBuf,
    nodes: Vec<Node>,
    links: Arc<Links>,
    /// After how long without a majority a primary steps down, and without a primary another
    /// node stands for election.
    election_timeout: Duration,
}

struct Node {
    /// Its own port, past the proxy.
    port: u16,
    proxy: Proxy,
    process: Child,
}

impl Nodes {
    /// A replica set of so many nodes, with a primary. None, said aloud, where TIDINGS_TEST_MONGOD
    /// does not name the program; in CI that is a failure.
    pub(crate) async fn start(count: usize) -> Option<Self> {
        Self::start_with(count, Duration::from_secs(2)).await
    }

    /// With a primary that is patient for so long.
    pub(crate) async fn start_with(count: usize, election_timeout: Duration) -> Option<Self> {
        let Some(program) = env("TIDINGS_TEST_MONGOD") else {
            assert_ne!(
                env("CI").as_deref(),
                Some("true"),
                "TIDINGS_TEST_MONGOD is not set"
            );
            println!("skipped: TIDINGS_TEST_MONGOD is not set");
            return None;
        };
        let folder = std::env::temp_dir().join(format!("tidings-nodes-{}", EntryId::generate()));
        let mut this = Self {
            folder,
            nodes: Vec::new(),
            links: Arc::default(),
            election_timeout,
        };
        for _ in 0..count {
            this.add(&program).await;
        }
        this.initiate().await;
        Some(this)
    }

    async fn add(&mut self, program: &str) {
        let data = self.folder.join(self.nodes.len().to_string());
        std::fs::create_dir_all(&data).unwrap();
        let port = free_port().await;
        let process = Command::new(program)
            .args([
                "--replSet",
                "test",
                "--bind_ip",
                "127.0.0.1",
                "--nounixsocket",
            ])
            .args(["--port", &port.to_string()])
            .args(["--wiredTigerCacheSizeGB", "0.25", "--oplogSize", "64"])
            .args(["--setParameter", "enableTestCommands=1"])
            .args(["--setParameter", "diagnosticDataCollectionEnabled=false"])
            .arg("--dbpath")
            .arg(&data)
            .arg("--logpath")
            .arg(data.join("log"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        self.links.add(process.id());
        let proxy = Proxy::start(self.nodes.len(), port, self.links.clone()).await;
        self.nodes.push(Node {
            port,
            proxy,
            process,
        });
    }

    async fn initiate(&self) {
        let member = |(id, node): (usize, &Node)| {
            let host = format!("127.0.0.1:{}", node.proxy.port);
            doc! { "_id": i32::try_from(id).unwrap(), "host": host }
        };
        let members: Vec<Document> = self.nodes.iter().enumerate().map(member).collect();
        let timeout = i32::try_from(self.election_timeout.as_millis()).unwrap();
        let settings = doc! { "electionTimeoutMillis": timeout, "heartbeatIntervalMillis": 500 };
        let config = doc! { "_id": "test", "members": members, "settings": settings };
        for node in 0..self.nodes.len() {
            eventually("a node's start", async || {
                self.ask(node, doc! { "ping": 1 }).await.is_some()
            })
            .await;
        }
        let initiated = self.ask(0, doc! { "replSetInitiate": config }).await;
        assert!(initiated.is_some());
        self.elect(0).await;
    }

    /// Makes a node stand for election at once, and waits until it has been elected.
    pub(crate) async fn elect(&self, node: usize) {
        eventually("an election", async || {
            // Refused for as long as the node is not ready for it, or is the primary.
            drop(self.ask(node, doc! { "replSetStepUp": 1 }).await);
            self.is_primary(node).await
        })
        .await;
    }

    pub(crate) async fn is_primary(&self, node: usize) -> bool {
        let hello = self.ask(node, doc! { "hello": 1 }).await;
        hello.is_some_and(|hello| hello.get("isWritablePrimary") == Some(&true.into()))
    }

    /// An address of all of them, with a database's name.
    pub(crate) fn url(&self) -> SecretString {
        let hosts = self
            .nodes
            .iter()
            .map(|node| format!("127.0.0.1:{}", node.proxy.port));
        let hosts = hosts.collect::<Vec<_>>().join(",");
        format!("mongodb://{hosts}/tidings?replicaSet=test").into()
    }

    /// The number of the node that takes writes, once there is one.
    pub(crate) async fn primary(&self) -> usize {
        let mut primary = None;
        eventually("an election", async || {
            for node in 0..self.nodes.len() {
                if self.is_primary(node).await {
                    primary = Some(node);
                }
            }
            primary.is_some()
        })
        .await;
        primary.expect("found above")
    }

    /// One node's own view of the test's database, with nothing promised.
    pub(crate) async fn alone(&self, node: usize) -> Database {
        let address = format!(
            "mongodb://127.0.0.1:{}/?directConnection=true",
            self.nodes[node].port
        );
        let mut options = ClientOptions::parse(address).await.unwrap();
        options.server_selection_timeout = Some(Duration::from_secs(1));
        options.connect_timeout = Some(Duration::from_secs(1));
        Client::with_options(options).unwrap().database("tidings")
    }

    /// What one node answers to a command; None without a good answer within a second.
    pub(crate) async fn ask(&self, node: usize, command: Document) -> Option<Document> {
        let admin = self.alone(node).await.client().database("admin");
        let asking = tokio::spawn(async move { admin.run_command(command).await });
        let answer = tokio::time::timeout(Duration::from_secs(2), asking).await;
        answer.ok()?.unwrap().ok()
    }

    /// Makes commands of one node fail: see the server's `failCommand`.
    pub(crate) async fn fail(&self, node: usize, mode: Document, data: Document) {
        let fail = doc! { "configureFailPoint": "failCommand", "mode": mode, "data": data };
        assert!(self.ask(node, fail).await.is_some());
    }

    /// From now on the node learns nothing of what the primary writes.
    pub(crate) async fn stop_following(&self, node: usize) {
        let stop = doc! { "configureFailPoint": "stopReplProducer", "mode": "alwaysOn" };
        let before = self.ask(node, stop).await.unwrap();
        let times = before
            .get_i64("count")
            .or(before.get_i32("count").map(i64::from));
        let stopped = doc! {
            "waitForFailPoint": "stopReplProducer", "timesEntered": times.unwrap() + 1,
            "maxTimeMS": 20_000,
        };
        let admin = self.alone(node).await.client().database("admin");
        admin.run_command(stopped).await.unwrap();
    }

    pub(crate) async fn follow_again(&self, node: usize) {
        let go = doc! { "configureFailPoint": "stopReplProducer", "mode": "off" };
        assert!(self.ask(node, go).await.is_some());
    }

    /// Writes an entry that only this node has.
    pub(crate) async fn write_alone(&self, node: usize, entry: &Entry) {
        self.write_at(node, entry, doc! { "w": 1 }).await;
    }

    /// Writes an entry through one node, and waits as the write concern says.
    pub(crate) async fn write_at(&self, node: usize, entry: &Entry, concern: Document) {
        let insert = doc! {
            "insert": entry::ENTRIES,
            "documents": [Document::try_from(&entry::encode(entry).unwrap()).unwrap()],
            "writeConcern": concern,
        };
        let answer = self.alone(node).await.run_command(insert).await.unwrap();
        assert_eq!(answer.get("n"), Some(&1.into()), "{answer}");
    }

    /// The answers to the next so many inserts are lost, after they have taken effect.
    pub(crate) fn lose_answers(&self, node: usize, count: usize) {
        self.nodes[node].proxy.lose_answers(count);
    }

    /// A node and its peers hear nothing of each other any more; clients reach it alone.
    pub(crate) fn cut_off(&self, node: usize) {
        let all = 0..self.nodes.len();
        let others = all.filter(|other| *other != node);
        let cut =
            others.flat_map(|other| [(Some(node), other), (Some(other), node), (None, other)]);
        self.links.cut(cut);
    }

    pub(crate) fn heal(&self) {
        self.links.cut([]);
    }

    /// The node stands still, and does not know it.
    pub(crate) fn freeze(&self, node: usize) {
        self.signal(node, "-STOP");
    }

    pub(crate) fn thaw(&self, node: usize) {
        self.signal(node, "-CONT");
    }

    fn signal(&self, node: usize, signal: &str) {
        let process = self.nodes[node].process.id().to_string();
        let status = Command::new("kill").args([signal, &process]).status();
        assert!(status.unwrap().success());
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        for node in &mut self.nodes {
            drop(node.process.kill());
            drop(node.process.wait());
        }
        drop(std::fs::remove_dir_all(&self.folder));
    }
}

/// Waits for something that takes seconds at most.
pub(crate) async fn eventually(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    for _ in 0..300 {
        if condition().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("{what} did not come within 30 s");
}

async fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    listener.local_addr().unwrap().port()
}
