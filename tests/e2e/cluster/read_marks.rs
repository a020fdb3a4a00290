//! Marks that two processes of the API move at the same time.

use anyhow::{Context as _, Result, ensure};
use futures_util::future::try_join_all;
use serde_json::json;
use tidings_tests::client::{Client, number};
use tidings_tests::cluster::Cluster;
use tidings_tests::device::Device;
use tidings_tests::started;

const DAY_MS: u64 = 86_400_000;

#[tokio::test]
async fn the_highest_wins_at_two_processes_and_each_mark_has_its_time() -> Result<()> {
    let cluster = started!(Cluster::start().await);
    let (ada, bob) = (cluster.user("ada").await?, cluster.user("bob").await?);
    let channel = ada.group("Engine room", &[&bob]).await?.channel;
    for number in 0..40 {
        ada.send(&channel, &number.to_string()).await?;
    }
    let at: Vec<Client> = cluster.every_api().iter().map(|api| bob.at(api)).collect();
    ensure!(at.len() > 1, "one process alone");
    let device = Device::start(&bob).await?;
    for first in [1, 11] {
        // Each process is asked for every second one, from the highest to the lowest.
        let marking = (first..first + 10).rev().map(|seq| {
            let client = &at[usize::try_from(seq).unwrap_or_default() % at.len()];
            let path = format!("/v1/channels/{channel}/read");
            async move {
                let marked = client.put(&path, &json!({"seq": seq})).await?.ok()?;
                ensure!(number(&marked, "read")? >= seq, "{seq}: {marked}");
                Ok(())
            }
        });
        try_join_all(marking).await?;
    }
    let path = format!("/v1/channels/{channel}");
    for client in &at {
        let shown = client.get(&path).await?.ok()?;
        ensure!(shown["read"] == 20 && shown["unread"] == 20, "{shown}");
    }
    let replica = device.catches_up().await?;
    let moved: Vec<(u64, u64)> = replica
        .applied(&format!("u:{}", bob.user))
        .filter(|delta| delta.kind == "read.moved")
        .map(|delta| Ok((number(&delta.data, "seq")?, millis_of_day(&delta.at)?)))
        .collect::<Result<_>>()?;
    for pair in moved.windows(2) {
        let ((before, then), (after, now)) = (pair[0], pair[1]);
        ensure!(before < after, "it fell: {moved:?}");
        let between = (now + DAY_MS - then) % DAY_MS;
        ensure!(
            between >= 2_990,
            "moved again after {between} ms: {moved:?}"
        );
    }
    ensure!(moved.last().map(|(seq, _)| *seq) == Some(20), "{moved:?}");
    Ok(())
}

/// Of such as `2026-11-21T12:00:00.123Z`.
fn millis_of_day(at: &str) -> Result<u64> {
    let time = at.split_once('T').context("a time")?.1;
    let parts = time.trim_end_matches('Z').split([':', '.']);
    let parts: Vec<u64> = parts.map(str::parse).collect::<Result<_, _>>()?;
    let [hours, minutes, seconds, millis] = parts[..] else {
        anyhow::bail!("not a time: {at}");
    };
    Ok(((hours * 60 + minutes) * 60 + seconds) * 1000 + millis)
}
