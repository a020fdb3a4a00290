//! What lies between a simulated process and the services: calls take time, and those of a
//! process that is paused or dead go nowhere.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

/// How things go wrong; chances are per mille of the calls. The default is that they do not.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Faults {
    /// Take a few milliseconds, each way.
    pub(crate) delayed: u32,
    /// Take up to some seconds, each way.
    pub(crate) slow: u32,
    /// Fail without an effect.
    pub(crate) unavailable: u32,
    /// Writes whose outcome is unknown, whatever it is.
    pub(crate) uncertain: u32,
    /// Appends that take their positions a while before they can be read.
    pub(crate) lagging: u32,
    /// What takes several statements is seen half done.
    pub(crate) torn: bool,
    /// Nothing works at present.
    pub(crate) outage: bool,
}

/// Longest time of a call that is slow: longer than any deadline of the log.
const SLOWEST_MS: u64 = 12_000;

/// The faults of one service, as they are at present.
#[derive(Debug, Default)]
pub(crate) struct Weather(Mutex<Faults>);

impl Weather {
    pub(crate) fn now(&self) -> Faults {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn change(&self, change: impl FnOnce(&mut Faults)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// Whether something happens that has this chance. Costs no random number if it cannot.
pub(crate) fn chance(per_mille: u32) -> bool {
    per_mille > 0 && fastrand::u32(..1000) < per_mille
}

/// Some time, mostly short.
fn delay(faults: Faults) -> Duration {
    let most = if chance(faults.slow) {
        SLOWEST_MS >> fastrand::u32(..8)
    } else if chance(faults.delayed) {
        20
    } else {
        return Duration::ZERO;
    };
    Duration::from_millis(fastrand::u64(1..=most))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Life {
    Running,
    Paused,
    /// Nothing that it does is seen any more, and nothing reaches it.
    Dead,
    /// As before, but what it waits for fails, so that its tasks come to their end.
    Buried,
}

/// One process's way to the services.
#[derive(Debug, Clone)]
pub(crate) struct Link(Arc<Lifeline>);

/// Not a `watch` channel: the order in which that wakes its receivers is random, whatever the
/// seed.
#[derive(Debug)]
struct Lifeline {
    life: Mutex<Life>,
    changed: Notify,
}

/// The process is no more.
#[derive(Debug, thiserror::Error)]
#[error("the process has died")]
pub(crate) struct Died;

impl Link {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Lifeline {
            life: Mutex::new(Life::Running),
            changed: Notify::new(),
        }))
    }

    fn life(&self) -> Life {
        *self.0.life.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn become_now(&self, to: Life) {
        *self.0.life.lock().unwrap_or_else(PoisonError::into_inner) = to;
        self.0.changed.notify_waiters();
    }

    pub(crate) fn pause(&self) {
        if self.life() == Life::Running {
            self.become_now(Life::Paused);
        }
    }

    pub(crate) fn resume(&self) {
        if self.life() == Life::Paused {
            self.become_now(Life::Running);
        }
    }

    /// Kills the process: it stops between two of its calls, or in the middle of one.
    pub(crate) fn kill(&self) {
        self.become_now(Life::Dead);
    }

    pub(crate) fn bury(&self) {
        self.become_now(Life::Buried);
    }

    pub(crate) fn is_dead(&self) -> bool {
        matches!(self.life(), Life::Dead | Life::Buried)
    }

    /// Waits for the process's death.
    pub(crate) async fn death(&self) {
        self.until(|life| matches!(life, Life::Dead | Life::Buried))
            .await;
    }

    async fn until(&self, wanted: impl Fn(Life) -> bool) -> Life {
        loop {
            // Gets every change from here on.
            let changed = self.0.changed.notified();
            let life = self.life();
            if wanted(life) {
                return life;
            }
            changed.await;
        }
    }

    /// One way, between a process and a service.
    pub(crate) async fn travel(&self, faults: Faults) -> Result<(), Died> {
        let delay = delay(faults);
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        } else if faults.delayed > 0 && fastrand::bool() {
            tokio::task::yield_now().await;
        }
        let goes_on = |life| matches!(life, Life::Running | Life::Buried);
        match self.until(goes_on).await {
            Life::Buried => Err(Died),
            _ => Ok(()),
        }
    }
}
