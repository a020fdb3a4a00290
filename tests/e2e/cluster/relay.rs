//! What one process has committed and cannot announce, another announces.

use std::time::Duration;

use anyhow::{Result, ensure};
use tidings_tests::client::number;
use tidings_tests::cluster::Cluster;
use tidings_tests::server::free_port;
use tidings_tests::socket::Socket;
use tidings_tests::started;
use tokio::time::Instant;

/// By the one worker that is left, which has no Redis, for an api that has no broker.
#[tokio::test]
async fn a_single_worker_announces_what_an_api_cannot_within_10_seconds() -> Result<()> {
    const LIMIT: Duration = Duration::from_secs(10);
    let mut cluster = started!(Cluster::prepare(&[]));
    let nobody = free_port()?;
    cluster.apis[0].set("bus.urls", &format!("amqp://127.0.0.1:{nobody}/%2f"));
    cluster.workers[0].set("presence.url", &format!("redis://127.0.0.1:{nobody}/0"));
    cluster.nginx.start().await?;
    cluster.restart().await?;
    cluster.workers[1].kill().await?;
    let (ada, bob) = (cluster.user("ada").await?, cluster.user("bob").await?);
    let group = ada.group("Engine room", &[&bob]).await?;
    let (mut socket, _) = Socket::connect_at(&bob, &cluster.ws_pushes[0].api).await?;
    let ada = ada.at(&cluster.apis[0].api);
    let mut waits = Vec::new();
    for _ in 0..3 {
        let sent = ada.send(&group.channel, "hello").await?;
        let since = Instant::now();
        let (stream, seq) = (format!("c:{}", group.channel), number(&sent, "seq")?);
        let is_it = |frame: &serde_json::Value| frame["stream"] == *stream && frame["seq"] == seq;
        socket.find(LIMIT, is_it).await?;
        waits.push(since.elapsed());
    }
    eprintln!("announced after {waits:?}");
    let abandoned = waits.iter().all(|wait| *wait > Duration::from_secs(2));
    ensure!(abandoned, "the api announced them: {waits:?}");
    Ok(())
}
