//! Groups that every user joins.

use anyhow::{Context as _, Result, ensure};
use futures_util::future::try_join_all;
use serde_json::{Value, json};
use tidings_tests::client::{Api, Client, items, text};
use tidings_tests::started;

use super::System;

const SETTINGS: &[(&str, &str)] = &[
    ("default_groups", "Lobby,Front desk"),
    ("default_groups_owner", "ada"),
    ("fanout_limit", "6"),
];

async fn groups(client: &Client) -> Result<Vec<Value>> {
    let list = client.get("/v1/groups").await?.ok()?;
    let mut groups = items(&list, "items")?.clone();
    groups.sort_by_key(|group| group["name"].to_string());
    Ok(groups)
}

fn names(groups: &[Value]) -> Vec<&str> {
    let names = groups.iter().map(|group| group["name"].as_str());
    names.map(Option::unwrap_or_default).collect()
}

async fn register(api: &Api, name: &str, key: &str) -> Result<u16> {
    let body = json!({"username": name, "password": "correct horse"});
    let request = api.request(reqwest::Method::POST, "/v1/users").json(&body);
    let request = request.header("idempotency-key", key);
    Ok(tidings_tests::client::answer(request).await?.status)
}

#[tokio::test]
async fn every_new_user_is_a_member_and_can_talk() -> Result<()> {
    let server = started!(System::with(SETTINGS).await);
    let apis = server.every_api();
    // At once, over all processes, nobody having been there before.
    let names_of: Vec<String> = (0..10).map(|number| format!("user{number}")).collect();
    let registering = names_of.iter().enumerate().map(|(number, name)| {
        let api = &apis[number % apis.len()];
        async move { api.user(name).await }
    });
    let users = try_join_all(registering).await?;
    let first = groups(&users[0]).await?;
    ensure!(names(&first) == ["Front desk", "Lobby"], "{first:?}");
    for user in &users {
        let found = groups(user).await?;
        ensure!(found.len() == 2, "{found:?}");
        for (own, first) in found.iter().zip(&first) {
            ensure!(own["id"] == first["id"], "two groups of one name: {own}");
            ensure!(
                own["role"] == "member" && own["member_count"] == 10,
                "{own}"
            );
        }
    }
    let lobby = text(&first[1], "id")?;
    let channel = text(&first[1]["channels"][0], "id")?;
    users[3].send(channel, "hello").await?;
    ensure!(users[7].messages(channel).await?.len() == 1);
    // Nobody owns it, so nobody may change it.
    let path = format!("/v1/groups/{lobby}");
    for user in &users[..2] {
        let answer = user.patch(&path, &json!({"name": "Mine"})).await?;
        answer.problem(403, "forbidden")?;
        let other = format!("{path}/members/{}", users[5].user);
        user.delete(&other).await?.problem(403, "forbidden")?;
    }
    Ok(())
}

#[tokio::test]
async fn who_leaves_stays_out_and_a_repeated_registration_joins_once() -> Result<()> {
    let server = started!(System::with(SETTINGS).await);
    let apis = server.every_api();
    for (api, expected) in [(&apis[0], 201), (apis.last().context("an api")?, 201)] {
        ensure!(register(api, "bob", "the-key").await? == expected);
    }
    let bob = apis[0].login("bob").await?;
    let joined = groups(&bob).await?;
    ensure!(
        joined.len() == 2 && joined[0]["member_count"] == 1,
        "{joined:?}"
    );
    let path = format!(
        "/v1/groups/{}/members/{}",
        text(&joined[1], "id")?,
        bob.user
    );
    ensure!(bob.delete(&path).await?.status == 204);
    for api in &apis {
        ensure!(register(api, "bob", "the-key").await? == 201);
        let again = api.login("bob").await?;
        ensure!(names(&groups(&again).await?) == ["Front desk"]);
    }
    Ok(())
}

#[tokio::test]
async fn the_owner_of_the_setting_owns_them() -> Result<()> {
    let server = started!(System::with(SETTINGS).await);
    let (bob, ada) = (server.user("bob").await?, server.user("ada").await?);
    let owned = groups(&ada).await?;
    ensure!(
        owned.iter().all(|group| group["role"] == "owner"),
        "{owned:?}"
    );
    let path = format!("/v1/groups/{}", text(&owned[1], "id")?);
    ada.patch(&path, &json!({"name": "The lobby"}))
        .await?
        .ok()?;
    ensure!(names(&groups(&bob).await?) == ["Front desk", "The lobby"]);
    // Who has passed it on does not get it back.
    let of_bob = format!("{path}/members/{}", bob.user);
    ada.patch(&of_bob, &json!({"role": "owner"})).await?.ok()?;
    let again = server.every_api()[0].login("ada").await?;
    let group = again.get(&path).await?.ok()?;
    ensure!(group["role"] == "admin", "{group}");
    // Banned is banned, whatever the setting says.
    let carl = server.user("carl").await?;
    let ban = format!("{path}/bans/{}", carl.user);
    bob.put(&ban, &json!({})).await?.ok()?;
    let carl = server.every_api()[0].login("carl").await?;
    carl.get(&path).await?.problem(404, "not_found").map(|_| ())
}
