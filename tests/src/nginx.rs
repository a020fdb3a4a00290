//! A real nginx with the configuration of `docker/nginx`.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::{Child, Command};

use crate::client::Api;
use crate::server::{free_port, new_directory};
use crate::services::{self, NGINX};
use crate::wait::{self, SOON};

const CONFIGURATION: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docker/nginx");

/// nginx in front of some servers. It ends, and its files go, when this is dropped.
#[derive(Debug)]
pub struct Nginx {
    /// Through it.
    pub api: Api,
    program: String,
    directory: PathBuf,
    process: Option<Child>,
}

impl Nginx {
    /// nginx that is yet to be started, in front of these addresses.
    ///
    /// # Errors
    /// nginx is missing, or its files cannot be written.
    pub fn before(apis: &[String], ws_pushes: &[String]) -> Result<Self> {
        let program = services::address(NGINX)?;
        let (directory, port) = (new_directory()?, free_port()?);
        let nginx = Self {
            api: Api::new(&format!("http://127.0.0.1:{port}"))?,
            program,
            directory,
            process: None,
        };
        let deployment = nginx.directory.join("conf/deployment");
        fs::create_dir_all(&deployment)?;
        for name in ["nginx.conf", "problems.conf"] {
            fs::copy(Path::new(CONFIGURATION).join(name), nginx.file(name))?;
        }
        // The lines of the shipped files, with other addresses.
        for (name, addresses) in [("api.conf", apis), ("ws-push.conf", ws_pushes)] {
            fs::write(deployment.join(name), servers(name, addresses)?)?;
        }
        let listen = shipped("listen.conf")?;
        let own = listen.replace("listen 8080 ", &format!("listen 127.0.0.1:{port} "));
        ensure!(own != listen, "no `listen 8080` in {listen}");
        fs::write(deployment.join("listen.conf"), own)?;
        Ok(nginx)
    }

    /// One of the configuration's files, to be changed before the start.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.directory.join("conf").join(name)
    }

    /// What `nginx -t` says of the configuration.
    ///
    /// # Errors
    /// nginx cannot be run.
    pub async fn test(&self) -> Result<Output> {
        let mut command = self.command();
        command.arg("-t").output().await.context("run nginx -t")
    }

    /// Starts nginx and waits until it serves.
    ///
    /// # Errors
    /// It does not.
    pub async fn start(&mut self) -> Result<()> {
        let log = File::create(self.directory.join("log"))?;
        let mut command = self.command();
        command.args(["-g", "daemon off;"]);
        command.stdout(log.try_clone()?).stderr(log);
        self.process = Some(command.spawn().context("start nginx")?);
        wait::until("nginx serves", SOON, async || {
            let answer = self.api.get("/nginx-health").await;
            Ok(answer.ok().filter(|answer| answer.status == 200))
        })
        .await
        .with_context(|| self.log())?;
        Ok(())
    }

    /// Has it read its configuration again: new workers take over, the old ones end when their
    /// connections do.
    ///
    /// # Errors
    /// It does not run.
    pub fn reload(&self) -> Result<()> {
        let process = self.process.as_ref().context("nginx does not run")?;
        let pid = i32::try_from(process.id().context("nginx has ended")?)?;
        kill(Pid::from_raw(pid), Signal::SIGHUP).context("signal nginx")
    }

    /// What it wrote: a line for each request.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.directory.join("log")).unwrap_or_default()
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command
            .arg("-p")
            .arg(&self.directory)
            .arg("-c")
            .arg(self.file("nginx.conf"))
            .stdin(Stdio::null());
        command
    }

    /// Its workers outlive a master that is killed, so it is asked.
    fn stop(&mut self) -> Result<()> {
        let Some(process) = &mut self.process else {
            return Ok(());
        };
        let pid = i32::try_from(process.id().context("nginx has ended")?)?;
        kill(Pid::from_raw(pid), Signal::SIGTERM)?;
        for _ in 0..200 {
            if process.try_wait()?.is_some() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        process.start_kill().context("kill nginx")
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            eprintln!("cannot stop nginx: {error:#}");
        }
        if let Err(error) = fs::remove_dir_all(&self.directory) {
            eprintln!("cannot remove {}: {error}", self.directory.display());
        }
    }
}

fn shipped(name: &str) -> Result<String> {
    let path = Path::new(CONFIGURATION).join("deployment").join(name);
    fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))
}

/// For each address a line with the options that the shipped servers have.
fn servers(name: &str, addresses: &[String]) -> Result<String> {
    let shipped = shipped(name)?;
    let mut lines = shipped.lines().filter(|line| line.starts_with("server "));
    let line = lines
        .next()
        .with_context(|| format!("no server in {name}"))?;
    let options: Vec<&str> = line.split(' ').skip(2).collect();
    let options = options.join(" ");
    let own = addresses.iter();
    let own = own.map(|address| format!("server {address} {options}\n"));
    Ok(own.collect())
}
