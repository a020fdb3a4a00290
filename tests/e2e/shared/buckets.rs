//! A client that caches history by buckets ends with what the server has, though it fetches only
//! what differs.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::{Value, json};
use tidings_tests::client::{Client, items};
use tidings_tests::started;

use super::System;

/// Digest and messages by bucket.
type Cache = BTreeMap<u64, (String, Vec<Value>)>;

#[tokio::test]
async fn only_the_buckets_that_differ_are_fetched() -> Result<()> {
    const MESSAGES: usize = 600;
    let server = started!(System::start().await);
    let (ada, bob) = (server.user("ada").await?, server.user("bob").await?);
    let group = ada.group("Engine room", &[&bob]).await?;
    let sends = stream::iter(0..MESSAGES).map(|number| {
        let (ada, channel) = (&ada, &group.channel);
        async move { ada.send(channel, &number.to_string()).await }
    });
    sends.buffer_unordered(16).try_collect::<Vec<_>>().await?;
    let mut cache = Cache::new();
    ensure!(refresh(&bob, &group.channel, &mut cache).await? == [0, 1, 2]);
    ensure!(refresh(&bob, &group.channel, &mut cache).await?.is_empty());

    let message = |seq: u64| format!("/v1/channels/{}/messages/{seq}", group.channel);
    let edited = ada
        .patch(&message(3), &json!({"content": "edited"}))
        .await?;
    ensure!(edited.status == 200, "{}", edited.text());
    // The edit is an entry of the last bucket, and shows in the first.
    ensure!(refresh(&bob, &group.channel, &mut cache).await? == [0]);
    let path = format!("{}/reactions/👍", message(300));
    ensure!(ada.put(&path, &json!({})).await?.status == 200);
    ensure!(refresh(&bob, &group.channel, &mut cache).await? == [1]);
    ensure!(ada.delete(&message(2)).await?.status == 204);
    ada.send(&group.channel, "another").await?;
    ensure!(refresh(&bob, &group.channel, &mut cache).await? == [0, 2]);
    Ok(())
}

/// Brings the cache up to date, checks it against the history, and returns what was fetched.
async fn refresh(client: &Client, channel: &str, cache: &mut Cache) -> Result<Vec<u64>> {
    let head = client.head(channel).await?;
    let buckets = 0..=head.saturating_sub(1) / 256;
    let held = |bucket: u64| cache.get(&bucket).map_or("", |(digest, _)| digest);
    let digests: BTreeMap<String, &str> = buckets
        .map(|bucket| (bucket.to_string(), held(bucket)))
        .collect();
    let path = format!("/v1/channels/{channel}/buckets");
    let body = json!({"digests": digests});
    let answer = client.post(&format!("{path}/compare"), &body).await?.ok()?;
    let differ = answer["differ"].as_object().context("differ")?;
    let mut fetched = Vec::new();
    for (bucket, digest) in differ {
        let found = client.get(&format!("{path}/{bucket}")).await?;
        let tag = format!("\"{}\"", digest.as_str().unwrap_or_default());
        ensure!(found.header("etag") == tag, "{}", found.header("etag"));
        let found = found.ok()?;
        let held = (
            digest.as_str().unwrap_or_default().to_owned(),
            items(&found, "items")?.clone(),
        );
        cache.insert(bucket.parse()?, held);
        fetched.push(bucket.parse()?);
    }
    fetched.sort_unstable();
    let held: Vec<&Value> = cache.values().flat_map(|(_, items)| items).collect();
    let history = client.messages(channel).await?;
    ensure!(
        held == history.iter().collect::<Vec<_>>(),
        "another history"
    );
    Ok(fetched)
}
