//! Tells presence who is connected here, and watchers when that changes somebody's state.
//!
//! What this server says counts for as long as it is alive, which it says every few seconds. One
//! that stood still for too long, or whose presence has forgotten everything, begins a new life
//! and says all of it again. Nobody waits for any of this.

use std::sync::Arc;
use std::time::Duration;

use tidings_common::bus::{Announcement, Bus, publish_ephemeral};
use tidings_common::domain::ServerId;
use tidings_common::presence::{Hold, Liveness, Recorded};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::hub::Hub;
use crate::roster::{LINGER, Roster};

/// How long this server is alive after it said so last.
const LIFETIME: Duration = Duration::from_secs(20);
const RENEW_EVERY: Duration = Duration::from_secs(5);
/// After presence did not answer.
const RETRY: Duration = Duration::from_secs(1);
/// Users told of together, and the pause after them: 2,000 a second at most.
const BATCH: usize = 200;
const PACE: Duration = Duration::from_millis(100);

pub(crate) struct Registrar {
    hub: Arc<Hub>,
    presence: Arc<dyn Liveness>,
    bus: Arc<dyn Bus>,
    life: Option<Life>,
    renew_at: Instant,
}

#[derive(Debug, Clone, Copy)]
struct Life {
    /// This incarnation. Other ones of this process count as other servers.
    server: ServerId,
    /// When it ends at the earliest, by this process's clock.
    until: Instant,
}

/// What came of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Told,
    NothingToTell,
    NoAnswer,
}

impl Registrar {
    pub(crate) fn new(hub: Arc<Hub>, presence: Arc<dyn Liveness>, bus: Arc<dyn Bus>) -> Self {
        Self {
            hub,
            presence,
            bus,
            life: None,
            renew_at: Instant::now(),
        }
    }

    /// Runs until `stop`. Those who are connected nowhere else then go offline as if each had just
    /// left: the server is alive for that long, and is buried afterwards.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let telling = async {
            loop {
                match self.step().await {
                    Step::Told => sleep(PACE).await,
                    Step::NothingToTell => self.rest().await,
                    Step::NoAnswer => sleep(RETRY).await,
                }
            }
        };
        // Cut anywhere: what was under way may have been heard. None: it was stopped.
        let _stopped: Option<()> = stop.run_until_cancelled(telling).await;
        let Some(life) = self.life else { return };
        if let Err(error) = self.presence.renew(life.server, LINGER).await {
            tracing::debug!(
                error = &error as &dyn std::error::Error,
                "presence was not told of the end; it comes by itself"
            );
        }
    }

    async fn step(&mut self) -> Step {
        let now = Instant::now();
        self.roster().advance(now);
        if now >= self.renew_at {
            let renewed = self.renew(now).await;
            self.renew_at = now + if renewed { RENEW_EVERY } else { RETRY };
        }
        match self.life {
            Some(life) => self.tell(life.server).await,
            None => Step::NothingToTell,
        }
    }

    /// False: there was no answer.
    async fn renew(&mut self, now: Instant) -> bool {
        if let Some(life) = &mut self.life {
            match self.presence.renew(life.server, LIFETIME).await {
                Ok(true) => {
                    life.until = now + LIFETIME;
                    return true;
                }
                Ok(false) => self.lose_life(),
                Err(_) if now < life.until => return false,
                Err(error) => {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "presence is away; nobody is told who is connected here"
                    );
                    self.lose_life();
                    return false;
                }
            }
        }
        self.begin(now).await
    }

    async fn begin(&mut self, now: Instant) -> bool {
        let server = ServerId::generate();
        if self.presence.begin(server, LIFETIME).await.is_err() {
            return false;
        }
        self.life = Some(Life {
            server,
            until: now + LIFETIME,
        });
        true
    }

    /// Whatever was told counts no more.
    fn lose_life(&mut self) {
        self.life = None;
        self.roster().forget();
    }

    async fn tell(&mut self, server: ServerId) -> Step {
        let holds = self.roster().take(Instant::now(), BATCH);
        if holds.is_empty() {
            return Step::NothingToTell;
        }
        match self.presence.hold(server, &holds).await {
            Ok(Some(recorded)) => {
                self.announce(&holds, &recorded).await;
                Step::Told
            }
            Ok(None) => {
                tracing::warn!("presence has forgotten this server; it is told again");
                self.lose_life();
                self.renew_at = Instant::now();
                Step::Told
            }
            Err(error) => {
                self.roster().not_told(&holds);
                tracing::debug!(
                    error = &error as &dyn std::error::Error,
                    "presence did not answer; trying again"
                );
                Step::NoAnswer
            }
        }
    }

    async fn announce(&self, holds: &[Hold], recorded: &[Recorded]) {
        let mut announcements = Vec::new();
        for (hold, recorded) in holds.iter().zip(recorded) {
            let doubtful = self.roster().told(hold);
            if recorded.changed || doubtful {
                announcements.push(Announcement::presence(recorded.now));
            }
        }
        // Watchers who are not told see it when they watch again.
        publish_ephemeral(self.bus.as_ref(), &announcements).await;
    }

    /// Until something happens, or is due.
    async fn rest(&self) {
        let roster = self.roster();
        let next_at = roster
            .next_at()
            .map_or(self.renew_at, |at| at.min(self.renew_at));
        tokio::select! {
            // Without a life nothing can be told; it is tried again by the time.
            () = roster.changed(), if self.life.is_some() => {}
            () = sleep_until(next_at) => {}
        }
    }

    fn roster(&self) -> &Roster {
        self.hub.roster()
    }
}

#[cfg(test)]
#[path = "registrar_tests.rs"]
mod tests;
