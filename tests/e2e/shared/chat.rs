//! Messages reach every device of every member, in order, once.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::json;
use tidings_tests::check;
use tidings_tests::client::number;
use tidings_tests::device::Device;
use tidings_tests::socket::Socket;
use tidings_tests::started;

use super::System;

#[tokio::test]
async fn two_users_chat() -> Result<()> {
    let server = started!(System::start().await);
    let (ada, bob) = (server.user("ada").await?, server.user("bob").await?);
    let ada_again = server.api.login("ada").await?;
    let group = ada.group("Engine room", &[&bob]).await?;
    let devices = [
        Device::start(&ada).await?,
        Device::start(&ada_again).await?,
        Device::start(&bob).await?,
    ];

    let first = ada.send(&group.channel, "Hello, Bob!").await?;
    let second = bob.send(&group.channel, "Hello, Ada!").await?;
    ensure!(first["author"] == *ada.user && second["author"] == *bob.user);
    ensure!(number(&first, "seq")? < number(&second, "seq")?);

    let stream = format!("c:{}", group.channel);
    for device in &devices {
        device.reaches(&stream, number(&second, "seq")?).await?;
        device.look(|record| -> Result<()> {
            let contents = record.replica.contents(&group.channel);
            ensure!(contents == ["Hello, Bob!", "Hello, Ada!"], "{contents:?}");
            let authors: Vec<_> = record.replica.applied(&stream).collect();
            ensure!(authors[0].actor.as_ref() == Some(&ada.user), "{authors:?}");
            ensure!(authors[0].at == first["created_at"], "{authors:?}");
            check::dense(&record.replica)
        })?;
    }
    Ok(())
}

#[tokio::test]
async fn five_devices_of_one_user_receive_everything_in_order_once() -> Result<()> {
    const MESSAGES: usize = 200;
    let server = started!(System::start().await);
    let (ada, bob) = (server.user("ada").await?, server.user("bob").await?);
    let group = ada.group("Engine room", &[&bob]).await?;
    let mut devices = Vec::new();
    for _ in 0..5 {
        devices.push(Device::start(&server.api.login("bob").await?).await?);
    }

    let mut last = 0;
    for message in 0..MESSAGES {
        let sent = ada.send(&group.channel, &message.to_string()).await?;
        last = number(&sent, "seq")?;
    }
    let expected: Vec<String> = (0..MESSAGES).map(|message| message.to_string()).collect();
    let stream = format!("c:{}", group.channel);
    for device in &devices {
        device.reaches(&stream, last).await?;
        device.look(|record| -> Result<()> {
            ensure!(record.replica.contents(&group.channel) == expected);
            ensure!(record.replica.duplicates == 0, "something came twice");
            ensure!(record.connections == 1, "a device had to reconnect");
            check::dense(&record.replica)
        })?;
    }
    Ok(())
}

/// What is pushed is what is promised: the sockets see each delta once and in order by
/// themselves, without the client algorithm's help.
#[tokio::test]
async fn a_socket_receives_each_delta_once_and_in_order() -> Result<()> {
    let server = started!(System::start().await);
    let (ada, bob) = (server.user("ada").await?, server.user("bob").await?);
    let group = ada.group("Engine room", &[&bob]).await?;
    let (mut socket, hello) = Socket::connect(&bob).await?;
    for field in ["heartbeat_ms", "session_expires_in", "sync_secs", "epoch"] {
        ensure!(hello[field].is_u64(), "{field} in {hello}");
    }
    let stream = format!("c:{}", group.channel);
    for number in 0..50 {
        let sent = ada.send(&group.channel, &number.to_string()).await?;
        let delta = socket.delta(&stream).await?;
        let expected = json!({
            "type": "delta", "stream": stream, "seq": sent["seq"], "kind": "message.created",
            "at": sent["created_at"], "actor": ada.user,
            "data": {"id": sent["id"], "content": sent["content"], "reply_to": null, "mentions": [], "mentions_everyone": false},
        });
        ensure!(delta == expected, "{delta} not {expected}");
    }
    let rest = socket.flush().await?;
    ensure!(rest.is_empty(), "more came: {rest:?}");
    Ok(())
}

#[tokio::test]
async fn a_device_that_was_away_for_1000_deltas_catches_up_in_order() -> Result<()> {
    const MESSAGES: usize = 1000;
    let server = started!(System::start().await);
    let (ada, bob) = (server.user("ada").await?, server.user("bob").await?);
    let group = ada.group("Engine room", &[&bob]).await?;
    let mut device = Device::start(&bob).await?;
    device.go_away().await?;

    // In four turns of 250 at once, so that order is not given by the sender.
    let numbers = stream::iter(0..MESSAGES);
    let sends = numbers.map(|message| {
        let (ada, channel) = (ada.clone(), group.channel.clone());
        async move { ada.send(&channel, &message.to_string()).await }
    });
    let sent: Vec<_> = sends.buffer_unordered(16).try_collect().await?;
    let mut by_seq: Vec<(u64, String)> = Vec::new();
    for message in &sent {
        let content = message["content"].as_str().context("content")?.to_owned();
        by_seq.push((number(message, "seq")?, content));
    }
    by_seq.sort();
    let (seqs, contents): (Vec<u64>, Vec<String>) = by_seq.into_iter().unzip();
    ensure!(seqs.windows(2).all(|pair| pair[0] + 1 == pair[1]), "a hole");

    device.come_back();
    let stream = format!("c:{}", group.channel);
    device
        .reaches(&stream, *seqs.last().context("sent")?)
        .await?;
    // What comes now is live and follows without a seam.
    let live = ada.send(&group.channel, "live").await?;
    device.reaches(&stream, number(&live, "seq")?).await?;
    device.look(|record| -> Result<()> {
        let received = record.replica.contents(&group.channel);
        ensure!(received[..MESSAGES] == contents, "another order");
        ensure!(received[MESSAGES..] == ["live"]);
        check::dense(&record.replica)
    })?;
    check::same_as_fresh(&device.look(|record| record.replica.clone()), &bob).await
}

#[tokio::test]
async fn a_group_of_500_members_receives_a_message_once_each() -> Result<()> {
    const MEMBERS: usize = 500;
    let server = started!(System::start().await);
    let users = server.users("member", MEMBERS).await?;
    let (owner, others) = users.split_first().context("users")?;
    let group = owner
        .group("Everybody", &others.iter().collect::<Vec<_>>())
        .await?;
    let mut sockets: Vec<Socket> = stream::iter(&users)
        .map(async |user| Ok(Socket::connect(user).await?.0))
        .buffered(16)
        .try_collect::<Vec<_>>()
        .await
        .map_err(|error: anyhow::Error| error)?;

    let stream = format!("c:{}", group.channel);
    let sender = &users[MEMBERS / 2];
    let mut expected = Vec::new();
    for content in ["first", "second", "third"] {
        expected.push(sender.send(&group.channel, content).await?["seq"].clone());
    }
    for (number, socket) in sockets.iter_mut().enumerate() {
        for seq in &expected {
            let delta = socket.delta(&stream).await;
            let delta = delta.with_context(|| format!("member {number}"))?;
            ensure!(delta["seq"] == *seq, "member {number}: {delta}");
        }
    }
    for (number, socket) in sockets.iter_mut().enumerate() {
        let rest = socket.flush().await?;
        ensure!(rest.is_empty(), "member {number} received more: {rest:?}");
    }
    Ok(())
}

/// A delta of a stream that the device does not know makes it take the stream up.
#[tokio::test]
async fn a_new_group_reaches_the_devices_of_its_members() -> Result<()> {
    let server = started!(System::start().await);
    let (ada, bob) = (server.user("ada").await?, server.user("bob").await?);
    let device = Device::start(&bob).await?;
    let group = ada.group("Engine room", &[&bob]).await?;
    let seen = |content: &str| {
        let (channel, content) = (group.channel.clone(), content.to_owned());
        move |record: &tidings_tests::device::Record| {
            let messages = record.replica.view.channels.get(&channel);
            messages.is_some_and(|held| held.values().any(|message| message.content == content))
        }
    };
    ada.send(&group.channel, "first").await?;
    device.until("shown the first", seen("first")).await?;
    ada.send(&group.channel, "second").await?;
    device
        .until_within("shown the second", Duration::from_secs(20), seen("second"))
        .await?;
    check::same_as_fresh(&device.catches_up().await?, &bob).await
}
