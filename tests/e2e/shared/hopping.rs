//! A client is the same client over any transport: it may change it at any moment, and whatever
//! cuts its connections, it loses nothing and applies nothing twice.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures_util::future::try_join_all;
use tidings_tests::check;
use tidings_tests::client::{Client, Group, number};
use tidings_tests::device::{Device, Record};
use tidings_tests::stack::Proxy;
use tidings_tests::started;
use tidings_tests::wait::SOON;
use tidings_tests::way::{Transport, Way};
use tokio::time::{Instant, interval, sleep};

use super::System;

/// Connections over each transport before a test has seen enough.
const HOPS: usize = 5;
/// After which the proxy cuts whatever goes through it.
const CUT: Duration = Duration::from_secs(1);
/// In which its connections see that they are to end.
const NOTICE: Duration = Duration::from_millis(50);

#[tokio::test]
async fn hopping_between_transports_in_mid_stream_loses_and_repeats_nothing() -> Result<()> {
    let seed = fastrand::u64(..);
    println!("the hops are those of seed {seed}");
    // What hops leaves connections behind that the server has yet to find gone.
    let server = started!(System::with(&[("ws.max_connections_per_user", "50")]).await);
    let writers = server.users("writer", 3).await?;
    let bob = server.user("bob").await?;
    let members: Vec<&Client> = writers[1..].iter().chain([&bob]).collect();
    let group = writers[0].group("Engine room", &members).await?;
    let mut devices = Vec::new();
    for number in 0..3 {
        // Each is a session, as devices are.
        let session = server.api.login("bob").await?;
        let way = Way::hopping(seed.wrapping_add(number));
        devices.push(Device::start_by(&session, way).await?);
    }
    let enough = |record: &Record| {
        let used = Transport::ALL.map(|transport| record.transports.get(&transport).copied());
        record.ended.is_some() || used.iter().all(|count| *count >= Some(HOPS))
    };
    let hopped = || devices.iter().all(|device| device.look(enough));
    write_until(&writers, &group, hopped).await?;
    for device in &devices {
        holds_everything(device, &writers[0], &group).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_proxy_that_cuts_every_connection_costs_no_transport_anything() -> Result<()> {
    let server = started!(System::start().await);
    let (ada, bob) = (server.user("ada").await?, server.user("bob").await?);
    let group = ada.group("Engine room", &[&bob]).await?;
    let (_, port) = server.api.base.rsplit_once(':').context("a port")?;
    let proxy = Proxy::before(port.parse()?).await?;
    let mut devices = Vec::new();
    for transport in Transport::ALL {
        let session = server.api.login("bob").await?;
        let way = Way::over(transport).via(&format!("http://127.0.0.1:{}", proxy.port()));
        devices.push(Device::start_by(&session, way).await?);
    }
    let cutting = async {
        let mut cuts = interval(CUT);
        loop {
            cuts.tick().await;
            proxy.cut();
            sleep(NOTICE).await;
            proxy.heal();
        }
    };
    // Made again after a cut, three times over.
    let cut = || {
        devices
            .iter()
            .all(|device| device.look(|record| record.connections > 3))
    };
    let writers = [ada.clone()];
    tokio::select! {
        written = write_until(&writers, &group, cut) => written?,
        () = cutting => {}
    }
    proxy.heal();
    for device in &devices {
        holds_everything(device, &ada, &group).await?;
    }
    Ok(())
}

/// Writes messages, all writers at once, until `done`; each edits and deletes some of its own.
async fn write_until(writers: &[Client], group: &Group, done: impl Fn() -> bool) -> Result<()> {
    let deadline = Instant::now() + 2 * SOON;
    let writing = writers.iter().map(async |writer| -> Result<()> {
        let mut written = 0;
        while !done() {
            ensure!(Instant::now() < deadline, "not in time");
            let content = format!("{} {written}", writer.username);
            let sent = writer.send(&group.channel, &content).await?;
            let path = format!("/v1/channels/{}/messages/{}", group.channel, sent["seq"]);
            match written % 5 {
                1 => {
                    let body = serde_json::json!({"content": format!("{content}, better")});
                    writer.patch(&path, &body).await?.ok()?;
                }
                3 => drop(writer.delete(&path).await?.ok()?),
                _ => {}
            }
            written += 1;
        }
        Ok(())
    });
    try_join_all(writing).await?;
    Ok(())
}

/// Checks that the device has come to hold what there is, each delta applied once, in order.
async fn holds_everything(device: &Device, writer: &Client, group: &Group) -> Result<()> {
    let last = writer.send(&group.channel, "the last").await?;
    let channel = format!("c:{}", group.channel);
    device.reaches(&channel, number(&last, "seq")?).await?;
    let replica = device.catches_up().await?;
    check::dense(&replica)?;
    check::same_as_fresh(&replica, &device.client).await?;
    device.look(|record| {
        ensure!(record.violations.is_empty(), "{:?}", record.violations);
        // Deltas and not the state brought it: it was there from before the first message.
        let begun = replica.applied(&channel).next().map(|delta| delta.first);
        ensure!(
            begun <= Some(2),
            "the stream was taken up again, and begins at {begun:?}"
        );
        Ok(())
    })
}
