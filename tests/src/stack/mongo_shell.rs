//! Commands to single members of a replica set, through a process of Python with PyMongo: a
//! driver in this package would be one more user of the driver under test.

use std::path::Path;
use std::process::Stdio;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::Mutex;

const PROGRAM: &str = include_str!("mongo_shell.py");

/// Ends when it is dropped.
#[derive(Debug)]
pub(super) struct MongoShell(Mutex<Pipes>);

#[derive(Debug)]
struct Pipes {
    commands: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
    asked: u64,
    _process: Child,
}

impl MongoShell {
    /// `mongod` is that of `tests/services`, which has PyMongo beside it.
    pub(super) fn start(mongod: &str, directory: &Path) -> Result<Self> {
        let cache = Path::new(mongod).ancestors().nth(2);
        let cache = cache.context("the folder of mongod's cache")?;
        let mut process = Command::new("python3")
            .args(["-c", PROGRAM])
            .env("PYTHONPATH", cache.join("python"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(std::fs::File::create(directory.join("shell.log"))?)
            .kill_on_drop(true)
            .spawn()
            .context("start python3")?;
        let output = process.stdout.take().context("its output")?;
        Ok(Self(Mutex::new(Pipes {
            commands: process.stdin.take().context("its input")?,
            answers: BufReader::new(output).lines(),
            asked: 0,
            _process: process,
        })))
    }

    /// What a member answers, past its proxy; `None` without a good answer in two seconds.
    pub(super) async fn ask(&self, port: u16, command: &Value) -> Result<Option<Value>> {
        let mut pipes = self.0.lock().await;
        pipes.asked += 1;
        let number = pipes.asked;
        let line = format!(
            "{}\n",
            json!([number, format!("127.0.0.1:{port}"), command])
        );
        pipes.commands.write_all(line.as_bytes()).await?;
        loop {
            let line = pipes.answers.next_line().await?;
            let line = line.context("PyMongo is missing: see tests/services")?;
            let answer: (u64, Option<Value>) = serde_json::from_str(&line)?;
            // An answer to somebody who did not wait for it comes first.
            if answer.0 == number {
                return Ok(answer.1);
            }
        }
    }
}
