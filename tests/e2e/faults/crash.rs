//! A process dies by SIGKILL at a chosen point between a request and the end of what it calls
//! for. The point is known by what passes the proxies: it is held there, and never arrives.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures_util::future::try_join_all;
use tidings_tests::client::{Answer, Client, number};
use tidings_tests::cluster::Cluster;
use tidings_tests::device::Device;
use tidings_tests::socket::Socket;
use tidings_tests::stack::{Side, Stack, Watch};
use tidings_tests::wait::{self, SOON};
use tidings_tests::{check, started};
use tokio::time::Instant;

use super::amqp::{contains, count_publishes, has_bind_ok, publishes};
use super::ear::Ear;
use super::load::readiness;

/// Within which the relay announces what was committed and not announced.
const RELAYED: Duration = Duration::from_secs(10);
/// Members of each group: with so many, some are reached through one exchange, some through
/// another.
const MEMBERS: usize = 8;

/// Where an API process dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Point {
    /// Its insert has left it and not arrived.
    Insert,
    /// The insert has taken effect; the process does not know.
    Committed,
    /// The sender has the answer; nothing is announced.
    Answered,
    /// One exchange has the delta, the others do not.
    HalfAnnounced,
    /// All is announced and confirmed; the entry's mark still says that it is not.
    Announced,
}

const POINTS: [Point; 5] = [
    Point::Insert,
    Point::Committed,
    Point::Answered,
    Point::HalfAnnounced,
    Point::Announced,
];

#[tokio::test]
async fn an_api_killed_at_any_point_of_sending_loses_and_repeats_nothing() -> Result<()> {
    kill_at_every_point(2).await
}

#[tokio::test]
async fn a_ws_push_killed_before_hello_and_a_worker_in_a_backlog_lose_nothing() -> Result<()> {
    let stack = started!(Stack::start().await);
    let mut cluster = started!(Cluster::on(&stack, &[]).await);
    cluster.launch().await?;
    kill_before_hello(&mut cluster).await?;
    kill_worker_in_a_backlog(&mut cluster).await
}

mod long {
    #[tokio::test]
    async fn an_api_killed_at_any_point_of_sending_loses_and_repeats_nothing() -> anyhow::Result<()>
    {
        super::kill_at_every_point(50).await
    }
}

async fn kill_at_every_point(rounds: usize) -> Result<()> {
    let stack = started!(Stack::start().await);
    let mut cluster = started!(Cluster::on(&stack, &[]).await);
    cluster.launch().await?;
    let users = cluster.users("user", MEMBERS).await?;
    let mut ears = Vec::new();
    for (number, user) in users.iter().enumerate() {
        ears.push(Ear::at(user, &cluster.ws_pushes[number % 2].api).await?);
    }
    let device = Device::start(&users[1]).await?;
    let mut killed = Vec::new();
    for round in 0..rounds {
        for point in POINTS {
            let case = Case::new(point, &cluster, &users).await?;
            let name = format!("{point:?} in round {round}");
            let done = case.kill(&stack, &mut cluster, &ears[0]).await;
            killed.push(done.context(name)?);
            cluster.apis[0].restart().await?;
        }
    }
    for killed in killed {
        killed.check(&ears).await?;
    }
    let replica = device.catches_up().await?;
    check::dense(&replica)?;
    check::same_as_fresh(&replica, &users[1]).await
}

/// A message that is to be sent at the process that is to die.
struct Case {
    point: Point,
    sender: Client,
    channel: String,
    content: String,
}

/// What is known of the message afterwards.
struct Killed {
    point: Point,
    channel: String,
    seq: u64,
    at: Instant,
}

impl Case {
    async fn new(point: Point, cluster: &Cluster, users: &[Client]) -> Result<Self> {
        let sender = users[0].at(&cluster.apis[0].api);
        // Made at the other process, so that this one has nothing else to announce.
        let maker = users[0].at(&cluster.apis[1].api);
        let others: Vec<&Client> = users[1..].iter().collect();
        let group = maker.group("Engine room", &others).await?;
        // It is ready without the broker, and would leave the announcing to the relay.
        wait::until("it reaches the broker", SOON, async || {
            let bus = readiness(&cluster.apis[0].api, "bus").await;
            Ok((bus == Some((200, "ok".to_owned()))).then_some(()))
        })
        .await?;
        // Reads the group, so that what is watched is the message alone.
        sender.head(&group.channel).await?;
        Ok(Self {
            point,
            sender,
            channel: group.channel,
            content: format!("content-{:016x}", fastrand::u64(..)),
        })
    }

    async fn kill(self, stack: &Stack, cluster: &mut Cluster, ear: &Ear) -> Result<Killed> {
        let pid = cluster.apis[0].pid()?;
        let watch = self.watch(pid);
        if matches!(self.point, Point::Answered | Point::HalfAnnounced) {
            cluster.links.apis[0].broker.set_watch(&watch);
        } else {
            stack.mongo.set_watch(&watch);
        }
        let (sender, channel) = (self.sender.clone(), self.channel.clone());
        let content = self.content.clone();
        let sending =
            tokio::spawn(async move { sender.send_nonce(&channel, &content, &content).await });
        watch.held().await?;
        // From the commit on the sender has its answer; before it there is none.
        let is_answered = !matches!(self.point, Point::Insert | Point::Committed);
        let mut answer = None;
        if is_answered {
            answer = Some(sending.await??);
        } else {
            ensure!(
                !sending.is_finished(),
                "answered before the commit is known"
            );
        }
        if self.point == Point::Announced {
            let seq = seq(answer.as_ref().context("answered")?)?;
            ear.hears(&self.channel, seq, 1, SOON).await?;
        }
        cluster.apis[0].kill().await?;
        let at = Instant::now();
        watch.close();
        let seq = self.repeat(cluster, answer).await?;
        Ok(Killed {
            point: self.point,
            channel: self.channel,
            seq,
            at,
        })
    }

    /// Sends the message again, to the other process, and says where it is.
    async fn repeat(&self, cluster: &Cluster, first: Option<Answer>) -> Result<u64> {
        let elsewhere = self.sender.at(&cluster.apis[1].api);
        let again = elsewhere.send_nonce(&self.channel, &self.content, &self.content);
        let again = again.await?;
        let replayed = again.header("idempotency-replayed") == "true";
        let landed = self.point != Point::Insert;
        ensure!(replayed == landed, "landed {landed}, replayed {replayed}");
        let seq = seq(&again)?;
        if let Some(first) = first {
            ensure!(again.json()? == first.json()?, "another answer");
        }
        let history = check::history(&elsewhere, &self.channel).await?;
        let own = history
            .iter()
            .filter(|(_, content)| **content == self.content);
        ensure!(own.map(|(seq, _)| *seq).eq([seq]), "{history:?}");
        Ok(seq)
    }

    /// Holds what passes at the point.
    fn watch(&self, pid: u32) -> Watch {
        let (point, content) = (self.point, self.content.clone());
        let mut inserting = None;
        let mut published = 0;
        Watch::new(move |seen| {
            let up = seen.side == Side::ToServer;
            match point {
                Point::Insert | Point::Committed if up => {
                    // Nothing else that goes there has the content.
                    let is_insert = contains(seen.bytes, content.as_bytes()) && seen.is_of(pid);
                    if is_insert {
                        inserting = Some(seen.connection());
                    }
                    (is_insert && point == Point::Insert).then_some(0)
                }
                Point::Committed => (inserting == Some(seen.connection())).then_some(0),
                Point::Answered | Point::HalfAnnounced if up => {
                    let passes = usize::from(point == Point::HalfAnnounced);
                    let own = publishes(seen.bytes, &content);
                    let held = own.get(passes.saturating_sub(published)).copied();
                    published += own.len();
                    held
                }
                Point::Announced if up => {
                    let clears = contains(seen.bytes, b"$unset\0")
                        && contains(seen.bytes, b"pending\0")
                        && seen.is_of(pid);
                    clears.then_some(0)
                }
                _ => None,
            }
        })
    }
}

impl Killed {
    /// Everybody has been told, in time, by whichever process was left.
    async fn check(self, ears: &[Ear]) -> Result<()> {
        let (channel, seq) = (&self.channel, self.seq);
        let times = if self.point == Point::Announced { 2 } else { 1 };
        let left = (self.at + RELAYED).saturating_duration_since(Instant::now()) + SOON;
        let hear = ears.iter().map(|ear| ear.hears(channel, seq, times, left));
        let heard = try_join_all(hear).await;
        let heard = heard.with_context(|| format!("{:?}", self.point))?;
        let last = heard.into_iter().max().context("ears")?;
        let after = last.saturating_duration_since(self.at);
        let early = ears.iter().filter_map(|ear| ear.heard(channel, seq));
        let early = early.filter(|(first, _)| *first <= self.at).count();
        eprintln!("{:?}: {early} before, all after {after:?}", self.point);
        ensure!(after <= RELAYED, "{:?}: after {after:?}", self.point);
        match self.point {
            Point::Announced => ensure!(early > 0, "not announced before"),
            Point::HalfAnnounced => ensure!(early < ears.len(), "announced to all before"),
            _ => ensure!(early == 0, "announced before its time"),
        }
        Ok(())
    }
}

fn seq(answer: &Answer) -> Result<u64> {
    ensure!(answer.status == 201, "{} {}", answer.status, answer.text());
    number(&answer.json()?, "seq")
}

/// The binding stands, and the client was never told so: it goes elsewhere, and misses nothing.
async fn kill_before_hello(cluster: &mut Cluster) -> Result<()> {
    let (ada, bob) = (cluster.user("ada").await?, cluster.user("bob").await?);
    let group = ada.group("Engine room", &[&bob]).await?;
    let watch =
        Watch::new(|seen| (seen.side == Side::ToClient && has_bind_ok(seen.bytes)).then_some(0));
    cluster.links.ws_pushes[0].broker.set_watch(&watch);
    let (client, server) = (bob.clone(), cluster.ws_pushes[0].api.clone());
    let connecting = tokio::spawn(async move { Socket::connect_at(&client, &server).await });
    watch.held().await?;
    cluster.ws_pushes[0].kill().await?;
    watch.close();
    ensure!(connecting.await?.is_err(), "it said hello");
    let missed = number(&ada.send(&group.channel, "meanwhile").await?, "seq")?;
    let device = Device::start(&bob).await?;
    let stream = format!("c:{}", group.channel);
    device.reaches(&stream, missed).await?;
    let pushed = number(&ada.send(&group.channel, "afterwards").await?, "seq")?;
    device.reaches(&stream, pushed).await?;
    device.look(|record| check::dense(&record.replica))?;
    cluster.ws_pushes[0].restart().await
}

/// No API reaches the broker: what is announced is announced by the relays. One of them dies in
/// the middle of it; the other goes on.
async fn kill_worker_in_a_backlog(cluster: &mut Cluster) -> Result<()> {
    const CHANNELS: usize = 8;
    const EACH: usize = 50;
    let (eve, dan) = (cluster.user("eve").await?, cluster.user("dan").await?);
    let ear = Ear::at(&dan, &cluster.ws_pushes[0].api).await?;
    let mut channels = Vec::new();
    for _ in 0..CHANNELS {
        channels.push(eve.group("Engine room", &[&dan]).await?.channel);
    }
    cluster.links.apis.iter().for_each(|link| link.broker.cut());
    let published = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&published);
    let watch = Watch::new(move |seen| {
        let is_publish = seen.side == Side::ToServer && count_publishes(seen.bytes) > 0;
        let before = count.load(Ordering::Relaxed);
        count.fetch_add(count_publishes(seen.bytes), Ordering::Relaxed);
        // However little of it the other one leaves.
        (is_publish && before > CHANNELS).then_some(0)
    });
    cluster.links.workers[0].broker.set_watch(&watch);
    let sends = channels.iter().map(|channel| {
        let eve = eve.clone();
        async move {
            let mut seqs = Vec::new();
            for message in 0..EACH {
                let sent = eve.send(channel, &message.to_string()).await?;
                seqs.push((channel, number(&sent, "seq")?));
            }
            anyhow::Ok(seqs)
        }
    });
    let sent: Vec<_> = try_join_all(sends).await?.concat();
    watch.held().await?;
    cluster.workers[0].kill().await?;
    watch.close();
    let since = Instant::now();
    wait::until(
        "a worker alone drains it",
        Duration::from_secs(60),
        async || {
            let heard = |(channel, seq): &(&String, u64)| ear.heard(channel, *seq).is_some();
            Ok(sent.iter().all(heard).then_some(()))
        },
    )
    .await?;
    eprintln!(
        "{} announced by a relay that died, all {} after {:?}",
        published.load(Ordering::Relaxed),
        sent.len(),
        since.elapsed()
    );
    cluster.workers[0].restart().await?;
    cluster.links.heal();
    Ok(())
}
