//! A replica set of three that a test may kill, pause and cut apart.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::mongo_shell::MongoShell;
use super::process::{Process, dialer};
use super::proxy::{Identify, Proxy};
use super::watch::Watch;
use crate::server::free_port;
use crate::services::{self, MONGOD};
use crate::wait;

const MEMBERS: usize = 3;
/// How long an election or a start after a crash may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Members are numbered from 0. Each stands behind a proxy, for its clients and for its peers:
/// the set's configuration knows the proxies alone.
#[derive(Debug)]
pub struct MongoSet {
    members: Vec<Member>,
    program: String,
    pids: Pids,
    shell: MongoShell,
}

/// The process of each member that runs.
type Pids = Arc<Mutex<[Option<u32>; MEMBERS]>>;

#[derive(Debug)]
struct Member {
    /// Its own, past the proxy.
    port: u16,
    proxy: Proxy,
    data: PathBuf,
    process: Process,
}

impl MongoSet {
    /// # Errors
    /// Tests have no MongoDB, or it does not start.
    pub(super) async fn begin(directory: &Path) -> Result<Self> {
        let program = services::address(MONGOD)?;
        let shell = MongoShell::start(&program, directory)?;
        let pids = Pids::default();
        let mut members = Vec::new();
        for number in 0..MEMBERS {
            let port = free_port()?;
            let data = directory.join(format!("mongod-{number}"));
            fs::create_dir_all(&data)?;
            members.push(Member {
                port,
                proxy: Proxy::identifying(port, identify(&pids)).await?,
                process: Process::new("mongod", &data.join("log")),
                data,
            });
        }
        let mut set = Self {
            members,
            program,
            pids,
            shell,
        };
        set.initiate().await?;
        Ok(set)
    }

    async fn initiate(&mut self) -> Result<()> {
        for number in 0..MEMBERS {
            self.launch(number)?;
        }
        for number in 0..MEMBERS {
            self.answers(number).await?;
        }
        let members: Vec<Value> = (self.members.iter().enumerate())
            .map(|(number, member)| {
                let host = format!("127.0.0.1:{}", member.proxy.port());
                json!({"_id": number, "host": host})
            })
            .collect();
        let settings = json!({
            "electionTimeoutMillis": 2000, "heartbeatIntervalMillis": 500, "heartbeatTimeoutSecs": 2,
        });
        let config = json!({"_id": "faults", "members": members, "settings": settings});
        wait::until("the set is initiated", PATIENCE, async || {
            // On a busy machine this may outlast the wait for its answer.
            self.ask(0, json!({"replSetInitiate": config})).await?;
            let hello = self.ask(0, json!({"hello": 1})).await?;
            Ok(hello.filter(|hello| hello["setName"].is_string()).map(drop))
        })
        .await?;
        self.primary().await?;
        self.complete().await
    }

    /// The address of the set, with a database's name.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        let hosts = self.members.iter();
        let hosts = hosts.map(|member| format!("127.0.0.1:{}", member.proxy.port()));
        let hosts = hosts.collect::<Vec<_>>().join(",");
        format!("mongodb://{hosts}/{database}?replicaSet=faults")
    }

    /// The number of the member that takes writes, as soon as there is one that the majority
    /// follows.
    ///
    /// # Errors
    /// There is none within a minute.
    pub async fn primary(&self) -> Result<usize> {
        wait::until("a primary", PATIENCE, async || {
            // Of two that hold themselves for it, one cut off, the later election is right.
            let mut found: Option<(String, usize)> = None;
            for number in 0..MEMBERS {
                let hello = self.ask(number, json!({"hello": 1})).await?;
                let primary = hello.filter(|hello| hello["isWritablePrimary"] == true);
                found = found.max(primary.map(|hello| (hello["electionId"].to_string(), number)));
            }
            Ok(found.map(|(_, number)| number))
        })
        .await
    }

    /// Waits until every member follows the set or leads it.
    ///
    /// # Errors
    /// One does not within a minute.
    pub async fn complete(&self) -> Result<()> {
        wait::until("a whole set", PATIENCE, async || {
            for number in 0..MEMBERS {
                let hello = self.ask(number, json!({"hello": 1})).await?;
                let there = hello.is_some_and(|hello| {
                    hello["isWritablePrimary"] == true || hello["secondary"] == true
                });
                if !there {
                    return Ok(None);
                }
            }
            Ok(Some(()))
        })
        .await
    }

    /// What a member answers to a command, past its proxy; `None` without a good answer in two
    /// seconds. `$db` in it names the database if that is not `admin`.
    ///
    /// # Errors
    /// There is no way to ask.
    pub async fn ask(&self, member: usize, command: Value) -> Result<Option<Value>> {
        self.shell.ask(self.members[member].port, &command).await
    }

    /// SIGKILL to a member. What it had in its journal stays.
    ///
    /// # Errors
    /// It does not run.
    pub fn kill(&mut self, member: usize) -> Result<()> {
        self.members[member].process.kill()?;
        self.note(member);
        Ok(())
    }

    /// Starts a member again on its data, and waits until it answers.
    ///
    /// # Errors
    /// It runs already, or does not answer.
    pub async fn restart(&mut self, member: usize) -> Result<()> {
        self.launch(member)?;
        self.answers(member).await
    }

    /// SIGSTOP to a member: it stands still until [`MongoSet::resume`].
    ///
    /// # Errors
    /// It does not run.
    pub fn pause(&self, member: usize) -> Result<()> {
        self.members[member].process.pause()
    }

    /// SIGCONT, after [`MongoSet::pause`].
    ///
    /// # Errors
    /// It does not run.
    pub fn resume(&self, member: usize) -> Result<()> {
        self.members[member].process.resume()
    }

    /// Has the primary step down for ten seconds, and returns which it was.
    ///
    /// # Errors
    /// It refuses.
    pub async fn step_down(&self) -> Result<usize> {
        let primary = self.primary().await?;
        let command = json!({"replSetStepDown": 10, "secondaryCatchUpPeriodSecs": 5});
        let answer = self.ask(primary, command).await?;
        ensure!(answer.is_some(), "member {primary} does not step down");
        Ok(primary)
    }

    /// Resets the connections between a member and its peers, and those that they try to make,
    /// until [`MongoSet::heal`]. Clients still reach it. In silence it would be the same but for
    /// the half minute that a member takes to look for another one to follow.
    pub fn isolate(&self, member: usize) {
        for (number, other) in self.members.iter().enumerate() {
            if number == member {
                let peers = (0..MEMBERS).filter(|peer| *peer != member);
                other.proxy.bar(peers);
            } else {
                other.proxy.bar([member]);
            }
        }
    }

    /// Ends what the proxies were told to do.
    pub fn heal(&self) {
        self.proxies().for_each(Proxy::heal);
    }

    /// The proxies before the members. Their peers come through them too.
    pub fn proxies(&self) -> impl Iterator<Item = &Proxy> {
        self.members.iter().map(|member| &member.proxy)
    }

    /// Shows a watch what passes between anybody and the members.
    pub fn set_watch(&self, watch: &Watch) {
        self.proxies().for_each(|proxy| proxy.set_watch(watch));
    }

    fn launch(&mut self, number: usize) -> Result<()> {
        let member = &mut self.members[number];
        let mut command = Command::new(&self.program);
        command
            .args(["--replSet", "faults", "--bind_ip", "127.0.0.1"])
            .args(["--port", &member.port.to_string(), "--nounixsocket"])
            .args(["--wiredTigerCacheSizeGB", "0.25", "--oplogSize", "64"])
            .args(["--setParameter", "enableTestCommands=1"])
            // A member finds sooner that whom it follows stands still.
            .args(["--setParameter", "oplogNetworkTimeoutBufferSeconds=1"])
            .args(["--setParameter", "oplogInitialFindMaxSeconds=2"])
            .args(["--setParameter", "diagnosticDataCollectionEnabled=false"])
            .arg("--dbpath")
            .arg(&member.data);
        member.process.start(&mut command)?;
        self.note(number);
        Ok(())
    }

    async fn answers(&mut self, number: usize) -> Result<()> {
        wait::until("mongod answers", PATIENCE, async || {
            self.members[number].process.check()?;
            Ok(self.ask(number, json!({"ping": 1})).await?.map(drop))
        })
        .await
    }

    /// Lets the proxies know the member's process.
    fn note(&self, number: usize) {
        let mut pids = self.pids.lock().unwrap_or_else(PoisonError::into_inner);
        pids[number] = self.members[number].process.pid();
    }
}

/// A dialer's number is that of the member.
fn identify(pids: &Pids) -> Identify {
    let pids = Arc::clone(pids);
    Arc::new(move |ports| {
        let pids = *pids.lock().unwrap_or_else(PoisonError::into_inner);
        let running = pids.iter().enumerate();
        dialer(
            ports,
            running.filter_map(|(number, pid)| Some((number, (*pid)?))),
        )
    })
}
