//! The figures that Tidings is judged by, taken from the built program over loopback:
//! acknowledged sends per second, the time from POST to socket, and memory per idle connection.
//!
//! ```sh
//! cargo build --release -p tidings
//! cargo run --release -p tidings-tests --bin measure [-- RUNS [SCENARIO...]]
//! ```
//!
//! Scenarios: `spread`, `single`, `latency`, `idle`; all of them if none is named. Each run has
//! a server and data of its own, and is bounded in time. Shown are the median of the runs and
//! their extremes.

#![expect(clippy::print_stdout, reason = "the table is the program's output")]

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use nix::unistd::{SysconfVar, sysconf};
use tidings_tests::client::{Client, Group};
use tidings_tests::server::Server;
use tidings_tests::socket::Socket;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

const RUNS: usize = 5;
const SENDERS: usize = 64;
const SPREAD_CHANNELS: usize = 100;
const SENDING: Duration = Duration::from_secs(8);
/// Before anything is counted.
const WARM_UP: Duration = Duration::from_secs(2);
const RATE_PER_SECOND: u32 = 200;
const IDLE_CONNECTIONS: usize = 5_000;
const CONNECTIONS_PER_USER: usize = 10;
/// Until what connecting allocated for a moment has been given back.
const SETTLING: Duration = Duration::from_secs(3);
/// No run takes longer.
const RUN_LIMIT: Duration = Duration::from_secs(60);

/// One figure of one run.
type Figure = (&'static str, f64);

#[tokio::main]
async fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1).peekable();
    let runs = arguments.next_if(|text| text.parse::<usize>().is_ok());
    let runs = runs.map_or(Ok(RUNS), |text| text.parse())?;
    let mut scenarios: Vec<String> = arguments.collect();
    if scenarios.is_empty() {
        scenarios = ["spread", "single", "latency", "idle"]
            .map(str::to_owned)
            .into();
    }
    println!(
        "{:<44} {:>10} {:>21}",
        format!("median of {runs}"),
        "",
        "min–max"
    );
    for scenario in &scenarios {
        let mut all: Vec<Vec<Figure>> = Vec::new();
        for _ in 0..runs {
            all.push(
                timeout(RUN_LIMIT, run(scenario))
                    .await
                    .context("a run took too long")??,
            );
        }
        print_table(scenario, &all);
    }
    Ok(())
}

async fn run(scenario: &str) -> Result<Vec<Figure>> {
    match scenario {
        "spread" => throughput(SPREAD_CHANNELS).await,
        "single" => throughput(1).await,
        "latency" => latency().await,
        "idle" => idle().await,
        other => bail!("there is no scenario {other}"),
    }
}

fn print_table(scenario: &str, runs: &[Vec<Figure>]) {
    let Some(first) = runs.first() else { return };
    for (column, (name, _)) in first.iter().enumerate() {
        let mut values: Vec<f64> = runs.iter().map(|run| run[column].1).collect();
        values.sort_by(f64::total_cmp);
        let median = values[values.len() / 2];
        let (least, most) = (values[0], values[values.len() - 1]);
        let title = format!("{scenario}: {name}");
        println!("{title:<44} {median:>10.2} {least:>10.2}–{most:.2}");
    }
}

/// Senders that wait for each answer before they send again.
async fn throughput(channels: usize) -> Result<Vec<Figure>> {
    let server = server().await?;
    let ada = server.user("ada").await?;
    let channels: Vec<Group> = stream::iter(0..channels)
        .map(async |number| ada.group(&format!("group {number}"), &[]).await)
        .buffered(8)
        .try_collect()
        .await?;
    let begin = Instant::now() + WARM_UP;
    let end = begin + SENDING;
    let mut senders = JoinSet::new();
    for sender in 0..SENDERS {
        let (ada, channels) = (ada.clone(), channels.clone());
        senders.spawn(async move {
            let mut counted = 0_u32;
            for message in sender.. {
                let channel = &channels[message % channels.len()].channel;
                ada.send(channel, "A message of the usual length, more or less.")
                    .await?;
                let now = Instant::now();
                if now > end {
                    break;
                }
                counted += u32::from(now > begin);
            }
            anyhow::Ok(counted)
        });
    }
    tokio::time::sleep_until(begin).await;
    let cpu = cpu_seconds(&server)?;
    tokio::time::sleep_until(end).await;
    let cpu = cpu_seconds(&server)? - cpu;
    let mut sent = 0.0;
    while let Some(counted) = senders.join_next().await {
        sent += f64::from(counted??);
    }
    Ok(vec![
        ("acknowledged sends/s", sent / SENDING.as_secs_f64()),
        ("server CPU ms per send", cpu * 1000.0 / sent),
    ])
}

/// Sends on a schedule that does not wait for answers, so that a stall counts for every message
/// it delays: the time is taken from when a message was due.
async fn latency() -> Result<Vec<Figure>> {
    let server = server().await?;
    let users = server.users("user", 20).await?;
    let mut pairs = Vec::new();
    for pair in users.chunks_exact(2) {
        let group = pair[0].group("pair", &[&pair[1]]).await?;
        let socket = Socket::connect(&pair[1]).await?.0;
        pairs.push((pair[0].clone(), group, socket));
    }
    let count = RATE_PER_SECOND * u32::try_from((WARM_UP + SENDING).as_secs())?;
    let skipped = f64::from(RATE_PER_SECOND) * WARM_UP.as_secs_f64();
    let (start, cpu) = (Instant::now(), cpu_seconds(&server)?);
    let mut receivers = JoinSet::new();
    let mut senders = Vec::new();
    let share = count / u32::try_from(pairs.len())?;
    for (sender, group, socket) in pairs {
        senders.push((sender, group.channel.clone()));
        receivers.spawn(receive(socket, share, start));
    }
    let mut posts = JoinSet::new();
    let mut schedule = interval(Duration::from_secs(1) / RATE_PER_SECOND);
    schedule.set_missed_tick_behavior(MissedTickBehavior::Burst);
    for message in 0..count {
        let due = schedule.tick().await;
        let (sender, channel) = &senders[message as usize % senders.len()];
        let (sender, channel) = (sender.clone(), channel.clone());
        let content = format!("{message} {}", due.duration_since(start).as_nanos());
        posts.spawn(async move { sender.send(&channel, &content).await.map(drop) });
        while let Some(done) = posts.try_join_next() {
            done??;
        }
    }
    while let Some(done) = posts.join_next().await {
        done??;
    }
    let mut times = Vec::new();
    while let Some(received) = receivers.join_next().await {
        let counted = received??.into_iter();
        times.extend(counted.filter_map(|(message, time)| (message >= skipped).then_some(time)));
    }
    let cpu = cpu_seconds(&server)? - cpu;
    times.sort_by(f64::total_cmp);
    let at = |share: usize| times[(times.len() - 1) * share / 1000];
    Ok(vec![
        ("POST to socket p50, ms", at(500)),
        ("POST to socket p99, ms", at(990)),
        ("POST to socket p99.9, ms", at(999)),
        ("server CPU ms per message", cpu * 1000.0 / f64::from(count)),
    ])
}

/// The number of each message and the milliseconds since it was due.
async fn receive(mut socket: Socket, count: u32, start: Instant) -> Result<Vec<(f64, f64)>> {
    let mut received = Vec::new();
    while received.len() < count as usize {
        let frame = socket.frame(Duration::from_secs(10)).await?;
        if frame["kind"] != "message.created" {
            continue;
        }
        let now = start.elapsed();
        let content = frame["data"]["content"].as_str().context("content")?;
        let (message, due) = content.split_once(' ').context("two numbers")?;
        let waited = now.saturating_sub(Duration::from_nanos(due.parse()?));
        received.push((message.parse()?, waited.as_secs_f64() * 1000.0));
    }
    Ok(received)
}

/// Connections that were greeted and then left alone.
async fn idle() -> Result<Vec<Figure>> {
    let server = server().await?;
    let users = server
        .users("user", IDLE_CONNECTIONS / CONNECTIONS_PER_USER)
        .await?;
    // One connection of everybody first, so that what is allocated once is not counted.
    let mut sockets = connect(&users, 1).await?;
    sleep(SETTLING).await; // Nothing can be waited for: the memory is given back at leisure.
    let (before, cpu, begin) = (resident_kb(&server)?, cpu_seconds(&server)?, Instant::now());
    let held = sockets.len();
    sockets.extend(connect(&users, CONNECTIONS_PER_USER - 1).await?);
    let connecting = begin.elapsed();
    let cpu = cpu_seconds(&server)? - cpu;
    sleep(SETTLING).await;
    let more = f64::from(u32::try_from(sockets.len() - held)?);
    let kb = (resident_kb(&server)? - before) / more;
    for socket in sockets.iter_mut().step_by(50) {
        ensure!(socket.flush().await?.is_empty(), "idle, but something came");
    }
    Ok(vec![
        ("kB resident per connection", kb),
        (
            "connects/s, tickets included",
            more / connecting.as_secs_f64(),
        ),
        ("server CPU ms per connect", cpu * 1000.0 / more),
    ])
}

async fn connect(users: &[Client], each: usize) -> Result<Vec<Socket>> {
    let all = users
        .iter()
        .flat_map(|user| std::iter::repeat_n(user, each));
    stream::iter(all.cloned())
        .map(|user| async move { Ok(Socket::connect(&user).await?.0) })
        .buffer_unordered(32)
        .try_collect()
        .await
}

/// A server without a log of requests, of the release build if that is what this is.
async fn server() -> Result<Server> {
    Server::with(&[("telemetry.log_filter", "warn")]).await
}

/// Resident memory, as the system counts it.
fn resident_kb(server: &Server) -> Result<f64> {
    let status = std::fs::read_to_string(proc(server)?.join("status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let value = line.and_then(|line| line.split_whitespace().next());
    Ok(value.context("VmRSS")?.parse()?)
}

/// Processor time used so far, by the program and for it.
fn cpu_seconds(server: &Server) -> Result<f64> {
    let stat = std::fs::read_to_string(proc(server)?.join("stat"))?;
    let (_, fields) = stat.rsplit_once(')').context("the name ends with )")?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let ticks = |at: usize| {
        fields
            .get(at)
            .context("a number of ticks")?
            .parse::<f64>()
            .context("ticks")
    };
    let per_second = sysconf(SysconfVar::CLK_TCK)?.context("ticks per second")?;
    Ok((ticks(11)? + ticks(12)?) / f64::from(i32::try_from(per_second)?))
}

fn proc(server: &Server) -> Result<PathBuf> {
    Ok(PathBuf::from(format!("/proc/{}", server.pid()?)))
}
