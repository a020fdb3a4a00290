//! The walk-through of README.md, and its system of several processes, command by command.
//!
//! All `sh` blocks go through one shell, in order, but for those that start with `cargo run`:
//! the server and the listener, which run beside it. A `json` or `text` block shows what the
//! block before it prints; one marked `server` or `listener`, what that one prints from there on.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;
use tidings_tests::services::{MONGODB, NGINX, RABBITMQ, REDIS, address};
use tidings_tests::{server, started, wait};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

const README: &str = include_str!("../README.md");
const REPOSITORY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
const ADDRESS: &str = "127.0.0.1:8080";
const PROGRAM: &str = "cargo run --release";
/// For one line of output.
const DEADLINE: Duration = Duration::from_secs(30);
/// What the shell prints when it is through with a block.
const DONE: &str = "----- done -----";

#[tokio::test]
async fn every_command_of_the_walk_through_does_what_the_readme_shows() -> anyhow::Result<()> {
    let blocks = blocks(section(README, "## Walk-through")?);
    let place = Place::new()?;
    let mut shell = place.spawn("exec bash -eu")?;
    let mut server = None;
    let mut listener = None;
    let mut printed = Vec::new();
    for block in blocks {
        let context = || format!("in the block\n{}", block.text);
        match block.info {
            "sh" if block.text == PROGRAM => {
                server = Some(place.spawn(&block.text)?);
            }
            "sh" if block.text.starts_with(PROGRAM) => {
                listener = Some(place.spawn(&block.text)?);
            }
            "sh" => {
                let script = place.adapt(&block.text);
                printed = shell.run(&script).await.with_context(context)?;
            }
            "json" => show_same(&block.text, &printed, matches_json).with_context(context)?,
            "text" => show_same(&block.text, &printed, matches_text).with_context(context)?,
            "text server" => {
                let server = server.as_mut().context("nobody serves yet")?;
                let line = place.adapt(&block.text);
                server
                    .wait_for(&line, matches_text)
                    .await
                    .with_context(context)?;
                place.wait_until_ready().await?;
            }
            "json listener" => {
                let listener = listener.as_mut().context("nobody listens yet")?;
                for expected in block.text.lines() {
                    let shown = listener.wait_for(expected, matches_json);
                    shown.await.with_context(context)?;
                }
            }
            other => bail!("a block of the walk-through is marked `{other}`"),
        }
    }
    ensure!(server.is_some(), "the walk-through starts no server");
    ensure!(listener.is_some(), "the walk-through does not listen");
    Ok(())
}

#[tokio::test]
async fn the_several_processes_of_the_readme_serve() -> anyhow::Result<()> {
    let services = started!(Services::find());
    let place = Place::new()?;
    symlink(
        Path::new(REPOSITORY).join("docker"),
        place.directory.join("docker"),
    )?;
    let mut shell = place.spawn("exec bash -eu")?;
    // Whatever happens, the processes end before their shell does.
    shell.run("trap 'kill $(jobs -p)' EXIT").await?;
    let shown = several_processes(&services, &mut shell).await;
    shell.run("kill $(jobs -p); wait").await?;
    shown
}

async fn several_processes(services: &Services, shell: &mut Running) -> anyhow::Result<()> {
    let mut printed = Vec::new();
    for block in blocks(section(README, "## Several processes")?) {
        let context = || format!("in the block\n{}", block.text);
        match block.info {
            "sh" if block.text.starts_with("cargo build") => {}
            "sh" => {
                let script = services.adapt(&block.text);
                printed = shell.run(&script).await.with_context(context)?;
            }
            "json" => show_same(&block.text, &printed, matches_json).with_context(context)?,
            other => bail!("a block about several processes is marked `{other}`"),
        }
    }
    Ok(())
}

/// The services of the tests, with free ports for the processes.
struct Services {
    replacements: Vec<(String, String)>,
}

impl Services {
    fn find() -> anyhow::Result<Self> {
        let mongodb = address(MONGODB)?;
        let database = format!("/readme_{}?", std::process::id());
        let nginx = address(NGINX)?;
        let programs = server::program("tidings-api")?;
        let programs = Path::new(programs.as_std().get_program()).parent();
        let programs = programs.context("a program is in a directory")?;
        let mut replacements = vec![
            (
                "mongodb://127.0.0.1:27017/tidings?replicaSet=rs0".to_owned(),
                mongodb.replacen("/?", &database, 1),
            ),
            (
                "amqp://guest:guest@127.0.0.1:5672/%2f".to_owned(),
                address(RABBITMQ)?,
            ),
            ("redis://127.0.0.1:6379/0".to_owned(), address(REDIS)?),
            ("/usr/sbin nginx".to_owned(), format!("/usr/sbin {nginx}")),
            (
                "target/release/".to_owned(),
                format!("{}/", programs.display()),
            ),
        ];
        for port in [8000, 8080, 8090, 8081, 8091, 8082, 8092] {
            replacements.push((port.to_string(), server::free_port()?.to_string()));
        }
        Ok(Self { replacements })
    }

    /// The commands with these services and ports, but for the port that nginx's file names.
    fn adapt(&self, commands: &str) -> String {
        const SHIPPED: &str = "s/listen 8080/";
        let kept = commands.replace(SHIPPED, "SHIPPED");
        let adapted = self.replacements.iter();
        adapted
            .fold(kept, |text, (from, to)| text.replace(from, to))
            .replace("SHIPPED", SHIPPED)
    }
}

/// Where the walk-through takes place: a directory and a port of its own.
struct Place {
    directory: PathBuf,
    program: PathBuf,
    address: String,
}

impl Place {
    fn new() -> anyhow::Result<Self> {
        Ok(Self {
            directory: server::new_directory()?,
            program: server::program("tidings")?.as_std().get_program().into(),
            address: format!("127.0.0.1:{}", server::free_port()?),
        })
    }

    /// The command with this place's program and address.
    fn adapt(&self, command: &str) -> String {
        let program = format!("exec '{}'", self.program.display());
        command
            .replace(&format!("{PROGRAM} -- "), &format!("{program} "))
            .replace(PROGRAM, &program)
            .replace(ADDRESS, &self.address)
    }

    fn spawn(&self, command: &str) -> anyhow::Result<Running> {
        let mut bash = Command::new("bash");
        for (key, _) in std::env::vars_os() {
            if key.to_string_lossy().starts_with("TIDINGS__") {
                bash.env_remove(key);
            }
        }
        let mut child = bash
            .args(["-c", &self.adapt(command)])
            .current_dir(&self.directory)
            .env("TIDINGS__LISTEN", &self.address)
            .env("NO_PROXY", "127.0.0.1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("start bash")?;
        let input = child.stdin.take().context("its input is piped")?;
        let output = child.stdout.take().context("its output is piped")?;
        Ok(Running {
            _child: child,
            input,
            output: BufReader::new(output).lines(),
        })
    }

    /// The address is printed when the listener is open; all that is behind it may take a
    /// moment longer.
    async fn wait_until_ready(&self) -> anyhow::Result<()> {
        let url = format!("http://{}/readyz", self.address);
        let http = reqwest::Client::builder().no_proxy().build()?;
        wait::until("ready", DEADLINE, async || {
            let ready = http.get(&url).send().await?.status().is_success();
            Ok(ready.then_some(()))
        })
        .await
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // Best effort: the system clears what is left.
        drop(std::fs::remove_dir_all(&self.directory));
    }
}

/// A program and its ends of the pipes. Dropping it kills it.
struct Running {
    _child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

impl Running {
    async fn line(&mut self) -> anyhow::Result<String> {
        let line = tokio::time::timeout(DEADLINE, self.output.next_line()).await;
        line.context("no output in time")??
            .context("the program has ended")
    }

    /// Feeds a shell and returns what the commands print.
    async fn run(&mut self, script: &str) -> anyhow::Result<Vec<String>> {
        let fed = format!("{script}\necho '{DONE}'\n");
        self.input.write_all(fed.as_bytes()).await?;
        let mut printed = Vec::new();
        loop {
            match self.line().await? {
                line if line == DONE => return Ok(printed),
                line => printed.push(line),
            }
        }
    }

    /// Reads on to the line that `expected` shows. What comes before it may be anything: a
    /// login is told to the user's other connections, sooner or later.
    async fn wait_for(&mut self, expected: &str, matches: Matches) -> anyhow::Result<()> {
        loop {
            let line = self.line().await?;
            if matches(expected, &line)? {
                return Ok(());
            }
            eprintln!("not what was waited for: {line}");
        }
    }
}

/// A fenced block: what stands behind the fence, and the lines up to the closing one.
struct Block<'a> {
    info: &'a str,
    text: String,
}

fn section<'a>(text: &'a str, heading: &str) -> anyhow::Result<&'a str> {
    let (_, rest) = text
        .split_once(&format!("\n{heading}\n"))
        .with_context(|| format!("no heading `{heading}`"))?;
    Ok(rest
        .split_once("\n## ")
        .map_or(rest, |(section, _)| section))
}

fn blocks(text: &str) -> Vec<Block<'_>> {
    let mut found = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if let Some(info) = line.strip_prefix("```") {
            let body: Vec<_> = lines.by_ref().take_while(|line| *line != "```").collect();
            let text = body.join("\n");
            found.push(Block { info, text });
        }
    }
    found
}

/// Whether a line is what the README shows.
type Matches = fn(&str, &str) -> anyhow::Result<bool>;

fn show_same(expected: &str, printed: &[String], matches: Matches) -> anyhow::Result<()> {
    let mut same = expected.lines().count() == printed.len();
    for (expected, printed) in expected.lines().zip(printed) {
        same &= matches(expected, printed)?;
    }
    ensure!(same, "printed instead:\n{}", printed.join("\n"));
    Ok(())
}

fn matches_text(expected: &str, printed: &str) -> anyhow::Result<bool> {
    Ok(is_like(expected, printed))
}

fn matches_json(expected: &str, printed: &str) -> anyhow::Result<bool> {
    let expected = serde_json::from_str(expected).context("the README shows invalid JSON")?;
    let printed = serde_json::from_str(printed).with_context(|| printed.to_owned())?;
    Ok(is_same("", &expected, &printed))
}

/// Equal, where `…` in a text or a field's name stands for anything, and for what is left of
/// a session after a few seconds.
fn is_same(field: &str, expected: &Value, printed: &Value) -> bool {
    match (expected, printed) {
        (Value::String(expected), Value::String(printed)) => is_like(expected, printed),
        (Value::Array(expected), Value::Array(printed)) => {
            let mut pairs = expected.iter().zip(printed);
            expected.len() == printed.len() && pairs.all(|(a, b)| is_same("", a, b))
        }
        (Value::Object(expected), Value::Object(printed)) => {
            expected.len() == printed.len()
                && expected.iter().all(|(name, expected)| {
                    printed.iter().any(|(candidate, printed)| {
                        is_like(name, candidate) && is_same(name, expected, printed)
                    })
                })
        }
        (Value::Number(expected), Value::Number(printed)) if field == "session_expires_in" => {
            let left = |number: &serde_json::Number| number.as_u64().unwrap_or_default();
            (left(expected) / 2..=left(expected)).contains(&left(printed))
        }
        _ => expected == printed,
    }
}

fn is_like(pattern: &str, text: &str) -> bool {
    match pattern.split_once('…') {
        None => pattern == text,
        Some((start, end)) => text
            .strip_prefix(start)
            .is_some_and(|rest| rest.ends_with(end)),
    }
}

#[test]
fn what_the_readme_leaves_open_may_differ_and_nothing_else() {
    let same = |expected, printed| matches_json(expected, printed).unwrap();
    assert!(same(r#"{"id":"…","seq":1}"#, r#"{"seq":1,"id":"0197"}"#));
    assert!(same(r#"{"heads":{"c:…":1}}"#, r#"{"heads":{"c:0197":1}}"#));
    assert!(same(
        r#"{"session_expires_in":900}"#,
        r#"{"session_expires_in":899}"#
    ));
    for (expected, printed) in [
        (r#"{"id":"…","seq":1}"#, r#"{"id":"0197","seq":2}"#),
        (r#"{"id":"…"}"#, r#"{"id":"0197","seq":2}"#),
        (r#"{"id":"…"}"#, r#"{"id":null}"#),
        (r#"{"heads":{"c:…":1}}"#, r#"{"heads":{"g:0197":1}}"#),
        (r#"["a"]"#, r#"["a","b"]"#),
        (
            r#"{"session_expires_in":900}"#,
            r#"{"session_expires_in":901}"#,
        ),
    ] {
        assert!(!same(expected, printed), "{expected} {printed}");
    }
}
