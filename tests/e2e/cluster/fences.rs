//! Membership is ordered by fences, not by messages between processes: everything here holds
//! although one api process hears no control message at all.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result, ensure};
use futures_util::future::{join, try_join_all};
use serde_json::{Value, json};
use tidings_tests::broker_link::BrokerLink;
use tidings_tests::client::{Api, Client, Group, items, number, text};
use tidings_tests::cluster::Cluster;
use tidings_tests::services::{self, RABBITMQ};
use tidings_tests::socket::{Event, Socket};
use tidings_tests::started;
use tidings_tests::wait::{self, SOON};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Groups in which somebody is removed and added at the same time.
const LANES: usize = 8;
/// Who send while a removal is on its way: the one who is removed, and others.
const SENDERS: usize = 3;

#[tokio::test]
async fn a_removed_member_is_out_and_a_new_one_misses_nothing() -> Result<()> {
    race(8).await
}

mod long {
    #[tokio::test]
    async fn a_removed_member_is_out_and_a_new_one_misses_nothing() -> anyhow::Result<()> {
        super::race(400).await
    }
}

/// Removes and adds a member so often in each lane, and prints how much raced with that.
async fn race(cycles: usize) -> Result<()> {
    let broker = started!(services::address(RABBITMQ));
    let link = BrokerLink::to(&broker).await?;
    let mut cluster = started!(Cluster::prepare(&[("telemetry.log_filter", "warn")]));
    cluster.apis[1].set("bus.urls", &link.url);
    cluster.nginx.start().await?;
    cluster.restart().await?;
    link.cut();
    let mut lanes = Vec::new();
    for number in 0..LANES {
        lanes.push(Lane::new(&cluster, number).await?);
    }
    let lanes = lanes.into_iter().map(|mut lane| async move {
        for cycle in 0..cycles {
            let done = lane.cycle(cycle).await;
            done.with_context(|| format!("{}, cycle {cycle}", lane.eve.username))?;
        }
        anyhow::Ok(lane.raced)
    });
    let raced: usize = try_join_all(lanes).await?.into_iter().sum();
    ensure!(link.withheld() > 0, "the process was told after all");
    let changes = 2 * LANES * cycles;
    eprintln!("{changes} changes of membership; {raced} messages raced with them");
    ensure!(raced > changes, "only {raced} messages raced");
    Ok(())
}

/// A group, whose owner changes it at one process while all send at the other.
struct Lane {
    group: Group,
    owner: Client,
    owner_far: Client,
    eve: Client,
    stays: Watcher,
    /// Goes from one ws-push to the other and back.
    hops: Watcher,
    ws_pushes: Vec<Api>,
    /// The position in the channel up to which all has been looked at.
    seen: u64,
    /// Where she was no member: from a fence to the last message before her return.
    absences: Vec<RangeInclusive<u64>>,
    raced: usize,
}

impl Lane {
    async fn new(cluster: &Cluster, number: usize) -> Result<Self> {
        let [near, far] = [0, 1].map(|at| cluster.apis[at].api.clone());
        let owner = cluster.user(&format!("owner{number}")).await?.at(&near);
        let eve = cluster.user(&format!("eve{number}")).await?.at(&far);
        let group = owner.group("Engine room", &[&eve]).await?;
        let ws_pushes: Vec<Api> = cluster.ws_pushes.iter().map(|it| it.api.clone()).collect();
        let seen = owner.head(&group.channel).await?;
        Ok(Self {
            owner_far: owner.at(&far),
            stays: Watcher::start(&eve, &ws_pushes[0]).await?,
            hops: Watcher::start(&eve, &ws_pushes[1]).await?,
            group,
            owner,
            eve,
            ws_pushes,
            seen,
            absences: Vec::new(),
            raced: 0,
        })
    }

    async fn cycle(&mut self, cycle: usize) -> Result<()> {
        let channel = self.group.channel.clone();
        let path = format!("/v1/groups/{}/members/{}", self.group.id, self.eve.user);
        // The far process has read the group with her in it.
        self.eve.send(&channel, "here").await?;

        let removal = async {
            for _ in 0..fastrand::usize(..3) {
                self.owner.send(&channel, "a moment").await?;
            }
            let removed = self.owner.delete(&path).await?;
            ensure!(removed.status == 204, "{}", removed.text());
            // What is acknowledged is so for everybody, at once.
            self.is_out().await?;
            let secret = format!("secret {cycle}");
            number(&self.owner_far.send(&channel, &secret).await?, "seq")
        };
        let (sent, secret) = join(self.senders(), removal).await;
        let (sent, secret) = (sent?, secret?);
        self.raced += sent.len();
        let fence = self.fence(secret).await?;
        for (author, seq) in sent {
            let by_eve = author == self.eve.user;
            ensure!(
                !by_eve || seq < fence,
                "hers at {seq}, behind the fence at {fence}"
            );
        }
        self.absences.push(fence..=secret);
        let other = &self.ws_pushes[cycle % 2];
        self.hops = Watcher::start(&self.eve, other).await?;

        let added = self.owner.put(&path, &json!({})).await?;
        added.ok()?;
        let welcome = number(&self.owner_far.send(&channel, "welcome").await?, "seq")?;
        self.eve.send(&channel, "thanks").await?;
        for watcher in [&self.stays, &self.hops] {
            watcher.has(&channel, welcome).await?;
            // She was no member between the fence and her return.
            let beyond = |seq: &u64| (fence..=secret).contains(seq);
            let seqs = watcher.seqs(&channel);
            let leaked: Vec<_> = seqs.into_iter().filter(beyond).collect();
            ensure!(
                leaked.is_empty(),
                "she received {leaked:?}, behind the fence at {fence}"
            );
        }
        self.seen = welcome;
        Ok(())
    }

    /// Sends as Eve and as the owner at the far process until Eve is refused; who sent what is
    /// returned by author and position.
    async fn senders(&self) -> Result<Vec<(String, u64)>> {
        let out = CancellationToken::new();
        let path = format!("/v1/channels/{}/messages", self.group.channel);
        let sends = (0..SENDERS).map(|sender| {
            let (out, path) = (out.clone(), path.clone());
            let client = if sender == 0 {
                &self.owner_far
            } else {
                &self.eve
            };
            async move {
                let mut sent = Vec::new();
                while !out.is_cancelled() {
                    let answer = client.post(&path, &json!({"content": "x"})).await?;
                    if answer.status != 201 {
                        answer.problem(404, "not_found")?;
                        out.cancel();
                        break;
                    }
                    sent.push((client.user.clone(), number(&answer.json()?, "seq")?));
                }
                anyhow::Ok(sent)
            }
        });
        Ok(try_join_all(sends).await?.concat())
    }

    /// She neither sends nor reads.
    async fn is_out(&self) -> Result<()> {
        let Group { id, channel } = &self.group;
        let messages = format!("/v1/channels/{channel}/messages");
        for answer in [
            self.eve
                .post(&messages, &json!({"content": "after"}))
                .await?,
            self.eve.get(&messages).await?,
            self.eve.get(&format!("/v1/groups/{id}/members")).await?,
        ] {
            answer.problem(404, "not_found")?;
        }
        let cursor = json!({format!("c:{channel}"): self.seen});
        let body = json!({"cursor": cursor, "only": true});
        let found = self.eve.post("/v1/sync", &body).await?.ok()?;
        ensure!(items(&found, "deltas")?.is_empty(), "{found}");
        ensure!(found["resets"][0]["reason"] == "gone", "{found}");
        Ok(())
    }

    /// Where the removal stands in the channel: the last fence up to `until`.
    async fn fence(&self, until: u64) -> Result<u64> {
        let stream = format!("c:{}", self.group.channel);
        let body = json!({"cursor": {&stream: self.seen}, "only": true, "limit": 500});
        let found = self.owner.post("/v1/sync", &body).await?.ok()?;
        let mut last = None;
        let mut reached = 0;
        for delta in items(&found, "deltas")? {
            reached = number(delta, "seq")?;
            if delta["kind"] == "members.changed" && reached <= until {
                last = Some(reached);
            }
        }
        ensure!(reached >= until, "{reached} of {until}");
        last.context("no fence")
    }
}

/// A socket of which all messages are noted. What it noted goes with it.
struct Watcher {
    noted: Arc<Mutex<BTreeSet<(String, u64)>>>,
    task: JoinHandle<()>,
}

impl Watcher {
    async fn start(client: &Client, server: &Api) -> Result<Self> {
        let (mut socket, _) = Socket::connect_at(client, server).await?;
        let noted = Arc::new(Mutex::new(BTreeSet::new()));
        let notes = noted.clone();
        let task = tokio::spawn(async move {
            while let Ok(Event::Frame(frame)) = socket.next().await {
                if let Some(message) = message(&frame) {
                    let mut notes = notes.lock().unwrap_or_else(PoisonError::into_inner);
                    notes.insert(message);
                }
            }
        });
        Ok(Self { noted, task })
    }

    fn seqs(&self, channel: &str) -> BTreeSet<u64> {
        let noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        let own = noted.iter().filter(|(of, _)| of == channel);
        own.map(|(_, seq)| *seq).collect()
    }

    async fn has(&self, channel: &str, seq: u64) -> Result<()> {
        wait::until("pushed to a new member", SOON, async || {
            Ok(self.seqs(channel).contains(&seq).then_some(()))
        })
        .await
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The channel and position of a message.
fn message(frame: &Value) -> Option<(String, u64)> {
    let stream = text(frame, "stream").ok()?;
    let channel = stream.strip_prefix("c:")?.to_owned();
    let is_message = frame["kind"] == "message.created";
    is_message.then_some((channel, frame["seq"].as_u64()?))
}
