//! Presence that can be away, forget, and keep a caller waiting behind a grant.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use tidings_common::domain::{Cursor, ServerId, SessionId, StreamId, UserId, UserPresence};
use tidings_common::presence::{
    Acks, Buried, Claim, Grant, Hold, Holding, Leases, Liveness, Presence, PresenceError, Recorded,
    Tickets,
};
use tokio::sync::Semaphore;
use uuid::Uuid;

pub(crate) struct MoodyPresence {
    presence: Arc<dyn Presence>,
    pub(crate) away: AtomicBool,
    seen: Mutex<BTreeSet<StreamId>>,
    /// Where the next claim waits once it has been granted or refused.
    gate: Mutex<Option<Gate>>,
}

/// Holds a call up.
#[derive(Clone)]
pub(crate) struct Gate(Arc<(Semaphore, Semaphore)>);

impl Gate {
    /// Waits until the call has arrived.
    pub(crate) async fn reached(&self) {
        let arrived = tokio::time::timeout(Duration::from_secs(10), self.0.0.acquire());
        arrived.await.expect("the call came").unwrap().forget();
    }

    pub(crate) fn open(&self) {
        self.0.1.add_permits(1);
    }

    async fn pass(&self) {
        self.0.0.add_permits(1);
        self.0.1.acquire().await.unwrap().forget();
    }
}

impl MoodyPresence {
    pub(crate) fn new(presence: Arc<dyn Presence>) -> Self {
        Self {
            presence,
            away: AtomicBool::new(false),
            seen: Mutex::default(),
            gate: Mutex::default(),
        }
    }

    pub(crate) fn hold_next_claim(&self) -> Gate {
        let gate = Gate(Arc::new((Semaphore::new(0), Semaphore::new(0))));
        *self.gate.lock().unwrap() = Some(gate.clone());
        gate
    }

    pub(crate) fn set_away(&self, away: bool) {
        self.away.store(away, Ordering::SeqCst);
    }

    /// As if it had been emptied.
    pub(crate) async fn forget(&self) {
        let seen = self.seen.lock().unwrap().clone();
        for stream in seen {
            if let Some(holding) = self.presence.holding(stream).await.unwrap() {
                let session = holding.session;
                self.presence.give_back(stream, session).await.unwrap();
            }
        }
    }

    fn check(&self) -> Result<(), PresenceError> {
        match self.away.load(Ordering::SeqCst) {
            true => Err(PresenceError("as the test wants it".into())),
            false => Ok(()),
        }
    }
}

#[async_trait]
impl Leases for MoodyPresence {
    async fn take(
        &self,
        stream: StreamId,
        claim: Claim,
        lifetime: Duration,
        steal: bool,
    ) -> Result<Grant, PresenceError> {
        self.check()?;
        self.seen.lock().unwrap().insert(stream);
        let grant = self.presence.take(stream, claim, lifetime, steal).await?;
        let gate = self.gate.lock().unwrap().take();
        if let Some(gate) = gate {
            gate.pass().await;
        }
        Ok(grant)
    }

    async fn holding(&self, stream: StreamId) -> Result<Option<Holding>, PresenceError> {
        self.check()?;
        self.presence.holding(stream).await
    }

    async fn give_back(&self, stream: StreamId, session: SessionId) -> Result<(), PresenceError> {
        self.check()?;
        self.presence.give_back(stream, session).await
    }
}

#[async_trait]
impl Liveness for MoodyPresence {
    async fn begin(&self, server: ServerId, lifetime: Duration) -> Result<(), PresenceError> {
        self.check()?;
        self.presence.begin(server, lifetime).await
    }

    async fn renew(&self, server: ServerId, lifetime: Duration) -> Result<bool, PresenceError> {
        self.check()?;
        self.presence.renew(server, lifetime).await
    }

    async fn hold(
        &self,
        server: ServerId,
        holds: &[Hold],
    ) -> Result<Option<Vec<Recorded>>, PresenceError> {
        self.check()?;
        self.presence.hold(server, holds).await
    }

    async fn states(&self, users: &[UserId]) -> Result<Vec<UserPresence>, PresenceError> {
        self.check()?;
        self.presence.states(users).await
    }

    async fn bury(&self, limit: usize) -> Result<Buried, PresenceError> {
        self.check()?;
        self.presence.bury(limit).await
    }
}

#[async_trait]
impl Tickets for MoodyPresence {
    async fn redeem(&self, ticket: Uuid, lifetime: Duration) -> Result<bool, PresenceError> {
        self.check()?;
        self.presence.redeem(ticket, lifetime).await
    }
}

#[async_trait]
impl Acks for MoodyPresence {
    async fn record(&self, session: SessionId, cursor: &Cursor) -> Result<(), PresenceError> {
        self.check()?;
        self.presence.record(session, cursor).await
    }

    async fn acknowledged(&self, session: SessionId) -> Result<Cursor, PresenceError> {
        self.check()?;
        self.presence.acknowledged(session).await
    }
}
