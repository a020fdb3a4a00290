//! Presence inside one process. It forgets everything at its end, as it may.

mod liveness;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use uuid::Uuid;

use super::{ACKS_KEPT, Acks, Claim, Grant, Holding, Leases, MAX_STREAMS, PresenceError, Tickets};
use crate::clock::Clock;
use crate::domain::{Cursor, SessionId, StreamId, Timestamp};
use liveness::Attendance;

/// Used tickets remembered at once. Beyond, [`Tickets::redeem`] does not know.
const MAX_TICKETS: usize = 1_000_000;
/// Positions remembered at once, of all sessions together (a session counts as one more; some
/// 100 MB). Beyond, nothing is recorded until others have expired.
const MAX_POSITIONS: usize = 1_000_000;
/// Edit leases held at once. Beyond, none is given.
const MAX_LEASES: usize = 100_000;
/// Expired entries stay for at most this much longer.
const SWEEP_EVERY: Duration = Duration::from_secs(30);

/// Presence for a single process. Time is that of the clock by which tickets themselves
/// expire, so a clock that is set does not open a window for a second use.
#[derive(Debug)]
pub struct MemoryPresence {
    clock: Arc<dyn Clock>,
    tickets: Mutex<Expiring<Uuid, ()>>,
    acks: Mutex<Expiring<SessionId, Cursor>>,
    /// With the claim of who holds it, as of when it was new.
    leases: Mutex<Expiring<StreamId, Claim>>,
    attendance: Mutex<Attendance>,
}

#[derive(Debug, thiserror::Error)]
#[error("it remembers as much as it may")]
struct Full;

impl MemoryPresence {
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            tickets: Mutex::new(Expiring::with_limit(MAX_TICKETS, |()| 1)),
            acks: Mutex::new(Expiring::with_limit(MAX_POSITIONS, |cursor| {
                1 + cursor.len()
            })),
            leases: Mutex::new(Expiring::with_limit(MAX_LEASES, |_| 1)),
            attendance: Mutex::new(Attendance::new()),
        }
    }
}

#[async_trait]
impl Tickets for MemoryPresence {
    async fn redeem(&self, ticket: Uuid, lifetime: Duration) -> Result<bool, PresenceError> {
        let now = self.clock.now();
        let mut tickets = lock(&self.tickets);
        if tickets.get(&ticket, now).is_some() {
            return Ok(false);
        }
        tickets.insert(ticket, (), now, lifetime)?;
        Ok(true)
    }
}

#[async_trait]
impl Acks for MemoryPresence {
    async fn record(&self, session: SessionId, cursor: &Cursor) -> Result<(), PresenceError> {
        let now = self.clock.now();
        let mut acks = lock(&self.acks);
        let mut known = acks.remove(&session, now).unwrap_or_default();
        for (stream, seq) in cursor {
            if let Some(position) = known.get_mut(stream) {
                *position = (*position).max(*seq);
            } else if known.len() < MAX_STREAMS {
                known.insert(*stream, *seq);
            }
        }
        acks.insert(session, known, now, ACKS_KEPT)
    }

    async fn acknowledged(&self, session: SessionId) -> Result<Cursor, PresenceError> {
        let now = self.clock.now();
        Ok(lock(&self.acks)
            .get(&session, now)
            .cloned()
            .unwrap_or_default())
    }
}

#[async_trait]
impl Leases for MemoryPresence {
    async fn take(
        &self,
        stream: StreamId,
        claim: Claim,
        lifetime: Duration,
        steal: bool,
    ) -> Result<Grant, PresenceError> {
        let now = self.clock.now();
        let mut leases = lock(&self.leases);
        let held = leases.get_until(&stream, now);
        let (claim, grant) = match held {
            Some((held, _)) if held.session == claim.session => (*held, Grant::Renewed),
            Some((held, until)) if !steal => {
                return Ok(Grant::Refused(holding(held, until, now)));
            }
            _ => (claim, Grant::New),
        };
        leases.insert(stream, claim, now, lifetime)?;
        Ok(grant)
    }

    async fn holding(&self, stream: StreamId) -> Result<Option<Holding>, PresenceError> {
        let now = self.clock.now();
        let leases = lock(&self.leases);
        let held = leases.get_until(&stream, now);
        Ok(held.map(|(held, until)| holding(held, until, now)))
    }

    async fn give_back(&self, stream: StreamId, session: SessionId) -> Result<(), PresenceError> {
        let now = self.clock.now();
        let mut leases = lock(&self.leases);
        let own = leases.get(&stream, now).map(|held| held.session) == Some(session);
        if own {
            leases.remove(&stream, now);
        }
        Ok(())
    }
}

fn holding(held: &Claim, until: Timestamp, now: Timestamp) -> Holding {
    Holding {
        session: held.session,
        user: held.user,
        since: held.now,
        rest: Duration::from_millis(until.millis_since(now)),
    }
}

/// A map whose entries go some time after they were put in.
#[derive(Debug)]
struct Expiring<K, V> {
    entries: HashMap<K, (V, Timestamp)>,
    /// What an entry counts for, of all entries' `limit`.
    weight: fn(&V) -> usize,
    total: usize,
    limit: usize,
    next_sweep: Timestamp,
}

impl<K: Eq + std::hash::Hash, V> Expiring<K, V> {
    fn with_limit(limit: usize, weight: fn(&V) -> usize) -> Self {
        Self {
            entries: HashMap::new(),
            weight,
            total: 0,
            limit,
            next_sweep: Timestamp::default(),
        }
    }

    fn get(&self, key: &K, now: Timestamp) -> Option<&V> {
        self.get_until(key, now).map(|(value, _)| value)
    }

    fn get_until(&self, key: &K, now: Timestamp) -> Option<(&V, Timestamp)> {
        let (value, expires_at) = self.entries.get(key)?;
        (now < *expires_at).then_some((value, *expires_at))
    }

    fn remove(&mut self, key: &K, now: Timestamp) -> Option<V> {
        let (value, expires_at) = self.entries.remove(key)?;
        self.total -= (self.weight)(&value);
        (now < expires_at).then_some(value)
    }

    fn insert(
        &mut self,
        key: K,
        value: V,
        now: Timestamp,
        lifetime: Duration,
    ) -> Result<(), PresenceError> {
        self.remove(&key, now);
        let total = self.total + (self.weight)(&value);
        // A sweep costs one pass and comes at a fixed pace, so it is cheap per entry; one
        // forced by the limit as well, because what comes next is a refusal.
        if now >= self.next_sweep || total > self.limit {
            self.sweep(now);
        }
        if self.total + (self.weight)(&value) > self.limit {
            return Err(PresenceError(Box::new(Full)));
        }
        self.total += (self.weight)(&value);
        let expires_at = now.plus_millis(millis(lifetime));
        self.entries.insert(key, (value, expires_at));
        Ok(())
    }
}

impl<K: Eq + std::hash::Hash, V> Expiring<K, V> {
    fn sweep(&mut self, now: Timestamp) {
        self.entries.retain(|_, (_, expires_at)| now < *expires_at);
        let weights = self.entries.values().map(|(value, _)| (self.weight)(value));
        self.total = weights.sum();
        self.next_sweep = now.plus_millis(millis(SWEEP_EVERY));
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::super::Presence;
    use super::super::contract::presence_contract;
    use super::*;
    use crate::clock::{ManualClock, SystemClock};
    use crate::domain::{StreamId, UserId};

    async fn fresh_presence() -> Option<Arc<dyn Presence>> {
        Some(Arc::new(MemoryPresence::new(Arc::new(SystemClock))))
    }

    presence_contract!(fresh_presence);

    fn at_a_known_time() -> (Arc<ManualClock>, MemoryPresence) {
        let clock = Arc::new(ManualClock::at(Timestamp::from_millis(1_000_000)));
        (clock.clone(), MemoryPresence::new(clock))
    }

    #[tokio::test]
    async fn used_tickets_are_forgotten_after_their_lifetime() {
        let (clock, presence) = at_a_known_time();
        let lifetime = Duration::from_secs(30);
        for _ in 0..100 {
            assert!(presence.redeem(Uuid::now_v7(), lifetime).await.unwrap());
        }
        let used = Uuid::now_v7();
        assert!(presence.redeem(used, lifetime).await.unwrap());
        clock.advance(29_999);
        assert!(!presence.redeem(used, lifetime).await.unwrap());
        clock.advance(1);
        assert!(presence.redeem(used, lifetime).await.unwrap());
        assert_eq!(lock(&presence.tickets).entries.len(), 1);
    }

    #[tokio::test]
    async fn positions_are_kept_for_a_day_after_the_last_call() {
        let (clock, presence) = at_a_known_time();
        let session = SessionId::generate();
        let stream = StreamId::User(UserId::generate());
        let day = 24 * 3600 * 1000;
        presence
            .record(session, &Cursor::from([(stream, 4)]))
            .await
            .unwrap();
        clock.advance(day);
        presence.record(session, &Cursor::new()).await.unwrap();
        clock.advance(day);
        assert_eq!(
            presence.acknowledged(session).await.unwrap(),
            Cursor::from([(stream, 4)])
        );
        clock.advance(day);
        presence
            .record(SessionId::generate(), &Cursor::new())
            .await
            .unwrap();
        assert_eq!(lock(&presence.acks).entries.len(), 1);
    }
}
