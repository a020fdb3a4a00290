//! Tokens and sessions: what ends them, and what that does to requests and sockets.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use tidings_tests::client::{Client, items};
use tidings_tests::device::Device;
use tidings_tests::socket::Socket;
use tidings_tests::started;
use tidings_tests::wait;
use tokio::time::Instant;

use super::System;

#[tokio::test]
async fn a_revoked_session_is_cut_off() -> Result<()> {
    let server = started!(System::start().await);
    let phone = server.user("ada").await?;
    let laptop = server.api.login("ada").await?;
    let group = phone.group("Engine room", &[]).await?;
    let (mut lost, _) = Socket::connect(&phone).await?;
    let (mut kept, _) = Socket::connect(&laptop).await?;
    let ticket = phone.ticket().await?;

    let path = format!("/v1/sessions/{}", phone.session);
    let revoked = laptop.delete(&path).await?;
    let since = Instant::now();
    ensure!(revoked.status == 204, "{}", revoked.text());
    wait_cut_off(&server, &phone).await?;
    check_cut_off(&phone, &group.channel).await?;
    let refused = Socket::open(&ticket, None).await;
    ensure!(refused.is_err(), "a ticket outlives its session");
    ensure!(!phone.refresh().await?, "the refresh token still works");

    let (code, frames) = lost.closed(wait::SOON).await?;
    ensure!(code == Some(4009), "closed with {code:?}");
    ensure!(
        since.elapsed() < Duration::from_secs(1),
        "{:?}",
        since.elapsed()
    );
    let messages = |frame: &&serde_json::Value| frame["kind"] == "message.created";
    ensure!(frames.iter().find(messages).is_none());

    // The other session of the same user goes on.
    laptop.send(&group.channel, "still here").await?;
    kept.delta(&format!("c:{}", group.channel)).await?;
    let sessions = laptop.get("/v1/sessions").await?.ok()?;
    let ids: Vec<_> = items(&sessions, "items")?
        .iter()
        .map(|session| &session["id"])
        .collect();
    ensure!(ids == [&json!(laptop.session)], "{ids:?}");
    Ok(())
}

#[tokio::test]
async fn logging_out_cuts_off_the_own_session() -> Result<()> {
    let server = started!(System::start().await);
    let ada = server.user("ada").await?;
    let group = ada.group("Engine room", &[]).await?;
    let device = Device::start(&ada).await?;
    let path = format!("/v1/sessions/{}", ada.session);
    ensure!(ada.delete(&path).await?.status == 204);
    wait_cut_off(&server, &ada).await?;
    check_cut_off(&ada, &group.channel).await?;
    let ended = "closed with 4009";
    device
        .until(ended, |record| record.ended.as_deref() == Some(ended))
        .await
}

/// Every process learns of a revocation by itself, within a second.
async fn wait_cut_off(server: &System, client: &Client) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(1);
    for api in server.every_api() {
        let client = client.at(&api);
        wait::until("cut off", deadline - Instant::now(), async || {
            let answer = client.get("/v1/users/me").await?;
            Ok((answer.status == 401).then_some(()))
        })
        .await?;
    }
    Ok(())
}

/// No route takes the token, and no ticket that was taken with it.
async fn check_cut_off(client: &Client, channel: &str) -> Result<()> {
    let path = format!("/v1/channels/{channel}/messages");
    let answers = [
        client.get("/v1/users/me").await?,
        client.get(&path).await?,
        client.post(&path, &json!({"content": "x"})).await?,
        client.post("/v1/sync", &json!({"cursor": {}})).await?,
        client.post("/v1/realtime/tickets", &json!({})).await?,
    ];
    for answer in answers {
        answer.problem(401, "unauthenticated")?;
    }
    Ok(())
}

#[tokio::test]
async fn an_expired_access_token_is_refused_and_refreshed() -> Result<()> {
    let server = started!(System::with(&[("auth.access_ttl_secs", "2")]).await);
    let ada = server.user("ada").await?;
    let expired = wait::until("expired", wait::SOON, async || {
        let answer = ada.get("/v1/users/me").await?;
        Ok((answer.status != 200).then_some(answer))
    })
    .await?;
    expired.problem(401, "token_expired")?;
    let ticket = ada.post("/v1/realtime/tickets", &json!({})).await?;
    ticket.problem(401, "token_expired")?;
    ensure!(ada.refresh().await?);
    ada.get("/v1/users/me").await?.ok()?;
    Ok(())
}

#[tokio::test]
async fn a_socket_is_closed_at_its_tokens_end_unless_renewed() -> Result<()> {
    const TTL: Duration = Duration::from_secs(4);
    let server = started!(System::with(&[("auth.access_ttl_secs", "4")]).await);
    let (ada, bob) = (server.user("ada").await?, server.user("bob").await?);
    // Both sockets begin right after their tokens.
    ada.refresh().await?;
    bob.refresh().await?;
    let since = Instant::now();
    let (mut left, hello) = Socket::connect(&ada).await?;
    let (mut renewed, _) = Socket::connect(&bob).await?;
    let expires_in = hello["session_expires_in"].as_u64().context("expires")?;
    ensure!((1..=4).contains(&expires_in), "{hello}");

    tokio::time::sleep_until(since + TTL / 2).await; // Half of the token's life is to pass.
    ensure!(bob.refresh().await?);
    let renewal = Instant::now();
    let frame = json!({"type": "auth", "access_token": bob.access_token()});
    renewed.send(&frame).await?;
    let answer = renewed
        .find(wait::SOON, |frame| frame["type"] == "auth")
        .await?;
    ensure!(answer["session_expires_in"].is_u64(), "{answer}");

    let (code, _) = left.closed(wait::SOON).await?;
    let lived = since.elapsed();
    ensure!(code == Some(4001), "closed with {code:?}");
    ensure!(
        lived > TTL - Duration::from_secs(2),
        "closed after {lived:?}"
    );
    ensure!(
        lived < TTL + Duration::from_secs(2),
        "closed after {lived:?}"
    );
    renewed.flush().await?;

    let (code, _) = renewed.closed(wait::SOON).await?;
    ensure!(code == Some(4001), "closed with {code:?}");
    let lived = renewal.elapsed();
    ensure!(
        lived > TTL - Duration::from_secs(2),
        "closed after {lived:?}"
    );
    Ok(())
}

/// The device's way out of 4001: a new token, a new socket, nothing lost.
#[tokio::test]
async fn a_device_outlives_its_tokens() -> Result<()> {
    let server = started!(System::with(&[("auth.access_ttl_secs", "2")]).await);
    let (ada, bob) = (server.user("ada").await?, server.user("bob").await?);
    ensure!(ada.refresh().await?);
    let group = ada.group("Engine room", &[&bob]).await?;
    ensure!(bob.refresh().await?);
    let device = Device::start(&bob).await?;
    let closed = |record: &tidings_tests::device::Record| record.closes.contains(&Some(4001));
    device.until("closed with 4001", closed).await?;
    ensure!(ada.refresh().await?);
    let sent = ada.send(&group.channel, "after").await?;
    let seq = sent["seq"].as_u64().context("seq")?;
    device.reaches(&format!("c:{}", group.channel), seq).await
}

/// Whose token is renewed on a socket must be who opened it.
#[tokio::test]
async fn a_socket_is_not_renewed_with_anothers_token() -> Result<()> {
    let server = started!(System::start().await);
    let (ada, bob) = (server.user("ada").await?, server.user("bob").await?);
    let (mut socket, _) = Socket::connect(&ada).await?;
    let second_session = server.api.login("ada").await?;
    let garbage = "a.b.c".to_owned();
    for token in [bob.access_token(), second_session.access_token(), garbage] {
        let frame = json!({"type": "auth", "access_token": token});
        socket.send(&frame).await?;
        let is_error = |frame: &serde_json::Value| frame["type"] == "error";
        let answer = socket.find(wait::SOON, is_error).await?;
        let code = answer["code"].as_str().context("code")?;
        ensure!(["invalid_token", "forbidden"].contains(&code), "{answer}");
    }
    Ok(())
}
