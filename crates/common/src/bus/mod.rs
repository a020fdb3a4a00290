//! How deltas travel from the process that committed them to the servers that hold the
//! recipients' connections. Delivery is at least once and may lose: whoever may have missed
//! something is told so ([`Delivery::Missed`]), and the log has it.

#[cfg(test)]
mod contract;
mod envelope;
mod memory;
mod rabbitmq;

pub use envelope::{
    Announcement, Audience, Broadcast, Control, Envelope, Part, Payload, Recipients, TraceContext,
};
pub use memory::{MemoryBus, QueueLimits};
pub use rabbitmq::{BadAddress, ConsumerLimits, RabbitMqBus, RabbitMqConfig, RabbitMqCounters};

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::timeout;

use crate::domain::ServerId;

/// A message broker, or what stands for one inside a single process.
#[async_trait]
pub trait Bus: Send + Sync {
    /// Publishes announcements and returns, in their order, whether the broker confirmed each.
    /// Those of one stream reach every subscriber in the order of the slice. Confirmed means
    /// accepted for every server that has a recipient's partition bound, not delivered. While
    /// the broker is away, or takes nothing, the answer is an error at once. What was reported
    /// as an error may still arrive, later than what was published after it.
    async fn publish(&self, announcements: &[Announcement]) -> Vec<Result<(), BusError>>;

    /// Sends a hint to every process. Hints may be lost; what they hint at is in the log.
    ///
    /// # Errors
    ///
    /// [`BusError`] if the broker did not take it.
    async fn publish_control(&self, control: Control) -> Result<(), BusError>;

    /// Opens this server's queue, and opens it again whenever the broker was away. It gets
    /// broadcasts (to large groups, and to watchers) and control messages at once, and deltas of
    /// the partitions that it binds: each recipient is named once, in one copy or in several with
    /// different recipients. The queue is bounded; where it overflows, the oldest go and
    /// [`Delivery::Missed`] says so, sooner or later than the newest come.
    ///
    /// # Errors
    ///
    /// [`BusError`] if the broker cannot be reached.
    async fn subscribe(&self, server: ServerId) -> Result<Subscription, BusError>;

    /// A stream of control messages alone, bounded and opened again as a server's queue is.
    /// Dropping it ends it.
    ///
    /// # Errors
    ///
    /// [`BusError`] if the broker cannot be reached.
    async fn control(&self) -> Result<Box<dyn Deliveries>, BusError>;

    /// Whether messages can be published now.
    ///
    /// # Errors
    ///
    /// [`BusError`] if not.
    async fn check(&self) -> Result<(), BusError>;
}

/// How long [`publish_ephemeral`] takes at most.
const EPHEMERAL_DEADLINE: Duration = Duration::from_secs(1);

/// Publishes what is not stored: best effort, for at most a second.
pub async fn publish_ephemeral(bus: &dyn Bus, announcements: &[Announcement]) {
    if announcements.is_empty() {
        return;
    }
    let outcomes = timeout(EPHEMERAL_DEADLINE, bus.publish(announcements)).await;
    if !outcomes.is_ok_and(|outcomes| outcomes.iter().all(Result::is_ok)) {
        tracing::debug!("ephemeral deltas were perhaps not published");
    }
}

/// A server's queue: what it follows, and what comes. Dropping `deliveries` deletes the queue,
/// soon and in the background.
pub struct Subscription {
    pub bindings: Arc<dyn Bindings>,
    pub deliveries: Box<dyn Deliveries>,
}

/// What a server's queue follows.
#[async_trait]
pub trait Bindings: Send + Sync {
    /// Once this returns, every delta published to a recipient in `partition` comes.
    /// Binding twice is binding once.
    ///
    /// # Errors
    ///
    /// [`BusError`]: it may or may not be bound.
    async fn bind(&self, partition: u16) -> Result<(), BusError>;

    /// Stops following `partition`. What is queued already still comes.
    ///
    /// # Errors
    ///
    /// [`BusError`]: it may or may not be bound.
    async fn unbind(&self, partition: u16) -> Result<(), BusError>;
}

/// What comes out of a queue.
#[async_trait]
pub trait Deliveries: Send {
    /// The next delivery. Cancel-safe. After [`Delivery::Closed`] it returns that for ever.
    async fn next(&mut self) -> Delivery;
}

/// One thing out of a queue.
#[derive(Debug, Clone)]
pub enum Delivery {
    Delta(Arc<Envelope>),
    Control(Control),
    /// The broker is away: nothing comes until [`Delivery::Missed`] says that it is back.
    Interrupted,
    /// Some deltas or control messages were lost, or may have been. Bindings are in force. What
    /// came before may come once more.
    Missed,
    /// The bus has been shut down.
    Closed,
}

/// The broker did not do it, or did not say that it did.
#[derive(Debug, thiserror::Error)]
#[error("the bus is unavailable")]
pub struct BusError(#[source] pub Box<dyn Error + Send + Sync>);
