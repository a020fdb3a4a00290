//! The bus on RabbitMQ. Deltas go to exchanges by the partitions of their recipients; every
//! server has one queue, bound to the partitions of the users who are connected there. Messages
//! are transient: what is lost is in the log.

mod bindings;
mod codec;
mod connection;
mod feed;
mod publisher;
#[cfg(test)]
mod tests;
mod topology;

pub use connection::{BadAddress, RabbitMqCounters};

use std::num::NonZeroU16;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use async_trait::async_trait;
use secrecy::{ExposeSecret as _, SecretString};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{Announcement, Bus, BusError, Control, Deliveries, QueueLimits, Subscription};
use crate::domain::{DeploymentId, ServerId};
use crate::tasks::Tasks;
use bindings::QueueBindings;
use codec::Codec;
use connection::{Broker, Failure, parse_addresses};
use feed::{Feed, Source};
use publisher::Publisher;
use topology::Topology;

/// Which broker, and what for.
#[derive(Debug, Clone)]
pub struct RabbitMqConfig {
    /// Of one cluster, tried in turn; not empty.
    pub urls: Vec<SecretString>,
    /// What the names of exchanges and queues begin with.
    pub prefix: String,
    pub partitions: NonZeroU16,
    /// At most `partitions`.
    pub exchanges: NonZeroU16,
    /// Messages of other installations are dropped.
    pub deployment: DeploymentId,
    pub limits: ConsumerLimits,
}

/// How much waits for one reader.
#[derive(Debug, Clone, Copy)]
pub struct ConsumerLimits {
    /// In the queue on the broker. Beyond either the oldest go, and [`super::Delivery::Missed`]
    /// says so.
    pub queue: QueueLimits,
    /// On their way to this process: sent by the broker, not yet acknowledged.
    pub prefetch: u16,
    /// In this process, for the reader to take.
    pub handover: usize,
}

impl Default for ConsumerLimits {
    fn default() -> Self {
        Self {
            queue: QueueLimits::default(),
            prefetch: 500,
            handover: 64,
        }
    }
}

/// [`Bus`] on a RabbitMQ broker or cluster, 3.10 or later. Dropping it shuts it down.
#[derive(Debug)]
pub struct RabbitMqBus {
    broker: Arc<Broker>,
    limits: ConsumerLimits,
    publisher: Publisher,
    /// Tells this run's queues from those of others.
    boot: String,
    subscriptions: AtomicU32,
    shutdown: CancellationToken,
    tasks: Tasks,
    _ends_with_this: DropGuard,
}

impl RabbitMqBus {
    /// Begins to connect. The broker may be away: until it is there, publishing and subscribing
    /// fail. What goes on in the background are `tasks`.
    ///
    /// # Errors
    ///
    /// [`BadAddress`] if a URL cannot be understood.
    pub fn start(config: RabbitMqConfig, tasks: &Tasks) -> Result<Self, BadAddress> {
        let urls = config.urls.iter().map(SecretString::expose_secret);
        let codec = Codec {
            topology: Topology {
                prefix: config.prefix,
                partitions: config.partitions,
                exchanges: config.exchanges,
            },
            deployment: config.deployment,
        };
        let broker = Arc::new(Broker::new(parse_addresses(urls)?, codec));
        let shutdown = CancellationToken::new();
        Ok(Self {
            publisher: Publisher::start(broker.clone(), shutdown.clone(), tasks),
            broker,
            limits: config.limits,
            boot: format!("{:08x}", fastrand::u32(..)),
            subscriptions: AtomicU32::new(0),
            _ends_with_this: shutdown.clone().drop_guard(),
            shutdown,
            tasks: tasks.clone(),
        })
    }

    /// What happens to the connections of this bus.
    #[must_use]
    pub fn counters(&self) -> &RabbitMqCounters {
        &self.broker.counters
    }

    /// Ends every subscription with [`super::Delivery::Closed`], after what has reached its
    /// reader, and refuses everything from now on.
    pub fn shutdown(&self) {
        self.shutdown.cancel();
    }

    async fn open(
        &self,
        name: String,
        server: Option<Arc<QueueBindings>>,
    ) -> Result<Feed, Failure> {
        if self.shutdown.is_cancelled() {
            return Err(Failure::ShutDown);
        }
        Feed::open(Source {
            broker: self.broker.clone(),
            limits: self.limits,
            server,
            name,
            shutdown: self.shutdown.clone(),
            tasks: self.tasks.clone(),
        })
        .await
    }

    /// Tells the queues of this run apart.
    fn next_boot(&self) -> String {
        let subscription = self.subscriptions.fetch_add(1, Ordering::Relaxed) + 1;
        format!("{}-{subscription}", self.boot)
    }
}

#[async_trait]
impl Bus for RabbitMqBus {
    async fn publish(&self, announcements: &[Announcement]) -> Vec<Result<(), BusError>> {
        let mut messages = Vec::with_capacity(announcements.len());
        let mut counts = Vec::with_capacity(announcements.len());
        for announcement in announcements {
            let before = messages.len();
            if let Some(envelope) = announcement.encode() {
                let kind = announcement.payload.kind();
                messages.extend(self.broker.codec.envelope(kind, &envelope));
            }
            counts.push(messages.len() - before);
        }
        if self.shutdown.is_cancelled() {
            return counts
                .iter()
                .map(|_| Err(Failure::ShutDown.into()))
                .collect();
        }
        let mut confirmed = self.publisher.publish(messages).await.into_iter();
        let all_of = |count| -> Result<(), BusError> {
            // All are taken, also after one that failed.
            let results: Vec<_> = confirmed.by_ref().take(count).collect();
            Ok(results.into_iter().collect::<Result<(), Failure>>()?)
        };
        counts.into_iter().map(all_of).collect()
    }

    async fn publish_control(&self, control: Control) -> Result<(), BusError> {
        let message = self.broker.codec.control(control);
        let confirmed = self.publisher.publish(vec![message]).await;
        Ok(confirmed.into_iter().collect::<Result<(), Failure>>()?)
    }

    async fn subscribe(&self, server: ServerId) -> Result<Subscription, BusError> {
        let topology = &self.broker.codec.topology;
        let bindings = Arc::new(QueueBindings::new(topology.clone()));
        let name = topology.server_queue(server, &self.next_boot());
        let feed = self.open(name, Some(bindings.clone())).await?;
        Ok(Subscription {
            bindings,
            deliveries: Box::new(feed),
        })
    }

    async fn control(&self) -> Result<Box<dyn Deliveries>, BusError> {
        let name = self.broker.codec.topology.control_queue(&self.next_boot());
        Ok(Box::new(self.open(name, None).await?))
    }

    async fn check(&self) -> Result<(), BusError> {
        if self.shutdown.is_cancelled() {
            return Err(Failure::ShutDown.into());
        }
        Ok(self.publisher.ready().await?)
    }
}
