//! Who watches whom here, and through which groups they may.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prometheus_client::metrics::gauge::Gauge;
use tidings_common::domain::{ConnectionId, GroupId, UserId};
use tokio::sync::Notify;

use crate::connection::Recipient;

/// As many entries as connections here watch users, 200 each at most, and again as many for the
/// groups.
#[derive(Debug, Default)]
pub(crate) struct Watches {
    index: Mutex<Index>,
    count: Gauge,
}

#[derive(Debug, Default)]
struct Index {
    of_user: HashMap<UserId, Watchers>,
    of_group: HashMap<GroupId, Watchers>,
}

type Watchers = BTreeMap<ConnectionId, Arc<Watcher>>;

/// A connection that watches.
#[derive(Debug)]
pub(crate) struct Watcher {
    id: ConnectionId,
    pub(crate) recipient: Arc<dyn Recipient>,
    /// Told when it is to be asked again whom this connection may watch.
    pub(crate) doubted: Notify,
}

/// What one connection watches. Dropping it ends that.
#[derive(Debug)]
pub(crate) struct Watch {
    watches: Arc<Watches>,
    watcher: Arc<Watcher>,
    followed: BTreeMap<UserId, GroupId>,
}

impl Watches {
    pub(super) fn new(count: Gauge) -> Arc<Self> {
        Arc::new(Self {
            index: Mutex::default(),
            count,
        })
    }

    pub(crate) fn enter(
        self: &Arc<Self>,
        id: ConnectionId,
        recipient: Arc<dyn Recipient>,
    ) -> Watch {
        Watch {
            watches: self.clone(),
            watcher: Arc::new(Watcher {
                id,
                recipient,
                doubted: Notify::new(),
            }),
            followed: BTreeMap::new(),
        }
    }

    /// Those who watch a user.
    pub(super) fn of(&self, user: UserId) -> Vec<Arc<Watcher>> {
        let index = self.lock();
        let watchers = index.of_user.get(&user);
        watchers
            .into_iter()
            .flatten()
            .map(|(_, one)| one.clone())
            .collect()
    }

    /// Something has happened in a group: those who watch through it are asked again.
    pub(crate) fn doubt(&self, group: GroupId) {
        let index = self.lock();
        for watcher in index
            .of_group
            .get(&group)
            .into_iter()
            .flat_map(BTreeMap::values)
        {
            watcher.doubted.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watch {
    pub(crate) fn watcher(&self) -> &Arc<Watcher> {
        &self.watcher
    }

    /// Watches these users, each through a group, and no others any more.
    pub(crate) fn follow(&mut self, users: BTreeMap<UserId, GroupId>) {
        let mut index = self.watches.lock();
        for (user, group) in &self.followed {
            leave(&mut index.of_user, user, self.watcher.id);
            leave(&mut index.of_group, group, self.watcher.id);
        }
        for (user, group) in &users {
            let watcher = || self.watcher.clone();
            let of_user = index.of_user.entry(*user).or_default();
            of_user.insert(self.watcher.id, watcher());
            let of_group = index.of_group.entry(*group).or_default();
            of_group.insert(self.watcher.id, watcher());
        }
        drop(index);
        let count = |users: &BTreeMap<_, _>| i64::try_from(users.len()).unwrap_or(i64::MAX);
        self.watches
            .count
            .inc_by(count(&users) - count(&self.followed));
        self.followed = users;
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.follow(BTreeMap::new());
    }
}

fn leave<K: Eq + Hash>(index: &mut HashMap<K, Watchers>, key: &K, id: ConnectionId) {
    if let Some(watchers) = index.get_mut(key) {
        watchers.remove(&id);
        if watchers.is_empty() {
            index.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connection::Bell;

    fn enter(watches: &Arc<Watches>) -> Watch {
        watches.enter(ConnectionId::generate(), Arc::new(Bell::default()))
    }

    fn names(watches: &Watches, user: UserId) -> Vec<ConnectionId> {
        watches.of(user).iter().map(|one| one.id).collect()
    }

    #[test]
    fn each_is_found_under_whom_it_watches_now_and_nothing_stays_of_it() {
        let watches = Arc::new(Watches::default());
        let (mut one, mut other) = (enter(&watches), enter(&watches));
        let [ada, bob] = [UserId::generate(), UserId::generate()];
        let group = GroupId::generate();
        one.follow(BTreeMap::from([(ada, group), (bob, group)]));
        other.follow(BTreeMap::from([(bob, group)]));
        assert_eq!(watches.count.get(), 3);
        assert_eq!(names(&watches, ada), [one.watcher.id]);
        assert_eq!(names(&watches, bob), [one.watcher.id, other.watcher.id]);
        one.follow(BTreeMap::from([(ada, group)]));
        assert_eq!(names(&watches, bob), [other.watcher.id]);
        assert_eq!(names(&watches, UserId::generate()), []);
        drop((one, other));
        assert_eq!(watches.count.get(), 0);
        let index = watches.lock();
        assert!(index.of_user.is_empty() && index.of_group.is_empty());
    }

    #[tokio::test]
    async fn those_are_doubted_who_watch_through_the_group() {
        let watches = Arc::new(Watches::default());
        let (mut one, mut other) = (enter(&watches), enter(&watches));
        let [group, another] = [GroupId::generate(), GroupId::generate()];
        one.follow(BTreeMap::from([(UserId::generate(), group)]));
        other.follow(BTreeMap::from([(UserId::generate(), another)]));
        watches.doubt(group);
        let doubted = |watch: &Watch| {
            use futures_util::FutureExt as _;
            watch.watcher.doubted.notified().now_or_never().is_some()
        };
        assert!(doubted(&one) && !doubted(&other));
        assert!(!doubted(&one), "once");
    }
}
