//! Waiting for a condition, with a deadline. Nothing in these tests sleeps blindly.

use std::time::Duration;

use anyhow::{Result, bail};
use tokio::time::Instant;

/// How long something may take that normally takes milliseconds. It is long because the machine
/// may be busy; a test that waits for it has failed.
pub const SOON: Duration = Duration::from_secs(20);

/// Asks until the answer is `Some`, or fails at the deadline.
///
/// # Errors
/// The condition did not hold within `limit`, or asking failed.
pub async fn until<T>(
    what: &str,
    limit: Duration,
    mut ask: impl AsyncFnMut() -> Result<Option<T>>,
) -> Result<T> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(answer) = ask().await? {
            return Ok(answer);
        }
        if Instant::now() >= deadline {
            bail!("{what}: not within {limit:?}");
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
