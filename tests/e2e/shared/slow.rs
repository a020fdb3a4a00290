//! A client that does not read is told so, then cut off, and loses nothing.

use anyhow::{Context as _, Result, ensure};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::Value;
use tidings_tests::check;
use tidings_tests::client::{Client, number};
use tidings_tests::device::Device;
use tidings_tests::socket::Socket;
use tidings_tests::started;
use tidings_tests::wait::SOON;

use super::System;

/// More than what the system buffers between the two and the server twice for one client.
const MESSAGES: usize = 700;
/// 16 KB each.
const CHARACTERS: usize = 3_990;

#[tokio::test]
async fn a_slow_client_is_told_to_resume_then_closed_and_recovers_everything() -> Result<()> {
    // The client sleeps for as long as the others send; that is not to end it.
    let server = started!(System::with(&[("ws.write_deadline_ms", "120000")]).await);
    let (ada, bob) = (server.user("ada").await?, server.user("bob").await?);
    let group = ada.group("Engine room", &[&bob]).await?;
    let stream = format!("c:{}", group.channel);
    let mut device = Device::start(&bob).await?;
    device.go_away().await?;
    let (mut slow, _) = Socket::connect_small(&bob, 4096).await?;
    let attentive = Device::start(&bob).await?;

    let last = flood(&ada, &group.channel).await?;
    // Somebody else's slowness is nobody else's problem.
    attentive.reaches(&stream, last).await?;
    ensure!(attentive.look(|record| record.connections) == 1);

    check_told(slow.closed(SOON).await?)?;
    recovers(&mut device, &bob, &group.channel, last).await
}

/// Sends so much to a channel that who does not read is cut off; returns the last position.
pub(super) async fn flood(by: &Client, channel: &str) -> Result<u64> {
    let filler = "🚀".repeat(CHARACTERS);
    let sends = stream::iter(0..MESSAGES).map(|message| {
        let content = format!("{message} {filler}");
        async move { by.send(channel, &content).await }
    });
    let sent: Vec<Value> = sends.buffer_unordered(8).try_collect().await?;
    let seqs: Result<Vec<u64>> = sent.iter().map(|message| number(message, "seq")).collect();
    seqs?.into_iter().max().context("sent")
}

/// It was told to resume, then closed as too slow: this is what it got.
pub(super) fn check_told((code, frames): (Option<u16>, Vec<Value>)) -> Result<()> {
    ensure!(code == Some(4008), "closed with {code:?}");
    let (deltas, rest): (Vec<_>, Vec<_>) =
        frames.iter().partition(|frame| frame["type"] == "delta");
    ensure!(deltas.len() < MESSAGES, "nothing was withheld");
    // More than one if the kernel took a backlog in between.
    ensure!(!rest.is_empty(), "it was not told");
    let slow = |frame: &&Value| frame["type"] == "resume" && frame["reason"] == "slow";
    ensure!(rest.iter().all(slow), "{rest:?}");
    // What it was sent had holes only where it was told: the backlog goes as a whole.
    for part in frames.split(|frame| frame["type"] == "resume") {
        let seqs = part.iter().map(|delta| number(delta, "seq"));
        let seqs = seqs.collect::<Result<Vec<_>>>()?;
        ensure!(
            seqs.windows(2).all(|pair| pair[0] + 1 == pair[1]),
            "{seqs:?}"
        );
    }
    Ok(())
}

/// A device of `user` that was away meanwhile gets all of it.
pub(super) async fn recovers(
    device: &mut Device,
    user: &Client,
    channel: &str,
    last: u64,
) -> Result<()> {
    device.come_back();
    device.reaches(&format!("c:{channel}"), last).await?;
    let replica = device.look(|record| record.replica.clone());
    ensure!(replica.contents(channel).len() == MESSAGES);
    check::dense(&replica)?;
    check::same_as_fresh(&replica, user).await
}
