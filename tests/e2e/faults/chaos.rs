//! A short chaos run. `tests/chaos` makes long ones.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tidings_tests::chaos::run::Options;
use tidings_tests::chaos::session::session;
use tidings_tests::started;

const LENGTH: Duration = Duration::from_secs(110);

/// `TIDINGS_TEST_SEED` repeats the faults and choices of another run.
#[tokio::test]
async fn a_chaos_run_leaves_nothing_to_find() -> Result<()> {
    let seed = match std::env::var_os("TIDINGS_TEST_SEED") {
        Some(seed) => {
            let seed = seed.to_string_lossy();
            seed.parse().context("TIDINGS_TEST_SEED is a number")?
        }
        None => fastrand::u64(..),
    };
    eprintln!("seed {seed}");
    let directory = std::env::temp_dir().join(format!("tidings-chaos-{seed}"));
    let mut options = Options::new(seed, LENGTH);
    options.rest_ms = 2_000..6_000;
    let report = started!(Box::pin(session(&options, &directory)).await);
    eprintln!("{}", report.text());
    let found = report.findings.len();
    ensure!(found == 0, "{found} findings: see {}", directory.display());
    ensure!(report.faults.len() >= 3, "only {:?}", report.faults);
    ensure!(
        report.total("ok") > 300,
        "only {} changes",
        report.total("ok")
    );
    Ok(std::fs::remove_dir_all(directory)?)
}
