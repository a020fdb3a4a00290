//! A Redis of a test's own.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::process::Process;
use crate::server::free_port;
use crate::services::{self, REDIS};
use crate::wait::{self, SOON};

/// Keeps nothing: what it held is gone when it is killed.
#[derive(Debug)]
pub struct Redis {
    port: u16,
    process: Process,
}

impl Redis {
    /// # Errors
    /// Tests have no Redis, or it does not start.
    pub(super) async fn begin(directory: &Path) -> Result<Self> {
        // The program is there if the service is.
        services::address(REDIS)?;
        let mut redis = Self {
            port: free_port()?,
            process: Process::new("redis", &directory.join("redis.log")),
        };
        redis.start().await?;
        Ok(redis)
    }

    /// The port of 127.0.0.1 where it listens.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Starts it on its port, empty, and waits until it serves.
    ///
    /// # Errors
    /// It runs already, or does not serve.
    pub async fn start(&mut self) -> Result<()> {
        let port = self.port.to_string();
        let mut command = Command::new("redis-server");
        command.args(["--port", &port, "--bind", "127.0.0.1"]);
        command.args(["--save", "", "--appendonly", "no"]);
        self.process.start(&mut command)?;
        wait::until("redis serves", SOON, async || {
            self.process.check()?;
            let answer = ask(self.port, "PING").await;
            Ok(answer.ok().filter(|answer| answer.starts_with("+PONG")))
        })
        .await?;
        Ok(())
    }

    /// SIGKILL.
    ///
    /// # Errors
    /// It does not run.
    pub fn kill(&mut self) -> Result<()> {
        self.process.kill()
    }

    /// SIGSTOP: it stands still until [`Redis::resume`], its connections stay open.
    ///
    /// # Errors
    /// It does not run.
    pub fn pause(&self) -> Result<()> {
        self.process.pause()
    }

    /// SIGCONT, after [`Redis::pause`].
    ///
    /// # Errors
    /// It does not run.
    pub fn resume(&self) -> Result<()> {
        self.process.resume()
    }

    /// Forgets all keys.
    ///
    /// # Errors
    /// It does not serve.
    pub async fn flush(&self) -> Result<()> {
        let answer = ask(self.port, "FLUSHALL").await?;
        ensure!(answer.starts_with("+OK"), "{answer}");
        Ok(())
    }
}

/// The answer to a command of one word.
async fn ask(port: u16, command: &str) -> Result<String> {
    let asking = async {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
        stream
            .write_all(format!("{command}\r\n").as_bytes())
            .await?;
        let mut answer = vec![0; 1024];
        let length = stream.read(&mut answer).await?;
        answer.truncate(length);
        anyhow::Ok(String::from_utf8(answer)?)
    };
    tokio::time::timeout(SOON, asking).await?
}
