//! Large groups: their deltas are broadcast, their comings and goings told in runs, and nothing
//! is lost where a group becomes large or small again.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures_util::future::try_join_all;
use serde_json::{Value, json};
use tidings_tests::check;
use tidings_tests::client::{Api, Client, Group, items, number, text};
use tidings_tests::device::Device;
use tidings_tests::replica::Replica;
use tidings_tests::socket::Socket;
use tidings_tests::started;
use tidings_tests::wait::SOON;
use tidings_tests::way::{Transport, Way};

use super::System;

/// A group with more members is large.
const LIMIT: usize = 6;
const SETTINGS: &[(&str, &str)] = &[("fanout_limit", "6")];

/// Devices of a group's members, each on a server of its own choice.
async fn devices(users: &[Client], servers: &[Api]) -> Result<Vec<Device>> {
    let ways = [
        Transport::WebSocket,
        Transport::Events,
        Transport::WebSocket,
    ];
    let starting = users.iter().enumerate().map(|(number, user)| {
        let server = &servers[number % servers.len()];
        let way = Way::over(ways[number % ways.len()]).via(&server.base);
        Device::start_by(user, way)
    });
    try_join_all(starting).await
}

async fn put(owner: &Client, group: &Group, user: &Client) -> Result<()> {
    let path = format!("/v1/groups/{}/members/{}", group.id, user.user);
    owner.put(&path, &json!({})).await?.ok().map(|_| ())
}

async fn remove(owner: &Client, group: &Group, user: &Client) -> Result<()> {
    let path = format!("/v1/groups/{}/members/{}", group.id, user.user);
    let answer = owner.delete(&path).await?;
    ensure!(answer.status == 204, "{}", answer.text());
    Ok(())
}

async fn invite(owner: &Client, group: &Group) -> Result<String> {
    let path = format!("/v1/groups/{}/invites", group.id);
    let invite = owner.post(&path, &json!({})).await?.ok()?;
    Ok(format!("/v1/invites/{}", text(&invite, "code")?))
}

async fn rename(owner: &Client, group: &Group, name: &str) -> Result<u64> {
    let path = format!("/v1/groups/{}", group.id);
    let renamed = owner.patch(&path, &json!({"name": name})).await?.ok()?;
    number(&renamed, "version")
}

/// Deltas of the group's stream that stand for several comings and goings.
fn runs(replica: &Replica, group: &Group) -> Vec<(u64, u64)> {
    let stream = format!("g:{}", group.id);
    let applied = replica.applied(&stream);
    let runs = applied.filter(|delta| delta.kind == "members.changed");
    runs.map(|delta| (delta.first, delta.seq)).collect()
}

#[tokio::test]
async fn fifty_joins_and_a_rename_reach_every_client_without_a_sync() -> Result<()> {
    const JOINS: usize = 50;
    let server = started!(System::with(SETTINGS).await);
    let users = server.users("member", LIMIT + 3).await?;
    let newcomers = server.users("new", JOINS).await?;
    let (owner, others) = users.split_first().context("users")?;
    let group = owner
        .group("Everybody", &others.iter().collect::<Vec<_>>())
        .await?;
    let code = invite(owner, &group).await?;
    let devices = devices(&users, &server.every_ws_push()).await?;
    for device in &devices {
        device.catches_up().await?;
    }
    let syncs = |device: &Device| device.look(|record| (record.syncs, record.resumes.len()));
    let before: Vec<_> = devices.iter().map(syncs).collect();

    let apis = server.every_api();
    let joins = newcomers.iter().enumerate().map(|(number, user)| {
        let (user, code) = (user.at(&apis[number % apis.len()]), &code);
        async move { user.post(code, &json!({})).await?.ok().map(|_| ()) }
    });
    try_join_all(joins).await?;
    let seq = rename(owner, &group, "All of us").await?;

    let stream = format!("g:{}", group.id);
    for (device, before) in devices.iter().zip(before) {
        device.reaches(&stream, seq).await?;
        let replica = device.catches_up().await?;
        check::dense(&replica)?;
        check::same_as_fresh(&replica, &device.client).await?;
        ensure!(
            syncs(device) == before,
            "{:?} then {:?}",
            before,
            syncs(device)
        );
        let runs = runs(&replica, &group);
        ensure!(!runs.is_empty() && runs.len() < JOINS / 4, "{runs:?}");
        let applied: Vec<_> = replica.applied(&stream).collect();
        let last = applied.last().context("the rename")?;
        ensure!(last.kind == "group.updated", "{last:?}");
    }
    // Who was away is told likewise.
    let body = json!({"cursor": {stream: seq - 40}, "only": true});
    let answer = others[0].post("/v1/sync", &body).await?.ok()?;
    let deltas = items(&answer, "deltas")?;
    ensure!(deltas.len() == 2, "{answer}");
    ensure!(deltas[0]["kind"] == "members.changed", "{answer}");
    ensure!(
        deltas[0]["first"] == seq - 39 && deltas[0]["seq"] == seq - 1,
        "{answer}"
    );
    ensure!(deltas[0]["data"]["count"] == LIMIT + 3 + JOINS, "{answer}");
    let shown = others[0]
        .get(&format!("/v1/groups/{}", group.id))
        .await?
        .ok()?;
    ensure!(shown["member_count"] == LIMIT + 3 + JOINS, "{shown}");
    Ok(())
}

#[tokio::test]
async fn crossing_the_limit_both_ways_loses_and_duplicates_nothing() -> Result<()> {
    const ROUNDS: usize = 3;
    let server = started!(System::with(SETTINGS).await);
    let users = server.users("member", 4).await?;
    let guests = server.users("guest", LIMIT).await?;
    let owner = &users[0];
    let members: Vec<&Client> = users[1..].iter().collect();
    let group = owner.group("Some", &members).await?;
    let on = [users.clone(), guests[..2].to_vec()].concat();
    let devices = devices(&on, &server.every_ws_push()).await?;
    let (apis, sent) = (server.every_api(), std::cell::Cell::new(0));
    let done = std::cell::Cell::new(false);

    let talk = async {
        let mut contents = BTreeSet::new();
        while !done.get() {
            let number = sent.get();
            let author = users[number % users.len()].at(&apis[number % apis.len()]);
            let content = format!("message {number}");
            author.send(&group.channel, &content).await?;
            contents.insert(content);
            sent.set(number + 1);
        }
        anyhow::Ok(contents)
    };
    let cross = async {
        for round in 0..ROUNDS {
            for (number, guest) in guests.iter().enumerate() {
                let owner = owner.at(&apis[number % apis.len()]);
                put(&owner, &group, guest).await?;
            }
            rename(owner, &group, &format!("Many {round}")).await?;
            for (number, guest) in guests.iter().rev().enumerate() {
                let owner = owner.at(&apis[number % apis.len()]);
                remove(&owner, &group, guest).await?;
            }
            rename(owner, &group, &format!("Few {round}")).await?;
        }
        done.set(true);
        anyhow::Ok(())
    };
    let (contents, ()) = futures_util::future::try_join(talk, cross).await?;
    ensure!(contents.len() > 10, "only {} messages", contents.len());

    for device in &devices {
        let replica = device.catches_up().await?;
        check::dense(&replica)?;
        check::same_as_fresh(&replica, &device.client).await?;
        let violations = device.look(|record| record.violations.clone());
        ensure!(violations.is_empty(), "{violations:?}");
    }
    for device in &devices[..users.len()] {
        let heard = device.look(|record| record.replica.contents(&group.channel));
        let each: BTreeSet<String> = heard.iter().cloned().collect();
        ensure!(each.len() == heard.len(), "something was applied twice");
        ensure!(each == contents, "{} of {}", each.len(), contents.len());
    }
    Ok(())
}

/// A large group and its owner, with some members.
async fn large(server: &System) -> Result<(Vec<Client>, Group)> {
    let users = server.users("member", LIMIT + 2).await?;
    let others: Vec<&Client> = users[1..].iter().collect();
    let group = users[0].group("Everybody", &others).await?;
    Ok((users, group))
}

/// The next delta of the group's stream.
async fn next(socket: &mut Socket, group: &Group) -> Result<Value> {
    socket.delta(&format!("g:{}", group.id)).await
}

#[tokio::test]
async fn what_only_admins_may_see_is_hidden_in_large_groups_too() -> Result<()> {
    let server = started!(System::with(SETTINGS).await);
    let (users, group) = large(&server).await?;
    let (owner, member, banned) = (&users[0], &users[1], &users[2]);
    let stranger = server.user("stranger").await?;
    let mut sockets = Vec::new();
    for (number, user) in [owner, member].into_iter().enumerate() {
        let servers = server.every_ws_push();
        let at = &servers[number % servers.len()];
        sockets.push(Socket::connect_at(user, at).await?.0);
    }
    let ban = |user: &Client| format!("/v1/groups/{}/bans/{}", group.id, user.user);
    owner.put(&ban(&stranger), &json!({})).await?.ok()?;
    invite(owner, &group).await?;
    rename(owner, &group, "Us").await?;
    let kinds = async |socket: &mut Socket, count: usize| -> Result<Vec<Value>> {
        let mut deltas = Vec::new();
        for _ in 0..count {
            deltas.push(next(socket, &group).await?);
        }
        // Two processes may have announced them.
        deltas.sort_by_key(|delta| delta["seq"].as_u64());
        Ok(deltas)
    };
    let whole = kinds(&mut sockets[0], 3).await?;
    let less = kinds(&mut sockets[1], 3).await?;
    let named = |deltas: &[Value]| -> Vec<String> {
        let kinds = deltas.iter().map(|delta| delta["kind"].as_str());
        kinds
            .map(|kind| kind.unwrap_or_default().to_owned())
            .collect()
    };
    ensure!(
        named(&whole) == ["member.banned", "invite.created", "group.updated"],
        "{whole:?}"
    );
    ensure!(
        named(&less) == ["hidden", "hidden", "group.updated"],
        "{less:?}"
    );
    for delta in &less[..2] {
        ensure!(
            delta["data"] == json!({}) && delta["actor"].is_null(),
            "{delta}"
        );
    }
    let seqs = |deltas: &[Value]| -> Vec<Option<u64>> {
        deltas.iter().map(|delta| delta["seq"].as_u64()).collect()
    };
    ensure!(seqs(&whole) == seqs(&less), "a gap");

    // A member who is banned hears at once that he is removed, not by whom he is banned.
    let (mut his, _) = Socket::connect(banned).await?;
    owner.put(&ban(banned), &json!({})).await?.ok()?;
    let gone = next(&mut his, &group).await?;
    ensure!(gone["kind"] == "member.removed", "{gone}");
    ensure!(gone["data"] == json!({"user": banned.user}), "{gone}");
    // The others hear of it before the next change.
    rename(owner, &group, "Fewer").await?;
    for (socket, expected) in sockets.iter_mut().zip(["member.banned", "member.removed"]) {
        let told = next(socket, &group).await?;
        ensure!(told["kind"] == expected, "{told}");
        let renamed = next(socket, &group).await?;
        ensure!(renamed["kind"] == "group.updated", "{renamed}");
    }
    let rest = his.flush().await?;
    ensure!(rest.is_empty(), "the banned hears more: {rest:?}");
    Ok(())
}

#[tokio::test]
async fn a_newcomer_misses_nothing_and_who_is_removed_hears_nothing() -> Result<()> {
    const ROUNDS: usize = 10;
    let server = started!(System::with(SETTINGS).await);
    let (users, group) = large(&server).await?;
    let eve = server.user("eve").await?;
    let (servers, apis) = (server.every_ws_push(), server.every_api());
    let far = servers.last().context("a server")?;
    let device = Device::start_by(&eve, Way::over(Transport::WebSocket).via(&far.base)).await?;
    let own = eve.group("Eve's", &[]).await?;
    let (mut socket, _) = Socket::connect_at(&eve, &servers[0]).await?;
    for round in 0..ROUNDS {
        let owner = users[0].at(&apis[round % apis.len()]);
        let author = users[1].at(&apis[(round + 1) % apis.len()]);
        // The other process has read the group without her.
        author.send(&group.channel, "without her").await?;
        put(&owner, &group, &eve).await?;
        let last = author
            .send(&group.channel, &format!("with her {round}"))
            .await?;
        device
            .reaches(&format!("c:{}", group.channel), number(&last, "seq")?)
            .await?;
        let replica = device.catches_up().await?;
        check::same_as_fresh(&replica, &eve).await?;
        remove(&owner, &group, &eve).await?;
        author.send(&group.channel, "behind her back").await?;
    }
    eve.send(&own.channel, "own").await?;
    let stream = format!("c:{}", own.channel);
    let mut heard = Vec::new();
    loop {
        let is_delta = |frame: &Value| frame["type"] == "delta";
        let delta = socket.find(SOON, is_delta).await?;
        if delta["stream"] == *stream && delta["data"]["content"] == "own" {
            break;
        }
        heard.push(delta);
    }
    let behind = heard
        .iter()
        .find(|delta| delta["data"]["content"] == "behind her back");
    ensure!(behind.is_none(), "she heard {behind:?}");
    let gone = |record: &tidings_tests::device::Record| {
        !record.replica.view.groups.contains_key(&group.id)
    };
    device.until("rid of the group", gone).await
}

#[tokio::test]
async fn comings_and_goings_are_told_every_five_seconds_at_most() -> Result<()> {
    let server = started!(System::with(SETTINGS).await);
    let (users, group) = large(&server).await?;
    let guests = server.users("guest", 3).await?;
    let (mut socket, _) = Socket::connect(&users[1]).await?;
    put(&users[0], &group, &guests[0]).await?;
    let first = next(&mut socket, &group).await?;
    ensure!(
        first["kind"] == "member.added",
        "one is told as it is: {first}"
    );
    let told = std::time::Instant::now();
    put(&users[0], &group, &guests[1]).await?;
    put(&users[0], &group, &guests[2]).await?;
    remove(&users[0], &group, &guests[1]).await?;
    let run = next(&mut socket, &group).await?;
    ensure!(run["kind"] == "members.changed", "{run}");
    // It was told no sooner; the time is that of this side, so a little may be missing.
    let waited = told.elapsed();
    ensure!(waited > Duration::from_millis(4_500), "{waited:?}");
    let seq = number(&first, "seq")?;
    ensure!(run["first"] == seq + 1 && run["seq"] == seq + 3, "{run}");
    ensure!(
        run["actor"].is_null() && run["data"]["count"] == LIMIT + 4,
        "{run}"
    );
    Ok(())
}

mod long {
    use std::time::Instant;

    use futures_util::{StreamExt as _, TryStreamExt as _, stream};

    use super::*;

    const MEMBERS: usize = 20_000;
    const STEP: usize = 2_000;
    const AT_ONCE: usize = 16;

    /// Prints how many join each second, by how many there are.
    #[tokio::test]
    async fn twenty_thousand_join_at_a_rate_that_does_not_fall() -> Result<()> {
        let server = started!(System::with(&[("telemetry.log_filter", "warn")]).await);
        let owner = server.user("owner").await?;
        let group = owner.group("Everybody", &[]).await?;
        let apis = server.every_api();
        let (mut rates, mut newest) = (Vec::new(), None);
        for step in 0..MEMBERS / STEP {
            let numbers = step * STEP..(step + 1) * STEP;
            let registering = stream::iter(numbers).map(|number| register(&apis, number));
            let ids: Vec<String> = registering.buffered(AT_ONCE).try_collect().await?;
            let begun = Instant::now();
            let joining = stream::iter(ids.iter().enumerate()).map(|(number, id)| {
                let owner = owner.at(&apis[number % apis.len()]);
                let path = format!("/v1/groups/{}/members/{id}", group.id);
                async move { owner.put(&path, &json!({})).await?.ok().map(|_| ()) }
            });
            joining.buffered(AT_ONCE).try_collect::<()>().await?;
            let rate = STEP as f64 / begun.elapsed().as_secs_f64();
            eprintln!("{} members: {rate:.0} joins/s", (step + 1) * STEP);
            rates.push(rate);
            newest = Some(format!("member{}", (step + 1) * STEP - 1));
        }
        // Where each cost as much as there are members, it would fall to a tenth.
        let (first, last) = (rates[1], rates[rates.len() - 1]);
        ensure!(
            last > first / 4.0,
            "it falls from {first:.0} to {last:.0} joins/s"
        );
        let shown = owner.get(&format!("/v1/groups/{}", group.id)).await?.ok()?;
        ensure!(shown["member_count"] == MEMBERS + 1, "{shown}");
        let device = Device::start(&server.every_api()[0].login("member0").await?).await?;
        let author = apis[0].login(&newest.context("a member")?).await?;
        let begun = Instant::now();
        let sent = author.send(&group.channel, "to all").await?;
        let stream = format!("c:{}", group.channel);
        device.reaches(&stream, number(&sent, "seq")?).await?;
        eprintln!(
            "a message among {MEMBERS} members took {:?}",
            begun.elapsed()
        );
        let mut counted = 0;
        let mut after = String::new();
        loop {
            let path = format!("/v1/groups/{}/members?limit=100{after}", group.id);
            let page = owner.get(&path).await?.ok()?;
            let members = items(&page, "items")?;
            counted += members.len();
            if page["more"] != true {
                break;
            }
            let last = members.last().context("a member")?;
            after = format!("&after={}", text(last, "user")?);
        }
        ensure!(counted == MEMBERS + 1, "{counted} in pages");
        Ok(())
    }

    async fn register(apis: &[Api], number: usize) -> Result<String> {
        let body = json!({"username": format!("member{number}"), "password": "correct horse"});
        let created = apis[number % apis.len()].post("/v1/users", &body).await?;
        text(&created.ok()?, "id").map(str::to_owned)
    }
}
