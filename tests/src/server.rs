//! One process of Tidings with a directory of its own: `tidings`, or one of the three servers.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::{Child, Command};

use crate::client::{Api, Client};
use crate::wait;

/// How long a start may take, the migration of the database included.
const START: Duration = Duration::from_secs(30);
/// Outside the range from which systems take the ports of outgoing connections, so that a port
/// is still free when its server is started again.
const PORTS: std::ops::Range<u16> = 12_000..32_000;
const LOG_TAIL_LINES: usize = 60;

/// A running server, or one that was killed and can be started again on the same data. Its
/// process and its directory go when it is dropped; the end of its log goes to standard error,
/// which test runners show for tests that failed.
#[derive(Debug)]
pub struct Server {
    /// Where clients reach it; the same after a restart.
    pub api: Api,
    program: &'static str,
    port: u16,
    settings: Vec<(String, String)>,
    directory: PathBuf,
    process: Option<Child>,
}

impl Server {
    /// How many processes hold connections.
    pub const WS_PUSH_SERVERS: usize = 1;
    /// Whether nginx stands before it, which answers some requests itself.
    pub const PROXIED: bool = false;

    /// Starts everything in one process, with default settings but for cheap password hashes.
    ///
    /// # Errors
    /// It cannot be started or is not ready in time.
    pub async fn start() -> Result<Self> {
        Self::with(&[]).await
    }

    /// Starts a server with these settings besides, such as `("ws.drain_secs", "2")`.
    ///
    /// # Errors
    /// It cannot be started or is not ready in time.
    pub async fn with(settings: &[(&str, &str)]) -> Result<Self> {
        let mut server = Self::of("tidings")?;
        for (key, value) in settings {
            server.set(key, value);
        }
        server.restart().await?;
        Ok(server)
    }

    /// A server that is yet to be started.
    ///
    /// # Errors
    /// There is no free port, or no place for its files.
    pub fn of(program: &'static str) -> Result<Self> {
        raise_open_files()?;
        let port = free_port()?;
        Ok(Self {
            api: Api::new(&format!("http://127.0.0.1:{port}"))?,
            program,
            port,
            settings: Vec::new(),
            directory: new_directory()?,
            process: None,
        })
    }

    /// Sets a setting such as `ws.drain_secs` for when it is started next.
    pub fn set(&mut self, key: &str, value: &str) {
        self.settings.push((variable(key), value.to_owned()));
    }

    /// Starts the process on the data of the one before, and waits until it is ready.
    ///
    /// # Errors
    /// It cannot be started or is not ready in time.
    pub async fn restart(&mut self) -> Result<()> {
        self.launch()?;
        self.ready().await
    }

    /// Starts the process and does not wait.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn launch(&mut self) -> Result<()> {
        ensure!(self.process.is_none(), "the server is still running");
        let child = self.command()?.spawn();
        self.process = Some(child.with_context(|| format!("start {}", self.program))?);
        Ok(())
    }

    /// Waits until the server is ready.
    ///
    /// # Errors
    /// It has ended, or is not ready in time.
    pub async fn ready(&mut self) -> Result<()> {
        wait::until("ready", START, async || {
            let process = self.process.as_mut().context("started")?;
            if let Some(status) = process.try_wait()? {
                bail!("{} ended with {status}", self.program);
            }
            let answer = self.api.get("/readyz").await;
            Ok(answer.ok().filter(|answer| answer.status == 200))
        })
        .await
        .with_context(|| self.tail())?;
        Ok(())
    }

    /// SIGKILL: no goodbye, nothing flushed.
    ///
    /// # Errors
    /// The server does not run.
    pub async fn kill(&mut self) -> Result<()> {
        let mut process = self.process.take().context("the server does not run")?;
        process.kill().await.context("kill the server")
    }

    /// SIGTERM: the server is asked to end. [`Server::ended`] waits for it.
    ///
    /// # Errors
    /// The server does not run.
    pub fn terminate(&self) -> Result<()> {
        self.signal(Signal::SIGTERM)
    }

    /// SIGSTOP: the server stands still until [`Server::resume`], its connections stay open.
    ///
    /// # Errors
    /// The server does not run.
    pub fn pause(&self) -> Result<()> {
        self.signal(Signal::SIGSTOP)
    }

    /// SIGCONT, after [`Server::pause`].
    ///
    /// # Errors
    /// The server does not run.
    pub fn resume(&self) -> Result<()> {
        self.signal(Signal::SIGCONT)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let pid = i32::try_from(self.pid()?)?;
        kill(Pid::from_raw(pid), signal).context("signal the server")
    }

    /// Waits until the process has ended.
    ///
    /// # Errors
    /// It still runs after `limit`.
    pub async fn ended(&mut self, limit: Duration) -> Result<ExitStatus> {
        let process = self.process.as_mut().context("the server does not run")?;
        let status = tokio::time::timeout(limit, process.wait())
            .await
            .with_context(|| format!("the server still runs after {limit:?}"))??;
        self.process = None;
        Ok(status)
    }

    /// The process id.
    ///
    /// # Errors
    /// The server does not run.
    pub fn pid(&self) -> Result<u32> {
        let process = self.process.as_ref().context("the server does not run")?;
        process.id().context("the server has ended")
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The directory with the data, the working directory of the process.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// What the server wrote to its standard output and error.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(log_path(&self.directory)).unwrap_or_default()
    }

    /// Each process that serves the API: this one.
    #[must_use]
    pub fn every_api(&self) -> Vec<Api> {
        vec![self.api.clone()]
    }

    /// Each process that holds connections: this one.
    #[must_use]
    pub fn every_ws_push(&self) -> Vec<Api> {
        vec![self.api.clone()]
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

    /// The program as this server starts it, to be started once more beside it.
    ///
    /// # Errors
    /// The program cannot be found.
    pub fn command(&self) -> Result<Command> {
        let log = File::options()
            .create(true)
            .append(true)
            .open(log_path(&self.directory))?;
        let mut command = program(self.program)?;
        command
            .current_dir(&self.directory)
            .env("TIDINGS__LISTEN", self.address())
            .envs(self.settings.iter().map(|(key, value)| (key, value)))
            .stdout(log.try_clone()?)
            .stderr(log);
        Ok(command)
    }

    fn tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        let from = lines.len().saturating_sub(LOG_TAIL_LINES);
        let (program, end) = (self.program, lines[from..].join("\n"));
        format!("the log of {program} on {} ends:\n{end}", self.port)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process
            && let Err(error) = process.start_kill()
        {
            eprintln!("cannot kill the server: {error}");
        }
        eprintln!("{}", self.tail());
        if let Err(error) = std::fs::remove_dir_all(&self.directory) {
            eprintln!("cannot remove {}: {error}", self.directory.display());
        }
    }
}

/// A program of Tidings without settings from this process's environment, with cheap password
/// hashes; killed when dropped.
///
/// # Errors
/// The program cannot be found.
pub fn program(name: &str) -> Result<Command> {
    let mut command = Command::new(program_path(name)?);
    for (key, _) in std::env::vars_os() {
        if key.to_string_lossy().starts_with("TIDINGS__") {
            command.env_remove(key);
        }
    }
    command
        .env("TIDINGS__AUTH__ARGON2_MEMORY_KIB", "8")
        .env("TIDINGS__AUTH__ARGON2_PASSES", "1")
        .stdin(Stdio::null())
        .kill_on_drop(true);
    Ok(command)
}

/// In `TIDINGS_TEST_BIN_DIR`, else beside this test's own program.
fn program_path(name: &str) -> Result<PathBuf> {
    let path = match std::env::var_os("TIDINGS_TEST_BIN_DIR") {
        Some(directory) => PathBuf::from(directory).join(name),
        None => {
            let own = std::env::current_exe()?;
            let mut folders = own.ancestors().skip(1).take(2);
            folders
                .find(|folder| folder.join(name).is_file())
                .with_context(|| {
                    format!("no program `{name}`: build it, or set TIDINGS_TEST_BIN_DIR")
                })?
                .join(name)
        }
    };
    ensure!(path.is_file(), "{} is missing", path.display());
    Ok(path)
}

/// `ws.drain_secs` is set by `TIDINGS__WS__DRAIN_SECS`.
fn variable(key: &str) -> String {
    format!("TIDINGS__{}", key.to_uppercase().replace('.', "__"))
}

/// An empty directory of this test's own.
///
/// # Errors
/// It cannot be created.
pub fn new_directory() -> Result<PathBuf> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let name = format!(
        "tidings-test-{}-{}",
        std::process::id(),
        COUNT.fetch_add(1, Ordering::Relaxed)
    );
    let path = std::env::temp_dir().join(name);
    std::fs::create_dir_all(&path).with_context(|| format!("create {}", path.display()))?;
    Ok(path)
}

/// Every process of tests starts looking at another place.
///
/// # Errors
/// There is none.
pub fn free_port() -> Result<u16> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let span = u32::from(PORTS.end - PORTS.start);
    for _ in 0..200 {
        let offset = (std::process::id().wrapping_mul(7919) % span
            + NEXT.fetch_add(1, Ordering::Relaxed))
            % span;
        let port = PORTS.start + u16::try_from(offset)?;
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no free port")
}

/// Hundreds of sockets are open at once; servers inherit the limit.
fn raise_open_files() -> Result<()> {
    const WANTED: u64 = 20_000;
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft < WANTED.min(hard) {
        setrlimit(Resource::RLIMIT_NOFILE, WANTED.min(hard), hard)?;
    }
    Ok(())
}

fn log_path(directory: &Path) -> PathBuf {
    directory.join("server.log")
}
