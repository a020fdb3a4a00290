//! Who is connected here, and what reaches them. Synchronous: no await, no I/O; nothing here
//! waits for a client.

mod watches;

pub(crate) use watches::{Watch, Watches};

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tidings_common::bus::Envelope;
use tidings_common::domain::{ConnectionId, SessionId, UserId};
use tidings_common::wire::ResumeReason;

use crate::binder::Partitions;
use crate::connection::{Close, Delta, Offered, Recipient, Transport};
use crate::metrics::{PushMetrics, ResumeLabel};
use crate::roster::Roster;
use crate::trace;

/// Locks are per shard, so that worker threads seldom meet.
const SHARDS: usize = 64;
/// Sessions told to resume per second: each will sync.
const RESUMES_PER_SECOND: u64 = 500;

/// What the hub takes. At a limit, see [`Hub::reserve`] and [`Hub::register`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct HubLimits {
    pub(crate) connections: usize,
    pub(crate) connections_per_user: usize,
}

#[derive(Debug)]
pub(crate) struct Hub {
    limits: HubLimits,
    metrics: PushMetrics,
    partitions: Arc<Partitions>,
    /// Lock order: a shard, then a recipient or the partitions. Never two shards.
    shards: Vec<Mutex<Shard>>,
    /// What others are told of who is here.
    roster: Roster,
    watches: Arc<Watches>,
    connections: AtomicUsize,
    draining: AtomicBool,
}

/// Each user's connections in the order in which they came; one that polls comes with each poll.
type Shard = HashMap<UserId, Vec<Arc<Client>>>;

/// One connection as the hub knows it.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) id: ConnectionId,
    user: UserId,
    session: SessionId,
    transport: Transport,
    /// Whether its app is in front.
    active: AtomicBool,
    pub(crate) recipient: Arc<dyn Recipient>,
}

/// A connection's place in the hub. Dropping it takes the connection out, at once.
#[derive(Debug)]
pub(crate) struct Registration {
    hub: Arc<Hub>,
    client: Arc<Client>,
    partition: u16,
}

/// A connection's part of the server's limit, until its socket is done with. A client that does
/// not take the end of its connection leaves the hub before that.
#[derive(Debug)]
pub(crate) struct Place(Arc<Hub>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Why there is no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoPlace {
    #[error("the server has as many connections as it may")]
    Full,
    #[error("the server is draining")]
    Draining,
}

impl Hub {
    pub(crate) fn new(
        limits: HubLimits,
        metrics: PushMetrics,
        partitions: Arc<Partitions>,
    ) -> Arc<Self> {
        let watches = Watches::new(metrics.watches.clone());
        Arc::new(Self {
            limits,
            metrics,
            partitions,
            shards: std::iter::repeat_with(Mutex::default)
                .take(SHARDS)
                .collect(),
            roster: Roster::default(),
            watches,
            connections: AtomicUsize::new(0),
            draining: AtomicBool::new(false),
        })
    }

    /// Keeps a place for somebody who is yet to say who it is: a ticket is not used up for
    /// nothing.
    ///
    /// # Errors
    ///
    /// [`NoPlace`]; the server's own limit counts connections until they have quite ended.
    pub(crate) fn reserve(self: &Arc<Self>) -> Result<Place, NoPlace> {
        if self.is_draining() {
            return Err(NoPlace::Draining);
        }
        self.connections
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |count| {
                (count < self.limits.connections).then_some(count + 1)
            })
            .map(|_| Place(self.clone()))
            .map_err(|_| NoPlace::Full)
    }

    /// Takes in a connection that has its place. If the user has as many here as a user may, the
    /// oldest is closed with 4010.
    ///
    /// # Errors
    ///
    /// [`NoPlace::Draining`], which may have begun meanwhile.
    pub(crate) fn register(
        self: &Arc<Self>,
        user: UserId,
        session: SessionId,
        transport: Transport,
        recipient: Arc<dyn Recipient>,
    ) -> Result<Registration, NoPlace> {
        let client = Arc::new(Client {
            id: ConnectionId::generate(),
            user,
            session,
            transport,
            active: AtomicBool::new(true),
            recipient,
        });
        let mut shard = self.shard(user);
        // Read under the lock: whoever comes before the drain's snapshot of this shard is in it.
        if self.is_draining() {
            return Err(NoPlace::Draining);
        }
        let own = shard.entry(user).or_default();
        while own.len() >= self.limits.connections_per_user.max(1) {
            own.remove(0).recipient.close(Close::Displaced);
        }
        own.push(client.clone());
        drop(shard);
        self.roster.arrive(user);
        self.metrics.connections.inc();
        self.metrics.of_transport(transport).inc();
        Ok(Registration {
            partition: self.partitions.acquire(user),
            hub: self.clone(),
            client,
        })
    }

    pub(crate) fn roster(&self) -> &Roster {
        &self.roster
    }

    pub(crate) fn watches(&self) -> &Arc<Watches> {
        &self.watches
    }

    /// Offers a delta to every connection of these users. Never waits.
    pub(crate) fn dispatch(&self, users: &[UserId], envelope: &Envelope) {
        let mut traced = envelope.trace.is_some();
        for user in users {
            self.offer(*user, envelope, &mut traced);
        }
    }

    /// Offers a delta to those who watch a user.
    pub(crate) fn tell_watchers(&self, user: UserId, envelope: &Envelope) {
        for watcher in self.watches.of(user) {
            let offered = watcher.recipient.offer(Delta {
                frame: envelope.body.clone(),
                ephemeral: envelope.position.is_none(),
                committed: envelope.at,
                span: None,
            });
            self.count(offered);
        }
    }

    /// Offers a delta to every connection of a user. False: there is none. One of the writes of
    /// a delta is `traced`: they may be thousands, and differ by how slow a client is.
    pub(crate) fn offer(&self, user: UserId, envelope: &Envelope, traced: &mut bool) -> bool {
        let shard = self.shard(user);
        let Some(clients) = shard.get(&user) else {
            return false;
        };
        for client in clients {
            let delta = Delta {
                frame: envelope.body.clone(),
                ephemeral: envelope.position.is_none(),
                committed: envelope.at,
                span: std::mem::take(traced)
                    .then(|| trace::write(client.transport))
                    .flatten(),
            };
            let offered = client.recipient.offer(delta);
            self.count(offered);
        }
        true
    }

    fn count(&self, offered: Offered) {
        match offered {
            Offered::Queued => {
                self.metrics.deliveries.inc();
            }
            Offered::Dropped => {
                self.metrics.ephemerals_dropped.inc();
            }
            Offered::Replaced => {
                self.metrics.resumes.get_or_create(&ResumeLabel::SLOW).inc();
            }
            // Counted by close code when the connection has ended.
            Offered::TooSlow | Offered::Rung | Offered::Ended => {}
        }
    }

    /// Deltas were missed: tells every connection to sync, spread over time.
    pub(crate) fn resume_all(&self) {
        self.resume_clients(self.clients());
    }

    /// Likewise every connection of these users.
    pub(crate) fn resume(&self, users: impl IntoIterator<Item = UserId>) {
        let of = |user: UserId| self.shard(user).get(&user).cloned().unwrap_or_default();
        self.resume_clients(users.into_iter().flat_map(of));
    }

    fn resume_clients(&self, clients: impl IntoIterator<Item = Arc<Client>>) {
        let missed = self.metrics.resumes.get_or_create(&ResumeLabel::MISSED);
        for (place, client) in (0..).zip(clients) {
            let after_ms = place * 1000 / RESUMES_PER_SECOND;
            client.recipient.resume(ResumeReason::Missed, after_ms);
            missed.inc();
        }
    }

    /// Closes the connections of sessions that have ended.
    pub(crate) fn end_sessions(&self, has_ended: impl Fn(SessionId) -> bool) {
        for client in self.clients() {
            if has_ended(client.session) {
                client.recipient.close(Close::SessionRevoked);
            }
        }
    }

    /// Takes nobody in from now on, and returns who is here.
    pub(crate) fn drain(&self) -> Vec<Arc<Client>> {
        self.draining.store(true, Ordering::SeqCst);
        self.clients()
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::SeqCst)
    }

    pub(crate) fn is_full(&self) -> bool {
        self.connections() >= self.limits.connections
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    pub(crate) fn is_connected(&self, user: UserId) -> bool {
        self.shard(user).contains_key(&user)
    }

    /// Who is connected here, in no order.
    pub(crate) fn users(&self) -> Vec<UserId> {
        let mut all = Vec::new();
        for shard in &self.shards {
            all.extend(lock(shard).keys().copied());
        }
        all
    }

    /// Everyone here now, in no order.
    fn clients(&self) -> Vec<Arc<Client>> {
        let mut all = Vec::new();
        for shard in &self.shards {
            all.extend(lock(shard).values().flatten().cloned());
        }
        all
    }

    fn shard(&self, user: UserId) -> MutexGuard<'_, Shard> {
        let tail = user.as_bytes()[15];
        lock(&self.shards[usize::from(tail) % SHARDS])
    }
}

impl Registration {
    pub(crate) fn user(&self) -> UserId {
        self.client.user
    }

    pub(crate) fn id(&self) -> ConnectionId {
        self.client.id
    }

    /// Makes it the newest of its user's connections, if it is still one.
    pub(crate) fn renew(&self) {
        let mut shard = self.hub.shard(self.client.user);
        let Some(own) = shard.get_mut(&self.client.user) else {
            return;
        };
        if let Some(place) = own
            .iter()
            .position(|client| Arc::ptr_eq(client, &self.client))
        {
            own[place..].rotate_left(1);
        }
    }

    pub(crate) fn partition(&self) -> u16 {
        self.partition
    }

    /// The connection's app came to the front, or left it.
    pub(crate) fn set_active(&self, active: bool) {
        if self.client.active.swap(active, Ordering::SeqCst) != active {
            self.hub.roster.turn(self.client.user, active);
        }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let user = self.client.user;
        let mut shard = self.hub.shard(user);
        if let Some(own) = shard.get_mut(&user) {
            own.retain(|client| !Arc::ptr_eq(client, &self.client));
            if own.is_empty() {
                shard.remove(&user);
            }
        }
        drop(shard);
        let active = self.client.active.load(Ordering::SeqCst);
        self.hub.roster.leave(user, active);
        self.hub.partitions.release(self.partition);
        self.hub.metrics.connections.dec();
        self.hub.metrics.of_transport(self.client.transport).dec();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
