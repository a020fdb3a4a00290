//! People and devices on different ws-push servers.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures_util::future::try_join_all;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tidings_tests::client::{Client, Group, number, text};
use tidings_tests::cluster::Cluster;
use tidings_tests::device::Device;
use tidings_tests::socket::Socket;
use tidings_tests::wait::{self, SOON};
use tidings_tests::{check, started};

#[tokio::test]
async fn a_users_devices_on_both_servers_receive_everything_once() -> Result<()> {
    const MESSAGES: usize = 100;
    let cluster = started!(Cluster::start().await);
    let (ada, bob) = (cluster.user("ada").await?, cluster.user("bob").await?);
    let group = ada.group("Engine room", &[&bob]).await?;
    let mut sockets = Vec::new();
    for server in &cluster.ws_pushes {
        sockets.push(Socket::connect_at(&bob, &server.api).await?.0);
    }
    let stream = format!("c:{}", group.channel);
    let mut last = 0;
    for message in 0..MESSAGES {
        let sender = [&ada, &bob][message % 2].at(&cluster.apis[message / 2 % 2].api);
        let sent = sender.send(&group.channel, &message.to_string()).await?;
        last = number(&sent, "seq")?;
    }
    let first = last + 1 - MESSAGES as u64;
    for socket in &mut sockets {
        // Two processes announced them, so they may come in another order.
        let mut seqs = Vec::new();
        for _ in 0..MESSAGES {
            seqs.push(number(&socket.delta(&stream).await?, "seq")?);
        }
        seqs.sort_unstable();
        ensure!(seqs.iter().copied().eq(first..=last), "{seqs:?}");
        let rest = socket.flush().await?;
        ensure!(rest.is_empty(), "more came: {rest:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_group_of_500_spread_over_both_servers_receives_once_each() -> Result<()> {
    const MEMBERS: usize = 500;
    let cluster = started!(Cluster::start().await);
    let users = cluster.users("member", MEMBERS).await?;
    let (owner, others) = users.split_first().context("users")?;
    let others: Vec<&Client> = others.iter().collect();
    let group = owner.group("Everybody", &others).await?;
    let sockets = stream::iter(&users).map(async |user| Socket::connect(user).await);
    let sockets: Vec<_> = sockets.buffered(16).try_collect().await?;
    let mut on: BTreeMap<String, usize> = BTreeMap::new();
    for (_, hello) in &sockets {
        *on.entry(text(hello, "server")?.to_owned()).or_default() += 1;
    }
    ensure!(on.len() == 2, "not spread: {on:?}");
    // The balancer's hash of 1,024 partitions is not even, but no server gets next to nothing.
    ensure!(on.values().all(|&count| count > MEMBERS / 10), "{on:?}");

    let stream = format!("c:{}", group.channel);
    let mut expected = Vec::new();
    for (content, api) in ["first", "second", "third"].iter().zip([0, 1, 0]) {
        let sender = users[MEMBERS / 2].at(&cluster.apis[api].api);
        expected.push(number(&sender.send(&group.channel, content).await?, "seq")?);
    }
    for (number_of, (mut socket, _)) in sockets.into_iter().enumerate() {
        let mut seqs = Vec::new();
        for _ in &expected {
            let delta = socket.delta(&stream).await;
            let delta = delta.with_context(|| format!("member {number_of}"))?;
            seqs.push(number(&delta, "seq")?);
        }
        seqs.sort_unstable();
        ensure!(seqs == expected, "member {number_of}: {seqs:?}");
        let rest = socket.flush().await?;
        ensure!(
            rest.is_empty(),
            "member {number_of} received more: {rest:?}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_full_server_sends_people_to_the_other() -> Result<()> {
    const PLACES: usize = 3;
    let mut cluster = started!(Cluster::prepare(&[]));
    cluster.ws_pushes[0].set("ws.max_connections", &PLACES.to_string());
    start(&mut cluster).await?;
    let users = cluster.users("user", 16).await?;
    let mut on: BTreeMap<String, usize> = BTreeMap::new();
    let mut held = Vec::new();
    // All at once: a place is kept before a ticket is used up, so that it is good elsewhere.
    for (socket, hello) in try_join_all(users.iter().map(Socket::connect)).await? {
        *on.entry(text(&hello, "server")?.to_owned()).or_default() += 1;
        held.push(socket);
    }
    let mut counts: Vec<usize> = on.into_values().collect();
    counts.sort_unstable();
    ensure!(counts == [PLACES, users.len() - PLACES], "{counts:?}");
    // Who is refused directly is told so, and when to come back.
    let refused = Socket::connect_at(&users[0], &cluster.ws_pushes[0].api).await;
    let refused = refused.err().context("it was accepted")?.to_string();
    ensure!(refused.starts_with("refused: 503"), "{refused}");
    Ok(())
}

/// Twelve people of one group, each with a device that is connected.
async fn people_of_a_group(cluster: &Cluster) -> Result<(Vec<Client>, Group, Vec<Device>)> {
    let users = cluster.users("user", 12).await?;
    let (first, others) = users.split_first().context("users")?;
    let group = first
        .group("All", &others.iter().collect::<Vec<_>>())
        .await?;
    let devices = try_join_all(users.iter().map(Device::start)).await?;
    Ok((users, group, devices))
}

#[tokio::test]
async fn a_draining_server_sends_people_to_the_other() -> Result<()> {
    let mut cluster = started!(Cluster::with(&[("ws.drain_secs", "3")]).await);
    let (users, group, devices) = people_of_a_group(&cluster).await?;
    let ada = &users[0];
    cluster.ws_pushes[0].terminate()?;
    // Whoever comes while it drains is on the other at once.
    wait::until("draining", SOON, async || {
        let answer = cluster.ws_pushes[0].api.get("/readyz").await;
        Ok(answer
            .is_ok_and(|answer| answer.status == 503)
            .then_some(()))
    })
    .await?;
    for user in &users {
        let (_, hello) = Socket::connect(user).await?;
        ensure!(!text(&hello, "server")?.is_empty());
    }
    let sent = ada.send(&group.channel, "meanwhile").await?;
    let stream = format!("c:{}", group.channel);
    let status = cluster.ws_pushes[0].ended(Duration::from_secs(10)).await?;
    ensure!(status.success(), "ended with {status}");
    let last = ada.send(&group.channel, "afterwards").await?;
    let mut moved = 0;
    for device in &devices {
        device.reaches(&stream, number(&sent, "seq")?).await?;
        device.reaches(&stream, number(&last, "seq")?).await?;
        device.look(|record| -> Result<()> {
            ensure!(
                record.closes.iter().all(|code| *code == Some(1012)),
                "{:?}",
                record.closes
            );
            moved += record.closes.len();
            check::dense(&record.replica)
        })?;
    }
    ensure!(moved > 0, "nobody was on the server that ended");
    Ok(())
}

#[tokio::test]
async fn people_of_a_killed_server_go_on_at_the_other() -> Result<()> {
    let mut cluster = started!(Cluster::start().await);
    let (users, group, devices) = people_of_a_group(&cluster).await?;
    let ada = &users[0];
    cluster.ws_pushes[1].kill().await?;
    let sent = ada.send(&group.channel, "meanwhile").await?;
    for device in &devices {
        let stream = format!("c:{}", group.channel);
        device.reaches(&stream, number(&sent, "seq")?).await?;
        device.look(|record| check::dense(&record.replica))?;
    }
    Ok(())
}

async fn start(cluster: &mut Cluster) -> Result<()> {
    cluster.nginx.start().await?;
    cluster.restart().await
}
