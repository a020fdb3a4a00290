//! Long polling: who may, what wakes a poll, and that nothing gets lost between two.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use reqwest::Method;
use serde_json::{Value, json};
use tidings_tests::client::{Answer, Client, answer, items, text};
use tidings_tests::started;
use tidings_tests::wait::{self, SOON};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::System;

const POLL: &str = "/v1/poll";

#[tokio::test]
async fn a_poll_takes_a_token_and_a_request_that_makes_sense() -> Result<()> {
    let settings = [
        ("ws.max_connections", "1"),
        ("ws.origins", "https://chat.example.org"),
    ];
    let server = started!(System::with(&settings).await);
    let (ada, bob) = (server.user("ada").await?, server.user("bob").await?);
    let ticket = ada.ticket().await?;
    let path = format!("{POLL}?ticket={}", text(&ticket, "ticket")?);
    for path in [POLL, &path] {
        let refused = server.api.post(path, &json!({})).await?;
        refused.problem(401, "unauthenticated")?;
    }
    for (body, pointer) in [
        (json!({"timeout": 26}), "/timeout"),
        (json!({"timeout": -1}), "/timeout"),
        (json!({"timeout": "1"}), "/timeout"),
        (json!({"limit": 0}), "/limit"),
        (json!({"limit": 501}), "/limit"),
        (json!({"cursor": {"nonsense": 1}}), "/cursor/nonsense"),
        (json!({"cursor": {"u:1": -1}}), "/cursor/u:1"),
        (json!({"only": true}), "/only"),
    ] {
        let problem = ada
            .post(POLL, &body)
            .await?
            .problem(422, "invalid_request")?;
        ensure!(
            problem["errors"][0]["pointer"] == pointer,
            "{body}: {problem}"
        );
    }
    let text = ada.request(Method::POST, POLL).body("{}");
    answer(text).await?.problem(415, "unsupported_media_type")?;
    let broken = ada.request(Method::POST, POLL).body("{");
    let broken = answer(broken.header("content-type", "application/json")).await?;
    broken.problem(400, "malformed_json")?;
    ada.get(POLL).await?.problem(405, "method_not_allowed")?;
    let foreign = ada.request(Method::POST, POLL).json(&json!({}));
    let foreign = answer(foreign.header("origin", "https://evil.example")).await?;
    foreign.problem(403, "forbidden")?;

    // None of these has taken a place. One that polls does, and keeps it.
    for user in [&ada, &bob].into_iter().take(System::WS_PUSH_SERVERS) {
        ensure!(poll(user, &json!({}), 0).await?.status == 200);
    }
    let cyd = server.user("cyd").await?;
    let full = poll(&cyd, &json!({}), 0).await?;
    full.problem(503, "unavailable")?;
    ensure!(!full.header("retry-after").is_empty(), "no Retry-After");
    ensure!(
        poll(&ada, &json!({}), 0).await?.status == 200,
        "its place was taken"
    );
    Ok(())
}

#[tokio::test]
async fn a_poll_answers_what_a_sync_would_as_soon_as_there_is_something() -> Result<()> {
    let server = started!(System::start().await);
    let (ada, bob) = (server.user("ada").await?, server.user("bob").await?);
    let group = ada.group("Engine room", &[&bob]).await?;
    let channel = format!("c:{}", group.channel);
    // At once, if the cursor lacks something.
    let fresh = poll(&bob, &json!({}), 25).await?;
    ensure!(fresh.header("cache-control") == "no-store");
    let fresh = fresh.ok()?;
    let sync = bob.post("/v1/sync", &json!({"cursor": {}})).await?.ok()?;
    ensure!(fresh == sync, "{fresh} and not {sync}");
    let mut cursor = fresh["heads"].clone();

    // Nothing, when the time is over.
    let began = Instant::now();
    let nothing = poll(&bob, &cursor, 1).await?.ok()?;
    ensure!(began.elapsed() >= Duration::from_secs(1));
    let expected = json!({"deltas": [], "cursor": cursor, "more": false, "resets": [],
        "heads": {}, "epoch": sync["epoch"]});
    ensure!(nothing == expected, "{nothing}");

    for number in 0..20 {
        // Sometimes between two polls, sometimes while one begins or waits.
        let waiting = (number % 2 == 0).then(|| spawn(&bob, &cursor));
        let sent = ada.send(&group.channel, &number.to_string()).await?;
        let began = Instant::now();
        let answered = match waiting {
            Some(waiting) => waiting.await??,
            None => poll(&bob, &cursor, 25).await?,
        };
        ensure!(began.elapsed() < Duration::from_secs(15), "it did not wake");
        let answered = answered.ok()?;
        let deltas = items(&answered, "deltas")?;
        ensure!(
            deltas.len() == 1 && deltas[0]["seq"] == sent["seq"],
            "{answered}"
        );
        let sync = bob
            .post("/v1/sync", &json!({"cursor": cursor}))
            .await?
            .ok()?;
        ensure!(answered == sync, "{answered} and not {sync}");
        cursor = answered["cursor"].clone();
    }

    // Who is removed is told so, and nothing of what comes after.
    let waiting = spawn(&bob, &cursor);
    let path = format!("/v1/groups/{}/members/{}", group.id, bob.user);
    ensure!(ada.delete(&path).await?.status == 204);
    ada.send(&group.channel, "among us").await?;
    let mut answered = waiting.await??.ok()?;
    // The first may have been woken by the removal before it was complete.
    for _ in 0..3 {
        ensure!(!answered.to_string().contains("among us"), "{answered}");
        if answered["cursor"][&channel].is_null() {
            break;
        }
        answered = poll(&bob, &answered["cursor"], 25).await?.ok()?;
    }
    ensure!(answered["cursor"][&channel].is_null(), "{answered}");
    let resets = items(&answered, "resets")?;
    ensure!(
        resets.iter().any(|reset| reset["stream"] == *channel),
        "{answered}"
    );
    ensure!(
        resets.iter().all(|reset| reset["reason"] == "gone"),
        "{answered}"
    );
    Ok(())
}

#[tokio::test]
async fn a_poll_ends_with_its_session_and_with_its_server() -> Result<()> {
    let mut server = started!(System::with(&[("ws.drain_secs", "1")]).await);
    let (ada, bob) = (server.user("ada").await?, server.user("bob").await?);
    let bob_again = server.api.login("bob").await?;
    let cursor = |client: &Client| {
        let client = client.clone();
        async move { client.heads().await }
    };
    let waiting = spawn(&bob, &cursor(&bob).await?);
    sessions_that_poll(&server, 1).await?;
    let path = format!("/v1/sessions/{}", bob.session);
    let began = Instant::now();
    ensure!(bob_again.delete(&path).await?.status == 204);
    // What is revoked is told to the user's own stream, so it may be that which woke it.
    let mut answered = waiting.await??;
    ensure!(began.elapsed() < Duration::from_secs(15), "it did not wake");
    if answered.status == 200 {
        answered = poll(&bob, &answered.json()?["cursor"], 25).await?;
    }
    answered.problem(401, "unauthenticated")?;

    sessions_that_poll(&server, 0).await?;
    let waiting = spawn(&ada, &cursor(&ada).await?);
    sessions_that_poll(&server, 1).await?;
    server.terminate()?;
    let answered = waiting.await??;
    ensure!(answered.status == 200, "{}", answered.text());
    ensure!(items(&answered.json()?, "deltas")?.is_empty());
    let status = server.ended(SOON).await?;
    ensure!(status.success(), "ended with {status}");
    Ok(())
}

async fn poll(client: &Client, cursor: &Value, timeout: u64) -> Result<Answer> {
    let body = json!({"cursor": cursor, "timeout": timeout});
    client.post(POLL, &body).await
}

/// A poll that waits for as long as it may.
fn spawn(client: &Client, cursor: &Value) -> JoinHandle<Result<Answer>> {
    let (client, cursor) = (client.clone(), cursor.clone());
    tokio::spawn(async move { poll(&client, &cursor, 25).await })
}

/// Waits until so many are registered.
async fn sessions_that_poll(server: &System, expected: u64) -> Result<()> {
    wait::until("registered", SOON, async || {
        let mut count = 0;
        for push in server.every_ws_push() {
            let metrics = String::from_utf8(push.get("/metrics").await?.body)?;
            let name = r#"tidings_ws_transport_connections{transport="poll"} "#;
            let found = metrics.lines().find_map(|line| line.strip_prefix(name));
            count += found.context("the metric")?.parse::<u64>()?;
        }
        Ok((count == expected).then_some(()))
    })
    .await
}
