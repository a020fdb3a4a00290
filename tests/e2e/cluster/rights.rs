//! Every right that is taken away is so at once for every process, also for one that has the
//! group in its cache and hears no control message; and what is given back is so as well.

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tidings_tests::broker_link::BrokerLink;
use tidings_tests::client::{Answer, Client, Group, in_secs, number, text};
use tidings_tests::cluster::Cluster;
use tidings_tests::services::{self, RABBITMQ};
use tidings_tests::started;

/// A group in which the owner acts at a process that hears everything, and the others at one
/// that hears nothing.
struct Scene {
    owner: Client,
    eve: Client,
    group: Group,
}

impl Scene {
    async fn new(cluster: &Cluster, number: usize) -> Result<Self> {
        let [near, far] = [0, 1].map(|at| cluster.apis[at].api.clone());
        let owner = cluster.user(&format!("owner{number}")).await?.at(&near);
        let eve = cluster.user(&format!("eve{number}")).await?.at(&far);
        let group = owner.group("Engine room", &[&eve]).await?;
        Ok(Self { owner, eve, group })
    }

    fn path(&self, rest: &str) -> String {
        format!("/v1/groups/{}/{rest}", self.group.id)
    }

    fn of_eve(&self) -> String {
        self.path(&format!("members/{}", self.eve.user))
    }

    /// The far process reads the group as it is, unless it has it already.
    async fn remembers(&self) -> Result<u64> {
        let sent = self.eve.send(&self.group.channel, "here").await?;
        number(&sent, "seq")
    }

    async fn says(&self) -> Result<Answer> {
        let path = format!("/v1/channels/{}/messages", self.group.channel);
        self.eve.post(&path, &json!({"content": "x"})).await
    }

    fn message(&self, seq: u64) -> String {
        format!("/v1/channels/{}/messages/{seq}", self.group.channel)
    }

    async fn put(&self, path: &str, body: Value) -> Result<Value> {
        self.owner.put(path, &body).await?.ok()
    }

    async fn deletes(&self, path: &str) -> Result<()> {
        let answer = self.owner.delete(path).await?;
        ensure!(answer.status == 204, "{path}: {}", answer.text());
        Ok(())
    }
}

#[tokio::test]
async fn a_process_that_hears_nothing_goes_by_the_rights_of_now() -> Result<()> {
    let broker = started!(services::address(RABBITMQ));
    let link = BrokerLink::to(&broker).await?;
    let mut cluster = started!(Cluster::prepare(&[("telemetry.log_filter", "warn")]));
    cluster.apis[1].set("bus.urls", &link.url);
    cluster.nginx.start().await?;
    cluster.restart().await?;
    link.cut();
    for round in 0..3 {
        let scene = Scene::new(&cluster, round).await?;
        mutes(&scene).await.context("mutes")?;
        slow_mode(&scene).await.context("slow mode")?;
        roles(&scene).await.context("roles")?;
        bans(&scene).await.context("bans")?;
        invites(&scene).await.context("invites")?;
        ownership(&scene).await.context("ownership")?;
    }
    ensure!(link.withheld() > 0, "the process was told after all");
    Ok(())
}

async fn mutes(scene: &Scene) -> Result<()> {
    let seq = scene.remembers().await?;
    let mute = format!("{}/mute", scene.of_eve());
    scene.put(&mute, json!({"until": in_secs(3600)})).await?;
    scene.says().await?.problem(403, "forbidden")?;
    let content = json!({"content": "x"});
    let edited = scene.eve.patch(&scene.message(seq), &content).await?;
    edited.problem(403, "forbidden")?;
    scene.deletes(&mute).await?;
    scene.eve.patch(&scene.message(seq), &content).await?.ok()?;
    ensure!(scene.says().await?.status == 201);
    Ok(())
}

async fn slow_mode(scene: &Scene) -> Result<()> {
    scene.remembers().await?;
    let channel = format!("/v1/channels/{}", scene.group.channel);
    let slow = |secs: u64| json!({"slow_mode_secs": secs});
    scene.owner.patch(&channel, &slow(3600)).await?.ok()?;
    scene.says().await?.problem(429, "rate_limited")?;
    scene.owner.patch(&channel, &slow(0)).await?.ok()?;
    ensure!(scene.says().await?.status == 201);
    Ok(())
}

async fn roles(scene: &Scene) -> Result<()> {
    let mut seqs = Vec::new();
    for _ in 0..2 {
        let sent = scene.owner.send(&scene.group.channel, "mine").await?;
        seqs.push(number(&sent, "seq")?);
    }
    scene.remembers().await?;
    scene.put(&scene.of_eve(), json!({"role": "admin"})).await?;
    ensure!(scene.eve.delete(&scene.message(seqs[0])).await?.status == 204);
    scene
        .put(&scene.of_eve(), json!({"role": "member"}))
        .await?;
    let refused = scene.eve.delete(&scene.message(seqs[1])).await?;
    refused.problem(403, "forbidden")?;
    let bans = scene.eve.get(&scene.path("bans")).await?;
    bans.problem(403, "forbidden").map(drop)
}

async fn bans(scene: &Scene) -> Result<()> {
    scene.remembers().await?;
    let ban = scene.path(&format!("bans/{}", scene.eve.user));
    let way_in = way_in(scene).await?;
    scene.put(&ban, json!({})).await?;
    scene.says().await?.problem(404, "not_found")?;
    scene
        .eve
        .post(&way_in, &json!({}))
        .await?
        .problem(404, "not_found")?;
    scene.eve.get(&way_in).await?.problem(404, "not_found")?;
    scene.deletes(&ban).await?;
    scene.says().await?.problem(404, "not_found")?;
    ensure!(scene.eve.post(&way_in, &json!({})).await?.status == 201);
    ensure!(scene.says().await?.status == 201);
    Ok(())
}

async fn invites(scene: &Scene) -> Result<()> {
    scene.remembers().await?;
    let made = scene
        .owner
        .post(&scene.path("invites"), &json!({"max_uses": 1}))
        .await?;
    let made = made.ok()?;
    let once = format!("/v1/invites/{}", text(&made, "code")?);
    let leave = scene.eve.delete(&scene.of_eve()).await?;
    ensure!(leave.status == 204, "{}", leave.text());
    ensure!(scene.eve.post(&once, &json!({})).await?.status == 201);
    ensure!(scene.eve.delete(&scene.of_eve()).await?.status == 204);
    // Used up, and then one that is withdrawn.
    scene
        .eve
        .post(&once, &json!({}))
        .await?
        .problem(404, "not_found")?;
    scene
        .deletes(&scene.path(&format!("invites/{}", text(&made, "id")?)))
        .await?;
    let made = scene
        .owner
        .post(&scene.path("invites"), &json!({}))
        .await?
        .ok()?;
    scene
        .deletes(&scene.path(&format!("invites/{}", text(&made, "id")?)))
        .await?;
    let withdrawn = format!("/v1/invites/{}", text(&made, "code")?);
    scene
        .eve
        .post(&withdrawn, &json!({}))
        .await?
        .problem(404, "not_found")?;
    scene.put(&scene.of_eve(), json!({})).await.map(drop)
}

/// The last: afterwards the group is Eve's.
async fn ownership(scene: &Scene) -> Result<()> {
    let seq = scene.remembers().await?;
    scene
        .owner
        .patch(&scene.of_eve(), &json!({"role": "owner"}))
        .await?
        .ok()?;
    let former = scene.path(&format!("members/{}", scene.owner.user));
    let demoted = scene.eve.patch(&former, &json!({"role": "member"})).await?;
    demoted.ok()?;
    let far = scene.owner.at(&scene.eve.api);
    far.delete(&scene.message(seq))
        .await?
        .problem(403, "forbidden")?;
    let group = format!("/v1/groups/{}", scene.group.id);
    far.delete(&group).await?.problem(403, "forbidden")?;
    ensure!(scene.eve.delete(&group).await?.status == 204);
    Ok(())
}

async fn way_in(scene: &Scene) -> Result<String> {
    let made = scene
        .owner
        .post(&scene.path("invites"), &json!({}))
        .await?
        .ok()?;
    Ok(format!("/v1/invites/{}", text(&made, "code")?))
}
