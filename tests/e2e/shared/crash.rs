//! SIGKILL while messages are being sent: what was acknowledged is there, once, without a hole,
//! and what was committed is announced.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tidings_tests::check;
use tidings_tests::client::{Client, number};
use tidings_tests::device::Device;
use tidings_tests::socket::Socket;
use tidings_tests::started;
use tidings_tests::wait;
use tokio::task::JoinHandle;

use super::System;

const SENDERS: usize = 16;

/// What one sender knows at the time of the crash.
struct Sent {
    /// Content → position, as the server acknowledged.
    acknowledged: BTreeMap<String, u64>,
    /// The content (and nonce) of the message whose answer never came.
    unknown: String,
}

#[tokio::test]
async fn sigkill_among_16_senders_loses_nothing_and_leaves_no_hole() -> Result<()> {
    const ROUNDS: usize = 4;
    let mut server = started!(System::start().await);
    let (ada, bob) = (server.user("ada").await?, server.user("bob").await?);
    let group = ada.group("Engine room", &[&bob]).await?;
    let stream = format!("c:{}", group.channel);
    let device = Device::start(&bob).await?;
    let mut expected: BTreeMap<String, u64> = BTreeMap::new();
    let mut landed_unacknowledged = 0;

    for round in 0..ROUNDS {
        let senders = kill_among_senders(&mut server, &ada, &group.channel, round).await?;
        server.restart().await?;
        let before = check::history(&ada, &group.channel).await?;
        for sent in senders {
            let landed = before.values().any(|content| *content == sent.unknown);
            let nonce = &sent.unknown;
            let answer = ada.send_nonce(&group.channel, nonce, nonce).await?;
            ensure!(answer.status == 201, "{}", answer.text());
            let replayed = answer.header("idempotency-replayed") == "true";
            ensure!(replayed == landed, "landed {landed}, replayed {replayed}");
            landed_unacknowledged += usize::from(landed);
            expected.extend(sent.acknowledged);
            expected.insert(sent.unknown, number(&answer.json()?, "seq")?);
        }
        let history = check::history(&ada, &group.channel).await?;
        check_history(&history, &expected).with_context(|| format!("round {round}"))?;
    }

    let last = ada.send(&group.channel, "the end").await?;
    device.reaches(&stream, number(&last, "seq")?).await?;
    let replica = device.look(|record| record.replica.clone());
    check::dense(&replica)?;
    check::same_as_fresh(&replica, &bob).await?;
    eprintln!(
        "{} messages; of {} unanswered ones {landed_unacknowledged} had been committed",
        expected.len(),
        ROUNDS * SENDERS
    );
    Ok(())
}

#[tokio::test]
async fn what_was_committed_and_not_announced_is_announced_after_the_restart() -> Result<()> {
    let mut server = started!(System::start().await);
    let (ada, bob) = (server.user("ada").await?, server.user("bob").await?);
    let group = ada.group("Engine room", &[&bob]).await?;
    kill_among_senders(&mut server, &ada, &group.channel, 0).await?;
    server.restart().await?;

    // This socket never asks: what it sees was pushed. The newest entries had no time to lose
    // their mark.
    let (mut socket, _) = Socket::connect(&bob).await?;
    let head = ada.head(&group.channel).await?;
    let stream = format!("c:{}", group.channel);
    let newest = |frame: &serde_json::Value| frame["stream"] == *stream && frame["seq"] == head;
    socket.find(Duration::from_secs(10), newest).await?;
    Ok(())
}

/// Has 16 senders send without a pause, kills the server in the middle of it, and returns what
/// each knows then.
async fn kill_among_senders(
    server: &mut System,
    client: &Client,
    channel: &str,
    round: usize,
) -> Result<Vec<Sent>> {
    let count = Arc::new(AtomicUsize::new(0));
    let senders: Vec<JoinHandle<Result<Sent>>> = (0..SENDERS)
        .map(|sender| {
            let (client, channel) = (client.clone(), channel.to_owned());
            let (name, count) = (format!("r{round}s{sender}"), Arc::clone(&count));
            tokio::spawn(async move { send_until_lost(&client, &channel, &name, &count).await })
        })
        .collect();
    let wanted = fastrand::usize(80..200);
    wait::until("messages sent", wait::SOON, async || {
        Ok((count.load(Ordering::Relaxed) >= wanted).then_some(()))
    })
    .await?;
    server.kill().await?;
    let mut all = Vec::new();
    for sender in senders {
        all.push(sender.await??);
    }
    Ok(all)
}

async fn send_until_lost(
    client: &Client,
    channel: &str,
    name: &str,
    count: &AtomicUsize,
) -> Result<Sent> {
    let mut acknowledged = BTreeMap::new();
    for message in 0.. {
        let content = format!("{name}m{message}");
        match client.send_nonce(channel, &content, &content).await {
            Ok(answer) if ![502, 504].contains(&answer.status) => {
                ensure!(answer.status == 201, "{}", answer.text());
                acknowledged.insert(content, number(&answer.json()?, "seq")?);
                count.fetch_add(1, Ordering::Relaxed);
            }
            // So nginx says of a server that is gone: what that one had got may be committed.
            Ok(_) | Err(_) => {
                let unknown = content;
                return Ok(Sent {
                    acknowledged,
                    unknown,
                });
            }
        }
    }
    unreachable!("messages are sent until the server is gone")
}

/// Every message is there once and where it was said to be, and there are no others.
fn check_history(history: &BTreeMap<u64, String>, expected: &BTreeMap<String, u64>) -> Result<()> {
    for (content, seq) in expected {
        let found = history.get(seq);
        ensure!(found == Some(content), "{content} at {seq}: {found:?}");
    }
    let more = history.len() - expected.len();
    ensure!(more == 0, "{more} messages that nobody sent, or twice");
    let seqs: Vec<&u64> = history.keys().collect();
    let dense = seqs.windows(2).all(|pair| pair[0] + 1 == *pair[1]);
    ensure!(dense, "a hole: {seqs:?}");
    Ok(())
}
