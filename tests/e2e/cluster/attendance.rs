//! ws-push servers that die or stop, and who was there on them.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use tidings_tests::cluster::Cluster;
use tidings_tests::socket::Socket;
use tidings_tests::started;
use tidings_tests::wait::SOON;
use tokio::time::Instant;

use super::presence::{becomes, state_of, told, watch};

/// Within which users of a server that was killed are offline, and those who watch know.
const GONE: Duration = Duration::from_secs(30);

#[tokio::test]
async fn users_of_a_killed_server_go_offline_by_themselves() -> Result<()> {
    let mut cluster = started!(Cluster::start().await);
    let users = cluster.users("user", 4).await?;
    let [watching, lost, away, moved] = [0, 1, 2, 3].map(|number| &users[number]);
    watching.group("Engine room", &[lost, away, moved]).await?;
    let [dies, stays] = [0, 1].map(|number| cluster.ws_pushes[number].api.clone());
    let (mut watcher, _) = Socket::connect_at(watching, &stays).await?;
    let mut sockets = Vec::new();
    for user in [lost, away, moved] {
        sockets.push(Socket::connect_at(user, &dies).await?.0);
        becomes(watching, user, "online").await?;
    }
    // Here and there; what is left is that the app is not in front.
    let (mut second, _) = Socket::connect_at(away, &stays).await?;
    second
        .send(&json!({"type": "active", "value": false}))
        .await?;
    watch(&mut watcher, &[lost, away, moved]).await?;
    told(&mut watcher, &[lost, away, moved], "online", SOON).await?;

    let since = Instant::now();
    cluster.ws_pushes[0].kill().await?;
    let (_back, _) = Socket::connect_at(moved, &stays).await?;
    let mut heard = told(&mut watcher, &[lost], "offline", GONE).await?;
    let limit = GONE.saturating_sub(since.elapsed());
    let is_away = |it: &Value| it["user"] == away.user && it["state"] == "away";
    if !heard.iter().any(is_away) {
        heard.extend(told(&mut watcher, &[away], "away", limit).await?);
    }
    println!("they were offline after {:?}", since.elapsed());
    ensure!(since.elapsed() < GONE);
    for user in [watching, lost, away, moved] {
        let told = heard.iter().filter(|one| one["user"] == user.user).count();
        let expected = usize::from(user.user == lost.user || user.user == away.user);
        ensure!(told == expected, "{}: {heard:?}", user.username);
    }
    ensure!(state_of(watching, lost).await? == "offline");
    ensure!(state_of(watching, moved).await? == "online");
    Ok(())
}

#[tokio::test]
async fn users_of_a_server_that_stops_go_offline_unless_they_move() -> Result<()> {
    let mut cluster = started!(Cluster::with(&[("ws.drain_secs", "2")]).await);
    let users = cluster.users("user", 3).await?;
    let [watching, leaves, moves] = [0, 1, 2].map(|number| &users[number]);
    watching.group("Engine room", &[leaves, moves]).await?;
    let [stops, stays] = [0, 1].map(|number| cluster.ws_pushes[number].api.clone());
    let (mut watcher, _) = Socket::connect_at(watching, &stays).await?;
    let (_leaving, _) = Socket::connect_at(leaves, &stops).await?;
    let (mut moving, _) = Socket::connect_at(moves, &stops).await?;
    watch(&mut watcher, &[leaves, moves]).await?;
    told(&mut watcher, &[leaves, moves], "online", SOON).await?;
    let since = Instant::now();
    cluster.ws_pushes[0].terminate()?;
    let (code, _) = moving.closed(SOON).await?;
    ensure!(code == Some(1012), "closed with {code:?}");
    let (_moved, _) = Socket::connect_at(moves, &stays).await?;
    cluster.ws_pushes[0].ended(SOON).await?;
    let heard = told(&mut watcher, &[leaves], "offline", GONE).await?;
    println!("who left was offline after {:?}", since.elapsed());
    let of_others = heard.iter().filter(|one| one["user"] == moves.user);
    ensure!(of_others.count() == 0, "{heard:?}");
    ensure!(state_of(watching, moves).await? == "online");
    Ok(())
}
