//! MongoDB fails: what was acknowledged stays, and what cannot be committed is refused in time.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures_util::future::join_all;
use tidings_tests::client::{Client, number};
use tidings_tests::cluster::Cluster;
use tidings_tests::stack::{Side, Stack, Watch};
use tidings_tests::wait::{self, SOON};
use tidings_tests::{check, started};
use tokio::time::Instant;

use super::amqp::contains;
use super::load::{Load, People, readiness, resident_mib};

/// A request's deadline, and what a busy machine may add to it.
const ANSWER: Duration = Duration::from_secs(13);

#[tokio::test]
async fn a_primary_that_dies_steps_down_stands_still_or_is_cut_off_loses_nothing() -> Result<()> {
    lose_primaries(Duration::from_secs(3)).await
}

#[tokio::test]
async fn without_a_majority_or_with_a_slow_one_requests_are_refused_in_time() -> Result<()> {
    lose_majority(Duration::from_secs(6), Duration::from_secs(8)).await
}

mod long {
    use std::time::Duration;

    #[tokio::test]
    async fn a_primary_that_dies_steps_down_stands_still_or_is_cut_off_loses_nothing()
    -> anyhow::Result<()> {
        super::lose_primaries(Duration::from_secs(60)).await
    }

    #[tokio::test]
    async fn without_a_majority_or_with_a_slow_one_requests_are_refused_in_time()
    -> anyhow::Result<()> {
        super::lose_majority(Duration::from_secs(120), Duration::from_secs(20)).await
    }
}

async fn lose_primaries(away: Duration) -> Result<()> {
    let mut stack = started!(Stack::start().await);
    let mut cluster = started!(Cluster::on(&stack, &[]).await);
    cluster.launch().await?;
    let people = People::of(&cluster).await?;
    let load = Load::start(&people, &cluster.every_api(), 4);
    load.flows(20).await?;

    let since = Instant::now();
    let primary = stack.mongo.primary().await?;
    stack.mongo.kill(primary)?;
    load.flows(20).await?;
    eprintln!(
        "{:?} after a primary's death messages flow",
        since.elapsed()
    );
    load.lasts(since, away).await?;
    stack.mongo.restart(primary).await?;
    stack.mongo.complete().await?;

    let since = Instant::now();
    stack.mongo.step_down().await?;
    load.flows(20).await?;
    eprintln!("{:?} after a step-down messages flow", since.elapsed());

    let since = Instant::now();
    let primary = stack.mongo.primary().await?;
    stack.mongo.pause(primary)?;
    load.flows(20).await?;
    eprintln!(
        "{:?} after a primary stood still messages flow",
        since.elapsed()
    );
    load.lasts(since, away).await?;
    stack.mongo.resume(primary)?;
    stack.mongo.complete().await?;

    // Clients still reach the one that is cut off, and it believes for a while that it leads.
    let since = Instant::now();
    let primary = stack.mongo.primary().await?;
    stack.mongo.isolate(primary);
    load.flows(20).await?;
    eprintln!(
        "{:?} after a primary was cut off messages flow",
        since.elapsed()
    );
    load.lasts(since, away).await?;
    ensure!(stack.mongo.primary().await? != primary, "it still leads");
    stack.mongo.heal();
    stack.mongo.complete().await?;
    load.flows(20).await?;

    people.verify(&load.stop().await?).await
}

async fn lose_majority(away: Duration, paused: Duration) -> Result<()> {
    let mut stack = started!(Stack::start().await);
    let mut cluster = started!(Cluster::on(&stack, &[]).await);
    cluster.launch().await?;
    let people = People::of(&cluster).await?;
    pause_in_an_insert(&stack, &cluster, &people.ada, paused).await?;
    let load = Load::start(&people, &cluster.every_api(), 4);
    load.flows(20).await?;
    kill_majority(&mut stack, &cluster, &people.ada, &load, away).await?;
    slow_down(&stack, &cluster, &people, &load).await?;
    people.verify(&load.stop().await?).await
}

/// An API stands still when its insert is on its way; another takes the place meanwhile.
async fn pause_in_an_insert(
    stack: &Stack,
    cluster: &Cluster,
    ada: &Client,
    time: Duration,
) -> Result<()> {
    let group = ada.group("Boiler room", &[]).await?;
    let [near, far] = [0, 1].map(|at| ada.at(&cluster.apis[at].api));
    near.send(&group.channel, "before").await?;
    let pid = cluster.apis[0].pid()?;
    let watch = Watch::new(move |seen| {
        let is_insert =
            seen.side == Side::ToServer && contains(seen.bytes, b"paused") && seen.is_of(pid);
        is_insert.then_some(0)
    });
    stack.mongo.set_watch(&watch);
    let (sender, channel) = (near.clone(), group.channel.clone());
    let sending =
        tokio::spawn(async move { sender.send_nonce(&channel, "paused", "paused").await });
    watch.held().await?;
    let since = Instant::now();
    cluster.apis[0].pause()?;
    // Others go on, and take the position that the insert is for.
    for message in 0..10 {
        far.send(&group.channel, &message.to_string()).await?;
    }
    tokio::time::sleep_until(since + time).await;
    watch.release();
    cluster.apis[0].resume()?;
    let first = sending.await?;
    let again = wait::until("it is taken", SOON, async || {
        let answer = near.send_nonce(&group.channel, "paused", "paused").await?;
        Ok((answer.status == 201).then_some(answer))
    })
    .await?;
    let seq = number(&again.json()?, "seq")?;
    if let Ok(first) = first
        && first.status == 201
    {
        ensure!(first.json()? == again.json()?, "two answers");
    }
    let history = check::history(ada, &group.channel).await?;
    let own = history.iter().filter(|(_, content)| *content == "paused");
    ensure!(own.map(|(seq, _)| *seq).eq([seq]), "{history:?}");
    ensure!(history.len() == 12, "{history:?}");
    ensure!(Some(&seq) == history.keys().last(), "not behind the others");
    Ok(())
}

/// Two of three members die. Every kind of request is refused with a problem that says when to
/// come back, within its deadline, and nothing needs a restart afterwards.
async fn kill_majority(
    stack: &mut Stack,
    cluster: &Cluster,
    ada: &Client,
    load: &Load,
    away: Duration,
) -> Result<()> {
    let primary = stack.mongo.primary().await?;
    let killed = [primary, (primary + 1) % 3];
    let since = Instant::now();
    for member in killed {
        stack.mongo.kill(member)?;
    }
    for server in cluster.apis.iter().chain(&cluster.workers) {
        wait::until("readiness names the store", SOON, async || {
            let now = readiness(&server.api, "store").await;
            Ok((now == Some((503, "down".to_owned()))).then_some(()))
        })
        .await?;
    }
    while since.elapsed() < away {
        is_refused_in_time(ada).await?;
    }
    for member in killed {
        stack.mongo.restart(member).await?;
    }
    load.flows(20).await?;
    stack.mongo.complete().await?;
    for server in &cluster.apis {
        wait::until("ready again", SOON, async || {
            let now = readiness(&server.api, "store").await;
            Ok((now == Some((200, "ok".to_owned()))).then_some(()))
        })
        .await?;
    }
    Ok(())
}

async fn is_refused_in_time(ada: &Client) -> Result<()> {
    let name = serde_json::json!({"name": "Nowhere"});
    let requests = [
        ("POST", "/v1/groups", Some(name)),
        ("GET", "/v1/groups", None),
        ("POST", "/v1/sync", Some(serde_json::json!({"cursor": {}}))),
    ];
    let asked = requests.into_iter().map(async |(method, path, body)| {
        let since = Instant::now();
        let answer = match body {
            Some(body) => ada.post(path, &body).await,
            None => ada.get(path).await,
        }
        .with_context(|| format!("{method} {path}"))?;
        ensure!(since.elapsed() < ANSWER, "{path}: {:?}", since.elapsed());
        answer.problem(503, "unavailable").context(path)?;
        let after: u64 = answer.header("retry-after").parse()?;
        ensure!(after > 0, "{path}: come back at once");
        Ok(())
    });
    join_all(asked).await.into_iter().collect()
}

/// Every command takes two seconds more: what is too much for that is refused, and memory stays.
async fn slow_down(stack: &Stack, cluster: &Cluster, people: &People, load: &Load) -> Result<()> {
    const AT_ONCE: usize = 600;
    const GROWTH_MIB: u64 = 64;
    let delay = |time| {
        let proxies = stack.mongo.proxies();
        proxies.for_each(|proxy| proxy.delay(time, Duration::ZERO));
    };
    let channel = people.ada.group("Boiler room", &[]).await?.channel;
    let ada = people.ada.at(&cluster.apis[0].api);
    ada.send(&channel, "before").await?;
    let before = resident_mib(cluster.apis[0].pid()?)?;
    delay(Duration::from_secs(2));
    let sends = (0..AT_ONCE).map(async |message| {
        let nonce = format!("slow-{message}");
        let since = Instant::now();
        let answer = ada.send_nonce(&channel, &nonce, &nonce).await?;
        ensure!(since.elapsed() < ANSWER, "after {:?}", since.elapsed());
        if answer.status != 201 {
            answer.problem(503, "unavailable")?;
            ensure!(!answer.header("retry-after").is_empty());
            return Ok(None);
        }
        Ok(Some((number(&answer.json()?, "seq")?, nonce)))
    });
    let answers: Result<Vec<_>> = join_all(sends).await.into_iter().collect();
    let after = resident_mib(cluster.apis[0].pid()?)?;
    delay(Duration::ZERO);
    let answers = answers?;
    let taken: Vec<_> = answers.iter().flatten().collect();
    eprintln!(
        "of {AT_ONCE} at once {} are taken; {before} MiB before, {after} MiB in it",
        taken.len()
    );
    ensure!(taken.len() < AT_ONCE, "nothing was too much");
    ensure!(
        after < before + GROWTH_MIB,
        "{before} MiB, then {after} MiB"
    );
    load.flows(20).await?;
    let history = check::history(&people.ada, &channel).await?;
    for (seq, content) in taken {
        ensure!(history.get(seq) == Some(content), "{content} is lost");
    }
    Ok(())
}
