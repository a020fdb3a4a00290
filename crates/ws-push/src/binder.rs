//! Which partitions this server follows: bound when the first user of one arrives, unbound some
//! time after the last has left. One task binds and unbinds, so the two are never reordered.

use std::collections::HashMap;
use std::num::NonZeroU16;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

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

#[derive(Debug)]
pub(crate) struct Partitions {
    count: NonZeroU16,
    unbind_after: Duration,
    /// At most one per partition.
    slots: Mutex<HashMap<u16, Slot>>,
    /// Wakes the binder.
    changed: Notify,
}

#[derive(Debug)]
struct Slot {
    /// Connections of users in this partition.
    holders: usize,
    /// When the last one left.
    idle_since: Instant,
    bound: watch::Sender<bool>,
}

/// What the binder does next.
enum Work {
    Bind(u16),
    Unbind(u16),
    Wait(Option<Instant>),
}

impl Partitions {
    pub(crate) fn new(count: NonZeroU16, unbind_after: Duration) -> Arc<Self> {
        Arc::new(Self {
            count,
            unbind_after,
            slots: Mutex::default(),
            changed: Notify::new(),
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
            let (partition, done) = match self.next_work(Instant::now()) {
                Work::Wait(until) => {
                    self.wait(until).await;
                    continue;
                }
                Work::Bind(partition) => {
                    let done = bindings.bind(partition).await;
                    if done.is_ok() {
                        self.set_bound(partition);
                    }
                    (partition, done)
                }
                Work::Unbind(partition) => {
                    let done = bindings.unbind(partition).await;
                    if done.is_ok() {
                        self.forget(partition);
                    }
                    (partition, done)
                }
            };
            match done {
                Ok(()) => retry = FIRST_RETRY,
                Err(error) => {
                    warn_of(partition, &error);
                    sleep(retry.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
                    retry = (retry * 2).min(LAST_RETRY);
                }
            }
        }
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

    fn next_work(&self, now: Instant) -> Work {
        let mut wake_at = None;
        let mut slots = self.lock();
        for (partition, slot) in slots.iter_mut() {
            if slot.holders > 0 {
                if !*slot.bound.borrow() {
                    return Work::Bind(*partition);
                }
                continue;
            }
            let due = slot.idle_since + self.unbind_after;
            if due <= now {
                // From here on, whoever comes waits for a new binding.
                slot.bound.send_replace(false);
                return Work::Unbind(*partition);
            }
            wake_at = Some(wake_at.map_or(due, |earlier: Instant| earlier.min(due)));
        }
        Work::Wait(wake_at)
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

fn warn_of(partition: u16, error: &BusError) {
    tracing::warn!(
        bus.partition = partition,
        error = error as &dyn std::error::Error,
        "a partition could not be bound or unbound; trying again"
    );
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
}
