//! Causes faults, one after the other or two at once, and puts right what it broke. Which, when
//! and for how long comes from the seed alone.
//!
//! The kinds are dealt like cards: each comes once before any comes again.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use fastrand::Rng;
use tokio::time::{Instant, sleep};

use super::faults::{Blow, KINDS, Kind, Role};
use super::history::{Fault, Moment};
use super::recorder::Recorder;
use crate::cluster::Cluster;
use crate::server::Server;
use crate::stack::{Link, Stack};

const HELD_MS: Range<u64> = 1_000..15_000;
/// One fault in ten is held longer.
const HELD_LONG_MS: Range<u64> = 15_000..25_000;
/// Of a hundred faults, those that come with another one.
const TWO_AT_ONCE: u8 = 20;
/// What a process that was asked to end may take for it.
const ENDED: Duration = Duration::from_secs(45);
const SLOW: Duration = Duration::from_millis(300);
/// A fault that is over as soon as it has been caused counts as one for so long.
const INSTANT: Duration = Duration::from_secs(1);

/// A fault that is there.
#[derive(Debug)]
struct Caused {
    kind: Kind,
    /// The number of the process or the member.
    number: usize,
    began: Moment,
    /// When it had been caused.
    there: Moment,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Nemesis<'a> {
    cluster: &'a mut Cluster,
    stack: &'a mut Stack,
    recorder: Arc<Recorder>,
    random: Rng,
    deck: Vec<Kind>,
}

impl<'a> Nemesis<'a> {
    #[must_use]
    pub fn new(
        cluster: &'a mut Cluster,
        stack: &'a mut Stack,
        recorder: Arc<Recorder>,
        seed: u64,
    ) -> Self {
        Self {
            cluster,
            stack,
            recorder,
            random: Rng::with_seed(seed),
            deck: Vec::new(),
        }
    }

    /// Causes faults for so long. Nothing is broken when it returns, unless it failed.
    ///
    /// # Errors
    /// A fault cannot be caused or put right.
    pub async fn run(&mut self, length: Duration, rest_ms: Range<u64>) -> Result<()> {
        let end = Instant::now() + length;
        loop {
            sleep(self.span(rest_ms.clone())).await;
            self.find_dead().await?;
            if Instant::now() >= end {
                return Ok(());
            }
            self.round().await?;
        }
    }

    /// Some faults, for a while.
    async fn round(&mut self) -> Result<()> {
        let mut kinds = vec![self.deal()];
        if self.random.u8(..100) < TWO_AT_ONCE {
            let second = self.deal();
            if second.subject() != kinds[0].subject() {
                kinds.push(second);
            }
        }
        let mut caused = Vec::new();
        let mut failed = Ok(());
        for kind in kinds {
            let began = self.recorder.now();
            match self.cause(kind).await {
                Ok(number) => caused.push(Caused {
                    kind,
                    number,
                    began,
                    there: self.recorder.now(),
                }),
                Err(error) => failed = Err(error.context(format!("cause {}", kind.name()))),
            }
        }
        let long = self.random.u8(..10) == 0;
        let held = self.span(if long { HELD_LONG_MS } else { HELD_MS });
        if failed.is_ok() {
            sleep(held).await;
        }
        // Services first: a server needs them to become ready.
        caused.sort_by_key(|fault| matches!(fault.kind, Kind::Server(..)));
        for fault in caused {
            let what = fault.kind.name();
            self.heal(&fault)
                .await
                .with_context(|| format!("heal {what}"))?;
            let healed = if fault.kind.is_instant() {
                fault.there + INSTANT
            } else {
                self.recorder.now()
            };
            self.recorder.fault(Fault {
                kind: what,
                target: target(&fault),
                began: fault.began,
                healed,
            });
        }
        failed
    }

    fn deal(&mut self) -> Kind {
        if self.deck.is_empty() {
            self.deck = KINDS.to_vec();
            self.random.shuffle(&mut self.deck);
        }
        self.deck.pop().unwrap_or(KINDS[0]) // It has just been filled.
    }

    fn span(&mut self, range: Range<u64>) -> Duration {
        Duration::from_millis(self.random.u64(range))
    }

    /// A server that has ended without having been asked to is a defect; it is started again.
    async fn find_dead(&mut self) -> Result<()> {
        for role in [Role::Api, Role::WsPush, Role::Worker] {
            for number in 0..2 {
                let server = self.server(role, number);
                if let Ok(status) = server.ended(Duration::ZERO).await {
                    server.restart().await?;
                    let what = format!("{role:?} {number} ended by itself with {status}");
                    self.recorder.violation(what);
                }
            }
        }
        Ok(())
    }

    /// Returns the number of the process or member that is concerned.
    async fn cause(&mut self, kind: Kind) -> Result<usize> {
        match kind {
            Kind::Server(role, blow) => {
                let number = self.random.usize(..2);
                self.strike(role, number, blow).await?;
                return Ok(number);
            }
            Kind::KillPrimary => {
                let primary = self.stack.mongo.primary().await?;
                self.stack.mongo.kill(primary)?;
                return Ok(primary);
            }
            Kind::StepDown => return self.stack.mongo.step_down().await,
            Kind::PausePrimary => {
                let primary = self.stack.mongo.primary().await?;
                self.stack.mongo.pause(primary)?;
                return Ok(primary);
            }
            Kind::IsolatePrimary => {
                let primary = self.stack.mongo.primary().await?;
                self.stack.mongo.isolate(primary);
                return Ok(primary);
            }
            Kind::KillSecondary => {
                let other = (self.stack.mongo.primary().await? + self.random.usize(1..3)) % 3;
                self.stack.mongo.kill(other)?;
                return Ok(other);
            }
            Kind::KillBroker => self.stack.broker.kill()?,
            Kind::PauseBroker => self.stack.broker.pause()?,
            Kind::CloseConnections => self.stack.broker.close_all_connections().await?,
            Kind::MemoryAlarm => self.stack.broker.memory_alarm(true).await?,
            Kind::KillRedis => self.stack.redis.kill()?,
            Kind::PauseRedis => self.stack.redis.pause()?,
            Kind::FlushRedis => self.stack.redis.flush().await?,
            Kind::ReloadNginx => self.cluster.nginx.reload()?,
        }
        Ok(0)
    }

    async fn strike(&mut self, role: Role, number: usize, blow: Blow) -> Result<()> {
        match blow {
            Blow::Kill => self.server(role, number).kill().await?,
            Blow::Pause => self.server(role, number).pause()?,
            Blow::Restart => self.server(role, number).terminate()?,
            Blow::CutBroker => self.link(role, number)?.broker.cut(),
            Blow::SilenceBroker => self.link(role, number)?.broker.silence(),
            Blow::SlowBroker => self.link(role, number)?.broker.delay(SLOW, SLOW),
            Blow::CutRedis => self.link(role, number)?.redis.cut(),
        }
        Ok(())
    }

    async fn heal(&mut self, fault: &Caused) -> Result<()> {
        let number = fault.number;
        match fault.kind {
            Kind::Server(role, Blow::Kill) => self.server(role, number).restart().await,
            Kind::Server(role, Blow::Pause) => self.server(role, number).resume(),
            Kind::Server(role, Blow::Restart) => {
                let server = self.server(role, number);
                let status = server.ended(ENDED).await?;
                server.restart().await?;
                if !status.success() {
                    bail!("{role:?} {number} was asked to end and ended with {status}");
                }
                Ok(())
            }
            Kind::Server(role, _) => {
                self.link(role, number)?.heal();
                Ok(())
            }
            Kind::KillPrimary | Kind::KillSecondary => {
                self.stack.mongo.restart(number).await?;
                self.stack.mongo.complete().await
            }
            Kind::PausePrimary => {
                self.stack.mongo.resume(number)?;
                self.stack.mongo.complete().await
            }
            Kind::IsolatePrimary => {
                self.stack.mongo.heal();
                self.stack.mongo.complete().await
            }
            Kind::StepDown => self.stack.mongo.complete().await,
            Kind::KillBroker => self.stack.broker.start().await,
            Kind::PauseBroker => self.stack.broker.resume(),
            Kind::MemoryAlarm => self.stack.broker.memory_alarm(false).await,
            Kind::KillRedis => self.stack.redis.start().await,
            Kind::PauseRedis => self.stack.redis.resume(),
            Kind::CloseConnections | Kind::FlushRedis | Kind::ReloadNginx => Ok(()),
        }
    }

    fn server(&mut self, role: Role, number: usize) -> &mut Server {
        match role {
            Role::Api => &mut self.cluster.apis[number],
            Role::WsPush => &mut self.cluster.ws_pushes[number],
            Role::Worker => &mut self.cluster.workers[number],
        }
    }

    fn link(&self, role: Role, number: usize) -> Result<&Link> {
        let links = match role {
            Role::Api => &self.cluster.links.apis,
            Role::WsPush => &self.cluster.links.ws_pushes,
            Role::Worker => &self.cluster.links.workers,
        };
        links.get(number).context("a way of its own")
    }
}

/// What it befell. A process that only lost a service still has to answer, so the way to that is
/// what it befell.
fn target(fault: &Caused) -> String {
    match fault.kind {
        Kind::Server(role, Blow::Kill | Blow::Pause | Blow::Restart) => {
            format!("{}-{}", role.program(), fault.number)
        }
        Kind::Server(role, _) => format!("the way of {}-{}", role.program(), fault.number),
        _ => format!("member {} of {:?}", fault.number, fault.kind.subject()),
    }
}
