//! People who send and devices that receive while something is broken, and what must hold of
//! them afterwards.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use tidings_tests::check;
use tidings_tests::client::{Api, Client, number};
use tidings_tests::cluster::Cluster;
use tidings_tests::device::Device;
use tidings_tests::wait;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// The deadline of a request, and what a busy machine may add to it.
const ANSWER: Duration = Duration::from_secs(13);
/// How long it may take after a fault until messages are taken again.
const RECOVERY: Duration = Duration::from_secs(60);
/// No fault keeps a message from being taken for longer.
const LONGEST_FAULT: Duration = Duration::from_secs(180);
/// Between a sender's messages, so that the load leaves the machine room for recovering.
const PAUSE: Duration = Duration::from_millis(20);
/// Answers of nginx about a server that is gone.
const GONE: [u16; 2] = [502, 504];

/// A group of which two members are connected.
pub(super) struct People {
    pub(super) ada: Client,
    pub(super) channel: String,
    pub(super) devices: Vec<Device>,
}

impl People {
    pub(super) async fn of(cluster: &Cluster) -> Result<Self> {
        let users = cluster.users("user", 3).await?;
        let (ada, others) = users.split_first().context("users")?;
        let group = ada
            .group("Engine room", &others.iter().collect::<Vec<_>>())
            .await?;
        let mut devices = Vec::new();
        for user in others {
            devices.push(Device::start(user).await?);
        }
        Ok(Self {
            ada: ada.clone(),
            channel: group.channel,
            devices,
        })
    }

    /// Waits until every device holds all messages.
    pub(super) async fn catch_up(&self) -> Result<()> {
        let head = self.ada.head(&self.channel).await?;
        for device in &self.devices {
            device.reaches(&format!("c:{}", self.channel), head).await?;
        }
        Ok(())
    }

    /// Checks that what was acknowledged is there, where it was said to be, once, without a hole
    /// and nothing else; and that every device ends with exactly that.
    pub(super) async fn verify(&self, sent: &Report) -> Result<()> {
        let history = check::history(&self.ada, &self.channel).await?;
        for (content, seq) in &sent.acknowledged {
            let found = history.get(seq);
            ensure!(found == Some(content), "{content} at {seq}: {found:?}");
        }
        let more = history.len() - sent.acknowledged.len();
        ensure!(more == 0, "{more} messages that nobody sent, or twice");
        let seqs: Vec<u64> = history.keys().copied().collect();
        let dense = seqs.windows(2).all(|pair| pair[0] + 1 == pair[1]);
        ensure!(dense, "a hole: {seqs:?}");
        self.catch_up().await?;
        for device in &self.devices {
            let replica = device.catches_up().await?;
            check::dense(&replica)?;
            check::same_as_fresh(&replica, &device.client).await?;
        }
        Ok(())
    }
}

/// Senders that follow the protocol: what is answered with 503, or not at all, is repeated with
/// the same nonce, at the next address.
pub(super) struct Load {
    stop: CancellationToken,
    acknowledged: Arc<AtomicUsize>,
    senders: Vec<JoinHandle<Result<Report>>>,
}

/// What senders know.
#[derive(Debug, Default)]
pub(super) struct Report {
    /// Position by content.
    pub(super) acknowledged: BTreeMap<String, u64>,
    /// Answers 503.
    pub(super) refused: usize,
    /// Attempts without an answer.
    pub(super) unanswered: usize,
    /// The longest wait for an answer.
    pub(super) slowest: Duration,
    /// The longest time from a message's first attempt to its acknowledgement.
    pub(super) longest: Duration,
}

impl Load {
    /// So many senders, all of them `people.ada`.
    pub(super) fn start(people: &People, at: &[Api], senders: usize) -> Self {
        let stop = CancellationToken::new();
        let acknowledged = Arc::new(AtomicUsize::new(0));
        let senders = (0..senders).map(|number| {
            let mut sender = Sender {
                at: at.iter().map(|api| people.ada.at(api)).collect(),
                next: number,
                channel: people.channel.clone(),
                report: Report::default(),
            };
            let (stop, acknowledged) = (stop.clone(), Arc::clone(&acknowledged));
            let name = format!("{:08x}-{number}", fastrand::u32(..));
            tokio::spawn(async move {
                let mut messages = 0..;
                while !stop.is_cancelled() {
                    let message = messages.next().context("numbers do not end")?;
                    sender.send(format!("{name}-{message}")).await?;
                    acknowledged.fetch_add(1, Ordering::Relaxed);
                    tokio::time::sleep(PAUSE).await;
                }
                Ok(sender.report)
            })
        });
        Self {
            senders: senders.collect(),
            stop,
            acknowledged,
        }
    }

    /// Waits until so many more messages are acknowledged.
    pub(super) async fn flows(&self, more: usize) -> Result<()> {
        let now = || self.acknowledged.load(Ordering::Relaxed);
        let goal = now() + more;
        wait::until("messages are taken", RECOVERY, async || {
            if let Some(ended) = self.senders.iter().find(|sender| sender.is_finished()) {
                bail!("sender {:?} has ended", ended.id());
            }
            Ok((now() >= goal).then_some(()))
        })
        .await
    }

    /// Goes on until it has lasted so long.
    pub(super) async fn lasts(&self, since: Instant, time: Duration) -> Result<()> {
        tokio::time::sleep_until(since + time).await;
        self.flows(1).await
    }

    /// Has each sender see its message through, and says what they know together.
    pub(super) async fn stop(self) -> Result<Report> {
        self.stop.cancel();
        let mut all = Report::default();
        for sender in self.senders {
            let one = sender.await??;
            all.acknowledged.extend(one.acknowledged);
            all.refused += one.refused;
            all.unanswered += one.unanswered;
            all.slowest = all.slowest.max(one.slowest);
            all.longest = all.longest.max(one.longest);
        }
        eprintln!(
            "{} acknowledged, {} refused, {} unanswered; slowest answer {:?}, longest to send {:?}",
            all.acknowledged.len(),
            all.refused,
            all.unanswered,
            all.slowest,
            all.longest
        );
        Ok(all)
    }
}

struct Sender {
    at: Vec<Client>,
    next: usize,
    channel: String,
    report: Report,
}

impl Sender {
    /// Sends one message until it is acknowledged.
    async fn send(&mut self, content: String) -> Result<()> {
        let begun = Instant::now();
        loop {
            let patience = LONGEST_FAULT + RECOVERY;
            ensure!(begun.elapsed() < patience, "{content} is never taken");
            let at = &self.at[self.next % self.at.len()];
            let since = Instant::now();
            let answer = at.send_nonce(&self.channel, &content, &content).await;
            let waited = since.elapsed();
            self.report.slowest = self.report.slowest.max(waited);
            ensure!(waited < ANSWER, "{}: {waited:?}", at.api.base);
            match answer {
                Ok(answer) if answer.status == 201 => {
                    let seq = number(&answer.json()?, "seq")?;
                    self.report.acknowledged.insert(content, seq);
                    self.report.longest = self.report.longest.max(begun.elapsed());
                    return Ok(());
                }
                Ok(answer) if !GONE.contains(&answer.status) => {
                    answer.problem(503, "unavailable")?;
                    let after: u64 = answer.header("retry-after").parse()?;
                    self.report.refused += 1;
                    tokio::time::sleep(Duration::from_secs(after.min(2))).await;
                }
                Ok(_) | Err(_) => {
                    self.report.unanswered += 1;
                    tokio::time::sleep(10 * PAUSE).await;
                }
            }
            self.next += 1;
        }
    }
}

/// What `/readyz` says of one check of a process, with its status; `None` without an answer.
pub(super) async fn readiness(api: &Api, check: &str) -> Option<(u16, String)> {
    let answer = api.get("/readyz").await.ok()?;
    let report = answer.json().ok()?;
    let outcome = report["checks"][check].as_str()?.to_owned();
    Some((answer.status, outcome))
}

/// The memory of a process that is in the machine's, in MiB.
pub(super) fn resident_mib(pid: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next());
    Ok(kib.context("VmRSS")?.parse::<u64>()? / 1024)
}
