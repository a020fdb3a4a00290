//! The broker under test, seen from outside the bus.

use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::process::Output;

use lapin::options::{QueueDeclareOptions, QueueDeleteOptions};
use lapin::protocol::{AMQPErrorKind, AMQPSoftError};
use lapin::types::FieldTable;
use lapin::uri::AMQPUri;
use lapin::{Connection, ConnectionProperties, ErrorKind};

use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::super::topology::lost;
use super::super::*;

/// A second connection to the broker, and this test's own names.
pub(super) struct Admin {
    url: String,
    connection: Connection,
    prefix: String,
    deployment: DeploymentId,
    pub(super) exchanges: NonZeroU16,
    _turn: Turn,
}

/// An alarm concerns everyone who publishes to the broker.
static TURN: RwLock<()> = RwLock::const_new(());

/// Held for as long as a test runs.
#[expect(dead_code, reason = "held, never read")]
enum Turn {
    Shared(RwLockReadGuard<'static, ()>),
    Alone(RwLockWriteGuard<'static, ()>),
}

impl Admin {
    /// None, after saying so, where no broker is named.
    pub(super) async fn connect() -> Option<Self> {
        Self::with(Turn::Shared(TURN.read().await)).await
    }

    /// Waits until no other test of this process uses the broker. (Those of other processes are
    /// kept away by the test runner's configuration.)
    pub(super) async fn alone() -> Option<Self> {
        Self::with(Turn::Alone(TURN.write().await)).await
    }

    async fn with(turn: Turn) -> Option<Self> {
        let Some(url) = variable("TIDINGS_TEST_RABBITMQ_URL") else {
            println!("skipped: TIDINGS_TEST_RABBITMQ_URL is not set");
            return None;
        };
        let connection = Connection::connect(&url, ConnectionProperties::default());
        let deployment = DeploymentId::generate();
        Some(Self {
            connection: connection.await.expect("the broker should be there"),
            url,
            prefix: format!("test-{deployment}"),
            deployment,
            exchanges: NonZeroU16::new(2).unwrap(),
            _turn: turn,
        })
    }

    pub(super) fn config(&self, limits: ConsumerLimits) -> RabbitMqConfig {
        RabbitMqConfig {
            urls: vec![self.url.clone().into()],
            prefix: self.prefix.clone(),
            partitions: NonZeroU16::new(8).unwrap(),
            exchanges: self.exchanges,
            deployment: self.deployment,
            limits,
        }
    }

    pub(super) async fn channel(&self) -> lapin::Channel {
        self.connection.create_channel().await.unwrap()
    }

    pub(super) async fn delete_queue_of(&self, bus: &RabbitMqBus, server: ServerId) {
        for name in self.names(bus, &[server]) {
            if self.exists(&name).await && name.contains(".ws.") {
                let options = QueueDeleteOptions::default();
                let channel = self.channel().await;
                channel.queue_delete(name.into(), options).await.unwrap();
            }
        }
    }

    /// How many there are of these servers' queues and of the queues of control subscribers.
    pub(super) async fn count_queues(&self, bus: &RabbitMqBus, servers: &[ServerId]) -> usize {
        let mut count = 0;
        for name in self.names(bus, servers) {
            let exists = self.exists(&name).await || self.exists(&lost(&name)).await;
            count += usize::from(exists);
        }
        count
    }

    /// What this run of the bus may have named its queues.
    fn names(&self, bus: &RabbitMqBus, servers: &[ServerId]) -> Vec<String> {
        let topology = &bus.broker.codec.topology;
        let mut names = Vec::new();
        for subscription in 1..=bus.subscriptions.load(Ordering::Relaxed) {
            let boot = format!("{}-{subscription}", bus.boot);
            let of_servers = servers
                .iter()
                .map(|server| topology.server_queue(*server, &boot));
            names.extend(of_servers);
            names.push(topology.control_queue(&boot));
        }
        names.iter().map(|name| format!("{name}.1")).collect()
    }

    async fn exists(&self, name: &str) -> bool {
        let passive = QueueDeclareOptions {
            passive: true,
            ..QueueDeclareOptions::default()
        };
        let declared = self
            .channel()
            .await
            .queue_declare(name.into(), passive, FieldTable::default())
            .await;
        match declared.as_ref().map_err(lapin::Error::kind) {
            Ok(_) => true,
            Err(ErrorKind::ProtocolError(error)) => match error.kind() {
                AMQPErrorKind::Soft(AMQPSoftError::NOTFOUND) => false,
                // It is exclusive to another connection.
                AMQPErrorKind::Soft(AMQPSoftError::RESOURCELOCKED) => true,
                _ => panic!("{declared:?}"),
            },
            Err(_) => panic!("{declared:?}"),
        }
    }

    pub(super) fn address(&self) -> SocketAddr {
        let uri: AMQPUri = self.url.parse().unwrap();
        let ip = uri.authority.host.parse().expect("an IP address");
        SocketAddr::new(ip, uri.authority.port)
    }

    /// The same broker, reached elsewhere.
    pub(super) fn url_at(&self, address: SocketAddr) -> SecretString {
        let there = self.address().to_string();
        self.url.replace(&there, &address.to_string()).into()
    }

    /// Whether the broker can be administered: an error on a machine that checks.
    #[expect(
        clippy::unused_self,
        reason = "only with a broker is there something to say"
    )]
    pub(super) fn has_ctl(&self) -> bool {
        let named = variable("TIDINGS_TEST_RABBITMQCTL").is_some();
        if !named {
            println!("skipped: TIDINGS_TEST_RABBITMQCTL is not set");
        }
        named
    }

    /// Has the broker close this test's connections, all but this one.
    pub(super) async fn close_connections(&self) {
        let own = format!(
            "[rabbit_networking:close_connection(Pid, \"test\") || \
              Pid <- rabbit_networking:connections(), \
              [{{client_properties, All}}] <- [rabbit_reader:info(Pid, [client_properties])], \
              {{_, _, Name}} <- [lists:keyfind(<<\"connection_name\">>, 1, All)], \
              binary:match(Name, <<\"{}\">>) =/= nomatch].",
            self.prefix
        );
        ctl(&["eval", &own]).await;
    }

    /// Of this test's exchanges.
    pub(super) async fn bindings(&self) -> Vec<String> {
        let columns = ["source_name", "destination_name", "routing_key"];
        self.list("list_bindings", &columns).await
    }

    pub(super) async fn queues(&self) -> Vec<String> {
        let columns = ["name", "durable", "exclusive", "auto_delete", "arguments"];
        self.list("list_queues", &columns).await
    }

    async fn list(&self, what: &str, columns: &[&str]) -> Vec<String> {
        let options = ["-q", "--no-table-headers", what];
        let listed = ctl(&[&options, columns].concat()).await;
        let own = listed.lines().filter(|line| line.starts_with(&self.prefix));
        own.map(str::to_owned).collect()
    }

    pub(super) async fn raise_memory_alarm(&self) -> MemoryAlarm {
        let alarm = MemoryAlarm;
        ctl(&["set_vm_memory_high_watermark", "0.0000001"]).await;
        alarm
    }
}

/// The broker believes to be short of memory, until this is dropped.
pub(super) struct MemoryAlarm;

/// RabbitMQ's default, as a part of the machine's memory.
const WATERMARK: [&str; 2] = ["set_vm_memory_high_watermark", "0.4"];

impl MemoryAlarm {
    pub(super) async fn clear(self) {
        ctl(&WATERMARK).await;
    }
}

impl Drop for MemoryAlarm {
    fn drop(&mut self) {
        // Also when the test has failed.
        if let Some(program) = variable("TIDINGS_TEST_RABBITMQCTL") {
            drop(std::process::Command::new(program).args(WATERMARK).output());
        }
    }
}

/// Runs `rabbitmqctl` and returns what it prints.
async fn ctl(arguments: &[&str]) -> String {
    let program = variable("TIDINGS_TEST_RABBITMQCTL").expect("it was asked for before");
    let run = tokio::process::Command::new(program)
        .args(arguments)
        .output();
    let Output {
        status,
        stdout,
        stderr,
    } = run.await.unwrap();
    let stderr = String::from_utf8_lossy(&stderr);
    assert!(status.success(), "{arguments:?}: {stderr}");
    String::from_utf8(stdout).unwrap()
}

/// None where it is not set, which is an error on a machine that checks.
fn variable(name: &str) -> Option<String> {
    #[expect(clippy::disallowed_methods, reason = "which services a test may use")]
    let (value, ci) = (std::env::var(name), std::env::var("CI"));
    assert!(
        value.is_ok() || ci.as_deref() != Ok("true"),
        "{name} is not set"
    );
    value.ok()
}
