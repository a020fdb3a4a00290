//! Who is there, as one process knows it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use async_trait::async_trait;

use super::{Expiring, MemoryPresence, lock, millis};
use crate::domain::{Activity, PresenceState, ServerId, Timestamp, UserId, UserPresence};
use crate::presence::{Buried, Hold, Liveness, PresenceError, Recorded, SEEN_KEPT};

/// Users who were seen and are remembered at once (some 60 MB). Beyond, it is not known when
/// further ones were.
const MAX_SEEN: usize = 500_000;

/// Servers, and whom they hold.
#[derive(Debug)]
pub(super) struct Attendance {
    servers: BTreeMap<ServerId, Life>,
    users: HashMap<UserId, BTreeMap<ServerId, Activity>>,
    seen: Expiring<UserId, Timestamp>,
}

#[derive(Debug)]
struct Life {
    renewed: Timestamp,
    until: Timestamp,
    holds: BTreeSet<UserId>,
}

impl Attendance {
    pub(super) fn new() -> Self {
        Self {
            servers: BTreeMap::new(),
            users: HashMap::new(),
            seen: Expiring::with_limit(MAX_SEEN, |_| 1),
        }
    }

    fn renew(&mut self, server: ServerId, lifetime: Duration, now: Timestamp) -> bool {
        let Some(life) = self
            .servers
            .get_mut(&server)
            .filter(|life| now < life.until)
        else {
            return false;
        };
        life.renewed = now;
        life.until = now.plus_millis(millis(lifetime));
        true
    }

    /// How a user is, or would be if the server `as_if` were alive.
    fn look(&self, user: UserId, as_if: Option<ServerId>, now: Timestamp) -> UserPresence {
        let mut state = PresenceState::Offline;
        let mut last_seen = self.seen.get(&user, now).copied();
        for (server, activity) in self.users.get(&user).into_iter().flatten() {
            let Some(life) = self.servers.get(server) else {
                continue;
            };
            if now < life.until || as_if == Some(*server) {
                if state != PresenceState::Online {
                    state = (*activity).into();
                }
            } else {
                last_seen = last_seen.max(Some(life.renewed));
            }
        }
        UserPresence {
            user,
            state,
            last_seen: last_seen.filter(|_| !state.is_connected()),
            at: now,
        }
    }

    fn record(&mut self, server: ServerId, hold: &Hold, now: Timestamp) {
        let Some(life) = self.servers.get_mut(&server) else {
            return;
        };
        match hold.activity {
            Some(activity) => {
                life.holds.insert(hold.user);
                let held = self.users.entry(hold.user).or_default();
                held.insert(server, activity);
            }
            None => {
                life.holds.remove(&hold.user);
                let left = now.plus_millis(-millis(hold.left_ago));
                self.take_off(server, hold.user, left, now);
            }
        }
    }

    fn take_off(&mut self, server: ServerId, user: UserId, left: Timestamp, now: Timestamp) {
        if let Some(held) = self.users.get_mut(&user) {
            held.remove(&server);
            if held.is_empty() {
                self.users.remove(&user);
            }
        }
        let left = self.seen.remove(&user, now).map_or(left, |at| at.max(left));
        // Where there is no room it is not known when the user was seen.
        drop(self.seen.insert(user, left, now, SEEN_KEPT));
    }

    fn bury(&mut self, limit: usize, now: Timestamp) -> Buried {
        let mut left = limit;
        let mut changed = Vec::new();
        let dead = self.servers.iter().filter(|(_, life)| life.until <= now);
        let dead: Vec<ServerId> = dead.map(|(server, _)| *server).collect();
        for server in dead {
            let Some(life) = self.servers.get_mut(&server) else {
                continue;
            };
            let renewed = life.renewed;
            let held: Vec<UserId> = life.holds.iter().copied().take(left).collect();
            for user in &held {
                life.holds.remove(user);
            }
            let emptied = life.holds.is_empty();
            left -= held.len();
            for user in held {
                let before = self.look(user, Some(server), now).state;
                self.take_off(server, user, renewed, now);
                let after = self.look(user, None, now);
                changed.extend((after.state != before).then_some(after));
            }
            if emptied {
                self.servers.remove(&server);
            }
        }
        let more = left == 0;
        Buried { changed, more }
    }
}

#[async_trait]
impl Liveness for MemoryPresence {
    async fn begin(&self, server: ServerId, lifetime: Duration) -> Result<(), PresenceError> {
        let now = self.clock.now();
        let life = Life {
            renewed: now,
            until: now.plus_millis(millis(lifetime)),
            holds: BTreeSet::new(),
        };
        lock(&self.attendance).servers.insert(server, life);
        Ok(())
    }

    async fn renew(&self, server: ServerId, lifetime: Duration) -> Result<bool, PresenceError> {
        let now = self.clock.now();
        Ok(lock(&self.attendance).renew(server, lifetime, now))
    }

    async fn hold(
        &self,
        server: ServerId,
        holds: &[Hold],
    ) -> Result<Option<Vec<Recorded>>, PresenceError> {
        let now = self.clock.now();
        let mut attendance = lock(&self.attendance);
        let life = attendance.servers.get(&server);
        if life.is_none_or(|life| life.until <= now) {
            return Ok(None);
        }
        let recorded = holds.iter().map(|hold| {
            let before = attendance.look(hold.user, None, now).state;
            attendance.record(server, hold, now);
            let after = attendance.look(hold.user, None, now);
            Recorded {
                now: after,
                changed: after.state != before,
            }
        });
        Ok(Some(recorded.collect()))
    }

    async fn states(&self, users: &[UserId]) -> Result<Vec<UserPresence>, PresenceError> {
        let now = self.clock.now();
        let attendance = lock(&self.attendance);
        let states = users.iter().map(|user| attendance.look(*user, None, now));
        Ok(states.collect())
    }

    async fn bury(&self, limit: usize) -> Result<Buried, PresenceError> {
        let now = self.clock.now();
        Ok(lock(&self.attendance).bury(limit, now))
    }
}
