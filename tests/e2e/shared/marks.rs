//! What people do to messages reaches every device, and every copy.

use anyhow::{Result, ensure};
use futures_util::future::try_join_all;
use reqwest::Method;
use serde_json::json;
use tidings_tests::check;
use tidings_tests::client::{answer, number};
use tidings_tests::device::Device;
use tidings_tests::socket::Socket;
use tidings_tests::started;

use super::System;

#[tokio::test]
async fn reactions_of_many_at_once_reach_every_device() -> Result<()> {
    const USERS: usize = 12;
    let server = started!(System::start().await);
    let users = server.users("user", USERS).await?;
    let members: Vec<_> = users.iter().collect();
    let group = users[0].group("Engine room", &members).await?;
    let device = Device::start(&users[1]).await?;
    let sent = users[0].send(&group.channel, "Lunch?").await?;
    let path = format!("/v1/channels/{}/messages/{}", group.channel, sent["seq"]);
    let reaction = format!("{path}/reactions/👍");

    let nothing = json!({});
    let all = users.iter().map(|user| user.put(&reaction, &nothing));
    for answer in try_join_all(all).await? {
        ensure!(answer.status == 200, "{}", answer.text());
    }
    let back = users[..4].iter().map(|user| user.delete(&reaction));
    for answer in try_join_all(back).await? {
        ensure!(answer.status == 204, "{}", answer.text());
    }
    let message = users[0].get(&path).await?.ok()?;
    ensure!(message["reactions"][0]["count"] == USERS - 4, "{message}");
    ensure!(message["reactions"][0]["users"].as_array().map(Vec::len) == Some(3));
    let head = users[0].head(&group.channel).await?;
    device
        .reaches(&format!("c:{}", group.channel), head)
        .await?;
    let replica = device.look(|record| record.replica.clone());
    check::dense(&replica)?;
    check::same_as_fresh(&replica, &users[1]).await
}

#[tokio::test]
async fn a_reaction_is_told_with_what_it_makes_of_the_others() -> Result<()> {
    let server = started!(System::start().await);
    let (ada, bob) = (server.user("ada").await?, server.user("bob").await?);
    let group = ada.group("Engine room", &[&bob]).await?;
    let (mut socket, _) = Socket::connect(&bob).await?;
    let stream = format!("c:{}", group.channel);
    let sent = ada.send(&group.channel, "Lunch?").await?;
    let delta = socket.delta(&stream).await?;
    ensure!(delta["seq"] == sent["seq"], "{delta}");
    let path = format!("/v1/channels/{}/messages/{}", group.channel, sent["seq"]);
    let path = format!("{path}/reactions/%E2%9D%A4%EF%B8%8F");
    let react = async |method: Method| {
        let request = ada.request(method, &path).header("Idempotency-Key", "once");
        answer(request).await
    };
    let data = |count: u64, users: &[&str]| json!({"message": sent["seq"], "emoji": "❤️", "count": count, "users": users});
    for _ in 0..2 {
        ensure!(react(Method::PUT).await?.status == 200);
    }
    let delta = socket.delta(&stream).await?;
    ensure!(
        delta["kind"] == "reaction.added" && delta["actor"] == *ada.user,
        "{delta}"
    );
    ensure!(delta["data"] == data(1, &[&ada.user]), "{delta}");
    ensure!(
        number(&delta, "seq")? == number(&sent, "seq")? + 1,
        "{delta}"
    );
    // The same key means one thing.
    react(Method::DELETE)
        .await?
        .problem(409, "idempotency_mismatch")?;
    ensure!(ada.delete(&path).await?.status == 204);
    let delta = socket.delta(&stream).await?;
    ensure!(
        delta["kind"] == "reaction.removed" && delta["data"] == data(0, &[]),
        "{delta}"
    );
    let rest = socket.flush().await?;
    ensure!(rest.is_empty(), "more came: {rest:?}");
    Ok(())
}

#[tokio::test]
async fn a_pin_reaches_every_device_and_goes_with_its_message() -> Result<()> {
    let server = started!(System::start().await);
    let (ada, bob) = (server.user("ada").await?, server.user("bob").await?);
    let group = ada.group("Engine room", &[&bob]).await?;
    let device = Device::start(&bob).await?;
    let sent = bob.send(&group.channel, "Read this").await?;
    let path = format!("/v1/channels/{}/messages/{}", group.channel, sent["seq"]);
    let (pin, pins) = (
        format!("{path}/pin"),
        format!("/v1/channels/{}/pins", group.channel),
    );
    let nothing = json!({});
    bob.put(&pin, &nothing).await?.problem(403, "forbidden")?;
    let pinned = ada.put(&pin, &nothing).await?.ok()?;
    ensure!(pinned["pinned"] == true, "{pinned}");
    let listed = bob.get(&pins).await?.ok()?;
    ensure!(listed["items"] == json!([pinned]), "{listed}");
    let stream = format!("c:{}", group.channel);
    for deleted in [false, true] {
        if deleted {
            ensure!(bob.delete(&path).await?.status == 204);
            let listed = ada.get(&pins).await?.ok()?;
            ensure!(listed["items"] == json!([]), "{listed}");
        }
        device
            .reaches(&stream, ada.head(&group.channel).await?)
            .await?;
        let replica = device.look(|record| record.replica.clone());
        check::same_as_fresh(&replica, &bob).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_deletion_reaches_the_replies_that_quote_the_message() -> Result<()> {
    let server = started!(System::start().await);
    let (ada, bob) = (server.user("ada").await?, server.user("bob").await?);
    let group = ada.group("Engine room", &[&bob]).await?;
    let device = Device::start(&bob).await?;
    let messages = format!("/v1/channels/{}/messages", group.channel);
    let stream = format!("c:{}", group.channel);
    let original = ada.send(&group.channel, "secret").await?;
    let seq = number(&original, "seq")?;
    let reply = json!({"content": "Really?", "reply_to": seq});
    let reply = bob.post(&messages, &reply).await?.ok()?;
    ensure!(reply["quoted"]["content"] == "secret", "{reply}");
    let path = format!("{messages}/{seq}");
    let edited = ada.patch(&path, &json!({"content": "secret, too"})).await?;
    ensure!(edited.status == 200, "{}", edited.text());
    device
        .reaches(&stream, ada.head(&group.channel).await?)
        .await?;
    let replica = device.look(|record| record.replica.clone());
    check::same_as_fresh(&replica, &bob).await?;

    ensure!(ada.delete(&path).await?.status == 204);
    let reply = bob
        .get(&format!("{messages}/{}", reply["seq"]))
        .await?
        .ok()?;
    let quoted = json!({"seq": seq, "author": ada.user, "content": "", "deleted": true});
    ensure!(reply["quoted"] == quoted, "{reply}");
    device
        .reaches(&stream, ada.head(&group.channel).await?)
        .await?;
    let replica = device.look(|record| record.replica.clone());
    check::same_as_fresh(&replica, &bob).await?;
    ensure!(!format!("{:?}", replica.view).contains("secret"));
    Ok(())
}
