//! One session at a time changes a group's settings, and everybody sees which one.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures_util::future::try_join_all;
use reqwest::Method;
use serde_json::{Value, json};
use tidings_tests::check;
use tidings_tests::client::{Answer, Client, Group, answer, number, text};
use tidings_tests::device::Device;
use tidings_tests::socket::Socket;
use tidings_tests::started;
use tidings_tests::wait;

use super::System;

/// A group with an owner at two devices, an admin and a member.
struct World {
    ada: Client,
    ada_elsewhere: Client,
    bob: Client,
    cleo: Client,
    group: Group,
}

impl World {
    async fn new(server: &System) -> Result<Self> {
        let (ada, bob) = (server.user("ada").await?, server.user("bob").await?);
        let (cleo, ada_elsewhere) = (server.user("cleo").await?, ada.api.login("ada").await?);
        let group = ada.group("Engine room", &[&bob, &cleo]).await?;
        let admin = format!("/v1/groups/{}/members/{}", group.id, bob.user);
        ada.put(&admin, &json!({"role": "admin"})).await?.ok()?;
        Ok(Self {
            ada,
            ada_elsewhere,
            bob,
            cleo,
            group,
        })
    }

    fn lease(&self) -> String {
        format!("/v1/groups/{}/edit-lease", self.group.id)
    }

    async fn take(&self, who: &Client) -> Result<Answer> {
        answer(who.request(Method::PUT, &self.lease())).await
    }

    /// The token of a lease that is new.
    async fn token(&self, who: &Client) -> Result<u64> {
        let taken = self.take(who).await?;
        ensure!(taken.status == 201, "{}", taken.text());
        number(&taken.json()?, "token")
    }

    async fn rename(&self, who: &Client, name: &str, token: Option<u64>) -> Result<Answer> {
        let path = format!("/v1/groups/{}", self.group.id);
        let mut request = who
            .request(Method::PATCH, &path)
            .json(&json!({"name": name}));
        if let Some(token) = token {
            request = request.header("edit-lease", token);
        }
        answer(request).await
    }

    async fn name(&self) -> Result<String> {
        let path = format!("/v1/groups/{}", self.group.id);
        let group = self.cleo.get(&path).await?.ok()?;
        Ok(text(&group, "name")?.to_owned())
    }

    fn is_locked(&self, answer: &Answer, holder: &Client) -> Result<()> {
        let problem = answer.problem(423, "locked")?;
        let shown = &problem["holder"];
        ensure!(shown["user"] == *holder.user, "{problem}");
        ensure!(shown["session"] == *holder.session, "{problem}");
        ensure!(shown["display_name"] == *holder.username, "{problem}");
        text(shown, "since")?;
        text(shown, "expires_at").map(drop)
    }
}

#[tokio::test]
async fn while_one_admin_edits_the_others_read_and_know_it() -> Result<()> {
    let server = started!(System::start().await);
    let world = World::new(&server).await?;
    let World {
        ada,
        ada_elsewhere,
        bob,
        cleo,
        group,
    } = &world;
    let (mut socket, _) = Socket::connect(cleo).await?;
    let device = Device::start(cleo).await?;
    let stream = format!("g:{}", group.id);
    let mut next = async |kind: &str| -> Result<Value> {
        loop {
            let delta = socket.delta(&stream).await?;
            // The group's beginning may come late.
            if delta["kind"] != "group.created" && delta["kind"] != "member.updated" {
                ensure!(delta["kind"] == kind, "{delta} instead of {kind}");
                return Ok(delta);
            }
        }
    };
    let token = world.token(ada).await?;
    let acquired = next("lease.acquired").await?;
    ensure!(number(&acquired, "seq")? == token, "{acquired}");
    ensure!(acquired["actor"] == *ada.user, "{acquired}");
    ensure!(
        acquired["data"] == json!({"session": ada.session}),
        "{acquired}"
    );
    // Another admin, and the same one at another device.
    for other in [bob, ada_elsewhere] {
        world.is_locked(&world.take(other).await?, ada)?;
        world.is_locked(&world.rename(other, "theirs", None).await?, ada)?;
        let stolen = world.rename(other, "theirs", Some(token)).await?;
        stolen.problem(412, "precondition_failed")?;
    }
    world.take(cleo).await?.problem(403, "forbidden")?;
    let seen = cleo.get(&world.lease()).await?.ok()?;
    ensure!(
        seen["user"] == *ada.user && seen["token"] == token,
        "{seen}"
    );
    world.rename(ada, "hers", Some(token)).await?.ok()?;
    let updated = next("group.updated").await?;
    ensure!(updated["data"]["lease"] == token, "{updated}");
    check::same_as_fresh(&device.catches_up().await?, cleo).await?;

    ensure!(ada.delete(&world.lease()).await?.status == 204);
    next("lease.released").await?;
    cleo.get(&world.lease()).await?.problem(404, "not_found")?;
    // The owner takes over.
    let his = world.token(bob).await?;
    let steal = format!("{}?steal=true", world.lease());
    let hers = answer(ada_elsewhere.request(Method::PUT, &steal)).await?;
    ensure!(hers.status == 201, "{}", hers.text());
    let late = world.rename(bob, "late", Some(his)).await?;
    late.problem(412, "precondition_failed")?;
    let hers = number(&hers.json()?, "token")?;
    world
        .rename(ada_elsewhere, "at last", Some(hers))
        .await?
        .ok()?;
    ensure!(world.name().await? == "at last");
    check::same_as_fresh(&device.catches_up().await?, cleo).await
}

/// Read, then write what was read and more: nothing that somebody wrote is missing in the end.
#[tokio::test]
async fn what_many_sessions_add_at_once_is_all_there() -> Result<()> {
    const EACH: usize = 3;
    let server = started!(System::start().await);
    let world = World::new(&server).await?;
    let mut sessions = vec![world.ada.clone(), world.ada_elsewhere.clone()];
    sessions.extend([world.bob.clone(), world.bob.api.login("bob").await?]);
    let adding = sessions.iter().enumerate().map(|(number, who)| {
        let world = &world;
        async move {
            for count in 0..EACH {
                let token = wait::until("the lease", Duration::from_secs(60), async || {
                    let taken = world.take(who).await?;
                    if taken.status == 423 {
                        return Ok(None);
                    }
                    Ok(Some(number_of(&taken.ok()?)?))
                })
                .await?;
                let name = world.name().await?;
                let more = format!("{name} {number}.{count}");
                world.rename(who, &more, Some(token)).await?.ok()?;
                ensure!(who.delete(&world.lease()).await?.status == 204);
            }
            anyhow::Ok(())
        }
    });
    try_join_all(adding).await?;
    let name = world.name().await?;
    for number in 0..sessions.len() {
        for count in 0..EACH {
            let added = format!("{number}.{count}");
            ensure!(name.contains(&added), "{added} is not in {name}");
        }
    }
    Ok(())
}

fn number_of(lease: &Value) -> Result<u64> {
    number(lease, "token").context("a lease")
}

mod long {
    use super::*;

    /// As the browser's tab whose laptop was closed.
    #[tokio::test]
    async fn a_holder_who_slept_until_the_lease_ran_out_overwrites_nobody() -> Result<()> {
        const LIFETIME: Duration = Duration::from_secs(30);
        let server = started!(System::start().await);
        let world = World::new(&server).await?;
        let World { ada, bob, .. } = &world;
        let late = world.token(ada).await?;
        let since = tokio::time::Instant::now();
        let his = wait::until("the end of the lease", 2 * LIFETIME, async || {
            let taken = world.take(bob).await?;
            Ok((taken.status != 423).then_some(taken))
        })
        .await?;
        ensure!(since.elapsed() > LIFETIME - Duration::from_secs(2));
        let his = number(&his.ok()?, "token")?;
        world.rename(bob, "his", Some(his)).await?.ok()?;
        let overwriting = world.rename(ada, "hers", Some(late)).await?;
        overwriting.problem(412, "precondition_failed")?;
        world.is_locked(&world.rename(ada, "hers", None).await?, bob)?;
        ensure!(world.name().await? == "his");
        Ok(())
    }
}
