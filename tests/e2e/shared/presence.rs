//! Who is there: for those who share a group, watched or asked for.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use tidings_tests::client::{Client, items};
use tidings_tests::event_stream::EventStream;
use tidings_tests::socket::Socket;
use tidings_tests::started;
use tidings_tests::wait::{self, SOON};
use tokio::time::{Instant, sleep};

use super::System;

/// Who comes back in that time was never gone.
const LINGER: Duration = Duration::from_secs(10);

pub(super) async fn watch(socket: &mut Socket, users: &[&Client]) -> Result<()> {
    let users: Vec<&str> = users.iter().map(|one| &*one.user).collect();
    socket.send(&json!({"type": "watch", "users": users})).await
}

/// Waits until a watcher is told that these are like this now; what it was told until then.
pub(super) async fn told(
    socket: &mut Socket,
    of: &[&Client],
    state: &str,
    limit: Duration,
) -> Result<Vec<Value>> {
    let mut told = Vec::new();
    let mut missing: Vec<&str> = of.iter().map(|one| &*one.user).collect();
    let wanted = |frame: &Value| {
        if frame["kind"] == "presence.changed" {
            told.push(frame["data"].clone());
            if frame["data"]["state"] == state {
                missing.retain(|user| frame["data"]["user"] != *user);
            }
        }
        missing.is_empty()
    };
    socket.find(limit, wanted).await?;
    Ok(told)
}

/// How somebody is, as `by` sees it; null if that is not shown.
pub(super) async fn state_of(by: &Client, of: &Client) -> Result<Value> {
    let body = json!({"users": [of.user]});
    let found = by.post("/v1/presence/query", &body).await?.ok()?;
    let found = items(&found, "items")?;
    ensure!(found.len() <= 1, "{found:?}");
    Ok(found
        .first()
        .map(|one| one["state"].clone())
        .unwrap_or_default())
}

pub(super) async fn becomes(by: &Client, of: &Client, state: &str) -> Result<()> {
    let what = format!("{} is {state}", of.username);
    wait::until(&what, SOON, async || {
        Ok((state_of(by, of).await? == state).then_some(()))
    })
    .await
}

#[tokio::test]
async fn watchers_see_who_comes_turns_and_goes_and_not_who_reconnects() -> Result<()> {
    let server = started!(System::start().await);
    let (ada, bob, eve) = (
        server.user("ada").await?,
        server.user("bob").await?,
        server.user("eve").await?,
    );
    let group = ada.group("Engine room", &[&bob]).await?;
    let pushes = server.every_ws_push();
    let (mut watcher, _) = Socket::connect_at(&bob, &pushes[0]).await?;
    let (mut stranger, _) = Socket::connect(&eve).await?;
    watch(&mut watcher, &[&ada, &eve]).await?;
    watch(&mut stranger, &[&ada, &bob]).await?;
    told(&mut watcher, &[&ada], "offline", SOON).await?;

    // Wherever she is connected.
    let (mut phone, _) = Socket::connect_at(&ada, &pushes[pushes.len() - 1]).await?;
    told(&mut watcher, &[&ada], "online", SOON).await?;
    phone
        .send(&json!({"type": "active", "value": false}))
        .await?;
    told(&mut watcher, &[&ada], "away", SOON).await?;
    ensure!(state_of(&bob, &ada).await? == "away");
    phone
        .send(&json!({"type": "active", "value": true}))
        .await?;
    told(&mut watcher, &[&ada], "online", SOON).await?;
    let shown = bob
        .get(&format!("/v1/groups/{}/presence", group.id))
        .await?;
    ensure!(shown.ok()?["online"] == 2, "{}", shown.text());

    // To and fro, faster than anybody is taken to be gone.
    let begun = Instant::now();
    for push in pushes.iter().chain(&pushes) {
        drop(phone);
        sleep(Duration::from_secs(1)).await;
        (phone, _) = Socket::connect_at(&ada, push).await?;
    }
    sleep((LINGER + Duration::from_secs(2)).saturating_sub(begun.elapsed())).await;
    let left = Instant::now();
    drop(phone);
    let until_gone = told(&mut watcher, &[&ada], "offline", SOON).await?;
    ensure!(
        until_gone.len() == 1,
        "a reconnect was seen: {until_gone:?}"
    );
    ensure!(until_gone[0]["last_seen"].is_string(), "{until_gone:?}");
    ensure!(left.elapsed() >= LINGER, "{:?}", left.elapsed());

    ensure!(state_of(&bob, &ada).await? == "offline");
    ensure!(state_of(&eve, &ada).await?.is_null());
    let path = format!("/v1/groups/{}/presence", group.id);
    eve.get(&path).await?.problem(404, "not_found")?;
    let seen = stranger.flush().await?;
    ensure!(seen.is_empty(), "{seen:?}");
    Ok(())
}

#[tokio::test]
async fn who_listens_to_events_or_polls_is_there() -> Result<()> {
    let server = started!(System::start().await);
    let (ada, bob, cleo) = (
        server.user("ada").await?,
        server.user("bob").await?,
        server.user("cleo").await?,
    );
    ada.group("Engine room", &[&bob, &cleo]).await?;
    ensure!(state_of(&ada, &bob).await? == "offline");
    let _events = EventStream::connect(&bob).await?;
    becomes(&ada, &bob, "online").await?;
    let polled = cleo.post("/v1/poll", &json!({"timeout": 0})).await?;
    ensure!(polled.status == 200, "{}", polled.text());
    becomes(&ada, &cleo, "online").await
}

#[tokio::test]
async fn who_types_is_told_to_the_others_and_to_no_outsider() -> Result<()> {
    let server = started!(System::start().await);
    let (ada, bob, eve) = (
        server.user("ada").await?,
        server.user("bob").await?,
        server.user("eve").await?,
    );
    let group = ada.group("Engine room", &[&bob]).await?;
    let (mut own, _) = Socket::connect(&ada).await?;
    let (mut other, _) = Socket::connect(&bob).await?;
    let (mut outsider, _) = Socket::connect(&eve).await?;
    let path = format!("/v1/channels/{}/typing", group.channel);
    let types = async |who: &Client| who.post(&path, &json!({})).await;
    types(&eve).await?.problem(404, "not_found")?;
    let answer = types(&ada).await?;
    ensure!(answer.status == 204, "{}", answer.text());
    let typing = |frame: &Value| frame["kind"] == "typing";
    let heard = other.find(SOON, typing).await?;
    let expected = (&json!(format!("c:{}", group.channel)), &json!(ada.user));
    ensure!(
        (&heard["stream"], &heard["data"]["user"]) == expected,
        "{heard}"
    );
    ensure!(heard["seq"].is_null(), "{heard}");
    // What is sent behind it comes behind it.
    ada.send(&group.channel, "there").await?;
    let head = ada.head(&group.channel).await?;
    ensure!(head == 1, "it stands in the log: {head}");
    own.delta(&format!("c:{}", group.channel)).await?;
    ensure!(
        !own.flush().await?.iter().any(typing),
        "she was told herself"
    );
    let seen = outsider.flush().await?;
    ensure!(seen.is_empty(), "{seen:?}");

    // Who is no member any more neither types nor hears.
    let member = format!("/v1/groups/{}/members/{}", group.id, bob.user);
    ensure!(ada.delete(&member).await?.status == 204);
    types(&bob).await?.problem(404, "not_found")?;
    sleep(Duration::from_secs(3)).await; // Until she may be told of again.
    ensure!(types(&ada).await?.status == 204);
    ensure!(!other.flush().await?.iter().any(typing), "told the removed");
    Ok(())
}

#[tokio::test]
async fn a_changed_profile_is_told_to_those_who_share_a_group() -> Result<()> {
    let server = started!(System::start().await);
    let (ada, bob, eve) = (
        server.user("ada").await?,
        server.user("bob").await?,
        server.user("eve").await?,
    );
    ada.group("Engine room", &[&bob]).await?;
    let (mut known, _) = Socket::connect(&bob).await?;
    let (mut stranger, _) = Socket::connect(&eve).await?;
    let renamed = json!({"display_name": "Countess"});
    ada.patch("/v1/users/me", &renamed).await?.ok()?;
    let changed = |frame: &Value| frame["kind"] == "user.changed";
    let told = known.find(SOON, changed).await?;
    ensure!(told["data"] == json!({"user": ada.user}), "{told}");
    ensure!(told["seq"].is_null() && told["stream"].is_null(), "{told}");
    let seen = stranger.flush().await?;
    ensure!(seen.is_empty(), "{seen:?}");
    Ok(())
}
