//! A service's process, and who dials from which port.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A process that a test starts, kills, pauses and starts again. It ends when it is dropped.
/// It stays in the test's process group, so that whatever ends the test ends it too.
#[derive(Debug)]
pub(super) struct Process {
    name: &'static str,
    log: PathBuf,
    child: Option<Child>,
}

impl Process {
    /// Nothing runs yet; what the process will write goes to this file.
    pub(super) fn new(name: &'static str, log: &Path) -> Self {
        Self {
            name,
            log: log.to_owned(),
            child: None,
        }
    }

    pub(super) fn start(&mut self, command: &mut Command) -> Result<()> {
        ensure!(self.child.is_none(), "{} runs already", self.name);
        let log = File::options().create(true).append(true).open(&self.log)?;
        let command = command.stdin(Stdio::null());
        let command = command.stdout(log.try_clone()?).stderr(log);
        let child = command.spawn();
        self.child = Some(child.with_context(|| format!("start {}", self.name))?);
        Ok(())
    }

    /// SIGKILL, and waits for the end.
    pub(super) fn kill(&mut self) -> Result<()> {
        let mut child = self.child.take();
        let child = child.as_mut();
        let child = child.with_context(|| format!("{} does not run", self.name))?;
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    /// SIGSTOP.
    pub(super) fn pause(&self) -> Result<()> {
        self.signal(Signal::SIGSTOP)
    }

    /// SIGCONT.
    pub(super) fn resume(&self) -> Result<()> {
        self.signal(Signal::SIGCONT)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let pid = self
            .pid()
            .with_context(|| format!("{} does not run", self.name))?;
        kill(Pid::from_raw(i32::try_from(pid)?), signal).context("signal a service")
    }

    pub(super) fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Fails with the end of its log if it has ended by itself.
    pub(super) fn check(&mut self) -> Result<()> {
        let child = self.child.as_mut().context("not started")?;
        if let Some(status) = child.try_wait()? {
            self.child = None;
            let log = fs::read_to_string(&self.log).unwrap_or_default();
            let lines: Vec<&str> = log.lines().rev().take(20).collect();
            bail!(
                "{} ended with {status}, newest first: {lines:#?}",
                self.name
            );
        }
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.child.is_some()
            && let Err(error) = self.kill()
        {
            eprintln!("cannot kill {}: {error:#}", self.name);
        }
    }
}

/// A connection within 127.0.0.1, by its two ports. One is not enough: the system gives the same
/// port to connections that lead to different ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ports {
    pub(super) from: u16,
    pub(super) to: u16,
}

/// Which of these processes has made the connection.
pub(super) fn dialer(ports: Ports, mut pids: impl Iterator<Item = (usize, u32)>) -> Option<usize> {
    let socket = socket(ports)?;
    let owns = |pid: u32| {
        let files = fs::read_dir(format!("/proc/{pid}/fd")).ok();
        let links = files.into_iter().flatten().flatten();
        let mut links = links.filter_map(|file| fs::read_link(file.path()).ok());
        links.any(|link| *link == *socket)
    };
    pids.find(|(_, pid)| owns(*pid)).map(|(id, _)| id)
}

/// What the links in `/proc/<pid>/fd` to the near end of the connection are called.
fn socket(ports: Ports) -> Option<PathBuf> {
    let [near, far] = [ports.from, ports.to].map(|port| format!("0100007F:{port:04X}"));
    // The table is read in pieces, and what moves meanwhile may be missing.
    (0..10).find_map(|_| {
        let table = fs::read_to_string("/proc/net/tcp").ok()?;
        let rows = table.lines().map(|row| row.split_whitespace());
        let rows = rows.map(|row| row.collect::<Vec<_>>());
        let mut own = rows.filter(|row| row.len() > 9 && row[1] == near && row[2] == far);
        own.next()
            .map(|row| PathBuf::from(format!("socket:[{}]", row[9])))
    })
}
