//! What one connection watches: whom it may, what they are now, and both again when that may have
//! changed. Beside the connection's own task, so that a slow store holds nobody up.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tidings_common::domain::{ConnectionId, Ephemeral, UserId, UserPresence};
use tidings_common::wire;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::connection::{Delta, Recipient};
use crate::hub::Watch;
use crate::state::State;

/// At least so long between two looks, whatever the client says and happens in its groups; and
/// up to as much again, so that those whom a change concerns do not all look at once.
const BETWEEN_LOOKS: Duration = Duration::from_secs(1);
/// After which it is asked again though nothing hints at a change: hints may be lost.
const LOOK_AGAIN: Duration = Duration::from_secs(60);
/// After something was not answered.
const RETRY: Duration = Duration::from_secs(5);
/// For the store to say whom somebody may watch.
const STORE_DEADLINE: Duration = Duration::from_secs(5);

/// A connection's watch. Dropping it ends that.
#[derive(Debug)]
pub(crate) struct Watching {
    wanted: watch::Sender<Vec<UserId>>,
    task: JoinHandle<()>,
}

impl Watching {
    /// To be called on a server's worker thread, as connections are opened.
    pub(crate) fn start(
        state: Arc<State>,
        user: UserId,
        connection: ConnectionId,
        recipient: Arc<dyn Recipient>,
        users: Vec<UserId>,
    ) -> Self {
        let (wanted, wants) = watch::channel(users);
        let place = state.hub.watches().enter(connection, recipient);
        let look = Look {
            state,
            user,
            place,
            told: BTreeSet::new(),
            unknown: BTreeSet::new(),
        };
        Self {
            wanted,
            task: actix_web::rt::spawn(look.run(wants)),
        }
    }

    /// Watches these instead.
    pub(crate) fn change(&self, users: Vec<UserId>) {
        self.wanted.send_replace(users);
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Look {
    state: Arc<State>,
    user: UserId,
    place: Watch,
    /// Those whose state was told since they were asked for.
    told: BTreeSet<UserId>,
    /// Those of whom it was told that their state is not known.
    unknown: BTreeSet<UserId>,
}

impl Look {
    async fn run(mut self, mut wants: watch::Receiver<Vec<UserId>>) {
        loop {
            let wanted = wants.borrow_and_update().clone();
            let again = if self.look(&wanted).await {
                LOOK_AGAIN
            } else {
                RETRY
            };
            sleep(BETWEEN_LOOKS.mul_f64(1.0 + fastrand::f64())).await;
            // All branches are cancel-safe.
            tokio::select! {
                changed = wants.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    // All are told anew, also those who were watched before.
                    self.told.clear();
                    self.unknown.clear();
                }
                () = self.place.watcher().doubted.notified() => {}
                () = sleep(again) => {}
            }
        }
    }

    /// Follows those of `wanted` whom the user may watch, and tells the state of those of whom
    /// it was not told yet. False: something was not answered.
    async fn look(&mut self, wanted: &[UserId]) -> bool {
        let asking = self.state.store.shared_groups(self.user, wanted);
        let shared = match timeout(STORE_DEADLINE, asking).await {
            Ok(Ok(shared)) => shared,
            Ok(Err(error)) => {
                tracing::debug!(
                    error = &error as &dyn std::error::Error,
                    "it is not known whom a client may watch; trying again"
                );
                return false;
            }
            Err(_) => return false,
        };
        let shared: BTreeMap<_, _> = shared.into_iter().collect();
        self.told.retain(|user| shared.contains_key(user));
        self.unknown.retain(|user| shared.contains_key(user));
        let fresh = shared
            .keys()
            .copied()
            .filter(|user| !self.told.contains(user));
        let fresh: Vec<UserId> = fresh.collect();
        // Before their state is read, so that what changes meanwhile is heard as well.
        self.place.follow(shared);
        if fresh.is_empty() {
            return true;
        }
        match self.state.presence.states(&fresh).await {
            Ok(states) => {
                for now in states {
                    self.told.insert(now.user);
                    self.tell(now);
                }
                true
            }
            Err(_) => {
                let at = self.state.clock.now();
                for user in fresh {
                    if self.unknown.insert(user) {
                        self.tell(UserPresence::unknown(user, at));
                    }
                }
                false
            }
        }
    }

    fn tell(&self, now: UserPresence) {
        let what = Ephemeral::PresenceChanged(now);
        let delta = wire::Delta::of_ephemeral(now.at, None, &what);
        let delta = Delta {
            frame: delta.to_frame(),
            ephemeral: true,
            committed: now.at,
            span: None,
        };
        // A mailbox without room drops it, and says so by `resume` if it drops anything else.
        let _offered = self.place.watcher().recipient.offer(delta);
    }
}
