//! A bus whose deliveries can be watched, added to, and made to break their reader.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use tidings_common::bus::{
    Announcement, Bus, BusError, Control, Deliveries, Delivery, Subscription,
};
use tidings_common::domain::ServerId;
use tokio::sync::Notify;

/// A hold on a [`TappedBus`]. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Tap(Arc<Valve>);

#[derive(Default)]
struct Valve {
    breaks: AtomicBool,
    added: Mutex<Vec<Delivery>>,
    has_added: Notify,
    interrupted: AtomicUsize,
    missed: AtomicUsize,
}

impl Tap {
    /// The next delivery breaks the task that takes it.
    pub(crate) fn break_reader(&self) {
        self.0.breaks.store(true, Ordering::SeqCst);
    }

    /// Delivers something that does not come from the bus.
    pub(crate) fn deliver(&self, delivery: Delivery) {
        self.0.added.lock().unwrap().push(delivery);
        self.0.has_added.notify_one();
    }

    /// How many times the server was told that the broker is away.
    pub(crate) fn interrupted(&self) -> usize {
        self.0.interrupted.load(Ordering::SeqCst)
    }

    /// How many times the server was told that it may have missed something.
    pub(crate) fn missed(&self) -> usize {
        self.0.missed.load(Ordering::SeqCst)
    }
}

impl Valve {
    async fn next_added(&self) -> Delivery {
        loop {
            if let Some(delivery) = self.added.lock().unwrap().pop() {
                return delivery;
            }
            self.has_added.notified().await;
        }
    }
}

pub(crate) struct TappedBus {
    bus: Arc<dyn Bus>,
    tap: Tap,
}

impl TappedBus {
    pub(crate) fn new(bus: Arc<dyn Bus>, tap: Tap) -> Self {
        Self { bus, tap }
    }
}

#[async_trait]
impl Bus for TappedBus {
    async fn publish(&self, announcements: &[Announcement]) -> Vec<Result<(), BusError>> {
        self.bus.publish(announcements).await
    }

    async fn publish_control(&self, control: Control) -> Result<(), BusError> {
        self.bus.publish_control(control).await
    }

    async fn subscribe(&self, server: ServerId) -> Result<Subscription, BusError> {
        let subscription = self.bus.subscribe(server).await?;
        let deliveries = TappedDeliveries {
            inner: subscription.deliveries,
            tap: self.tap.clone(),
        };
        Ok(Subscription {
            bindings: subscription.bindings,
            deliveries: Box::new(deliveries),
        })
    }

    async fn control(&self) -> Result<Box<dyn Deliveries>, BusError> {
        self.bus.control().await
    }

    async fn check(&self) -> Result<(), BusError> {
        self.bus.check().await
    }
}

struct TappedDeliveries {
    inner: Box<dyn Deliveries>,
    tap: Tap,
}

#[async_trait]
impl Deliveries for TappedDeliveries {
    async fn next(&mut self) -> Delivery {
        let valve = &self.tap.0;
        let delivery = tokio::select! {
            delivery = self.inner.next() => delivery,
            delivery = valve.next_added() => delivery,
        };
        let breaks = valve.breaks.load(Ordering::SeqCst);
        assert!(!breaks, "as the test wants it");
        match delivery {
            Delivery::Interrupted => valve.interrupted.fetch_add(1, Ordering::SeqCst),
            Delivery::Missed => valve.missed.fetch_add(1, Ordering::SeqCst),
            _ => 0,
        };
        delivery
    }
}
