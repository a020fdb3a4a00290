//! Takes users off ws-push servers that are no longer alive, and tells those who watch.
//!
//! For whoever asks they are offline already: what a dead server held counts no more. Every worker
//! does this, since each user is taken off by one of them. Who then dies before it told anybody
//! leaves watchers with what they had, until they watch again.

use std::sync::Arc;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use tidings_common::bus::{Announcement, Bus, publish_ephemeral};
use tidings_common::presence::{Presence, PresenceError};
use tidings_common::telemetry::Metrics;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

/// Between looks for dead servers.
const INTERVAL: Duration = Duration::from_secs(2);
/// Users taken off together, and the pause after them: 2,000 a second at most.
const STEP: usize = 200;
const BETWEEN_STEPS: Duration = Duration::from_millis(100);

/// Cleans up behind servers that died.
pub struct Janitor {
    presence: Arc<dyn Presence>,
    bus: Arc<dyn Bus>,
    users: Counter,
}

impl Janitor {
    #[must_use]
    pub fn new(presence: Arc<dyn Presence>, bus: Arc<dyn Bus>, metrics: &Metrics) -> Self {
        let help = "Users whose state changed because their server had died";
        Self {
            presence,
            bus,
            users: metrics.counter("janitor_users", help),
        }
    }

    /// Looks for dead servers until `shutdown`.
    pub async fn run(self, shutdown: CancellationToken) {
        let looking = async {
            loop {
                let pause = match self.step().await {
                    Ok(true) => BETWEEN_STEPS,
                    Ok(false) => INTERVAL,
                    Err(error) => {
                        tracing::debug!(
                            error = &error as &dyn std::error::Error,
                            "presence did not answer; dead servers stay for now"
                        );
                        INTERVAL
                    }
                };
                sleep(pause).await;
            }
        };
        // None: it was stopped.
        let _stopped: Option<()> = shutdown.run_until_cancelled(looking).await;
    }

    /// Takes off some users, and tells who watches them. True: there may be more.
    ///
    /// # Errors
    ///
    /// That of presence; some may have been taken off.
    pub async fn step(&self) -> Result<bool, PresenceError> {
        let buried = self.presence.bury(STEP).await?;
        self.users.inc_by(buried.changed.len() as u64);
        let changed = buried.changed.into_iter();
        let announcements: Vec<_> = changed.map(Announcement::presence).collect();
        // Watchers who are not told see it when they watch again.
        publish_ephemeral(self.bus.as_ref(), &announcements).await;
        Ok(buried.more)
    }
}
