//! The same key has one effect and gets the first answer.

use anyhow::{Context as _, Result, ensure};
use futures_util::future::try_join_all;
use reqwest::Method;
use serde_json::json;
use tidings_tests::check;
use tidings_tests::client::{Answer, answer, number};
use tidings_tests::socket::Socket;
use tidings_tests::started;

use super::System;

#[tokio::test]
async fn the_same_nonce_twice_gives_one_message_and_the_same_answer() -> Result<()> {
    let mut server = started!(System::start().await);
    let ada = server.user("ada").await?;
    let group = ada.group("Engine room", &[]).await?;
    let (mut socket, _) = Socket::connect(&ada).await?;
    let first = ada.send_nonce(&group.channel, "once", "7f3a").await?;
    ensure!(first.header("idempotency-replayed").is_empty());
    socket.delta(&format!("c:{}", group.channel)).await?;

    let again = ada.send_nonce(&group.channel, "once", "7f3a").await?;
    same(&first, &again)?;
    ensure!(again.header("idempotency-replayed") == "true");
    let rest = socket.flush().await?;
    ensure!(rest.is_empty(), "the replay was announced: {rest:?}");

    // The header is the same thing, and a restart does not forget.
    server.kill().await?;
    server.restart().await?;
    let path = format!("/v1/channels/{}/messages", group.channel);
    let by_header = ada
        .request(Method::POST, &path)
        .header("Idempotency-Key", "7f3a");
    same(
        &first,
        &answer(by_header.json(&json!({"content": "once"}))).await?,
    )?;

    // The same key with another body is a mistake; another user's same key is another key.
    let other = ada.send_nonce(&group.channel, "twice", "7f3a").await?;
    other.problem(409, "idempotency_mismatch")?;
    let contents = check::history(&ada, &group.channel).await?;
    ensure!(contents.values().eq(["once"]), "{contents:?}");
    Ok(())
}

#[tokio::test]
async fn the_same_nonce_50_times_at_once_gives_one_message() -> Result<()> {
    const AT_ONCE: usize = 50;
    let server = started!(System::start().await);
    let (ada, bob) = (server.user("ada").await?, server.user("bob").await?);
    let group = ada.group("Engine room", &[&bob]).await?;
    let (mut socket, _) = Socket::connect(&bob).await?;
    let stream = format!("c:{}", group.channel);
    for round in 0..3 {
        let nonce = format!("nonce-{round}");
        let head = ada.head(&group.channel).await?;
        let sends = (0..AT_ONCE).map(|_| ada.send_nonce(&group.channel, "once", &nonce));
        let answers = try_join_all(sends).await?;
        for again in &answers {
            same(&answers[0], again)?;
        }
        let first = |answer: &&Answer| answer.header("idempotency-replayed").is_empty();
        ensure!(answers.iter().filter(first).count() == 1, "not one first");
        ensure!(ada.head(&group.channel).await? == head + 1);
        let delta = socket.delta(&stream).await?;
        ensure!(number(&delta, "seq")? == head + 1, "{delta}");
    }
    let rest = socket.flush().await?;
    ensure!(rest.is_empty(), "announced more than once: {rest:?}");
    ensure!(check::history(&ada, &group.channel).await?.len() == 3);

    // Another author's same nonce is another message.
    let other = bob.send_nonce(&group.channel, "once", "nonce-0").await?;
    ensure!(other.status == 201, "{}", other.text());
    ensure!(check::history(&ada, &group.channel).await?.len() == 4);
    Ok(())
}

#[tokio::test]
async fn a_group_is_created_once_by_the_same_key() -> Result<()> {
    let server = started!(System::start().await);
    let ada = server.user("ada").await?;
    let create = |name: &'static str| {
        let request = ada.request(Method::POST, "/v1/groups");
        answer(
            request
                .header("Idempotency-Key", "g1")
                .json(&json!({"name": name})),
        )
    };
    let answers = try_join_all((0..10).map(|_| create("Engine room"))).await?;
    for again in &answers {
        same(&answers[0], again)?;
    }
    create("Bridge")
        .await?
        .problem(409, "idempotency_mismatch")?;
    let groups = ada.get("/v1/groups").await?.ok()?;
    let count = groups["items"].as_array().context("items")?.len();
    ensure!(count == 1, "{groups}");
    Ok(())
}

fn same(first: &Answer, again: &Answer) -> Result<()> {
    ensure!(first.status == 201, "{}", first.text());
    let equal = again.status == first.status && again.json()? == first.json()?;
    ensure!(
        equal,
        "{} {} not {}",
        again.status,
        again.text(),
        first.text()
    );
    Ok(())
}
