//! Start, stop and start again.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tidings_tests::check;
use tidings_tests::client::number;
use tidings_tests::device::Device;
use tidings_tests::socket::Socket;
use tidings_tests::started;
use tidings_tests::wait::SOON;
use tokio::time::Instant;

use super::System;

#[tokio::test]
async fn sigterm_moves_the_sockets_over_and_ends_with_success() -> Result<()> {
    const DRAIN: Duration = Duration::from_secs(3);
    let mut server = started!(System::with(&[("ws.drain_secs", "3")]).await);
    let users = server.users("user", 12).await?;
    let mut sockets = Vec::new();
    for user in &users {
        sockets.push(Socket::connect(user).await?.0);
    }
    let since = Instant::now();
    server.terminate()?;
    let mut ends = Vec::new();
    for mut socket in sockets {
        let watch = tokio::spawn(async move {
            let (code, frames) = socket.closed(SOON).await?;
            anyhow::Ok((code, frames, Instant::now()))
        });
        ends.push(watch);
    }
    for end in ends {
        let (code, frames, at) = end.await??;
        ensure!(code == Some(1012), "closed with {code:?} after {frames:?}");
        let frame = frames.last().context("a frame before the end")?;
        ensure!(frame["type"] == "reconnect", "{frame}");
        let after = number(frame, "after_ms")?;
        ensure!(u128::from(after) <= DRAIN.as_millis(), "{frame}");
        ensure!(
            at - since < DRAIN + Duration::from_secs(2),
            "{:?}",
            at - since
        );
    }
    let status = server.ended(DRAIN + Duration::from_secs(5)).await?;
    ensure!(status.success(), "ended with {status}");
    Ok(())
}

#[tokio::test]
async fn a_restart_keeps_sessions_and_messages() -> Result<()> {
    let mut server = started!(System::with(&[("ws.drain_secs", "1")]).await);
    let (ada, bob) = (server.user("ada").await?, server.user("bob").await?);
    let group = ada.group("Engine room", &[&bob]).await?;
    let device = Device::start(&bob).await?;
    ada.send(&group.channel, "before").await?;
    let before = ada.messages(&group.channel).await?;
    let epoch = |value: serde_json::Value| value["epoch"].clone();
    let sync = async || {
        ada.post("/v1/sync", &serde_json::json!({"cursor": {}}))
            .await?
            .ok()
    };
    let epoch_before = epoch(sync().await?);

    server.terminate()?;
    let status = server.ended(Duration::from_secs(10)).await?;
    ensure!(status.success(), "ended with {status}");
    server.restart().await?;

    ensure!(ada.messages(&group.channel).await? == before);
    ensure!(epoch(sync().await?) == epoch_before);
    ensure!(ada.refresh().await?, "the refresh token was forgotten");
    let after = ada.send(&group.channel, "after").await?;
    device
        .reaches(&format!("c:{}", group.channel), number(&after, "seq")?)
        .await?;
    let replica = device.look(|record| record.replica.clone());
    ensure!(replica.contents(&group.channel) == ["before", "after"]);
    check::dense(&replica)?;
    check::same_as_fresh(&replica, &bob).await
}
