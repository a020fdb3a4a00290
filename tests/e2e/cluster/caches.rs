//! What one api process changed is what the other goes by within 100 ms.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use tidings_tests::client::{Answer, number, text};
use tidings_tests::cluster::Cluster;
use tidings_tests::started;
use tokio::time::Instant;

const LIMIT: Duration = Duration::from_millis(100);
/// One in ten may take longer where all of a test machine is busy, but not this long.
const PATIENCE: Duration = Duration::from_secs(1);

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
    let mut waits = Vec::new();
    for _ in 0..ROUNDS {
        // Members.
        ada.put(&member, &json!({})).await?.ok()?;
        waits.push(agree("added", 201, send).await?);
        // Roles: an admin deletes what others wrote.
        let first = number(&ada.send(&group.channel, "first").await?, "seq")?;
        let second = number(&ada.send(&group.channel, "second").await?, "seq")?;
        let [first, second] = [first, second].map(|seq| format!("{messages}/{seq}"));
        ada.put(&member, &json!({"role": "admin"})).await?.ok()?;
        waits.push(agree("promoted", 204, async || bob.delete(&first).await).await?);
        ada.put(&member, &json!({"role": "member"})).await?.ok()?;
        waits.push(agree("demoted", 403, async || bob.delete(&second).await).await?);
        // Channels.
        let channels = format!("/v1/groups/{}/channels", group.id);
        let made: Value = ada.post(&channels, &json!({"name": "x"})).await?.ok()?;
        let channel = format!("/v1/channels/{}", text(&made, "id")?);
        let there = format!("{channel}/messages");
        let send_there = async || bob.post(&there, &hello).await;
        waits.push(agree("opened", 201, send_there).await?);
        ensure!(ada.delete(&channel).await?.status == 204);
        waits.push(agree("closed", 404, send_there).await?);
        ensure!(ada.delete(&member).await?.status == 204);
        waits.push(agree("removed", 404, send).await?);
    }
    waits.sort_unstable();
    let (ninth_tenth, longest) = (waits[waits.len() * 9 / 10], waits[waits.len() - 1]);
    eprintln!("9 of 10 agree after {ninth_tenth:?}, all after {longest:?}");
    ensure!(ninth_tenth < LIMIT, "{waits:?}");
    Ok(())
}

/// How long after the change a question was first answered so.
async fn agree(what: &str, status: u16, ask: impl AsyncFn() -> Result<Answer>) -> Result<Duration> {
    let since = Instant::now();
    loop {
        let asked = since.elapsed();
        let answer = ask().await?;
        if answer.status == status {
            return Ok(asked);
        }
        let text = answer.text();
        ensure!(
            asked < PATIENCE,
            "{what}: {} {text} after {asked:?}",
            answer.status
        );
    }
}
