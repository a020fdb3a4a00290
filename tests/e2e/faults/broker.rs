//! RabbitMQ and Redis fail; sending does not.

use std::time::Duration;

use anyhow::{Result, ensure};
use tidings_tests::cluster::Cluster;
use tidings_tests::device::Record;
use tidings_tests::socket::Socket;
use tidings_tests::stack::{Proxy, Stack};
use tidings_tests::started;
use tidings_tests::wait::{self, SOON};
use tokio::time::Instant;

use super::load::{Load, People, readiness, resident_mib};

/// How long things are away.
struct Times {
    broker_away: Duration,
    redis_away: Duration,
    alarm: Duration,
    partition: Duration,
    /// How often the broker closes all connections.
    rounds: usize,
}

const SECONDS: Times = Times {
    broker_away: Duration::from_secs(4),
    redis_away: Duration::from_secs(6),
    alarm: Duration::from_secs(5),
    partition: Duration::from_secs(4),
    rounds: 2,
};

const MINUTES: Times = Times {
    broker_away: Duration::from_secs(120),
    redis_away: Duration::from_secs(120),
    alarm: Duration::from_secs(60),
    partition: Duration::from_secs(60),
    rounds: 5,
};

#[tokio::test]
async fn without_broker_or_redis_sending_goes_on() -> Result<()> {
    away(&SECONDS).await
}

#[tokio::test]
async fn a_broker_that_is_short_of_memory_or_cut_off_stops_no_sending() -> Result<()> {
    blocked(&SECONDS).await
}

mod long {
    #[tokio::test]
    async fn without_broker_or_redis_sending_goes_on() -> anyhow::Result<()> {
        super::away(&super::MINUTES).await
    }

    #[tokio::test]
    async fn a_broker_that_is_short_of_memory_or_cut_off_stops_no_sending() -> anyhow::Result<()> {
        super::blocked(&super::MINUTES).await
    }
}

async fn away(times: &Times) -> Result<()> {
    let mut stack = started!(Stack::start().await);
    let mut cluster = started!(Cluster::on(&stack, &[]).await);
    cluster.launch().await?;
    let people = People::of(&cluster).await?;
    let load = Load::start(&people, &cluster.every_api(), 4);
    load.flows(20).await?;
    kill_broker(&mut stack, &cluster, &people, &load, times.broker_away).await?;
    lose_redis(&mut stack, &cluster, &people, &load, times.redis_away).await?;
    let sent = load.stop().await?;
    let gone = sent.refused + sent.unanswered;
    ensure!(gone == 0, "{gone} sends failed");
    people.verify(&sent).await
}

async fn blocked(times: &Times) -> Result<()> {
    let stack = started!(Stack::start().await);
    let mut cluster = started!(Cluster::on(&stack, &[]).await);
    cluster.launch().await?;
    let people = People::of(&cluster).await?;
    let load = Load::start(&people, &cluster.every_api(), 4);
    load.flows(20).await?;
    close_connections(&stack, &people, &load, times.rounds).await?;
    raise_alarm(&stack, &cluster, &people, &load, times.alarm).await?;
    part(&cluster, &people, &load, times.partition).await?;
    let sent = load.stop().await?;
    let gone = sent.refused + sent.unanswered;
    ensure!(gone == 0, "{gone} sends failed");
    people.verify(&sent).await
}

/// The broker dies during publishes and comes back; everybody is told to resume.
async fn kill_broker(
    stack: &mut Stack,
    cluster: &Cluster,
    people: &People,
    load: &Load,
    away: Duration,
) -> Result<()> {
    let resumed = |record: &Record| record.resumes.len();
    let before: Vec<usize> = people.devices.iter().map(|it| it.look(resumed)).collect();
    let since = Instant::now();
    stack.broker.kill()?;
    for (api, check, status) in [
        (&cluster.apis[0].api, "bus", 200),
        (&cluster.ws_pushes[0].api, "consumer", 503),
    ] {
        wait::until("readiness names the broker", SOON, async || {
            let now = readiness(api, check).await;
            let named = now.filter(|(code, outcome)| *code == status && outcome != "ok");
            Ok(named.map(drop))
        })
        .await?;
    }
    load.lasts(since, away).await?;
    stack.broker.start().await?;
    load.flows(20).await?;
    for (device, before) in people.devices.iter().zip(before) {
        let told = |record: &Record| resumed(record) > before;
        device
            .until_within("told to resume", 2 * SOON, told)
            .await?;
    }
    people.catch_up().await
}

/// Redis stands still, dies, and comes back empty. People still connect.
async fn lose_redis(
    stack: &mut Stack,
    cluster: &Cluster,
    people: &People,
    load: &Load,
    away: Duration,
) -> Result<()> {
    let since = Instant::now();
    stack.redis.pause()?;
    load.flows(20).await?;
    Socket::connect(&people.ada).await?;
    load.lasts(since, away).await?;
    stack.redis.resume()?;
    load.flows(20).await?;
    let since = Instant::now();
    stack.redis.kill()?;
    Socket::connect(&people.ada).await?;
    cluster.user("eve").await?;
    load.lasts(since, away / 2).await?;
    stack.redis.start().await?;
    load.flows(20).await?;
    stack.redis.flush().await?;
    Socket::connect(&people.ada).await?;
    load.flows(20).await?;
    people.catch_up().await
}

/// Afterwards there are no more bindings than before.
async fn close_connections(
    stack: &Stack,
    people: &People,
    load: &Load,
    rounds: usize,
) -> Result<()> {
    let before = bindings(stack).await?;
    ensure!(!before.is_empty(), "nothing is bound");
    for _ in 0..rounds {
        stack.broker.close_all_connections().await?;
        load.flows(10).await?;
    }
    wait::until("the same bindings", SOON, async || {
        Ok((bindings(stack).await? == before).then_some(()))
    })
    .await?;
    people.catch_up().await
}

/// Which partitions the servers' queues are bound to, each once, as brokers keep bindings: the
/// same one made again is the same.
async fn bindings(stack: &Stack) -> Result<Vec<String>> {
    let columns = ["source_name", "destination_name", "routing_key"];
    let mut arguments = vec!["list_bindings"];
    arguments.extend(columns);
    let listed = stack.broker.rabbitmqctl(&arguments).await?;
    let deltas = listed.lines().filter(|line| line.contains(".deltas."));
    let mut bindings: Vec<String> = deltas.map(str::to_owned).collect();
    bindings.sort_unstable();
    Ok(bindings)
}

/// The broker blocks all who publish: entries wait in the log, nothing piles up in memory.
async fn raise_alarm(
    stack: &Stack,
    cluster: &Cluster,
    people: &People,
    load: &Load,
    alarm: Duration,
) -> Result<()> {
    const GROWTH_MIB: u64 = 48;
    let before = resident_mib(cluster.apis[0].pid()?)?;
    let since = Instant::now();
    stack.broker.memory_alarm(true).await?;
    load.lasts(since, alarm).await?;
    load.flows(50).await?;
    let after = resident_mib(cluster.apis[0].pid()?)?;
    eprintln!("an api took {before} MiB before the alarm and {after} MiB in it");
    ensure!(
        after < before + GROWTH_MIB,
        "{before} MiB, then {after} MiB"
    );
    stack.broker.memory_alarm(false).await?;
    people.catch_up().await
}

/// One API and one ws-push lose the broker, first with a reset, then in silence.
async fn part(cluster: &Cluster, people: &People, load: &Load, time: Duration) -> Result<()> {
    let links = [&cluster.links.apis[0], &cluster.links.ws_pushes[0]];
    for fault in [Proxy::cut, Proxy::silence] {
        let since = Instant::now();
        links.iter().for_each(|link| fault(&link.broker));
        load.lasts(since, time).await?;
        links.iter().for_each(|link| link.heal());
        load.flows(20).await?;
        people.catch_up().await?;
    }
    Ok(())
}
