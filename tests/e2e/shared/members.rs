//! Only members: others read, receive and do nothing, and cannot tell that a thing exists.

use anyhow::{Result, ensure};
use reqwest::Method;
use serde_json::{Value, json};
use tidings_tests::check;
use tidings_tests::client::{Answer, Client, Group, answer, items, number};
use tidings_tests::device::Device;
use tidings_tests::socket::Socket;
use tidings_tests::started;

use super::System;

#[tokio::test]
async fn non_members_receive_and_read_nothing() -> Result<()> {
    let server = started!(System::start().await);
    let (ada, bob) = (server.user("ada").await?, server.user("bob").await?);
    let eve = server.user("eve").await?;
    let group = ada.group("Engine room", &[&bob]).await?;
    let own = eve.group("Eve's", &[]).await?;
    let (mut socket, _) = Socket::connect(&eve).await?;
    let sent = ada.send(&group.channel, "secret").await?;
    let seq = number(&sent, "seq")?;

    check_outside(&eve, &ada, &group, seq).await?;
    // What was sent before this message of her own would have come before it. (The creation of
    // her own group may be announced only now.)
    eve.send(&own.channel, "own").await?;
    let deltas = deltas_until(&mut socket, &own.channel).await?;
    let hers = [format!("g:{}", own.id), format!("c:{}", own.channel)];
    let foreign = |delta: &&Value| !hers.iter().any(|stream| delta["stream"] == **stream);
    let received = deltas.iter().find(foreign);
    ensure!(received.is_none(), "she received {received:?}");
    let heads = eve.heads().await?.to_string();
    ensure!(
        !heads.contains(&group.id) && !heads.contains(&group.channel),
        "{heads}"
    );

    // The same routes work for a member, so that the 404s above mean something.
    for answer in reads(&bob, &group, seq).await? {
        answer.ok()?;
    }
    Ok(())
}

#[tokio::test]
async fn a_removed_member_is_out_from_the_acknowledgement_on() -> Result<()> {
    let server = started!(System::start().await);
    let (ada, bob) = (server.user("ada").await?, server.user("bob").await?);
    let eve = server.user("eve").await?;
    let group = ada.group("Engine room", &[&bob, &eve]).await?;
    let own = eve.group("Eve's", &[]).await?;
    let before = ada.send(&group.channel, "before").await?;
    eve.send(&group.channel, "mine").await?;
    let (mut socket, _) = Socket::connect(&eve).await?;
    let device = Device::start(&eve).await?;

    let path = format!("/v1/groups/{}/members/{}", group.id, eve.user);
    let removed = ada.delete(&path).await?;
    ensure!(removed.status == 204, "{}", removed.text());
    let path = format!("/v1/channels/{}/messages", group.channel);
    let after = eve.post(&path, &json!({"content": "after"})).await?;
    after.problem(404, "not_found")?;
    ada.send(&group.channel, "without her").await?;
    bob.send(&group.channel, "indeed").await?;
    check_outside(&eve, &ada, &group, number(&before, "seq")?).await?;

    eve.send(&own.channel, "own").await?;
    let deltas = deltas_until(&mut socket, &own.channel).await?;
    // What was sent before her removal may be announced only now.
    let later = |delta: &&Value| {
        ["without her", "indeed"]
            .iter()
            .any(|content| delta["data"]["content"] == *content)
    };
    let received = deltas.iter().find(later);
    ensure!(received.is_none(), "she received {received:?}");
    // Her devices learn that the group is gone.
    let gone = |record: &tidings_tests::device::Record| {
        !record.replica.view.groups.contains_key(&group.id)
            && !record.replica.view.channels.contains_key(&group.channel)
    };
    device.until("rid of the group", gone).await?;
    let contents = check::history(&ada, &group.channel).await?;
    ensure!(
        contents
            .values()
            .eq(["before", "mine", "without her", "indeed"]),
        "{contents:?}"
    );

    // Back again, she reads everything: history belongs to current members.
    let path = format!("/v1/groups/{}/members/{}", group.id, eve.user);
    ada.put(&path, &json!({})).await?.ok()?;
    ensure!(eve.messages(&group.channel).await?.len() == 4);
    eve.send(&group.channel, "hello again").await?;
    Ok(())
}

/// Removal while the removed sends without a pause: what she was told was sent stands before
/// her removal, and nothing of hers stands behind it.
#[tokio::test]
async fn nothing_is_sent_by_a_member_after_her_removal() -> Result<()> {
    let server = started!(System::start().await);
    let (ada, eve) = (server.user("ada").await?, server.user("eve").await?);
    for round in 0..5 {
        let group = ada.group("Engine room", &[&eve]).await?;
        let senders: Vec<_> = (0..8)
            .map(|_| {
                let (eve, channel) = (eve.clone(), group.channel.clone());
                tokio::spawn(async move {
                    let path = format!("/v1/channels/{channel}/messages");
                    loop {
                        let answer = eve.post(&path, &json!({"content": "x"})).await?;
                        if answer.status != 201 {
                            answer.problem(404, "not_found")?;
                            return anyhow::Ok(());
                        }
                    }
                })
            })
            .collect();
        let path = format!("/v1/groups/{}/members/{}", group.id, eve.user);
        let removed = ada.delete(&path).await?;
        ensure!(removed.status == 204, "{}", removed.text());
        let head = ada.head(&group.channel).await?;
        for sender in senders {
            sender.await??;
        }
        let last = ada.send(&group.channel, "last").await?;
        let between = number(&last, "seq")? - head - 1;
        ensure!(
            between == 0,
            "round {round}: {between} came after the removal"
        );
    }
    Ok(())
}

async fn check_outside(eve: &Client, ada: &Client, group: &Group, seq: u64) -> Result<()> {
    let heads = ada.heads().await?;
    for answer in reads(eve, group, seq).await? {
        answer.problem(404, "not_found")?;
    }
    for answer in writes(eve, group, seq).await? {
        answer.problem(404, "not_found")?;
    }
    ensure!(ada.heads().await? == heads, "an outsider moved something");

    let mut cursor = serde_json::Map::new();
    for stream in [format!("g:{}", group.id), format!("c:{}", group.channel)] {
        cursor.insert(stream, json!(1));
    }
    for only in [false, true] {
        let body = json!({"cursor": cursor, "only": only});
        let answer = eve.post("/v1/sync", &body).await?.ok()?;
        let resets = items(&answer, "resets")?;
        ensure!(resets.len() == 2, "{answer}");
        for reset in resets {
            ensure!(reset["reason"] == "gone" && reset["head"] == 0, "{answer}");
        }
        let seen = answer["deltas"].to_string() + &answer["heads"].to_string();
        ensure!(!seen.contains(&group.channel), "{answer}");
    }
    Ok(())
}

/// Every way to read something of a group.
async fn reads(client: &Client, group: &Group, seq: u64) -> Result<Vec<Answer>> {
    let Group { id, channel } = group;
    let mut answers = Vec::new();
    for path in [
        format!("/v1/groups/{id}"),
        format!("/v1/groups/{id}/members"),
        format!("/v1/channels/{channel}"),
        format!("/v1/channels/{channel}/messages"),
        format!("/v1/channels/{channel}/messages?after=0"),
        format!("/v1/channels/{channel}/messages?around={seq}"),
        format!("/v1/channels/{channel}/messages/{seq}"),
    ] {
        answers.push(client.get(&path).await?);
    }
    Ok(answers)
}

/// Every way to change something of a group.
async fn writes(client: &Client, group: &Group, seq: u64) -> Result<Vec<Answer>> {
    let Group { id, channel } = group;
    let member = format!("/v1/groups/{id}/members/{}", client.user);
    let message = format!("/v1/channels/{channel}/messages/{seq}");
    let name = json!({"name": "taken over"});
    let content = json!({"content": "x"});
    let mut answers = Vec::new();
    for (method, path, body) in [
        (Method::PATCH, format!("/v1/groups/{id}"), Some(&name)),
        (Method::DELETE, format!("/v1/groups/{id}"), None),
        (Method::PUT, member.clone(), Some(&json!({"role": "admin"}))),
        (
            Method::PATCH,
            member.clone(),
            Some(&json!({"role": "admin"})),
        ),
        (Method::DELETE, member, None),
        (
            Method::POST,
            format!("/v1/groups/{id}/channels"),
            Some(&name),
        ),
        (
            Method::PATCH,
            format!("/v1/channels/{channel}"),
            Some(&name),
        ),
        (Method::DELETE, format!("/v1/channels/{channel}"), None),
        (
            Method::POST,
            format!("/v1/channels/{channel}/messages"),
            Some(&content),
        ),
        (Method::PATCH, message.clone(), Some(&content)),
        (Method::DELETE, message, None),
    ] {
        let request = client.request(method, &path);
        let request = match body {
            Some(body) => request.json(body),
            None => request,
        };
        answers.push(answer(request).await?);
    }
    Ok(answers)
}

/// The deltas that come up to the first message in a channel, which is the last of them.
async fn deltas_until(socket: &mut Socket, channel: &str) -> Result<Vec<Value>> {
    let mut deltas = Vec::new();
    let stream = format!("c:{channel}");
    let until = |frame: &Value| {
        if frame["type"] == "delta" {
            deltas.push(frame.clone());
        }
        frame["stream"] == stream && frame["kind"] == "message.created"
    };
    socket.find(tidings_tests::wait::SOON, until).await?;
    Ok(deltas)
}
