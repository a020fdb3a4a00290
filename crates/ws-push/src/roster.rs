//! Who is connected here, as others are to be told: what the connections of each user add up to,
//! and what is yet to be told of that. Synchronous; `registrar` does the telling.
//!
//! A connection that has ended counts for some seconds more, so that whoever comes back in that
//! time, here or elsewhere, was never gone.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tidings_common::domain::{Activity, UserId};
use tidings_common::presence::Hold;
use tokio::sync::Notify;
use tokio::time::Instant;

/// How long a connection counts after its end.
pub(crate) const LINGER: Duration = Duration::from_secs(10);
/// After which it is told that an app came to the front or left it: who goes to and fro tells
/// others once in that time.
const SETTLE: Duration = Duration::from_secs(2);

/// As many users as have connections here, or had some in the last [`LINGER`]; and those of whom
/// it could not be told that they left, until this server's life has ended by that.
#[derive(Debug, Default)]
pub(crate) struct Roster {
    state: Mutex<State>,
    /// There may be something to tell, now or later.
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    users: HashMap<UserId, Here>,
    /// Connections that have ended, with when they count no more, the earliest first; and whether
    /// the app was in front.
    leaving: VecDeque<(Instant, UserId, bool)>,
    /// Users who turned, with when it is told, the earliest first.
    turning: VecDeque<(Instant, UserId)>,
    /// Of whom something is to be told now.
    due: BTreeSet<UserId>,
}

/// What is known of one user.
#[derive(Debug, Default)]
struct Here {
    connections: usize,
    /// Those of which the app is in front.
    active: usize,
    /// When the last connection that ended did.
    left: Option<Instant>,
    told: Option<Activity>,
    /// It is being told something.
    under_way: bool,
    /// It was told, and is not known whether that was heard.
    doubtful: bool,
    /// It stands among those who turned.
    turning: bool,
}

impl Here {
    fn activity(&self) -> Option<Activity> {
        match (self.connections, self.active) {
            (0, _) => None,
            (_, 0) => Some(Activity::Away),
            _ => Some(Activity::Active),
        }
    }

    fn is_told(&self) -> bool {
        self.activity() == self.told && !self.doubtful
    }

    /// Nothing is here, and nobody was told otherwise.
    fn is_nothing(&self) -> bool {
        self.connections == 0 && self.is_told()
    }
}

impl Roster {
    /// One connection more; its app is in front until it says otherwise.
    pub(crate) fn arrive(&self, user: UserId) {
        let mut state = self.lock();
        let here = state.users.entry(user).or_default();
        here.connections += 1;
        here.active += 1;
        state.settle(user);
        drop(state);
        self.changed.notify_one();
    }

    /// One connection less, soon; `active`: its app was in front.
    pub(crate) fn leave(&self, user: UserId, active: bool) {
        let now = Instant::now();
        let mut state = self.lock();
        if let Some(here) = state.users.get_mut(&user) {
            here.left = Some(now);
        }
        state.leaving.push_back((now + LINGER, user, active));
        drop(state);
        self.changed.notify_one();
    }

    /// A connection's app came to the front, or left it.
    pub(crate) fn turn(&self, user: UserId, active: bool) {
        let mut state = self.lock();
        let Some(here) = state.users.get_mut(&user) else {
            return;
        };
        if active {
            here.active += 1;
        } else {
            here.active -= 1;
        }
        if !here.turning {
            here.turning = true;
            state.turning.push_back((Instant::now() + SETTLE, user));
        }
        drop(state);
        self.changed.notify_one();
    }

    /// Up to `limit` things to tell. Each is to come back by [`Roster::told`] or
    /// [`Roster::not_told`].
    pub(crate) fn take(&self, now: Instant, limit: usize) -> Vec<Hold> {
        let mut state = self.lock();
        let mut holds = Vec::new();
        while holds.len() < limit
            && let Some(user) = state.due.pop_first()
        {
            let here = state.users.get_mut(&user);
            let Some(here) = here.filter(|here| !here.is_told()) else {
                continue;
            };
            here.under_way = true;
            let left = here.left.map(|left| now.saturating_duration_since(left));
            holds.push(Hold {
                user,
                activity: here.activity(),
                left_ago: left.unwrap_or_default(),
            });
        }
        holds
    }

    /// It was told and heard. True if it may have been heard before, so that whether it changed
    /// anything is not known.
    pub(crate) fn told(&self, hold: &Hold) -> bool {
        let mut state = self.lock();
        let Some(here) = state.users.get_mut(&hold.user) else {
            return false;
        };
        here.told = hold.activity;
        here.under_way = false;
        let doubtful = std::mem::take(&mut here.doubtful);
        state.settle(hold.user);
        doubtful
    }

    /// It may have been heard, or not.
    pub(crate) fn not_told(&self, holds: &[Hold]) {
        let mut state = self.lock();
        for hold in holds {
            if let Some(here) = state.users.get_mut(&hold.user) {
                here.under_way = false;
                here.doubtful = true;
                state.due.insert(hold.user);
            }
        }
    }

    /// What was told is void: all of it is to be told again, to whoever asks next.
    pub(crate) fn forget(&self) {
        let mut state = self.lock();
        for here in state.users.values_mut() {
            here.told = None;
            here.under_way = false;
            here.doubtful = false;
        }
        state.users.retain(|_, here| here.connections > 0);
        state.due = state.users.keys().copied().collect();
    }

    /// Lets the time pass. To be called from time to time, or memory grows.
    pub(crate) fn advance(&self, now: Instant) {
        let mut state = self.lock();
        while let Some((at, user, active)) = state.leaving.front().copied()
            && at <= now
        {
            state.leaving.pop_front();
            if let Some(here) = state.users.get_mut(&user) {
                here.connections -= 1;
                here.active -= usize::from(active);
                state.settle(user);
            }
        }
        while let Some((at, user)) = state.turning.front().copied()
            && at <= now
        {
            state.turning.pop_front();
            if let Some(here) = state.users.get_mut(&user) {
                here.turning = false;
                state.settle(user);
            }
        }
    }

    /// When time alone brings something to tell.
    pub(crate) fn next_at(&self) -> Option<Instant> {
        let state = self.lock();
        let leaving = state.leaving.front().map(|(at, _, _)| *at);
        let turning = state.turning.front().map(|(at, _)| *at);
        leaving.into_iter().chain(turning).min()
    }

    /// Returns when something has happened since it returned last. Cancel-safe.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Notes what is to be told of a user, and forgets one of whom there is nothing.
    fn settle(&mut self, user: UserId) {
        let Some(here) = self.users.get(&user).filter(|here| !here.under_way) else {
            // Of one who is being told something it is asked again afterwards.
            return;
        };
        if !here.is_told() {
            self.due.insert(user);
        } else if here.is_nothing() {
            self.users.remove(&user);
            self.due.remove(&user);
        }
    }
}

#[cfg(test)]
#[path = "roster_tests.rs"]
mod tests;
