//! Groups as this process last read them. Corrected by fences (a caller asks for a position),
//! by hints, and by age.
//!
//! A small group is kept with its members. Of a large one, members are looked up one by one, and
//! forgotten with the state of the group that they were looked up for: so what is known of a
//! member is at least as new as that.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::apply::apply_pending;
use super::metrics::CacheMetrics;
use crate::bus::{Bus, Control, Delivery};
use crate::domain::{ChannelId, Group, GroupId, Member, Seq, StreamId, UserId};
use crate::store::{Store, StoreError};

/// Longest time for which a group is used without being read again.
const LIFETIME: Duration = Duration::from_secs(30);
/// Members and channels in all cached groups together (some 64 MiB); beyond it the cache
/// starts afresh.
const WEIGHT_LIMIT: usize = 1_000_000;
/// Pause before following hints again after the bus failed.
const RETRY: Duration = Duration::from_secs(1);
/// Members of one large group that are remembered; one more makes all of it be forgotten.
const LOOKED_UP: usize = 10_000;

/// Groups, cached for at most 30 s and corrected by fences and hints.
pub struct Groups {
    store: Arc<dyn Store>,
    fanout_limit: u64,
    cache: Mutex<Cache>,
    metrics: CacheMetrics,
}

struct Cached {
    group: Arc<Group>,
    read_at: Instant,
    /// Of a large group: who is a member and who is none, as far as anybody asked.
    looked_up: HashMap<UserId, Option<Member>>,
}

#[derive(Default)]
struct Cache {
    groups: HashMap<GroupId, Cached>,
    /// A channel never moves to another group.
    of_channel: HashMap<ChannelId, GroupId>,
    weight: usize,
    /// Groups that are being read, and what was hinted of them meanwhile.
    reading: HashMap<GroupId, Hinted>,
}

/// A read that began before a hint may end with the state of before.
#[derive(Default)]
struct Hinted {
    readers: usize,
    /// What was read is kept only from this position on.
    at_least: Seq,
}

/// A group being read from the store, until it is dropped.
pub(super) struct Reading<'a> {
    groups: &'a Groups,
    group: GroupId,
}

impl Groups {
    pub(super) fn new(store: Arc<dyn Store>, fanout_limit: u64, metrics: CacheMetrics) -> Self {
        Self {
            store,
            fanout_limit,
            cache: Mutex::default(),
            metrics,
        }
    }

    /// A group as of position `at_least` of its stream or later; perhaps up to 30 s old. With
    /// its members if it is small, without any if it is large: see [`Groups::with`].
    /// None if there is none. Deleted groups are returned (their rules refuse everything).
    ///
    /// # Errors
    ///
    /// [`StoreError`] if it had to be read and could not.
    pub async fn get(
        &self,
        group: GroupId,
        at_least: Seq,
    ) -> Result<Option<Arc<Group>>, StoreError> {
        match self.cached(group, at_least) {
            Some(cached) => Ok(Some(cached)),
            None => self.read(group).await,
        }
    }

    fn cached(&self, group: GroupId, at_least: Seq) -> Option<Arc<Group>> {
        let cache = self.cache();
        let Some(Cached { group, read_at, .. }) = cache.groups.get(&group) else {
            self.metrics.count("group", "miss");
            return None;
        };
        let age = read_at.elapsed();
        if age >= LIFETIME {
            self.metrics.count("group", "expired");
            return None;
        }
        if group.applied < at_least {
            self.metrics.stale(age);
            return None;
        }
        self.metrics.count("group", "hit");
        Some(group.clone())
    }

    /// The group of a channel, otherwise as [`Groups::get`].
    ///
    /// # Errors
    ///
    /// [`StoreError`] if it had to be read and could not.
    pub async fn of_channel(
        &self,
        channel: ChannelId,
        at_least: Seq,
    ) -> Result<Option<Arc<Group>>, StoreError> {
        let known = self.cache().of_channel.get(&channel).copied();
        let outcome = if known.is_some() { "hit" } else { "miss" };
        self.metrics.count("channel", outcome);
        let group = match known {
            Some(group) => group,
            None => match self.store.group_of(channel).await? {
                Some(group) => group,
                None => return Ok(None),
            },
        };
        self.get(group, at_least).await
    }

    /// A group as the store has it now, all committed entries applied: for what a cached one
    /// refuses.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if it could not be read.
    pub async fn fresh(&self, group: GroupId) -> Result<Option<Arc<Group>>, StoreError> {
        self.metrics.count("group", "reread");
        self.read(group).await
    }

    async fn read(&self, group: GroupId) -> Result<Option<Arc<Group>>, StoreError> {
        let reading = self.begin_reading(group);
        let mut state = self.store.group(group).await?;
        let stream = StreamId::Group(group);
        let applied = state.as_ref().map_or(0, |state| state.applied);
        if !self.store.pending_in(stream, applied, 1).await?.is_empty() {
            let store = self.store.as_ref();
            apply_pending(store, self.fanout_limit, stream, applied, Seq::MAX).await?;
            state = self.store.group(group).await?;
        }
        let state = state.map(Arc::new);
        if let Some(state) = &state {
            reading.keep(state);
        }
        Ok(state)
    }

    /// `group`, as it was got here, with those of `users` who are members; a small one has them
    /// already. What is said of them is at least as new as the group's `applied`.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if somebody had to be looked up and could not.
    pub async fn with(
        &self,
        group: Arc<Group>,
        users: &[UserId],
    ) -> Result<Arc<Group>, StoreError> {
        if !group.size.large {
            return Ok(group);
        }
        let mut known = self.looked_up(&group, users);
        let is_new = |user: &&UserId| !known.contains_key(*user);
        let unknown: Vec<UserId> = users.iter().filter(is_new).copied().collect();
        if !unknown.is_empty() {
            let found = self.store.members_among(group.id, &unknown).await?;
            known.extend(unknown.into_iter().map(|user| (user, None)));
            known.extend(found.into_iter().map(|(user, member)| (user, Some(member))));
            self.remember(&group, &known);
        }
        let members = known.into_iter();
        let members = members.filter_map(|(user, member)| Some((user, member?)));
        Ok(Arc::new(Group {
            members: members.collect(),
            ..Group::clone(&group)
        }))
    }

    fn looked_up(&self, group: &Arc<Group>, users: &[UserId]) -> HashMap<UserId, Option<Member>> {
        let mut cache = self.cache();
        let Some(cached) = cache.of_state(group) else {
            return HashMap::new();
        };
        let known = users.iter().filter_map(|user| {
            let member = cached.looked_up.get(user)?;
            Some((*user, *member))
        });
        known.collect()
    }

    fn remember(&self, group: &Arc<Group>, found: &HashMap<UserId, Option<Member>>) {
        if let Some(cached) = self.cache().of_state(group) {
            if cached.looked_up.len() + found.len() > LOOKED_UP {
                cached.looked_up.clear();
            }
            cached.looked_up.extend(found);
        }
    }

    pub(super) fn begin_reading(&self, group: GroupId) -> Reading<'_> {
        self.cache().reading.entry(group).or_default().readers += 1;
        Reading {
            groups: self,
            group,
        }
    }

    /// The group has reached position `seq`.
    pub(super) fn forget_before(&self, group: GroupId, seq: Seq) {
        let mut cache = self.cache();
        let stale = |cached: &Cached| cached.group.applied < seq;
        if cache.groups.get(&group).is_some_and(stale) {
            cache.remove(group);
        }
        if let Some(hinted) = cache.reading.get_mut(&group) {
            hinted.at_least = hinted.at_least.max(seq);
        }
    }

    pub(super) fn forget_all(&self) {
        let mut cache = self.cache();
        cache.clear();
        for hinted in cache.reading.values_mut() {
            hinted.at_least = Seq::MAX;
        }
    }

    fn cache(&self) -> MutexGuard<'_, Cache> {
        // Every change of the cache is complete before anything can panic.
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reading<'_> {
    pub(super) fn keep(&self, state: &Arc<Group>) {
        let mut cache = self.groups.cache();
        let hinted = cache.reading.get(&self.group);
        if hinted.is_none_or(|hinted| hinted.at_least <= state.applied) {
            cache.insert(state.clone());
        }
    }
}

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        let mut cache = self.groups.cache();
        if let Some(hinted) = cache.reading.get_mut(&self.group) {
            hinted.readers -= 1;
            if hinted.readers == 0 {
                cache.reading.remove(&self.group);
            }
        }
    }
}

impl Cache {
    fn clear(&mut self) {
        self.groups.clear();
        self.of_channel.clear();
        self.weight = 0;
    }

    fn insert(&mut self, group: Arc<Group>) {
        // A slower reader may come with an older state.
        if let Some(cached) = self.groups.get(&group.id)
            && cached.group.applied > group.applied
        {
            return;
        }
        self.remove(group.id);
        if self.weight + weight(&group) > WEIGHT_LIMIT {
            self.clear();
        }
        self.weight += weight(&group);
        for channel in group.channels.keys() {
            self.of_channel.insert(*channel, group.id);
        }
        let cached = Cached {
            group: group.clone(),
            read_at: Instant::now(),
            looked_up: HashMap::new(),
        };
        self.groups.insert(group.id, cached);
    }

    /// What is kept of a group, if it is this state of it.
    fn of_state(&mut self, group: &Arc<Group>) -> Option<&mut Cached> {
        let cached = self.groups.get_mut(&group.id)?;
        Arc::ptr_eq(&cached.group, group).then_some(cached)
    }

    fn remove(&mut self, group: GroupId) {
        if let Some(Cached { group, .. }) = self.groups.remove(&group) {
            self.weight -= weight(&group);
            for channel in group.channels.keys() {
                self.of_channel.remove(channel);
            }
        }
    }
}

fn weight(group: &Group) -> usize {
    1 + group.members.len() + group.channels.len()
}

/// Follows the bus's hints for as long as the process runs.
pub(super) async fn follow_hints(
    groups: Arc<Groups>,
    bus: Arc<dyn Bus>,
    stopping: CancellationToken,
) {
    let follow = async {
        loop {
            match bus.control().await {
                Ok(mut hints) => loop {
                    match hints.next().await {
                        Delivery::Control(Control::GroupChanged { group, seq }) => {
                            groups.forget_before(group, seq);
                        }
                        Delivery::Control(Control::SessionsEnded)
                        | Delivery::Delta(_)
                        | Delivery::Interrupted => {}
                        Delivery::Missed => groups.forget_all(),
                        Delivery::Closed => break,
                    }
                },
                Err(error) => tracing::debug!(
                    error = &error as &dyn std::error::Error,
                    "hints cannot be followed; trying again"
                ),
            }
            groups.forget_all();
            tokio::time::sleep(RETRY).await;
        }
    };
    stopping.run_until_cancelled(follow).await;
}
