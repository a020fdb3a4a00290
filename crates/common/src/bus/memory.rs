//! The bus inside one process: the same semantics as a broker, and the same limits.

use std::collections::{HashMap, VecDeque};
use std::num::NonZeroU16;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use tokio::sync::Notify;

use super::{
    Announcement, Bindings, Bus, BusError, Control, Deliveries, Delivery, Envelope, Recipients,
    Subscription,
};
use crate::domain::ServerId;

/// How much one queue holds. Beyond either bound the oldest go, and [`Delivery::Missed`] says so.
#[derive(Debug, Clone, Copy)]
pub struct QueueLimits {
    pub count: usize,
    /// Of bodies and recipients together.
    pub bytes: usize,
}

impl Default for QueueLimits {
    /// As the queues on RabbitMQ are declared.
    fn default() -> Self {
        Self {
            count: 50_000,
            bytes: 64 * 1024 * 1024,
        }
    }
}

/// [`Bus`] for a single process. Clones share everything.
#[derive(Debug, Clone)]
pub struct MemoryBus {
    exchange: Arc<Exchange>,
}

#[derive(Debug)]
struct Exchange {
    partitions: NonZeroU16,
    limits: QueueLimits,
    /// Locked before any queue's own lock, never the other way round.
    queues: Mutex<Queues>,
}

#[derive(Debug, Default)]
struct Queues {
    last_id: u64,
    open: HashMap<u64, Arc<Queue>>,
    shut_down: bool,
}

#[derive(Debug)]
struct Queue {
    /// None: control messages alone.
    server: Option<ServerId>,
    limits: QueueLimits,
    content: Mutex<Content>,
    /// Wakes the one consumer.
    arrived: Notify,
}

#[derive(Debug, Default)]
struct Content {
    waiting: VecDeque<Delivery>,
    bytes: usize,
    /// Something was dropped since the consumer was last told.
    missed: bool,
    closed: bool,
    /// One bit per partition; grows to the highest one bound.
    bound: Vec<u64>,
}

#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("it has been shut down")]
    ShutDown,
    #[error("the queue has been deleted")]
    QueueGone,
}

impl From<Refused> for BusError {
    fn from(reason: Refused) -> Self {
        Self(Box::new(reason))
    }
}

impl MemoryBus {
    #[must_use]
    pub fn new(partitions: NonZeroU16) -> Self {
        Self::with_limits(partitions, QueueLimits::default())
    }

    /// For tests of what happens at the limits.
    #[must_use]
    pub fn with_limits(partitions: NonZeroU16, limits: QueueLimits) -> Self {
        Self {
            exchange: Arc::new(Exchange {
                partitions,
                limits,
                queues: Mutex::default(),
            }),
        }
    }

    /// Ends every queue with [`Delivery::Closed`], after what waits in it, and refuses
    /// everything from now on.
    pub fn shutdown(&self) {
        let mut queues = lock(&self.exchange.queues);
        queues.shut_down = true;
        for queue in std::mem::take(&mut queues.open).into_values() {
            lock(&queue.content).closed = true;
            queue.arrived.notify_one();
        }
    }

    /// Does to a server what the loss of its connection to a broker does: what waits in its
    /// queue is lost, its bindings are in force again, and it is told.
    pub fn sever(&self, server: ServerId) {
        for queue in lock(&self.exchange.queues).open.values() {
            if queue.server == Some(server) {
                let mut content = lock(&queue.content);
                content.waiting.clear();
                content.bytes = 0;
                content.missed = true;
                queue.arrived.notify_one();
            }
        }
    }

    /// Tells a server that the broker is away. [`MemoryBus::sever`] is its return.
    pub fn interrupt(&self, server: ServerId) {
        for queue in lock(&self.exchange.queues).open.values() {
            if queue.server == Some(server) {
                queue.push(Delivery::Interrupted);
            }
        }
    }

    /// Servers and control subscribers that have a queue now.
    #[must_use]
    pub fn queue_count(&self) -> usize {
        lock(&self.exchange.queues).open.len()
    }

    fn open(&self, server: Option<ServerId>) -> Result<(Arc<Queue>, Box<Consumer>), BusError> {
        let mut queues = lock(&self.exchange.queues);
        if queues.shut_down {
            return Err(Refused::ShutDown.into());
        }
        queues.last_id += 1;
        let id = queues.last_id;
        let queue = Arc::new(Queue {
            server,
            limits: self.exchange.limits,
            content: Mutex::default(),
            arrived: Notify::new(),
        });
        queues.open.insert(id, queue.clone());
        let consumer = Consumer {
            id,
            queue: queue.clone(),
            exchange: self.exchange.clone(),
        };
        Ok((queue, Box::new(consumer)))
    }
}

#[async_trait]
impl Bus for MemoryBus {
    async fn publish(&self, announcements: &[Announcement]) -> Vec<Result<(), BusError>> {
        let encoded: Vec<_> = announcements
            .iter()
            .map(|announcement| announcement.encode().map(Arc::new))
            .collect();
        let queues = lock(&self.exchange.queues);
        encoded
            .into_iter()
            .map(|envelope| {
                if queues.shut_down {
                    return Err(Refused::ShutDown.into());
                }
                if let Some(envelope) = envelope {
                    for queue in queues.open.values() {
                        queue.offer(&envelope, self.exchange.partitions);
                    }
                }
                Ok(())
            })
            .collect()
    }

    async fn publish_control(&self, control: Control) -> Result<(), BusError> {
        let queues = lock(&self.exchange.queues);
        if queues.shut_down {
            return Err(Refused::ShutDown.into());
        }
        for queue in queues.open.values() {
            queue.push(Delivery::Control(control));
        }
        Ok(())
    }

    async fn subscribe(&self, server: ServerId) -> Result<Subscription, BusError> {
        let (queue, deliveries) = self.open(Some(server))?;
        Ok(Subscription {
            bindings: queue,
            deliveries,
        })
    }

    async fn control(&self) -> Result<Box<dyn Deliveries>, BusError> {
        let (_, deliveries) = self.open(None)?;
        Ok(deliveries)
    }

    async fn check(&self) -> Result<(), BusError> {
        if lock(&self.exchange.queues).shut_down {
            return Err(Refused::ShutDown.into());
        }
        Ok(())
    }
}

impl Queue {
    fn offer(&self, envelope: &Arc<Envelope>, partitions: NonZeroU16) {
        if self.server.is_none() {
            return;
        }
        let wanted = match &envelope.to {
            Recipients::Group(_) | Recipients::Watchers(_) => true,
            Recipients::Users(users) => {
                let content = lock(&self.content);
                users
                    .iter()
                    .any(|user| content.follows(user.partition(partitions)))
            }
        };
        if wanted {
            self.push(Delivery::Delta(envelope.clone()));
        }
    }

    fn push(&self, delivery: Delivery) {
        let mut content = lock(&self.content);
        content.bytes += size(&delivery);
        content.waiting.push_back(delivery);
        while content.waiting.len() > self.limits.count || content.bytes > self.limits.bytes {
            let Some(oldest) = content.waiting.pop_front() else {
                break;
            };
            content.bytes -= size(&oldest);
            content.missed = true;
        }
        drop(content);
        self.arrived.notify_one();
    }
}

/// What a delivery counts towards [`QueueLimits::bytes`].
fn size(delivery: &Delivery) -> usize {
    match delivery {
        Delivery::Delta(envelope) => {
            let recipients = match &envelope.to {
                Recipients::Users(users) => users.len(),
                Recipients::Group(_) | Recipients::Watchers(_) => 1,
            };
            envelope.body.len() + 16 * recipients
        }
        Delivery::Control(_) | Delivery::Interrupted | Delivery::Missed | Delivery::Closed => 0,
    }
}

impl Content {
    fn follows(&self, partition: u16) -> bool {
        let (word, bit) = place(partition);
        self.bound.get(word).is_some_and(|bits| bits & bit != 0)
    }
}

/// The word and the bit in it that stand for a partition.
fn place(partition: u16) -> (usize, u64) {
    (usize::from(partition / 64), 1 << (partition % 64))
}

#[async_trait]
impl Bindings for Queue {
    async fn bind(&self, partition: u16) -> Result<(), BusError> {
        let (word, bit) = place(partition);
        let mut content = lock(&self.content);
        if content.closed {
            return Err(Refused::QueueGone.into());
        }
        if content.bound.len() <= word {
            content.bound.resize(word + 1, 0);
        }
        content.bound[word] |= bit;
        Ok(())
    }

    async fn unbind(&self, partition: u16) -> Result<(), BusError> {
        let (word, bit) = place(partition);
        let mut content = lock(&self.content);
        if content.closed {
            return Err(Refused::QueueGone.into());
        }
        if let Some(bits) = content.bound.get_mut(word) {
            *bits &= !bit;
        }
        Ok(())
    }
}

struct Consumer {
    id: u64,
    queue: Arc<Queue>,
    exchange: Arc<Exchange>,
}

#[async_trait]
impl Deliveries for Consumer {
    async fn next(&mut self) -> Delivery {
        loop {
            {
                let mut content = lock(&self.queue.content);
                if std::mem::take(&mut content.missed) {
                    return Delivery::Missed;
                }
                if let Some(delivery) = content.waiting.pop_front() {
                    content.bytes -= size(&delivery);
                    return delivery;
                }
                if content.closed {
                    return Delivery::Closed;
                }
            }
            // A permit left by an arrival between the check and here is kept by `Notify`.
            self.queue.arrived.notified().await;
        }
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        lock(&self.exchange.queues).open.remove(&self.id);
        let mut content = lock(&self.queue.content);
        content.closed = true;
        content.waiting = VecDeque::new();
        content.bytes = 0;
    }
}

/// A panic elsewhere leaves nothing half-done under these locks: every section is a few moves.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::future::ready;

    use super::super::contract::{Fixture, bus_contract};
    use super::*;

    async fn fresh_bus() -> Option<Fixture> {
        let limits = QueueLimits {
            count: 16,
            bytes: 16 * 1024,
        };
        let bus = MemoryBus::with_limits(Fixture::PARTITIONS, limits);
        let (severed, counted, stopped) = (bus.clone(), bus.clone(), bus.clone());
        Some(Fixture {
            bus: Arc::new(bus),
            queue_count: limits.count,
            queue_bytes: limits.bytes,
            on_their_way: 0,
            exchanges: 1,
            sever: Box::new(move |server| {
                severed.sever(server);
                Box::pin(ready(()))
            }),
            open_queues: Box::new(move |_| Box::pin(ready(counted.queue_count()))),
            shutdown: Box::new(move || stopped.shutdown()),
        })
    }

    bus_contract!(fresh_bus);
}
