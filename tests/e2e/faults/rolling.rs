//! Every process is replaced, one after the other, while people send.

use std::time::Duration;

use anyhow::{Result, ensure};
use tidings_tests::cluster::Cluster;
use tidings_tests::server::Server;
use tidings_tests::started;

use super::load::{Load, People};

/// What an orderly end may take.
const END: Duration = Duration::from_secs(20);

#[tokio::test]
async fn a_rolling_restart_of_everything_fails_no_send() -> Result<()> {
    let mut cluster = started!(Cluster::with(&[("ws.drain_secs", "2")]).await);
    let people = People::of(&cluster).await?;
    // Through nginx as well, as clients do.
    let mut addresses = cluster.every_api();
    addresses.push(cluster.api.clone());
    let load = Load::start(&people, &addresses, 6);
    load.flows(20).await?;
    for number in 0..2 {
        for servers in [
            &mut cluster.apis,
            &mut cluster.ws_pushes,
            &mut cluster.workers,
        ] {
            replace(&mut servers[number]).await?;
            load.flows(20).await?;
        }
    }
    people.verify(&load.stop().await?).await
}

async fn replace(server: &mut Server) -> Result<()> {
    server.terminate()?;
    let status = server.ended(END).await?;
    ensure!(status.success(), "ended with {status}");
    server.restart().await
}
