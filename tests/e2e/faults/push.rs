//! A ws-push dies or stands still.

use std::time::Duration;

use anyhow::{Result, ensure};
use futures_util::future::try_join_all;
use tidings_tests::client::Client;
use tidings_tests::cluster::Cluster;
use tidings_tests::device::Device;
use tidings_tests::wait;
use tidings_tests::{check, started};
use tokio::time::Instant;

use super::load::{Load, People};

/// Within which people are back elsewhere.
const BACK: Duration = Duration::from_secs(15);

#[tokio::test]
async fn a_ws_push_that_dies_or_stands_still_costs_nobody_a_message() -> Result<()> {
    disturb(60, Duration::from_secs(10)).await
}

mod long {
    use std::time::Duration;

    #[tokio::test]
    async fn a_ws_push_that_dies_or_stands_still_costs_nobody_a_message() -> anyhow::Result<()> {
        super::disturb(500, Duration::from_secs(150)).await
    }
}

async fn disturb(sessions: usize, pause: Duration) -> Result<()> {
    let mut cluster = started!(Cluster::start().await);
    let people = People::of(&cluster).await?;
    let users = cluster.users("reader", sessions).await?;
    let owner = &users[0];
    let others: Vec<&Client> = users[1..].iter().collect();
    let group = owner.group("Readers", &others).await?;
    let readers = try_join_all(users.iter().map(Device::start)).await?;
    let load = Load::start(&people, &cluster.every_api(), 2);

    let since = Instant::now();
    cluster.ws_pushes[0].kill().await?;
    owner.send(&group.channel, "meanwhile").await?;
    all_at_head(&readers, owner, &group.channel).await?;
    let moved = readers.iter().filter(|it| it.look(|it| it.connections) > 1);
    let moved = moved.count();
    eprintln!("{moved} of {sessions} are back after {:?}", since.elapsed());
    ensure!(since.elapsed() < BACK, "back after {:?}", since.elapsed());
    ensure!(moved > 0, "nobody was on the server that died");
    cluster.ws_pushes[0].restart().await?;

    // Now everybody is on the second; what comes while it stands still waits in its queue.
    let since = Instant::now();
    cluster.ws_pushes[1].pause()?;
    let mut messages = 0;
    while since.elapsed() < pause {
        owner.send(&group.channel, "to a queue").await?;
        messages += 1;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    cluster.ws_pushes[1].resume()?;
    all_at_head(&readers, owner, &group.channel).await?;
    eprintln!("{messages} messages waited for a server that stood still");
    for reader in &readers {
        reader.look(|record| check::dense(&record.replica))?;
    }
    people.verify(&load.stop().await?).await
}

async fn all_at_head(readers: &[Device], owner: &Client, channel: &str) -> Result<()> {
    let head = owner.head(channel).await?;
    let stream = format!("c:{channel}");
    wait::until("all at the head", 2 * BACK, async || {
        let at = |reader: &Device| {
            reader.look(|record| record.replica.cursor.get(&stream) >= Some(&head))
        };
        Ok(readers.iter().all(at).then_some(()))
    })
    .await
}
