//! A session that is revoked at one api process.

use std::time::Duration;

use anyhow::{Result, ensure};
use tidings_tests::broker_link::BrokerLink;
use tidings_tests::client::Client;
use tidings_tests::cluster::Cluster;
use tidings_tests::services::{self, RABBITMQ};
use tidings_tests::socket::Socket;
use tidings_tests::started;
use tokio::time::Instant;

#[tokio::test]
async fn it_is_cut_off_at_every_server_within_a_second() -> Result<()> {
    const ROUNDS: usize = 5;
    const LIMIT: Duration = Duration::from_secs(1);
    let cluster = started!(Cluster::start().await);
    let laptop = cluster.user("ada").await?.at(&cluster.apis[0].api);
    for _ in 0..ROUNDS {
        let phone = cluster.api.login("ada").await?.at(&cluster.apis[1].api);
        let mut sockets = Vec::new();
        for server in &cluster.ws_pushes {
            sockets.push(Socket::connect_at(&phone, &server.api).await?.0);
        }
        let (since, refused) = revoke_and_wait(&laptop, &phone, LIMIT).await?;
        for socket in &mut sockets {
            let (code, _) = socket.closed(LIMIT).await?;
            ensure!(code == Some(4009), "closed with {code:?}");
        }
        ensure!(since.elapsed() < LIMIT, "{:?}", since.elapsed());
        eprintln!(
            "refused after {refused:?}, closed after {:?}",
            since.elapsed()
        );
        phone
            .get("/v1/users/me")
            .await?
            .problem(401, "unauthenticated")?;
    }
    Ok(())
}

/// A process that hears nothing of it reads it in the log.
#[tokio::test]
async fn a_process_without_control_messages_refuses_it_within_5_seconds() -> Result<()> {
    let broker = started!(services::address(RABBITMQ));
    let link = BrokerLink::to(&broker).await?;
    let mut cluster = started!(Cluster::prepare(&[]));
    cluster.apis[1].set("bus.urls", &link.url);
    cluster.nginx.start().await?;
    cluster.restart().await?;
    let laptop = cluster.user("ada").await?.at(&cluster.apis[0].api);
    let phone = cluster.api.login("ada").await?.at(&cluster.apis[1].api);
    phone.get("/v1/users/me").await?.ok()?;
    link.cut();
    let (_, refused) = revoke_and_wait(&laptop, &phone, Duration::from_secs(5)).await?;
    ensure!(link.withheld() > 0, "the process was told after all");
    eprintln!("refused after {refused:?}");
    Ok(())
}

/// Since when the phone's session was revoked, and how long it was still taken at its server.
async fn revoke_and_wait(
    laptop: &Client,
    phone: &Client,
    limit: Duration,
) -> Result<(Instant, Duration)> {
    let path = format!("/v1/sessions/{}", phone.session);
    let revoked = laptop.delete(&path).await?;
    let since = Instant::now();
    ensure!(revoked.status == 204, "{}", revoked.text());
    loop {
        let asked = since.elapsed();
        if phone.get("/v1/users/me").await?.status == 401 {
            return Ok((since, asked));
        }
        ensure!(asked < limit, "still taken after {asked:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
