//! The same request at two api processes at once has one effect.

use anyhow::{Result, ensure};
use futures_util::future::{join_all, try_join_all};
use reqwest::Method;
use serde_json::json;
use tidings_tests::check;
use tidings_tests::client::{Answer, Client, PASSWORD, answer, text};
use tidings_tests::cluster::Cluster;
use tidings_tests::socket::Socket;
use tidings_tests::started;

#[tokio::test]
async fn the_same_nonce_at_two_processes_gives_one_message() -> Result<()> {
    const ROUNDS: usize = 200;
    let cluster = started!(Cluster::start().await);
    let (ada, bob) = (cluster.user("ada").await?, cluster.user("bob").await?);
    let group = ada.group("Engine room", &[&bob]).await?;
    let (mut socket, _) = Socket::connect(&bob).await?;
    let head = ada.head(&group.channel).await?;
    let at = at_each(&cluster, &ada);
    for round in 0..ROUNDS {
        let nonce = format!("nonce-{round}");
        let sends = (0..4).map(|copy| at[copy % 2].send_nonce(&group.channel, &nonce, &nonce));
        one_created(&try_join_all(sends).await?)?;
    }
    ensure!(ada.head(&group.channel).await? == head + ROUNDS as u64);
    let contents = check::history(&ada, &group.channel).await?;
    let expected = (0..ROUNDS).map(|round| format!("nonce-{round}"));
    ensure!(contents.into_values().eq(expected));
    // A repetition is not announced.
    for _ in 0..ROUNDS {
        socket.delta(&format!("c:{}", group.channel)).await?;
    }
    let rest = socket.flush().await?;
    ensure!(rest.is_empty(), "announced more than once: {rest:?}");
    Ok(())
}

#[tokio::test]
async fn what_is_created_at_two_processes_at_once_is_created_once() -> Result<()> {
    const ROUNDS: usize = 20;
    let cluster = started!(Cluster::start().await);
    let ada = cluster.user("ada").await?;
    let at = at_each(&cluster, &ada);
    for round in 0..ROUNDS {
        let name = format!("user{round}");
        let body = json!({"username": name, "password": PASSWORD, "display_name": name});
        let accounts = join_all(at.iter().map(|at| at.api.post("/v1/users", &body))).await;
        let statuses: Vec<_> = accounts.into_iter().map(|it| Ok(it?.status)).collect();
        let statuses = statuses.into_iter().collect::<Result<Vec<u16>>>()?;
        // Without a key the second is a different request.
        ensure!(
            statuses.iter().filter(|&&status| status == 201).count() == 1,
            "{statuses:?}"
        );
        ensure!(statuses.contains(&409), "{statuses:?}");

        let groups = at.iter().map(|at| {
            let request = at.request(Method::POST, "/v1/groups");
            let request = request.header("idempotency-key", &name);
            answer(request.json(&json!({"name": name})))
        });
        one_created(&try_join_all(groups).await?)?;
        let user = cluster.api.login(&name).await?.user;
        let path = format!("/v1/direct/{user}");
        let nothing = json!({});
        let direct = try_join_all(at.iter().map(|at| at.put(&path, &nothing))).await?;
        let (first, second) = (direct[0].ok()?, direct[1].ok()?);
        ensure!(
            text(&first, "id")? == text(&second, "id")?,
            "{first} {second}"
        );
    }
    Ok(())
}

/// Messages to one channel through both processes at once: dense, and in one order for all.
#[tokio::test]
async fn two_processes_append_to_one_channel_without_holes() -> Result<()> {
    const EACH: usize = 150;
    let cluster = started!(Cluster::start().await);
    let (ada, bob) = (cluster.user("ada").await?, cluster.user("bob").await?);
    let group = ada.group("Engine room", &[&bob]).await?;
    let device = tidings_tests::device::Device::start(&bob).await?;
    let before = ada.head(&group.channel).await?;
    let senders = at_each(&cluster, &ada)
        .into_iter()
        .cycle()
        .take(8)
        .enumerate();
    let channel = &group.channel;
    let sends = senders.map(|(sender, at)| async move {
        for message in 0..EACH {
            at.send(channel, &format!("{sender} {message}")).await?;
        }
        anyhow::Ok(())
    });
    try_join_all(sends).await?;
    let history = check::history(&ada, &group.channel).await?;
    let count = 8 * EACH as u64;
    ensure!(history.keys().copied().eq(before + 1..=before + count));
    // Each sender's own in its order.
    for sender in 0..8 {
        let own = history
            .values()
            .filter(|content| content.starts_with(&format!("{sender} ")));
        let expected = (0..EACH).map(|message| format!("{sender} {message}"));
        ensure!(own.cloned().eq(expected), "sender {sender}");
    }
    device
        .reaches(&format!("c:{}", group.channel), before + count)
        .await?;
    let replica = device.look(|record| record.replica.clone());
    check::dense(&replica)?;
    check::same_as_fresh(&replica, &bob).await
}

/// The same session at each api process.
fn at_each(cluster: &Cluster, client: &Client) -> Vec<Client> {
    let apis = cluster.apis.iter();
    apis.map(|server| client.at(&server.api)).collect()
}

/// All the same answer, and one of them the first.
fn one_created(answers: &[Answer]) -> Result<()> {
    for again in answers {
        ensure!(again.status == 201, "{} {}", again.status, again.text());
        ensure!(again.json()? == answers[0].json()?, "{}", again.text());
    }
    let first = |answer: &&Answer| answer.header("idempotency-replayed").is_empty();
    let firsts = answers.iter().filter(first).count();
    ensure!(firsts == 1, "{firsts} of them first");
    Ok(())
}
