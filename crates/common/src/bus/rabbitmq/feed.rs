//! A queue that is read for as long as somebody takes what comes: a server's, or that of a
//! process that follows hints. One task owns its connection, and makes another when it is lost.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt as _;
use lapin::message::Delivery as Message;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicQosOptions, QueueBindOptions, QueueDeleteOptions,
    QueuePurgeOptions,
};
use lapin::types::{FieldTable, ShortString};
use lapin::{Channel, Consumer};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::super::{Deliveries, Delivery};
use super::ConsumerLimits;
use super::bindings::{Live, QueueBindings};
use super::connection::{Backoff, Broker, Failure, Link, Purpose, due, request};
use super::topology::{Lifetime, declare_queue, lost};
use crate::tasks::Tasks;

/// Deliveries are acknowledged together when so many have come, or so much time has passed.
const ACK_BATCH: u16 = 50;
const ACK_INTERVAL: Duration = Duration::from_millis(20);
/// While a queue goes on overflowing, its reader is told this often.
const OVERFLOW_INTERVAL: Duration = Duration::from_secs(1);

/// What is read, and how.
pub(super) struct Source {
    pub(super) broker: Arc<Broker>,
    pub(super) limits: ConsumerLimits,
    /// None: hints alone.
    pub(super) server: Option<Arc<QueueBindings>>,
    /// The queue's name without what tells its incarnations apart.
    pub(super) name: String,
    pub(super) shutdown: CancellationToken,
    pub(super) tasks: Tasks,
}

/// The reading end. Dropping it deletes the queue.
pub(super) struct Feed(mpsc::Receiver<Delivery>);

#[async_trait]
impl Deliveries for Feed {
    async fn next(&mut self) -> Delivery {
        // Cancel-safe; None for ever once the task has ended.
        self.0.recv().await.unwrap_or(Delivery::Closed)
    }
}

impl Feed {
    /// Opens the queue and reads it in the background.
    pub(super) async fn open(source: Source) -> Result<Self, Failure> {
        let (deliveries, feed) = mpsc::channel(source.limits.handover);
        let mut task = FeedTask {
            source,
            deliveries,
            incarnation: 1,
        };
        let queue = task.connect().await?;
        let tasks = task.source.tasks.clone();
        // It ends with its reader, and nobody waits for it.
        drop(tasks.spawn("queue", task.run(queue)));
        Ok(Self(feed))
    }
}

struct FeedTask {
    source: Source,
    deliveries: mpsc::Sender<Delivery>,
    /// Of the queue's name.
    incarnation: u32,
}

/// An open queue with its consumers.
struct Queue {
    link: Link,
    name: Arc<str>,
    messages: Consumer,
    /// Where bindings are made, and where `lost` is consumed.
    bindings: Channel,
    lost: Consumer,
}

/// Why a queue is not read any more.
enum Ended {
    Lost(Option<lapin::Error>),
    /// Nobody reads, or the bus is shut down.
    Stopped,
}

impl FeedTask {
    async fn run(mut self, mut queue: Queue) {
        loop {
            let ended = self.read(&mut queue).await;
            if let Some(server) = &self.source.server {
                server.interrupt();
            }
            let error = match ended {
                Ended::Stopped => return queue.delete().await,
                Ended::Lost(error) => error,
            };
            tracing::warn!(
                queue = &*queue.name,
                error = error.as_ref().map(|error| error as &dyn Error),
                "a queue or its connection was lost; opening it again"
            );
            let told = self.hand_over(Delivery::Interrupted).await;
            // What was not acknowledged is in the queue again once its channel has ended.
            queue.link.close().await;
            if told.is_err() {
                return;
            }
            let Some(again) = self.connect_again().await else {
                return;
            };
            queue = again;
            tracing::info!(queue = &*queue.name, "the queue is open again");
            if self.hand_over(Delivery::Missed).await.is_err() {
                return queue.delete().await;
            }
        }
    }

    /// None: there is nobody left to read.
    async fn connect_again(&mut self) -> Option<Queue> {
        let mut backoff = Backoff::new();
        let (deliveries, shutdown) = (self.deliveries.clone(), self.source.shutdown.clone());
        let connecting = async {
            loop {
                backoff.pause().await;
                match self.connect().await {
                    Ok(queue) => return queue,
                    Err(failure) => tracing::warn!(
                        queue = self.source.name,
                        error = &failure as &dyn Error,
                        "a queue could not be opened; trying again"
                    ),
                }
            }
        };
        tokio::select! {
            queue = connecting => Some(queue),
            // A queue that was being declared expires.
            () = deliveries.closed() => None,
            () = shutdown.cancelled() => None,
        }
    }

    async fn connect(&mut self) -> Result<Queue, Failure> {
        let purpose = if self.source.server.is_some() {
            Purpose::CONSUME
        } else {
            Purpose::CONTROL
        };
        let link = self.source.broker.connect(purpose).await?;
        let name: Arc<str> = format!("{}.{}", self.source.name, self.incarnation).into();
        match self.open_queue(&link, &name).await {
            Ok((messages, bindings, lost)) => Ok(Queue {
                link,
                name,
                messages,
                bindings,
                lost,
            }),
            Err(failure) => {
                // Its consumers would take what is meant for the next connection's.
                link.close().await;
                if matches!(&failure, Failure::Broker(error) if error.is_amqp_error()) {
                    // The broker has it, but cannot give it: another connection that is not
                    // quite dead holds it, or the node that has it is down.
                    self.incarnation += 1;
                }
                Err(failure)
            }
        }
    }

    /// The consumer of messages, the channel for bindings, and the consumer of what was lost.
    /// Each request has its own deadline: how many there are depends on how much is bound.
    async fn open_queue(
        &self,
        link: &Link,
        name: &Arc<str>,
    ) -> Result<(Consumer, Channel, Consumer), Failure> {
        let lifetime = match self.source.server {
            Some(_) => Lifetime::Server,
            None => Lifetime::Connection,
        };
        let limits = self.source.limits;
        request(declare_queue(&link.channel, name, lifetime, limits.queue)).await?;
        let bindings = request(link.connection.create_channel()).await?;
        // That it has overflowed while nobody read it is said with the interruption.
        let (lost, purge) = (lost(name), QueuePurgeOptions::default());
        request(bindings.queue_purge(lost.as_str().into(), purge)).await?;
        // Consumed before it is bound, because a queue without a consumer expires.
        let lost = request(consume(&bindings, &lost, 1)).await?;
        let messages = request(consume(&link.channel, name, limits.prefetch)).await?;
        let topology = &self.source.broker.codec.topology;
        request(bind_all(&bindings, name, topology.control())).await?;
        if let Some(server) = &self.source.server {
            request(bind_all(&bindings, name, topology.broadcast())).await?;
            let live = Live {
                channel: bindings.clone(),
                queue: name.clone(),
            };
            server.restore(live).await?;
        }
        Ok((messages, bindings, lost))
    }

    async fn read(&mut self, queue: &mut Queue) -> Ended {
        let mut unacknowledged = Unacknowledged::default();
        let mut overflow: Option<(Message, Instant)> = None;
        let shutdown = self.source.shutdown.clone();
        loop {
            // All of them are cancel-safe: what a stream gives is taken at once.
            tokio::select! {
                message = queue.messages.next() => {
                    let message = match message {
                        Some(Ok(message)) => message,
                        Some(Err(error)) => return Ended::Lost(Some(error)),
                        None => return Ended::Lost(None),
                    };
                    // Acknowledged before it is dispatched: what this process drops then, it
                    // drops by ending, and its connections with it.
                    unacknowledged.add(&message);
                    if self.take(message).await.is_err() {
                        return Ended::Stopped;
                    }
                    if unacknowledged.count >= ACK_BATCH {
                        unacknowledged.flush(&queue.link.channel).await;
                    }
                }
                () = due(unacknowledged.since.map(|since| since + ACK_INTERVAL)) => {
                    unacknowledged.flush(&queue.link.channel).await;
                }
                dropped = queue.lost.next() => {
                    match dropped {
                        Some(Ok(dropped)) => {
                            overflow = Some((dropped, Instant::now() + OVERFLOW_INTERVAL));
                        }
                        Some(Err(error)) => return Ended::Lost(Some(error)),
                        None => return Ended::Lost(None),
                    }
                    tracing::warn!(queue = &*queue.name, "a queue has overflowed");
                    if self.hand_over(Delivery::Missed).await.is_err() {
                        return Ended::Stopped;
                    }
                }
                () = due(overflow.as_ref().map(|(_, until)| *until)) => {
                    // Only now may the next one come.
                    if let Some((dropped, _)) = overflow.take() {
                        acknowledge(&queue.bindings, dropped.delivery_tag).await;
                    }
                }
                () = self.deliveries.closed() => return Ended::Stopped,
                () = shutdown.cancelled() => return Ended::Stopped,
            }
        }
    }

    /// Hands on what a message says. What cannot be read stops nothing.
    async fn take(&self, message: Message) -> Result<(), Ended> {
        let id = message.properties.message_id().clone();
        match self.source.broker.codec.decode(message) {
            Ok(delivery) => self.hand_over(delivery).await,
            Err(unusable) => {
                self.source.broker.counters.undecodable.inc();
                tracing::warn!(
                    delta.id = id.as_ref().map(ShortString::as_str),
                    error = &unusable as &dyn Error,
                    "a message on the bus was dropped"
                );
                Ok(())
            }
        }
    }

    /// Waits for room: a reader that is too slow makes the queue overflow, not this process.
    async fn hand_over(&self, delivery: Delivery) -> Result<(), Ended> {
        tokio::select! {
            biased;
            sent = self.deliveries.send(delivery) => sent.map_err(|_| Ended::Stopped),
            () = self.source.shutdown.cancelled() => Err(Ended::Stopped),
        }
    }
}

impl Queue {
    /// Best effort: a server's queues expire, the others go with their connection.
    async fn delete(self) {
        let options = QueueDeleteOptions::default();
        for name in [self.name.to_string(), lost(&self.name)] {
            let deleted = request(self.bindings.queue_delete(name.into(), options)).await;
            if let Err(failure) = deleted {
                tracing::debug!(error = &failure as &dyn Error, "a queue is left to expire");
            }
        }
        self.link.close().await;
    }
}

async fn bind_all(channel: &Channel, queue: &str, exchange: ShortString) -> lapin::Result<()> {
    let (options, none) = (QueueBindOptions::default(), FieldTable::default());
    channel
        .queue_bind(queue.into(), exchange, "".into(), options, none)
        .await
}

/// lapin keeps what has come in memory without a bound of its own: the prefetch is that bound.
async fn consume(channel: &Channel, queue: &str, prefetch: u16) -> lapin::Result<Consumer> {
    channel
        .basic_qos(prefetch, BasicQosOptions::default())
        .await?;
    let (options, none) = (BasicConsumeOptions::default(), FieldTable::default());
    channel
        .basic_consume(queue.into(), "".into(), options, none)
        .await
}

/// Deliveries that the broker does not know to be taken.
#[derive(Default)]
struct Unacknowledged {
    count: u16,
    last: u64,
    since: Option<Instant>,
}

impl Unacknowledged {
    fn add(&mut self, message: &Message) {
        self.count += 1;
        self.last = message.delivery_tag;
        self.since.get_or_insert_with(Instant::now);
    }

    async fn flush(&mut self, channel: &Channel) {
        acknowledge(channel, self.last).await;
        *self = Self::default();
    }
}

/// Acknowledges this delivery and those before it. A connection that fails is noticed by its
/// consumers.
async fn acknowledge(channel: &Channel, tag: u64) {
    let options = BasicAckOptions { multiple: true };
    if let Err(failure) = request(channel.basic_ack(tag, options)).await {
        tracing::debug!(
            error = &failure as &dyn Error,
            "deliveries were not acknowledged"
        );
    }
}
