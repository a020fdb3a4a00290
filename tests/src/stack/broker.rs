//! A RabbitMQ of a test's own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::process::Process;
use crate::server::free_port;
use crate::services::{self, RABBITMQCTL};
use crate::wait;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/services");
/// How long a node may take to start on a busy machine.
const PATIENCE: Duration = Duration::from_secs(90);
/// How long a command may take there.
const COMMAND: Duration = Duration::from_secs(60);
/// The node's usual share of memory before it raises an alarm.
const WATERMARK: &str = "0.4";

/// A node that keeps its ports, and its data when it is killed.
#[derive(Debug)]
pub struct Broker {
    port: u16,
    home: PathBuf,
    /// The ports of the node, of its epmd and of its distribution.
    ports: [String; 3],
    node: Process,
    /// Lives as long as this: on a machine it outlives its nodes too.
    epmd: Process,
}

impl Broker {
    /// # Errors
    /// Tests have no RabbitMQ, or it does not start.
    pub(super) async fn begin(directory: &Path) -> Result<Self> {
        services::address(RABBITMQCTL)?;
        let home = directory.join("rabbitmq");
        fs::create_dir_all(&home)?;
        let (port, epmd_port) = (free_port()?, free_port()?);
        let mut broker = Self {
            port,
            ports: [port, epmd_port, free_port()?].map(|port| port.to_string()),
            node: Process::new("rabbitmq", &home.join("node.log")),
            epmd: Process::new("epmd", &home.join("epmd.log")),
            home,
        };
        let mut epmd = broker.command("epmd");
        broker.epmd.start(&mut epmd)?;
        wait::until("epmd listens", PATIENCE, async || {
            broker.epmd.check()?;
            Ok(TcpStream::connect(("127.0.0.1", epmd_port)).await.ok())
        })
        .await?;
        broker.start().await?;
        Ok(broker)
    }

    /// The port of 127.0.0.1 where it listens.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Starts the node on its ports and its data, and waits until it takes connections.
    ///
    /// # Errors
    /// It runs already, or does not start.
    pub async fn start(&mut self) -> Result<()> {
        let mut server = self.command("rabbitmq-server");
        self.node.start(&mut server)?;
        wait::until("RabbitMQ listens", PATIENCE, async || {
            self.node.check()?;
            Ok(greets(self.port).await.then_some(()))
        })
        .await
    }

    /// SIGKILL to the node.
    ///
    /// # Errors
    /// It does not run.
    pub fn kill(&mut self) -> Result<()> {
        self.node.kill()
    }

    /// SIGSTOP: it stands still until [`Broker::resume`], its connections stay open.
    ///
    /// # Errors
    /// It does not run.
    pub fn pause(&self) -> Result<()> {
        self.node.pause()
    }

    /// SIGCONT, after [`Broker::pause`].
    ///
    /// # Errors
    /// It does not run.
    pub fn resume(&self) -> Result<()> {
        self.node.resume()
    }

    /// Whether it is short of memory, and blocks all who publish.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn memory_alarm(&self, on: bool) -> Result<()> {
        let share = if on { "0" } else { WATERMARK };
        self.rabbitmqctl(&["set_vm_memory_high_watermark", share])
            .await?;
        Ok(())
    }

    /// Ends all connections with an error, as an operator can.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn close_all_connections(&self) -> Result<()> {
        self.rabbitmqctl(&["close_all_connections", "a test"])
            .await?;
        Ok(())
    }

    /// What rabbitmqctl prints with these arguments.
    ///
    /// # Errors
    /// It fails.
    pub async fn rabbitmqctl(&self, arguments: &[&str]) -> Result<String> {
        let mut command = tokio::process::Command::from(self.command("rabbitmqctl"));
        let command = command.arg("--quiet").args(arguments).kill_on_drop(true);
        let output = tokio::time::timeout(COMMAND, command.output())
            .await
            .with_context(|| format!("rabbitmqctl {arguments:?} hangs"))??;
        let error = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.success(),
            "rabbitmqctl {arguments:?}: {error}"
        );
        Ok(String::from_utf8(output.stdout)?)
    }

    /// A program of RabbitMQ or Erlang for this node.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(SCRIPT);
        command.arg("broker").arg(&self.home);
        command.args(&self.ports).arg(program);
        command
    }
}

/// Whether it answers to the protocol's header. Its port is open before that.
async fn greets(port: u16) -> bool {
    let greeting = async {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
        stream.write_all(b"AMQP\0\0\x09\x01").await?;
        stream.read_u8().await
    };
    let limit = Duration::from_secs(5);
    matches!(tokio::time::timeout(limit, greeting).await, Ok(Ok(1)))
}
