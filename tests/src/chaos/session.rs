//! A whole run on services of its own, from nothing to the report.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result};

use super::nemesis::Nemesis;
use super::recorder::Recorder;
use super::report::{Report, chronicle};
use super::run::{Options, run};
use crate::cluster::Cluster;
use crate::server::Server;
use crate::stack::Stack;

/// What differs from the defaults: a restart takes seconds, logs say less of every request, and
/// groups of seven or eight become large and small again all the time.
const SETTINGS: [(&str, &str); 4] = [
    ("fanout_limit", "6"),
    ("ws.drain_secs", "4"),
    ("auth.access_ttl_secs", "86400"),
    ("telemetry.log_filter", "info,lapin=error"),
];

/// Starts everything, runs, judges, and ends everything. The report goes to `directory`; with
/// findings, or where the run broke off, all that was recorded and the logs too.
///
/// # Errors
/// A service is missing or does not start, or the run broke off.
pub async fn session(options: &Options, directory: &Path) -> Result<Report> {
    let mut stack = Stack::start().await?;
    let mut cluster = Cluster::on(&stack, &SETTINGS).await?;
    cluster.launch().await?;
    let (api, apis) = (cluster.api.clone(), cluster.every_api());
    let faults = async |recorder: Arc<Recorder>| {
        let mut nemesis = Nemesis::new(&mut cluster, &mut stack, recorder, options.seed);
        nemesis.run(options.length, options.rest_ms.clone()).await
    };
    let ran = Box::pin(run(&api, apis, options, faults)).await;
    fs::create_dir_all(directory).with_context(|| format!("create {}", directory.display()))?;
    let (history, truth) = match ran {
        Ok(ran) => ran,
        Err(error) => {
            save_logs(&cluster, &stack, directory)?;
            return Err(error.context(format!("the logs are in {}", directory.display())));
        }
    };
    let report = Report::of(options.seed, options.length, &history, &truth);
    fs::write(directory.join("report.json"), report.json().to_string())?;
    fs::write(directory.join("report.txt"), report.text())?;
    if !report.findings.is_empty() {
        fs::write(directory.join("history.txt"), chronicle(&history))?;
        save_logs(&cluster, &stack, directory)?;
    }
    Ok(report)
}

fn save_logs(cluster: &Cluster, stack: &Stack, directory: &Path) -> Result<()> {
    let save = |kind: &str, servers: &[Server]| -> Result<()> {
        for (number, server) in servers.iter().enumerate() {
            fs::write(directory.join(format!("{kind}-{number}.log")), server.log())?;
        }
        Ok(())
    };
    save("api", &cluster.apis)?;
    save("ws-push", &cluster.ws_pushes)?;
    save("worker", &cluster.workers)?;
    fs::write(directory.join("nginx.log"), cluster.nginx.log())?;
    save_service_logs(stack.directory(), "", directory)
}

/// What the services wrote: every file called `log` or `….log`.
fn save_service_logs(from: &Path, prefix: &str, to: &Path) -> Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            save_service_logs(&path, &format!("{prefix}{name}-"), to)?;
        } else if name == "log" || name.ends_with(".log") {
            fs::copy(&path, to.join(format!("{prefix}{name}")))?;
        }
    }
    Ok(())
}
