//! What is older than the retention goes, and who was away for longer reads everything anew.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use tidings_tests::check;
use tidings_tests::device::Device;
use tidings_tests::server::Server;
use tidings_tests::wait::{self, SOON};
use tokio::process::Command;

use super::state::World;

/// Makes the entries of a stopped server 31 days older, but for messages, whose times clients
/// have seen; none is pending. With the library of Python, since the store itself never changes
/// an entry's time.
const AGE: &str = "
import sqlite3, sys
database = sqlite3.connect(sys.argv[1])
database.execute('UPDATE entries SET pending = NULL')
database.execute('UPDATE entries SET at = at - 31 * 86400000 WHERE kind <> \\'message.created\\'')
database.commit()
";

#[tokio::test]
async fn who_was_away_for_longer_than_the_retention_reads_everything_anew() -> Result<()> {
    const CHANGES: usize = 150;
    let seed = fastrand::u64(..);
    eprintln!("seed {seed}");
    let mut server = Server::start().await?;
    let (ada, bob) = (server.user("ada").await?, server.user("bob").await?);
    let others = server.users("other", 2).await?;
    let group = ada.group("Engine room", &[&bob]).await?;
    let mut world = World::new(seed, ada.clone(), [vec![bob.clone()], others].concat());
    let mut device = Device::start(&bob).await?;
    for _ in 0..CHANGES {
        world.change().await?;
    }
    ada.send(&group.channel, "before").await?;
    let held = device.catches_up().await?;
    device.go_away().await?;
    for _ in 0..CHANGES {
        world.change().await?;
    }
    // In this group it is known what happens: two changes, of which the first goes.
    for name in ["Boiler room", "Pump room"] {
        let path = format!("/v1/groups/{}", group.id);
        ada.patch(&path, &json!({ "name": name })).await?.ok()?;
    }
    server.terminate()?;
    server.ended(SOON).await?;
    age(server.directory()).await?;
    server.restart().await?;
    trimmed(&server).await?;

    let cursor = json!({ "cursor": held.cursor });
    let answer = bob.post("/v1/sync", &cursor).await?.ok()?;
    let resets = answer["resets"].as_array().context("resets")?;
    let stream = format!("g:{}", group.id);
    let expired =
        |reset: &serde_json::Value| reset["stream"] == *stream && reset["reason"] == "expired";
    ensure!(resets.iter().any(expired), "{answer}");

    device.come_back();
    let replica = device.catches_up().await?;
    check::dense(&replica)?;
    check::same_as_fresh(&replica, &bob).await?;
    let fresh = Device::start(&bob).await?.catches_up().await?;
    ensure!(replica.view == fresh.view && replica.cursor == fresh.cursor);
    Ok(())
}

async fn age(directory: &Path) -> Result<()> {
    let mut command = Command::new("python3");
    command
        .args(["-c", AGE])
        .arg(directory.join("tidings-data/tidings.db"));
    let status = command.status().await.context("start python3")?;
    ensure!(status.success(), "python3: {status}");
    Ok(())
}

/// Waits for the end of the trimmer's first pass, and expects it to have found something.
async fn trimmed(server: &Server) -> Result<()> {
    let metric = async |name: &str| -> Result<f64> {
        let text = String::from_utf8(server.api.get("/metrics").await?.body)?;
        let name = format!("tidings_trimmer_{name} ");
        let mut values = text.lines().filter_map(|line| line.strip_prefix(&*name));
        Ok(values.next().context("a value")?.parse()?)
    };
    let passed = wait::until("a pass", Duration::from_secs(60), async || {
        let last = metric("last_pass_timestamp_seconds").await?;
        Ok((last > 0.0).then_some(()))
    });
    passed.await?;
    let deleted = metric("entries_deleted_total").await?;
    eprintln!("{deleted} entries deleted");
    ensure!(deleted > 0.0);
    Ok(())
}
