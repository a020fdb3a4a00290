//! Which partitions this server follows: bound when the first user of one arrives, unbound some
//! time after the last has left. One task binds and unbinds, many partitions at once but none
//! twice at a time, so the two are never reordered.

use std::collections::HashMap;
use std::num::NonZeroU16;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use tidings_common::bus::{Bindings, BusError};
use tidings_common::domain::UserId;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, sleep_until};

/// How long a partition stays bound after its last user has left, so that a reconnect costs the
/// broker nothing.
pub(crate) const UNBIND_AFTER: Duration = Duration::from_secs(60);
/// Between attempts at a broker that does not answer: doubled from the first to the last, with
/// jitter.
const FIRST_RETRY: Duration = Duration::from_millis(100);
const LAST_RETRY: Duration = Duration::from_secs(5);
/// Requests to the broker under way at once: a thousand partitions cost few round trips.
const PIPELINED: usize = 64;

#[derive(Debug)]
pub(crate) struct Partitions {
    count: NonZeroU16,
    unbind_after: Duration,
    /// At most one per partition.
    slots: Mutex<HashMap<u16, Slot>>,
    /// Wakes the binder.
    changed: Notify,
    /// Wakes it from a pause between attempts.
    returned: Notify,
}

#[derive(Debug)]
struct Slot {
    /// Connections of users in this partition.
    holders: usize,
    /// When the last one left.
    idle_since: Instant,
    bound: watch::Sender<bool>,
}

/// What the binder does with a partition.
#[derive(Debug, Clone, Copy)]
enum Work {
    Bind(u16),
    Unbind(u16),
}

impl Partitions {
    pub(crate) fn new(count: NonZeroU16, unbind_after: Duration) -> Arc<Self> {
        Arc::new(Self {
            count,
            unbind_after,
            slots: Mutex::default(),
            changed: Notify::new(),
            returned: Notify::new(),
        })
    }

    /// Counts one more connection of this user and returns the user's partition.
    pub(crate) fn acquire(&self, user: UserId) -> u16 {
        let partition = user.partition(self.count);
        let mut slots = self.lock();
        let slot = slots.entry(partition).or_insert_with(Slot::new);
        slot.holders += 1;
        let is_bound = *slot.bound.borrow();
        drop(slots);
        if !is_bound {
            self.changed.notify_one();
        }
        partition
    }

    /// Counts one connection less.
    pub(crate) fn release(&self, partition: u16) {
        let mut slots = self.lock();
        if let Some(slot) = slots.get_mut(&partition) {
            slot.holders -= 1;
            if slot.holders == 0 {
                slot.idle_since = Instant::now();
                drop(slots);
                self.changed.notify_one();
            }
        }
    }

    /// Returns when a partition that the caller has acquired is bound.
    pub(crate) async fn bound(&self, partition: u16) {
        let Some(mut bound) = self
            .lock()
            .get(&partition)
            .map(|slot| slot.bound.subscribe())
        else {
            return;
        };
        // The sender stays while there are holders; were it gone, there would be nothing left
        // to wait for.
        let _sender_gone = bound.wait_for(|bound| *bound).await.is_err();
    }

    /// Binds and unbinds for ever. To be run by one task; dropping it leaves bindings as they
    /// are.
    pub(crate) async fn keep_bound(&self, bindings: &dyn Bindings) {
        let mut retry = FIRST_RETRY;
        loop {
            let (work, wake_at) = self.due(Instant::now());
            if work.is_empty() {
                self.wait(wake_at).await;
                continue;
            }
            let outcomes = stream::iter(work)
                .map(|work| self.perform(work, bindings))
                .buffer_unordered(PIPELINED);
            let failures: Vec<BusError> =
                outcomes.filter_map(async |done| done.err()).collect().await;
            let Some(error) = failures.first() else {
                retry = FIRST_RETRY;
                continue;
            };
            tracing::warn!(
                partitions = failures.len(),
                error = error as &dyn std::error::Error,
                "partitions could not be bound or unbound; trying again"
            );
            tokio::select! {
                () = sleep(retry.mul_f64(0.5 + fastrand::f64() / 2.0)) => {
                    retry = (retry * 2).min(LAST_RETRY);
                }
                () = self.returned.notified() => retry = FIRST_RETRY,
            }
        }
    }

    /// The broker is back: what failed is tried at once.
    pub(crate) fn try_now(&self) {
        self.returned.notify_one();
    }

    async fn perform(&self, work: Work, bindings: &dyn Bindings) -> Result<(), BusError> {
        match work {
            Work::Bind(partition) => {
                bindings.bind(partition).await?;
                self.set_bound(partition);
            }
            Work::Unbind(partition) => {
                bindings.unbind(partition).await?;
                self.forget(partition);
            }
        }
        Ok(())
    }

    async fn wait(&self, until: Option<Instant>) {
        let changed = self.changed.notified();
        match until {
            // A permit is kept by `Notify`, so a cancelled wait loses nothing.
            Some(until) => tokio::select! {
                () = changed => {}
                () = sleep_until(until) => {}
            },
            None => changed.await,
        }
    }

    /// What is to be done now, each partition once, and when there may be more.
    fn due(&self, now: Instant) -> (Vec<Work>, Option<Instant>) {
        let mut work = Vec::new();
        let mut wake_at = None;
        let mut slots = self.lock();
        for (partition, slot) in slots.iter_mut() {
            if slot.holders > 0 {
                if !*slot.bound.borrow() {
                    work.push(Work::Bind(*partition));
                }
                continue;
            }
            let due = slot.idle_since + self.unbind_after;
            if due <= now {
                // From here on, whoever comes waits for a new binding.
                slot.bound.send_replace(false);
                work.push(Work::Unbind(*partition));
            } else {
                wake_at = Some(wake_at.map_or(due, |earlier: Instant| earlier.min(due)));
            }
        }
        (work, wake_at)
    }

    fn set_bound(&self, partition: u16) {
        if let Some(slot) = self.lock().get(&partition) {
            slot.bound.send_replace(true);
        }
    }

    /// Forgets a partition that has been unbound, unless somebody came meanwhile.
    fn forget(&self, partition: u16) {
        let mut slots = self.lock();
        if slots.get(&partition).is_some_and(|slot| slot.holders == 0) {
            slots.remove(&partition);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u16, Slot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slot {
    fn new() -> Self {
        Self {
            holders: 0,
            idle_since: Instant::now(),
            bound: watch::Sender::new(false),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use async_trait::async_trait;

    use super::*;

    /// Records what is asked of it, and fails on demand.
    #[derive(Debug, Default)]
    struct Broker {
        calls: Mutex<Vec<(&'static str, u16)>>,
        down: AtomicBool,
    }

    impl Broker {
        fn call(&self, what: &'static str, partition: u16) -> Result<(), BusError> {
            self.calls.lock().unwrap().push((what, partition));
            if self.down.load(Ordering::SeqCst) {
                return Err(BusError("down".into()));
            }
            Ok(())
        }

        fn calls(&self) -> Vec<(&'static str, u16)> {
            std::mem::take(&mut self.calls.lock().unwrap())
        }
    }

    #[async_trait]
    impl Bindings for Broker {
        async fn bind(&self, partition: u16) -> Result<(), BusError> {
            self.call("bind", partition)
        }

        async fn unbind(&self, partition: u16) -> Result<(), BusError> {
            self.call("unbind", partition)
        }
    }

    fn start() -> (Arc<Partitions>, Arc<Broker>, tokio::task::JoinHandle<()>) {
        let partitions = Partitions::new(NonZeroU16::new(8).unwrap(), UNBIND_AFTER);
        let broker = Arc::new(Broker::default());
        let (kept, used) = (partitions.clone(), broker.clone());
        let binder = tokio::spawn(async move { kept.keep_bound(&*used).await });
        (partitions, broker, binder)
    }

    fn user_in(partition: u8) -> UserId {
        let mut bytes = [7; 16];
        bytes[8..].copy_from_slice(&u64::from(partition).to_be_bytes());
        UserId::from_bytes(bytes)
    }

    #[tokio::test(start_paused = true)]
    async fn a_partition_is_bound_once_and_unbound_a_minute_after_the_last_left() {
        let (partitions, broker, _binder) = start();
        for _ in 0..3 {
            assert_eq!(partitions.acquire(user_in(3)), 3);
        }
        partitions.bound(3).await;
        partitions.bound(3).await;
        assert_eq!(broker.calls(), [("bind", 3)]);
        for _ in 0..3 {
            partitions.release(3);
        }
        sleep(Duration::from_secs(59)).await;
        assert_eq!(broker.calls(), []);
        sleep(Duration::from_secs(2)).await;
        assert_eq!(broker.calls(), [("unbind", 3)]);
        assert_eq!(partitions.lock().len(), 0);
        partitions.acquire(user_in(3));
        partitions.bound(3).await;
        assert_eq!(broker.calls(), [("bind", 3)]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_user_who_comes_back_in_time_costs_nothing() {
        let (partitions, broker, _binder) = start();
        partitions.acquire(user_in(3));
        partitions.bound(3).await;
        for _ in 0..5 {
            partitions.release(3);
            sleep(Duration::from_secs(30)).await;
            partitions.acquire(user_in(3));
            partitions.bound(3).await;
            sleep(Duration::from_secs(45)).await;
        }
        assert_eq!(broker.calls(), [("bind", 3)]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_broker_that_is_down_is_asked_again_until_it_answers() {
        let (partitions, broker, _binder) = start();
        broker.down.store(true, Ordering::SeqCst);
        partitions.acquire(user_in(5));
        let waited = tokio::time::timeout(Duration::from_secs(60), partitions.bound(5)).await;
        assert!(waited.is_err(), "not bound while the broker is down");
        let attempts = broker.calls().len();
        assert!((10..60).contains(&attempts), "{attempts}");
        broker.down.store(false, Ordering::SeqCst);
        partitions.bound(5).await;
    }

    /// Answers a request a second after it came.
    #[derive(Debug, Default)]
    struct FarAway(Broker);

    #[async_trait]
    impl Bindings for FarAway {
        async fn bind(&self, partition: u16) -> Result<(), BusError> {
            sleep(Duration::from_secs(1)).await;
            self.0.call("bind", partition)
        }

        async fn unbind(&self, partition: u16) -> Result<(), BusError> {
            sleep(Duration::from_secs(1)).await;
            self.0.call("unbind", partition)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn many_partitions_are_bound_at_once_and_as_soon_as_the_broker_is_back() {
        let partitions = Partitions::new(NonZeroU16::new(256).unwrap(), UNBIND_AFTER);
        let broker = Arc::new(FarAway::default());
        broker.0.down.store(true, Ordering::SeqCst);
        let (kept, used) = (partitions.clone(), broker.clone());
        let _binder = tokio::spawn(async move { kept.keep_bound(&*used).await });
        for partition in 0..=255 {
            partitions.acquire(user_in(partition));
        }
        // Long enough for the pauses to be as long as they get. The broker returns as one begins.
        sleep(Duration::from_secs(60)).await;
        broker.0.calls();
        while broker.0.calls.lock().unwrap().len() < 256 {
            sleep(Duration::from_millis(10)).await;
        }
        broker.0.down.store(false, Ordering::SeqCst);
        broker.0.calls();
        partitions.try_now();
        let began = Instant::now();
        for partition in 0..=255 {
            partitions.bound(partition).await;
        }
        // 256 requests, 64 at once, each of which takes a second.
        let took = began.elapsed();
        assert!(took < Duration::from_millis(4_500), "{took:?}");
        assert_eq!(broker.0.calls().len(), 256);
    }
}
