//! That the services of a test's own can be broken and mended.

use std::time::Duration;

use anyhow::{Result, ensure};
use tidings_tests::client::{Client, number};
use tidings_tests::cluster::Cluster;
use tidings_tests::device::Device;
use tidings_tests::stack::Stack;
use tidings_tests::wait;
use tidings_tests::{check, started};
use tokio::time::Instant;

/// How long an election may take, and until the rest of the set follows the new primary.
const ELECTION: Duration = Duration::from_secs(60);

#[tokio::test]
async fn everything_is_killed_once_and_messages_flow_afterwards() -> Result<()> {
    let since = Instant::now();
    let mut stack = started!(Stack::start().await);
    let mut cluster = started!(Cluster::on(&stack, &[]).await);
    cluster.launch().await?;
    eprintln!("started after {:?}", since.elapsed());
    let (ada, bob) = (cluster.user("ada").await?, cluster.user("bob").await?);
    let group = ada.group("Engine room", &[&bob]).await?;
    let device = Device::start(&bob).await?;

    let primary = stack.mongo.primary().await?;
    stack.mongo.kill(primary)?;
    flows(&ada, &group.channel, &device).await?;
    stack.mongo.restart(primary).await?;
    stack.mongo.complete().await?;
    stack.mongo.step_down().await?;
    flows(&ada, &group.channel, &device).await?;
    let primary = stack.mongo.primary().await?;
    stack.mongo.isolate(primary);
    flows(&ada, &group.channel, &device).await?;
    ensure!(stack.mongo.primary().await? != primary, "still the primary");
    stack.mongo.heal();
    stack.mongo.complete().await?;
    eprintln!("MongoDB done after {:?}", since.elapsed());

    stack.redis.kill()?;
    flows(&ada, &group.channel, &device).await?;
    stack.redis.start().await?;
    stack.redis.flush().await?;
    flows(&ada, &group.channel, &device).await?;

    stack.broker.close_all_connections().await?;
    flows(&ada, &group.channel, &device).await?;
    stack.broker.kill()?;
    stack.broker.start().await?;
    flows(&ada, &group.channel, &device).await?;
    cluster.links.all().for_each(|link| link.broker.cut());
    cluster.links.heal();
    flows(&ada, &group.channel, &device).await?;
    eprintln!("all done after {:?}", since.elapsed());

    let replica = device.catches_up().await?;
    check::dense(&replica)?;
    check::same_as_fresh(&replica, &bob).await
}

/// Waits until a message can be sent, and until it has arrived.
async fn flows(sender: &Client, channel: &str, device: &Device) -> Result<()> {
    let nonce = format!("{:016x}", fastrand::u64(..));
    let sent = wait::until("a message is sent", ELECTION, async || {
        let answer = sender.send_nonce(channel, &nonce, &nonce).await?;
        Ok((answer.status == 201).then_some(answer))
    })
    .await?;
    let seq = number(&sent.json()?, "seq")?;
    device.reaches(&format!("c:{channel}"), seq).await
}
