//! What is declared on the broker: its names and settings. Every process of an installation
//! declares the same, so whoever comes first creates it.

use std::num::NonZeroU16;

use futures_util::future::try_join_all;
use lapin::options::{ExchangeDeclareOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{Channel, ExchangeKind};

use super::super::QueueLimits;
use crate::domain::ServerId;

/// A queue that nobody consumes goes after this long, with its bindings.
const QUEUE_EXPIRES_MS: i32 = 60_000;

/// How users are spread over partitions and these over exchanges, and what names begin with.
#[derive(Debug, Clone)]
pub(super) struct Topology {
    pub(super) prefix: String,
    pub(super) partitions: NonZeroU16,
    pub(super) exchanges: NonZeroU16,
}

impl Topology {
    /// Which of the delta exchanges carries a partition.
    pub(super) fn exchange_of(&self, partition: u16) -> u16 {
        partition % self.exchanges
    }

    pub(super) fn deltas(&self, exchange: u16) -> ShortString {
        format!("{}.deltas.{exchange}", self.prefix).into()
    }

    /// Where every server hears of large groups.
    pub(super) fn broadcast(&self) -> ShortString {
        format!("{}.broadcast", self.prefix).into()
    }

    /// Where every process hears hints.
    pub(super) fn control(&self) -> ShortString {
        format!("{}.control", self.prefix).into()
    }

    /// `boot` tells apart the queues of two runs, or two subscriptions, of one server.
    pub(super) fn server_queue(&self, server: ServerId, boot: &str) -> String {
        format!("{}.ws.{server}.{boot}", self.prefix)
    }

    pub(super) fn control_queue(&self, boot: &str) -> String {
        format!("{}.hints.{boot}", self.prefix)
    }

    pub(super) async fn declare_exchanges(&self, channel: &Channel) -> lapin::Result<()> {
        let durable = ExchangeDeclareOptions {
            durable: true,
            ..ExchangeDeclareOptions::default()
        };
        let declare =
            |name, kind| channel.exchange_declare(name, kind, durable, FieldTable::default());
        let deltas = (0..self.exchanges.get()).map(|exchange| self.deltas(exchange));
        try_join_all(deltas.map(|name| declare(name, ExchangeKind::Direct))).await?;
        declare(self.broadcast(), ExchangeKind::Fanout).await?;
        declare(self.control(), ExchangeKind::Fanout).await
    }
}

/// Whose queue it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lifetime {
    /// Outlives its connection, so that a server that comes back finds what came meanwhile.
    Server,
    /// Goes with its connection.
    Connection,
}

/// Where the broker puts what a queue has no room for.
pub(super) fn lost(queue: &str) -> String {
    format!("{queue}.lost")
}

/// Declares a bounded queue, and the one-message queue that shows that it has overflowed.
pub(super) async fn declare_queue(
    channel: &Channel,
    queue: &str,
    lifetime: Lifetime,
    limits: QueueLimits,
) -> lapin::Result<()> {
    let lost = lost(queue);
    let mut arguments = expiring(lifetime);
    bound(&mut arguments, limits);
    arguments.insert("x-dead-letter-exchange".into(), text(""));
    arguments.insert("x-dead-letter-routing-key".into(), text(&lost));
    let mut of_lost = expiring(lifetime);
    let one = QueueLimits {
        count: 1,
        ..QueueLimits::default()
    };
    bound(&mut of_lost, one);
    let options = options(lifetime);
    channel.queue_declare(lost.into(), options, of_lost).await?;
    channel
        .queue_declare(queue.into(), options, arguments)
        .await?;
    Ok(())
}

fn options(lifetime: Lifetime) -> QueueDeclareOptions {
    let own = lifetime == Lifetime::Connection;
    QueueDeclareOptions {
        durable: !own,
        exclusive: own,
        auto_delete: own,
        ..QueueDeclareOptions::default()
    }
}

fn expiring(lifetime: Lifetime) -> FieldTable {
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), text("classic"));
    if lifetime == Lifetime::Server {
        arguments.insert("x-expires".into(), AMQPValue::LongInt(QUEUE_EXPIRES_MS));
    }
    arguments
}

fn bound(arguments: &mut FieldTable, limits: QueueLimits) {
    arguments.insert("x-overflow".into(), text("drop-head"));
    arguments.insert("x-max-length".into(), number(limits.count));
    arguments.insert("x-max-length-bytes".into(), number(limits.bytes));
}

fn text(value: &str) -> AMQPValue {
    AMQPValue::LongString(value.into())
}

fn number(value: usize) -> AMQPValue {
    AMQPValue::LongLongInt(i64::try_from(value).unwrap_or(i64::MAX))
}
