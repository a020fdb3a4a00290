//! Against a real Redis: the one of `TIDINGS_TEST_REDIS_URL`, under a prefix of each test's own,
//! and servers of the tests' own where something is done to them.

use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use deadpool_redis::redis::cmd;
use futures_util::future::join_all;
use secrecy::SecretString;
use tokio::process::{Child, Command};
use uuid::Uuid;

use super::super::contract::presence_contract;
use super::{ACKS_KEPT, CLOCK_MARGIN, CONNECTIONS, RedisPresence};
use crate::domain::{Activity, Cursor, GroupId, ServerId, SessionId, StreamId, Timestamp, UserId};
use crate::presence::{
    Acks as _, Claim, Grant, Hold, Leases as _, Liveness as _, Presence, Tickets as _,
};

const LIFETIME: Duration = Duration::from_secs(30);
const DEADLINE: Duration = Duration::from_secs(20);

#[expect(
    clippy::disallowed_methods,
    reason = "where the services of tests are is no setting"
)]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Says that a test was skipped; in CI nothing may be missing.
fn skip<T>(what: &str) -> Option<T> {
    assert_ne!(variable("CI").as_deref(), Some("true"), "{what} is missing");
    eprintln!("skipped: {what} is missing");
    None
}

fn shared() -> Option<RedisPresence> {
    let Some(url) = variable("TIDINGS_TEST_REDIS_URL") else {
        return skip("TIDINGS_TEST_REDIS_URL");
    };
    let prefix = format!("test-{}", Uuid::new_v4());
    Some(RedisPresence::open(&SecretString::from(url), &prefix).unwrap())
}

async fn fresh_presence() -> Option<Arc<dyn Presence>> {
    Some(Arc::new(shared()?))
}

presence_contract!(fresh_presence);

fn claim(session: SessionId) -> Claim {
    Claim {
        session,
        user: UserId::generate(),
        now: Timestamp::from_millis(1),
    }
}

#[tokio::test]
async fn every_key_of_a_session_has_a_life_and_the_prefix() {
    let Some(presence) = shared() else { return };
    let session = SessionId::generate();
    let cursor = Cursor::from([(StreamId::User(UserId::generate()), 4)]);
    let group = StreamId::Group(GroupId::generate());
    presence.redeem(Uuid::now_v7(), LIFETIME).await.unwrap();
    presence.record(session, &cursor).await.unwrap();
    presence
        .take(group, claim(session), LIFETIME, false)
        .await
        .unwrap();

    let keys = keys(&presence).await;
    assert_eq!(keys.len(), 3, "{keys:?}");
    for key in keys {
        let most = if key.contains(":ticket:") {
            LIFETIME + CLOCK_MARGIN
        } else if key.contains(":lease:") {
            LIFETIME
        } else {
            ACKS_KEPT
        };
        let mut life = cmd("PTTL");
        life.arg(&key);
        let life = Duration::from_millis(presence.call(life).await.unwrap());
        assert!(life <= most, "{key}: {life:?}");
        assert!(life > most - DEADLINE, "{key}: {life:?}");
    }
}

async fn keys(presence: &RedisPresence) -> Vec<String> {
    let mut keys = cmd("KEYS");
    keys.arg(format!("{}:*", presence.prefix));
    let mut keys: Vec<String> = presence.call(keys).await.unwrap();
    keys.sort_unstable();
    keys
}

/// In seconds; -1: it has none.
async fn life(presence: &RedisPresence, key: &str) -> i64 {
    let mut life = cmd("TTL");
    life.arg(format!("{}:{key}", presence.prefix));
    presence.call(life).await.unwrap()
}

#[tokio::test]
async fn what_is_kept_of_who_is_there_goes_with_the_servers() {
    let Some(presence) = shared() else { return };
    let (server, user) = (ServerId::generate(), UserId::generate());
    let lifetime = Duration::from_secs(20);
    presence.begin(server, lifetime).await.unwrap();
    let record = async |activity| {
        let hold = Hold {
            user,
            activity,
            left_ago: Duration::ZERO,
        };
        presence.hold(server, &[hold]).await.unwrap().unwrap();
    };
    record(Some(Activity::Active)).await;
    let name = |what: &str| format!("{}:{what}", presence.prefix);
    let (of_server, of_user) = (format!("server:{server}"), format!("user:{user}"));
    let held = format!("held:{server}");
    let mut expected = [&held, &of_server, "servers", &of_user].map(name);
    expected.sort_unstable();
    assert_eq!(keys(&presence).await, expected);
    assert!((15..=20).contains(&life(&presence, &of_server).await));
    assert_eq!(life(&presence, &of_user).await, -1);

    record(None).await;
    let month = life(&presence, &of_user).await;
    assert!((29 * 86_400..=30 * 86_400).contains(&month), "{month}");
    record(Some(Activity::Away)).await;
    assert_eq!(life(&presence, &of_user).await, -1);

    let mut dies = cmd("DEL");
    dies.arg(name(&of_server));
    let _: i64 = presence.call(dies).await.unwrap();
    presence.bury(10).await.unwrap();
    assert_eq!(keys(&presence).await, [name(&of_user)]);
    assert!(life(&presence, &of_user).await > 0);
}

#[tokio::test]
async fn a_call_for_the_session_prolongs_its_life() {
    let Some(presence) = shared() else { return };
    let session = SessionId::generate();
    let cursor = Cursor::from([(StreamId::User(UserId::generate()), 4)]);
    presence.record(session, &cursor).await.unwrap();
    let mut shortened = cmd("PEXPIRE");
    shortened.arg(presence.acks(session)).arg(60_000);
    let _: i64 = presence.call(shortened).await.unwrap();
    presence.record(session, &Cursor::new()).await.unwrap();
    let mut life = cmd("PTTL");
    life.arg(presence.acks(session));
    let life: u64 = presence.call(life).await.unwrap();
    assert!(life > 24 * 3_600_000, "{life}");
}

#[tokio::test]
async fn an_address_that_is_none_is_refused_without_its_password() {
    let url = SecretString::from("http://:hunter2@cache");
    let error = RedisPresence::open(&url, "tidings").unwrap_err();
    let shown = format!("{error} {error:?}");
    assert!(!shown.contains("hunter2"), "{shown}");
}

/// A Redis of one test's own. It listens on a socket in a directory that is gone afterwards.
struct Server {
    directory: PathBuf,
    process: Option<Child>,
}

impl Server {
    async fn start() -> Option<Self> {
        let mut server = Self::away();
        server.run().await.then_some(server)
    }

    /// One that has not been started.
    fn away() -> Self {
        let directory = std::env::temp_dir().join(format!("tidings-redis-{}", Uuid::new_v4()));
        std::fs::create_dir(&directory).unwrap();
        Self {
            directory,
            process: None,
        }
    }

    /// False: there is no such program.
    async fn run(&mut self) -> bool {
        let process = Command::new("redis-server")
            .args(["--port", "0", "--save", "", "--unixsocket", "socket"])
            .current_dir(&self.directory)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn();
        match process {
            Ok(process) => self.process = Some(process),
            Err(_) => return skip::<()>("the program redis-server").is_some(),
        }
        true
    }

    fn presence(&self) -> RedisPresence {
        let socket = self.directory.join("socket");
        let url = format!("redis+unix://{}", socket.display());
        RedisPresence::open(&SecretString::from(url), "tidings").unwrap()
    }

    /// `STOP` and `CONT`, as `kill` names them.
    async fn signal(&self, name: &str) {
        let pid = self.process.as_ref().unwrap().id().unwrap();
        let mut kill = Command::new("kill");
        kill.args([format!("-{name}"), pid.to_string()]);
        assert!(kill.status().await.unwrap().success());
    }

    async fn kill(&mut self) {
        self.process.take().unwrap().kill().await.unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.directory));
    }
}

async fn until_it_answers(presence: &RedisPresence) {
    let started = Instant::now();
    while presence.redeem(Uuid::now_v7(), LIFETIME).await.is_err() {
        assert!(started.elapsed() < DEADLINE, "Redis does not come back");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_redis_that_does_not_answer_costs_a_caller_less_than_a_second() {
    let Some(server) = Server::start().await else {
        return;
    };
    let presence = server.presence();
    until_it_answers(&presence).await;
    server.signal("STOP").await;
    let started = Instant::now();
    // More than there are connections.
    let calls = (0..100).map(|_| presence.redeem(Uuid::now_v7(), LIFETIME));
    for outcome in join_all(calls).await {
        outcome.unwrap_err();
    }
    let took = started.elapsed();
    assert!(took < Duration::from_secs(1), "{took:?}");
    server.signal("CONT").await;
    until_it_answers(&presence).await;
    let ticket = Uuid::now_v7();
    assert!(presence.redeem(ticket, LIFETIME).await.unwrap());
    assert!(!presence.redeem(ticket, LIFETIME).await.unwrap());
}

#[tokio::test]
async fn a_redis_that_stands_still_for_long_gathers_nothing() {
    let Some(server) = Server::start().await else {
        return;
    };
    let presence = server.presence();
    until_it_answers(&presence).await;
    let tasks = || {
        tokio::runtime::Handle::current()
            .metrics()
            .num_alive_tasks()
    };
    let files = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let before = (tasks(), files());
    server.signal("STOP").await;
    let (frozen, mut slowest, mut calls) = (Instant::now(), Duration::ZERO, 0);
    while frozen.elapsed() < Duration::from_secs(8) {
        let began = Instant::now();
        let redeemed = (0..500).map(|_| presence.redeem(Uuid::now_v7(), LIFETIME));
        for outcome in join_all(redeemed).await {
            outcome.unwrap_err();
        }
        slowest = slowest.max(began.elapsed());
        calls += 500;
    }
    let after = (tasks(), files());
    println!("{calls} calls, the slowest {slowest:?}; tasks and files {before:?}, then {after:?}");
    assert!(slowest < Duration::from_secs(4), "{slowest:?}");
    // What a connection has, and no more connections than there may be.
    assert!(after.0 <= before.0 + CONNECTIONS, "{after:?}");
    assert!(after.1 <= before.1 + CONNECTIONS, "{after:?}");
    server.signal("CONT").await;
    let back = Instant::now();
    until_it_answers(&presence).await;
    assert!(
        back.elapsed() < Duration::from_secs(5),
        "{:?}",
        back.elapsed()
    );
}

#[tokio::test]
async fn a_redis_that_was_killed_is_used_again_when_it_is_back() {
    let Some(mut server) = Server::start().await else {
        return;
    };
    let presence = server.presence();
    until_it_answers(&presence).await;
    // Several connections, all of which are lost.
    let calls = (0..8).map(|_| presence.redeem(Uuid::now_v7(), LIFETIME));
    join_all(calls).await;
    for _ in 0..3 {
        server.kill().await;
        presence.redeem(Uuid::now_v7(), LIFETIME).await.unwrap_err();
        server.run().await;
        until_it_answers(&presence).await;
        assert!(presence.redeem(Uuid::now_v7(), LIFETIME).await.unwrap());
    }
}

#[tokio::test]
async fn a_redis_that_is_away_at_the_start_is_used_when_it_comes() {
    let mut server = Server::away();
    let presence = server.presence();
    let session = SessionId::generate();
    presence.record(session, &Cursor::new()).await.unwrap_err();
    if server.run().await {
        until_it_answers(&presence).await;
        presence.record(session, &Cursor::new()).await.unwrap();
    }
}

#[tokio::test]
async fn losing_all_keys_does_no_harm() {
    let Some(server) = Server::start().await else {
        return;
    };
    let presence = server.presence();
    until_it_answers(&presence).await;
    let (session, ticket) = (SessionId::generate(), Uuid::now_v7());
    let stream = StreamId::User(UserId::generate());
    presence.redeem(ticket, LIFETIME).await.unwrap();
    let cursor = Cursor::from([(stream, 9)]);
    presence.record(session, &cursor).await.unwrap();

    let _: String = presence.call(cmd("FLUSHALL")).await.unwrap();
    assert_eq!(presence.acknowledged(session).await.unwrap(), Cursor::new());
    assert!(presence.redeem(ticket, LIFETIME).await.unwrap());
    assert!(!presence.redeem(ticket, LIFETIME).await.unwrap());
    let cursor = Cursor::from([(stream, 3)]);
    presence.record(session, &cursor).await.unwrap();
    assert_eq!(presence.acknowledged(session).await.unwrap(), cursor);

    let group = StreamId::Group(GroupId::generate());
    let take = async |session| {
        let taken = presence.take(group, claim(session), LIFETIME, false);
        taken.await.unwrap()
    };
    assert_eq!(take(session).await, Grant::New);
    let _: String = presence.call(cmd("FLUSHALL")).await.unwrap();
    assert_eq!(presence.holding(group).await.unwrap(), None);
    assert_eq!(take(SessionId::generate()).await, Grant::New);
    assert!(matches!(take(session).await, Grant::Refused(_)));
}
