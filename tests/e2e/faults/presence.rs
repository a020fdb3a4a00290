//! Redis fails: nobody can say who is there, and all else goes on. When it is back, also with
//! nothing of what it held, so is what it says.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use tidings_tests::client::{Client, items};
use tidings_tests::cluster::Cluster;
use tidings_tests::socket::Socket;
use tidings_tests::stack::Stack;
use tidings_tests::started;
use tidings_tests::wait::{self, SOON};
use tokio::time::Instant;

/// What no request takes longer than, though Redis does not answer.
const UNDISTURBED: Duration = Duration::from_secs(5);

#[tokio::test]
async fn without_redis_states_are_unknown_and_with_it_everybody_is_back() -> Result<()> {
    let mut stack = started!(Stack::start().await);
    let mut cluster = started!(Cluster::on(&stack, &[]).await);
    cluster.launch().await?;
    let users = cluster.users("user", 3).await?;
    let [ada, bob, cleo] = [0, 1, 2].map(|number| &users[number]);
    let group = ada.group("Engine room", &[bob, cleo]).await?;
    let [one, other] = [0, 1].map(|number| cluster.ws_pushes[number].api.clone());
    let (_ada, _) = Socket::connect_at(ada, &one).await?;
    let (mut watcher, _) = Socket::connect_at(bob, &other).await?;
    becomes(bob, ada, "online").await?;

    stack.redis.kill()?;
    becomes(bob, ada, "unknown").await?;
    undisturbed(ada, &group.channel).await?;
    // Who comes now, and who watches now, is not forgotten.
    let (_cleo, _) = Socket::connect_at(cleo, &one).await?;
    watch(&mut watcher, &[ada, cleo]).await?;
    hears(&mut watcher, &[ada, cleo], "unknown").await?;
    stack.redis.start().await?;
    let since = Instant::now();
    hears(&mut watcher, &[ada, cleo], "online").await?;
    eprintln!(
        "after a start from nothing all are back in {:?}",
        since.elapsed()
    );

    stack.redis.flush().await?;
    let since = Instant::now();
    for user in [ada, bob, cleo] {
        becomes(bob, user, "online").await?;
    }
    eprintln!("after a flush all are back in {:?}", since.elapsed());

    stack.redis.pause()?;
    becomes(bob, ada, "unknown").await?;
    undisturbed(ada, &group.channel).await?;
    stack.redis.resume()?;
    for user in [ada, bob, cleo] {
        becomes(bob, user, "online").await?;
    }
    Ok(())
}

/// Sending and connecting take no longer than they may.
async fn undisturbed(ada: &Client, channel: &str) -> Result<()> {
    let since = Instant::now();
    ada.send(channel, "meanwhile").await?;
    Socket::connect(ada).await?;
    ensure!(since.elapsed() < UNDISTURBED, "{:?}", since.elapsed());
    Ok(())
}

async fn watch(socket: &mut Socket, users: &[&Client]) -> Result<()> {
    let users: Vec<&str> = users.iter().map(|one| &*one.user).collect();
    socket.send(&json!({"type": "watch", "users": users})).await
}

/// Waits until a watcher was told of each that they are like this.
async fn hears(socket: &mut Socket, of: &[&Client], state: &str) -> Result<()> {
    let mut missing: Vec<&str> = of.iter().map(|one| &*one.user).collect();
    let wanted = |frame: &Value| {
        if frame["data"]["state"] == state {
            missing.retain(|user| frame["data"]["user"] != *user);
        }
        missing.is_empty()
    };
    socket.find(SOON, wanted).await?;
    Ok(())
}

async fn becomes(by: &Client, of: &Client, state: &str) -> Result<()> {
    let what = format!("{} is {state}", of.username);
    wait::until(&what, SOON, async || {
        let body = json!({"users": [of.user]});
        let since = Instant::now();
        let found = by.post("/v1/presence/query", &body).await?.ok()?;
        ensure!(since.elapsed() < UNDISTURBED, "{:?}", since.elapsed());
        Ok((items(&found, "items")?[0]["state"] == state).then_some(()))
    })
    .await
}
