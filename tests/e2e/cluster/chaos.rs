//! Many clients at once, and everything that they saw is judged: without faults.

use std::time::Duration;

use anyhow::{Result, ensure};
use tidings_tests::chaos::report::Report;
use tidings_tests::chaos::run::{Options, run};
use tidings_tests::cluster::Cluster;
use tidings_tests::started;

#[tokio::test]
async fn a_quiet_run_leaves_nothing_to_find() -> Result<()> {
    // Groups of seven or eight, so that they become large and small again all the time.
    let settings = [("telemetry.log_filter", "warn"), ("fanout_limit", "6")];
    let cluster = started!(Cluster::with(&settings).await);
    let options = Options::new(fastrand::u64(..), Duration::from_secs(8));
    let length = options.length;
    let (history, truth) = run(&cluster.api, cluster.every_api(), &options, async |_| {
        tokio::time::sleep(length).await;
        Ok(())
    })
    .await?;
    let report = Report::of(options.seed, length, &history, &truth);
    eprintln!("{}", report.text());
    ensure!(
        report.findings.is_empty(),
        "{} findings",
        report.findings.len()
    );
    ensure!(report.total("ok") > 100, "too little happened");
    Ok(())
}
