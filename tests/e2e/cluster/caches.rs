//! What one api process changed is what the other goes by, at the latest after 100 ms.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use tidings_tests::client::{Answer, number, text};
use tidings_tests::cluster::Cluster;
use tidings_tests::started;
use tokio::time::Instant;

const LIMIT: Duration = Duration::from_millis(100);

#[tokio::test]
async fn two_processes_agree_within_100_ms() -> Result<()> {
    const ROUNDS: usize = 20;
    let cluster = started!(Cluster::start().await);
    let ada = cluster.user("ada").await?.at(&cluster.apis[0].api);
    let bob = cluster.user("bob").await?.at(&cluster.apis[1].api);
    let group = ada.group("Engine room", &[]).await?;
    let member = format!("/v1/groups/{}/members/{}", group.id, bob.user);
    let messages = format!("/v1/channels/{}/messages", group.channel);
    let hello = json!({"content": "hello"});
    let send = async || bob.post(&messages, &hello).await;
    for _ in 0..ROUNDS {
        // Members.
        ada.put(&member, &json!({})).await?.ok()?;
        agree("added", 201, send).await?;
        // Roles: an admin deletes what others wrote.
        let first = number(&ada.send(&group.channel, "first").await?, "seq")?;
        let second = number(&ada.send(&group.channel, "second").await?, "seq")?;
        let [first, second] = [first, second].map(|seq| format!("{messages}/{seq}"));
        ada.put(&member, &json!({"role": "admin"})).await?.ok()?;
        agree("promoted", 204, async || bob.delete(&first).await).await?;
        ada.put(&member, &json!({"role": "member"})).await?.ok()?;
        agree("demoted", 403, async || bob.delete(&second).await).await?;
        // Channels.
        let channels = format!("/v1/groups/{}/channels", group.id);
        let made: Value = ada.post(&channels, &json!({"name": "x"})).await?.ok()?;
        let channel = format!("/v1/channels/{}", text(&made, "id")?);
        let there = format!("{channel}/messages");
        let send_there = async || bob.post(&there, &hello).await;
        agree("opened", 201, send_there).await?;
        ensure!(ada.delete(&channel).await?.status == 204);
        agree("closed", 404, send_there).await?;
        ensure!(ada.delete(&member).await?.status == 204);
        agree("removed", 404, send).await?;
    }
    Ok(())
}

/// What is asked later than the limit after the change must be answered so.
async fn agree(what: &str, status: u16, ask: impl AsyncFn() -> Result<Answer>) -> Result<()> {
    let since = Instant::now();
    loop {
        let asked = since.elapsed();
        let answer = ask().await?;
        if answer.status == status {
            return Ok(());
        }
        let text = answer.text();
        ensure!(
            asked < LIMIT,
            "{what}: {} {text} after {asked:?}",
            answer.status
        );
    }
}
