//! The broker under test, seen from outside the bus.

use std::num::NonZeroU16;
use std::process::Output;

use lapin::options::{QueueDeclareOptions, QueueDeleteOptions};
use lapin::protocol::{AMQPErrorKind, AMQPSoftError};
use lapin::types::FieldTable;
use lapin::{Connection, ConnectionProperties, ErrorKind};

use super::super::*;

/// A second connection to the broker, and this test's own names.
pub(super) struct Admin {
    url: String,
    connection: Connection,
    prefix: String,
    deployment: DeploymentId,
    pub(super) exchanges: NonZeroU16,
}

impl Admin {
    /// None, after saying so, where no broker is named: an error on a machine that checks.
    pub(super) async fn connect() -> Option<Self> {
        #[expect(clippy::disallowed_methods, reason = "which services a test may use")]
        let (url, ci) = (
            std::env::var("TIDINGS_TEST_RABBITMQ_URL"),
            std::env::var("CI"),
        );
        let Ok(url) = url else {
            assert_ne!(
                ci.as_deref(),
                Ok("true"),
                "TIDINGS_TEST_RABBITMQ_URL is not set"
            );
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
            count += usize::from(self.exists(&name).await);
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

    /// Runs `rabbitmqctl`, or what `TIDINGS_TEST_RABBITMQCTL` names, and returns what it prints.
    pub(super) async fn ctl(&self, arguments: &[&str]) -> String {
        #[expect(clippy::disallowed_methods, reason = "which services a test may use")]
        let program = std::env::var("TIDINGS_TEST_RABBITMQCTL");
        let program = program.unwrap_or_else(|_| "rabbitmqctl".to_owned());
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

    /// Bindings of this test's queues to its own exchanges.
    pub(super) async fn bindings(&self) -> Vec<String> {
        let listed = self.ctl(&[
            "-q",
            "list_bindings",
            "source_name",
            "destination_name",
            "routing_key",
        ]);
        let listed = listed.await;
        let own = listed.lines().filter(|line| line.starts_with(&self.prefix));
        let mut own: Vec<String> = own.map(str::to_owned).collect();
        own.sort();
        own
    }
}
