//! Bans, mutes, slow mode, invites, and a group's change of hands.

use anyhow::{Context as _, Result, ensure};
use futures_util::future::{join_all, try_join_all};
use reqwest::Method;
use serde_json::{Value, json};
use tidings_tests::check;
use tidings_tests::client::{Answer, Client, Group, answer, in_secs, items, number, text};
use tidings_tests::device::{Device, Record};
use tidings_tests::socket::Socket;
use tidings_tests::started;
use tidings_tests::wait::{self, SOON};

use super::System;

fn path(group: &Group, rest: &str) -> String {
    format!("/v1/groups/{}/{rest}", group.id)
}

fn member(group: &Group, user: &Client) -> String {
    path(group, &format!("members/{}", user.user))
}

fn ban(group: &Group, user: &Client) -> String {
    path(group, &format!("bans/{}", user.user))
}

async fn post(client: &Client, channel: &str) -> Result<Answer> {
    let path = format!("/v1/channels/{channel}/messages");
    client.post(&path, &json!({"content": "hello"})).await
}

async fn invite(client: &Client, group: &Group, body: Value) -> Result<Value> {
    client.post(&path(group, "invites"), &body).await?.ok()
}

fn code(invite: &Value) -> Result<String> {
    Ok(format!("/v1/invites/{}", text(invite, "code")?))
}

async fn delete(client: &Client, path: &str) -> Result<()> {
    let answer = client.delete(path).await?;
    ensure!(answer.status == 204, "{path}: {}", answer.text());
    Ok(())
}

#[tokio::test]
async fn who_is_banned_is_out_and_stays_out() -> Result<()> {
    let server = started!(System::start().await);
    let (ada, bob) = (server.user("ada").await?, server.user("bob").await?);
    let group = ada.group("Engine room", &[&bob]).await?;
    let way_in = code(&invite(&ada, &group, json!({})).await?)?;
    let device = Device::start(&bob).await?;

    let banned = ada.put(&ban(&group, &bob), &json!({})).await?;
    ensure!(banned.status == 201, "{}", banned.text());
    let banned = banned.json()?;
    ensure!(
        banned["user"] == *bob.user && banned["banned_by"] == *ada.user,
        "{banned}"
    );
    let again = ada.put(&ban(&group, &bob), &json!({})).await?;
    ensure!(
        again.status == 200 && again.json()? == banned,
        "{}",
        again.text()
    );
    ensure!(ada.get(&ban(&group, &bob)).await?.ok()? == banned);

    post(&bob, &group.channel)
        .await?
        .problem(404, "not_found")?;
    for answer in [
        bob.get(&way_in).await?,
        bob.post(&way_in, &json!({})).await?,
        bob.get(&format!("/v1/groups/{}", group.id)).await?,
        bob.get(&path(&group, "bans")).await?,
    ] {
        answer.problem(404, "not_found")?;
    }
    let added = ada.put(&member(&group, &bob), &json!({})).await?;
    added.problem(409, "conflict")?;
    let gone = |record: &Record| !record.replica.view.groups.contains_key(&group.id);
    device.until("rid of the group", gone).await?;

    delete(&ada, &ban(&group, &bob)).await?;
    ada.delete(&ban(&group, &bob))
        .await?
        .problem(404, "not_found")?;
    ada.get(&ban(&group, &bob))
        .await?
        .problem(404, "not_found")?;
    ensure!(bob.post(&way_in, &json!({})).await?.status == 201);
    bob.send(&group.channel, "back").await?;
    check::same_as_fresh(&device.catches_up().await?, &bob).await
}

#[tokio::test]
async fn bans_are_for_those_who_may_and_not_for_everybody() -> Result<()> {
    let server = started!(System::with(&[("limits.bans_per_group", "2")]).await);
    let ada = server.user("ada").await?;
    let others = server.users("other", 5).await?;
    let [admin, second, bob, eve, kim] = &others[..] else {
        anyhow::bail!("five users");
    };
    let group = ada.group("Engine room", &[admin, second, bob]).await?;
    for user in [admin, second] {
        ada.put(&member(&group, user), &json!({"role": "admin"}))
            .await?
            .ok()?;
    }
    let put = async |who: &Client, whom: &Client| who.put(&ban(&group, whom), &json!({})).await;
    put(admin, &ada).await?.problem(403, "forbidden")?;
    put(admin, second).await?.problem(403, "forbidden")?;
    put(admin, admin).await?.problem(409, "conflict")?;
    put(bob, eve).await?.problem(403, "forbidden")?;
    put(eve, bob).await?.problem(404, "not_found")?;
    let nobody = path(&group, "bans/01970000-0000-7000-8000-000000000000");
    ada.put(&nobody, &json!({}))
        .await?
        .problem(404, "not_found")?;
    let body = json!({"reason": "none"});
    ada.put(&ban(&group, bob), &body)
        .await?
        .problem(422, "invalid_request")?;
    ensure!(put(admin, bob).await?.status == 201);
    ensure!(put(&ada, eve).await?.status == 201);
    put(&ada, kim).await?.problem(409, "conflict")?;

    let list = path(&group, "bans");
    let page = admin.get(&format!("{list}?limit=1")).await?.ok()?;
    ensure!(page["more"] == true, "{page}");
    let first = text(&page["items"][0], "user")?;
    let rest = admin.get(&format!("{list}?after={first}")).await?.ok()?;
    ensure!(
        rest["more"] == false && items(&rest, "items")?.len() == 1,
        "{rest}"
    );

    // The same key: one effect, also after the ban was taken back.
    delete(&ada, &ban(&group, eve)).await?;
    let keyed = async || {
        let request = ada.request(Method::PUT, &ban(&group, kim));
        answer(request.header("idempotency-key", "k")).await
    };
    let first = keyed().await?;
    ensure!(first.status == 201, "{}", first.text());
    delete(&ada, &ban(&group, kim)).await?;
    let again = keyed().await?;
    ensure!(
        again.header("idempotency-replayed") == "true",
        "{}",
        again.text()
    );
    ensure!((again.status, again.json()?) == (201, first.json()?));
    ada.get(&ban(&group, kim))
        .await?
        .problem(404, "not_found")?;
    Ok(())
}

/// What is for admins reaches members as entries of which they learn nothing: no gap, no name.
#[tokio::test]
async fn members_learn_nothing_of_bans_and_invites_and_see_no_gap() -> Result<()> {
    let server = started!(System::start().await);
    let (ada, bob) = (server.user("ada").await?, server.user("bob").await?);
    let (eve, joiner) = (server.user("eve").await?, server.user("joiner").await?);
    let group = ada.group("Engine room", &[&bob]).await?;
    let stream = format!("g:{}", group.id);
    let (of_ada, of_bob) = (Device::start(&ada).await?, Device::start(&bob).await?);
    let mut away = Device::start(&bob).await?;
    away.go_away().await?;
    let (mut socket, _) = Socket::connect(&bob).await?;
    let syncs = of_bob.look(|record| record.syncs);

    ada.put(&ban(&group, &eve), &json!({})).await?.ok()?;
    let made = invite(&ada, &group, json!({"max_uses": 5})).await?;
    delete(&ada, &ban(&group, &eve)).await?;
    joiner.post(&code(&made)?, &json!({})).await?.ok()?;
    delete(
        &ada,
        &path(&group, &format!("invites/{}", text(&made, "id")?)),
    )
    .await?;
    ada.patch(
        &format!("/v1/groups/{}", group.id),
        &json!({"name": "Bridge"}),
    )
    .await?
    .ok()?;

    of_bob.reaches(&stream, 7).await?;
    let mut kinds = Vec::new();
    let last = |frame: &Value| {
        if frame["stream"] == *stream {
            kinds.push(frame.clone());
        }
        frame["kind"] == "group.updated"
    };
    socket.find(SOON, last).await?;
    let shown = |frame: &Value| frame["kind"].as_str().unwrap_or_default().to_owned();
    let pushed: Vec<String> = kinds.iter().map(shown).collect();
    let expected = [
        "hidden",
        "hidden",
        "hidden",
        "member.added",
        "hidden",
        "group.updated",
    ];
    ensure!(pushed == expected, "{pushed:?}");
    for frame in kinds.iter().filter(|frame| frame["kind"] == "hidden") {
        ensure!(
            frame["data"] == json!({}) && frame["actor"].is_null(),
            "{frame}"
        );
    }
    let pushed = json!(kinds).to_string();
    let secrets = [&*eve.user, text(&made, "id")?, text(&made, "code")?];
    ensure!(
        secrets.iter().all(|secret| !pushed.contains(secret)),
        "{pushed}"
    );
    let needed = of_bob.look(|record| record.syncs) - syncs;
    ensure!(needed == 0, "{needed} syncs although nothing was missing");

    // The same by sync, as runs; and for an admin all of it, but never a code.
    let body = json!({"cursor": {&stream: 1}, "only": true});
    let found = bob.post("/v1/sync", &body).await?.ok()?;
    let runs: Vec<(Option<u64>, u64, String)> = items(&found, "deltas")?
        .iter()
        .map(|delta| Ok((delta["first"].as_u64(), number(delta, "seq")?, shown(delta))))
        .collect::<Result<_>>()?;
    let named = |kind: &str| kind.to_owned();
    ensure!(
        runs == [
            (Some(2), 4, named("hidden")),
            (None, 5, named("member.added")),
            (None, 6, named("hidden")),
            (None, 7, named("group.updated")),
        ],
        "{runs:?}"
    );
    ensure!(
        secrets
            .iter()
            .all(|secret| !found.to_string().contains(secret)),
        "{found}"
    );
    let whole = ada.post("/v1/sync", &body).await?.ok()?.to_string();
    ensure!(
        whole.contains(&*eve.user) && whole.contains("invite.created"),
        "{whole}"
    );
    ensure!(
        !whole.contains(text(&made, "code")?),
        "a code is in the log"
    );

    away.come_back();
    for (device, client) in [(&of_ada, &ada), (&of_bob, &bob), (&away, &bob)] {
        let replica = device.catches_up().await?;
        check::dense(&replica)?;
        check::same_as_fresh(&replica, client).await?;
    }
    Ok(())
}

/// Who becomes an admin has the bans and invites from then on; who is none any more has not.
#[tokio::test]
async fn devices_follow_their_users_role() -> Result<()> {
    let server = started!(System::start().await);
    let (ada, bob) = (server.user("ada").await?, server.user("bob").await?);
    let eve = server.user("eve").await?;
    let group = ada.group("Engine room", &[&bob]).await?;
    let device = Device::start(&bob).await?;
    ada.put(&ban(&group, &eve), &json!({})).await?.ok()?;
    invite(&ada, &group, json!({})).await?;
    let bans = |record: &Record| {
        let group = record.replica.view.groups.get(&group.id);
        let moderation = group.and_then(|group| group.moderation.as_ref());
        moderation.map(|all| (all.bans.len(), all.invites.len()))
    };
    for role in ["admin", "member", "admin", "member"] {
        let given = ada
            .patch(&member(&group, &bob), &json!({"role": role}))
            .await?;
        given.ok()?;
        let expected = (role == "admin").then_some((1, 1));
        device
            .until(role, |record| bans(record) == expected)
            .await?;
        let replica = device.catches_up().await?;
        check::same_as_fresh(&replica, &bob).await.context(role)?;
    }
    Ok(())
}

#[tokio::test]
async fn the_muted_do_not_write_until_their_time_is_over() -> Result<()> {
    let server = started!(System::start().await);
    let (ada, bob) = (server.user("ada").await?, server.user("bob").await?);
    let eve = server.user("eve").await?;
    let group = ada.group("Engine room", &[&bob, &eve]).await?;
    let mute = format!("{}/mute", member(&group, &bob));
    let device = Device::start(&eve).await?;
    let first = number(&bob.send(&group.channel, "first").await?, "seq")?;
    let of_first = format!("/v1/channels/{}/messages/{first}", group.channel);

    let until = in_secs(3600);
    let muted = ada.put(&mute, &json!({ "until": until })).await?.ok()?;
    ensure!(muted["muted_until"] == *until, "{muted}");
    for refused in [
        post(&bob, &group.channel).await?,
        bob.patch(&of_first, &json!({"content": "second"})).await?,
    ] {
        let problem = refused.problem(403, "forbidden")?;
        ensure!(problem["until"] == *until, "{problem}");
    }
    delete(&bob, &of_first).await?;
    bob.delete(&mute).await?.problem(403, "forbidden")?;
    eve.delete(&mute).await?.problem(403, "forbidden")?;
    eve.put(&mute, &json!({ "until": until }))
        .await?
        .problem(403, "forbidden")?;
    let own = format!("{}/mute", member(&group, &ada));
    ada.put(&own, &json!({ "until": until }))
        .await?
        .problem(403, "forbidden")?;

    // Leaving and coming back does not help, however it is done.
    let way_in = code(&invite(&ada, &group, json!({})).await?)?;
    delete(&bob, &member(&group, &bob)).await?;
    bob.post(&way_in, &json!({})).await?.ok()?;
    post(&bob, &group.channel)
        .await?
        .problem(403, "forbidden")?;
    delete(&ada, &member(&group, &bob)).await?;
    let back = ada.put(&member(&group, &bob), &json!({})).await?.ok()?;
    ensure!(back["muted_until"] == *until, "{back}");
    post(&bob, &group.channel)
        .await?
        .problem(403, "forbidden")?;
    check::same_as_fresh(&device.catches_up().await?, &eve).await?;

    delete(&ada, &mute).await?;
    bob.send(&group.channel, "at last").await?;
    let short = json!({"until": in_secs(2)});
    ada.put(&mute, &short).await?.ok()?;
    post(&bob, &group.channel)
        .await?
        .problem(403, "forbidden")?;
    wait::until("the end of the time", SOON, async || {
        Ok((post(&bob, &group.channel).await?.status == 201).then_some(()))
    })
    .await?;
    for bad in [
        json!({"until": in_secs(0)}),
        json!({"until": in_secs(367 * 86400)}),
        json!({"until": "soon"}),
    ] {
        let problem = ada
            .put(&mute, &bad)
            .await?
            .problem(422, "invalid_request")?;
        ensure!(problem["errors"][0]["pointer"] == "/until", "{problem}");
    }
    ada.put(&mute, &json!({}))
        .await?
        .problem(422, "invalid_request")?;
    let stranger = path(&group, "members/01970000-0000-7000-8000-000000000000/mute");
    ada.put(&stranger, &json!({"until": in_secs(9)}))
        .await?
        .problem(404, "not_found")?;
    check::same_as_fresh(&device.catches_up().await?, &eve).await
}

/// Of many messages that a member sends at once, to whatever process, one is taken.
#[tokio::test]
async fn slow_mode_lets_one_of_many_through() -> Result<()> {
    const SECS: u64 = 4;
    let server = started!(System::start().await);
    let (ada, bob) = (server.user("ada").await?, server.user("bob").await?);
    let eve = server.user("eve").await?;
    let group = ada.group("Engine room", &[&bob, &eve]).await?;
    let device = Device::start(&eve).await?;
    let first = format!("/v1/channels/{}", group.channel);
    let slow = json!({"slow_mode_secs": SECS});
    bob.patch(&first, &slow).await?.problem(403, "forbidden")?;
    let changed = ada.patch(&first, &slow).await?.ok()?;
    ensure!(
        changed["slow_mode_secs"] == SECS && changed["name"] == "general",
        "{changed}"
    );

    let apis = server.every_api();
    let name = json!({"name": "another"});
    let second = ada.post(&path(&group, "channels"), &name).await?.ok()?;
    let second = text(&second, "id")?.to_owned();
    ada.patch(&format!("/v1/channels/{second}"), &slow)
        .await?
        .ok()?;
    for channel in [&group.channel, &second] {
        let sends = (0..12).map(|n| {
            let bob = bob.at(&apis[n % apis.len()]);
            async move { post(&bob, channel).await }
        });
        let told = try_join_all(sends).await?;
        let taken = told.iter().filter(|one| one.status == 201).count();
        ensure!(taken == 1, "{taken} were taken");
        for refused in told.iter().filter(|one| one.status != 201) {
            refused.problem(429, "rate_limited")?;
            let after: u64 = refused.header("retry-after").parse()?;
            ensure!((1..=SECS).contains(&after), "{after}");
        }
        // Others have a time of their own, and the owner none.
        eve.send(channel, "mine").await?;
        for _ in 0..3 {
            ada.send(channel, "at once").await?;
        }
        post(&eve, channel).await?.problem(429, "rate_limited")?;
    }
    for client in [&bob, &eve] {
        wait::until("the end of the time", SOON, async || {
            Ok((post(client, &group.channel).await?.status == 201).then_some(()))
        })
        .await?;
    }

    // A repetition gets the first answer, however soon it comes.
    let keyed = async || bob.send_nonce(&second, "once", "k").await;
    let taken = wait::until("the end of the time", SOON, async || {
        let told = keyed().await?;
        Ok((told.status == 201).then_some(told))
    })
    .await?;
    let again = keyed().await?;
    ensure!((again.status, again.json()?) == (201, taken.json()?));
    for bad in [
        json!({}),
        json!({"slow_mode_secs": 21_601}),
        json!({"slow_mode_secs": -1}),
    ] {
        ada.patch(&first, &bad)
            .await?
            .problem(422, "invalid_request")?;
    }
    // Without it everybody writes as they like.
    let off = json!({"slow_mode_secs": 0});
    ada.patch(&first, &off).await?.ok()?;
    for _ in 0..2 {
        bob.send(&group.channel, "as I like").await?;
    }
    check::same_as_fresh(&device.catches_up().await?, &eve).await
}

#[tokio::test]
async fn an_invite_lets_in_exactly_as_many_as_it_says() -> Result<()> {
    const USES: usize = 3;
    let server = started!(System::start().await);
    let ada = server.user("ada").await?;
    let others = server.users("other", 9).await?;
    let group = ada.group("Engine room", &[]).await?;
    let apis = server.every_api();
    let made = invite(&ada, &group, json!({"max_uses": USES})).await?;
    let way_in = code(&made)?;
    let preview = others[0].get(&way_in).await?.ok()?;
    let expected = json!({
        "group": group.id, "name": "Engine room", "member_count": 1, "member": false,
        "expires_at": null,
    });
    ensure!(preview == expected, "{preview}");

    // Each asks twice at once, at any process.
    let joins = (0..2 * others.len()).map(|n| {
        let joiner = others[n / 2].at(&apis[n % apis.len()]);
        let way_in = &way_in;
        async move { (n / 2, joiner.post(way_in, &json!({})).await) }
    });
    let mut created = 0;
    let mut inside = std::collections::BTreeSet::new();
    for (who, told) in join_all(joins).await {
        let told = told?;
        match told.status {
            201 => created += 1,
            200 => {}
            _ => {
                told.problem(404, "not_found")?;
                continue;
            }
        }
        ensure!(told.json()?["role"] == "member", "{}", told.text());
        inside.insert(who);
    }
    ensure!(
        (created, inside.len()) == (USES, USES),
        "{created} joined, {inside:?} are in"
    );
    let members = ada.get(&path(&group, "members")).await?.ok()?;
    ensure!(items(&members, "items")?.len() == USES + 1, "{members}");
    let listed = ada.get(&path(&group, "invites")).await?.ok()?;
    ensure!(listed["items"][0]["uses"] == USES, "{listed}");

    // Used up, expired, withdrawn, never there: all the same.
    let outside = (0..others.len()).find(|n| !inside.contains(n));
    let outside = &others[outside.context("somebody outside")?];
    let expiring = invite(&ada, &group, json!({"expires_in": 1})).await?;
    let withdrawn = invite(&ada, &group, json!({})).await?;
    let of_withdrawn = path(&group, &format!("invites/{}", text(&withdrawn, "id")?));
    delete(&ada, &of_withdrawn).await?;
    ada.delete(&of_withdrawn).await?.problem(404, "not_found")?;
    let expired = code(&expiring)?;
    wait::until("the end of its time", SOON, async || {
        Ok((outside.get(&expired).await?.status == 404).then_some(()))
    })
    .await?;
    let unknown = "/v1/invites/AZcAAAAAcACAAAAAAAAACgAAAAAAAAAAAAAAAAAAAAA".to_owned();
    let mut told = std::collections::BTreeSet::new();
    for way_in in [
        way_in.clone(),
        expired,
        code(&withdrawn)?,
        unknown,
        "/v1/invites/x".to_owned(),
    ] {
        let looked = outside.get(&way_in).await?;
        let joined = outside.post(&way_in, &json!({})).await?;
        for answer in [looked, joined] {
            answer.problem(404, "not_found")?;
            told.insert(answer.text());
        }
    }
    ensure!(told.len() == 1, "{told:?}");
    // Who is in stays in, whatever has become of the invite.
    let member = &others[*inside.first().context("somebody inside")?];
    let again = member.post(&way_in, &json!({})).await?;
    ensure!(again.status == 200, "{}", again.text());
    ensure!(member.get(&way_in).await?.ok()?["member"] == true);
    Ok(())
}

#[tokio::test]
async fn invites_are_made_and_withdrawn_by_admins() -> Result<()> {
    let server = started!(System::with(&[("limits.invites_per_group", "2")]).await);
    let (ada, bob) = (server.user("ada").await?, server.user("bob").await?);
    let group = ada.group("Engine room", &[&bob]).await?;
    let other = ada.group("Bridge", &[]).await?;
    let list = path(&group, "invites");
    bob.get(&list).await?.problem(403, "forbidden")?;
    bob.post(&list, &json!({}))
        .await?
        .problem(403, "forbidden")?;
    for bad in [
        json!({"max_uses": 0}),
        json!({"max_uses": 100_001}),
        json!({"expires_in": 0}),
        json!({"expires_in": 31_536_001}),
        json!({"uses": 1}),
    ] {
        ada.post(&list, &bad)
            .await?
            .problem(422, "invalid_request")?;
    }
    let keyed = async || {
        let request = ada
            .request(Method::POST, &list)
            .header("idempotency-key", "k");
        answer(request.json(&json!({"max_uses": 1, "expires_in": 60}))).await
    };
    let (first, second) = (keyed().await?, keyed().await?);
    ensure!((first.status, second.status) == (201, 201));
    ensure!(
        first.json()? == second.json()?,
        "{} and {}",
        first.text(),
        second.text()
    );
    ensure!(first.header("cache-control") == "no-store");
    let first = first.json()?;
    ensure!(first["uses"] == 0 && first["max_uses"] == 1 && first["expires_at"].is_string());
    ensure!(text(&first, "code")?.len() == 43, "{first}");
    invite(&ada, &group, json!({})).await?;
    ada.post(&list, &json!({}))
        .await?
        .problem(409, "conflict")?;
    let page = ada.get(&format!("{list}?limit=1")).await?.ok()?;
    ensure!(
        page["more"] == true && items(&page, "items")?.len() == 1,
        "{page}"
    );

    let id = text(&first, "id")?;
    let elsewhere = path(&other, &format!("invites/{id}"));
    ada.delete(&elsewhere).await?.problem(404, "not_found")?;
    let there = path(&group, &format!("invites/{id}"));
    bob.delete(&there).await?.problem(403, "forbidden")?;
    delete(&ada, &there).await?;
    invite(&ada, &group, json!({})).await?;
    // The same key is the same invite, which is withdrawn.
    ensure!(text(&keyed().await?.ok()?, "id")? == id);

    // With the group its invites end.
    let way_in = code(&invite(&ada, &other, json!({})).await?)?;
    ensure!(bob.get(&way_in).await?.ok()?["name"] == "Bridge");
    delete(&ada, &format!("/v1/groups/{}", other.id)).await?;
    bob.get(&way_in).await?.problem(404, "not_found")?;
    bob.post(&way_in, &json!({}))
        .await?
        .problem(404, "not_found")?;
    Ok(())
}

#[tokio::test]
async fn ownership_passes_in_one_entry() -> Result<()> {
    let server = started!(System::start().await);
    let (ada, bob) = (server.user("ada").await?, server.user("bob").await?);
    let eve = server.user("eve").await?;
    let group = ada.group("Engine room", &[&bob, &eve]).await?;
    let mute = format!("{}/mute", member(&group, &bob));
    ada.put(&mute, &json!({"until": in_secs(3600)}))
        .await?
        .ok()?;
    let stream = format!("g:{}", group.id);
    let head = number(&ada.heads().await?, &stream)?;
    let devices = [
        (Device::start(&ada).await?, &ada),
        (Device::start(&bob).await?, &bob),
        (Device::start(&eve).await?, &eve),
    ];
    let give = async |who: &Client, whom: &Client| {
        who.patch(&member(&group, whom), &json!({"role": "owner"}))
            .await
    };
    give(&bob, &bob).await?.problem(403, "forbidden")?;
    give(&ada, &ada).await?.problem(409, "conflict")?;
    ada.delete(&member(&group, &ada))
        .await?
        .problem(409, "conflict")?;
    let path = path(&group, "members/01970000-0000-7000-8000-000000000000");
    let nobody = ada.patch(&path, &json!({"role": "owner"})).await?;
    nobody.problem(404, "not_found")?;
    let by_put = ada
        .put(&member(&group, &bob), &json!({"role": "owner"}))
        .await?;
    by_put.problem(422, "invalid_request")?;

    let given = give(&ada, &bob).await?.ok()?;
    ensure!(
        given["role"] == "owner" && given["muted_until"].is_null(),
        "{given}"
    );
    let body = json!({"cursor": {&stream: head}, "only": true});
    let found = eve.post("/v1/sync", &body).await?.ok()?;
    let deltas = items(&found, "deltas")?;
    let data = json!({"user": bob.user, "previous": ada.user});
    ensure!(
        deltas.len() == 1 && deltas[0]["kind"] == "owner.changed",
        "{found}"
    );
    ensure!(deltas[0]["data"] == data, "{found}");

    // She is an admin now, and what takes the owner is his.
    give(&ada, &eve).await?.problem(403, "forbidden")?;
    ada.delete(&member(&group, &bob))
        .await?
        .problem(403, "forbidden")?;
    ensure!(ada.get(&format!("/v1/groups/{}", group.id)).await?.ok()?["role"] == "admin");
    bob.send(&group.channel, "mine").await?;
    delete(&ada, &member(&group, &ada)).await?;
    for (device, client) in &devices {
        let replica = device.catches_up().await?;
        check::dense(&replica)?;
        check::same_as_fresh(&replica, client).await?;
    }
    Ok(())
}
