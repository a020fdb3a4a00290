//! A bus with what goes in and what comes out counted.

use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;

use crate::bus::{
    Announcement, Bus, BusError, Control, Deliveries, Delivery, RabbitMqCounters, Subscription,
};
use crate::domain::ServerId;
use crate::telemetry::{Metrics, SECONDS};

/// Counts publishes by outcome and deliveries by kind.
pub struct MeasuredBus {
    bus: Arc<dyn Bus>,
    publishes: Family<Outcome, Counter>,
    publish_seconds: Histogram,
    unconfirmed: Gauge,
    hints: Family<Outcome, Counter>,
    deliveries: Family<Received, Counter>,
}

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Outcome {
    outcome: &'static str,
}

impl Outcome {
    const CONFIRMED: Self = Self {
        outcome: "confirmed",
    };
    const FAILED: Self = Self { outcome: "failed" };
    /// Nobody waited until the end.
    const ABANDONED: Self = Self {
        outcome: "abandoned",
    };

    fn of<T>(result: &Result<T, BusError>) -> Self {
        match result {
            Ok(_) => Self::CONFIRMED,
            Err(_) => Self::FAILED,
        }
    }
}

const SERVER_QUEUE: &str = "server";
const HINTS_QUEUE: &str = "hints";

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Received {
    /// Whose: the server's own, or one for hints alone.
    queue: &'static str,
    kind: &'static str,
}

impl MeasuredBus {
    #[must_use]
    pub fn new(bus: Arc<dyn Bus>, metrics: &Metrics) -> Self {
        let publishes = metrics.counters("bus_publishes", "Announcements, by outcome");
        let hints = metrics.counters("bus_hints", "Hints to all processes, by outcome");
        for outcome in [Outcome::CONFIRMED, Outcome::FAILED] {
            drop(publishes.get_or_create(&outcome));
            drop(hints.get_or_create(&outcome));
        }
        drop(publishes.get_or_create(&Outcome::ABANDONED));
        let deliveries = metrics.counters("bus_deliveries", "What came out of queues, by kind");
        for queue in [SERVER_QUEUE, HINTS_QUEUE] {
            for kind in ["delta", "hint", "interrupted", "missed"] {
                drop(deliveries.get_or_create(&Received { queue, kind }));
            }
        }
        Self {
            bus,
            publishes,
            publish_seconds: metrics.histogram(
                "bus_publish_seconds",
                "From publishing some announcements to the broker's word on all of them",
                SECONDS,
            ),
            unconfirmed: metrics.gauge(
                "bus_unconfirmed_publishes",
                "Announcements that the broker has not confirmed yet",
            ),
            hints,
            deliveries,
        }
    }

    fn measured(&self, queue: &'static str, inner: Box<dyn Deliveries>) -> Box<dyn Deliveries> {
        Box::new(MeasuredDeliveries {
            inner,
            queue,
            deliveries: self.deliveries.clone(),
        })
    }
}

/// Adds what RabbitMQ's client counts itself. Another bus has no connections, and is never
/// blocked.
pub fn register_rabbitmq(counters: &RabbitMqCounters, metrics: &Metrics) {
    let help = "Connections to the broker that were made";
    metrics.register("bus_connections", help, counters.connections.clone());
    let help = "1 while the broker takes no messages for want of memory or disk space";
    metrics.register("bus_blocked", help, counters.blocked.clone());
    let help = "Messages that were dropped because they could not be read";
    metrics.register("bus_undecodable", help, counters.undecodable.clone());
}

/// Announcements whose fate is open; what is left when it is dropped was abandoned.
struct Unconfirmed<'a> {
    bus: &'a MeasuredBus,
    count: usize,
}

impl Unconfirmed<'_> {
    fn settle(mut self, outcomes: &[Result<(), BusError>]) {
        for outcome in outcomes {
            let label = Outcome::of(outcome);
            self.bus.publishes.get_or_create(&label).inc();
        }
        self.bus.unconfirmed.dec_by(count(self.count));
        self.count = 0;
    }
}

impl Drop for Unconfirmed<'_> {
    fn drop(&mut self) {
        if self.count > 0 {
            self.bus.unconfirmed.dec_by(count(self.count));
            let abandoned = self.bus.publishes.get_or_create(&Outcome::ABANDONED);
            abandoned.inc_by(self.count as u64);
        }
    }
}

fn count(announcements: usize) -> i64 {
    i64::try_from(announcements).unwrap_or(i64::MAX)
}

#[async_trait]
impl Bus for MeasuredBus {
    async fn publish(&self, announcements: &[Announcement]) -> Vec<Result<(), BusError>> {
        let started = Instant::now();
        self.unconfirmed.inc_by(count(announcements.len()));
        let unconfirmed = Unconfirmed {
            bus: self,
            count: announcements.len(),
        };
        let outcomes = self.bus.publish(announcements).await;
        unconfirmed.settle(&outcomes);
        let seconds = started.elapsed().as_secs_f64();
        self.publish_seconds.observe(seconds);
        outcomes
    }

    async fn publish_control(&self, control: Control) -> Result<(), BusError> {
        let outcome = self.bus.publish_control(control).await;
        self.hints.get_or_create(&Outcome::of(&outcome)).inc();
        outcome
    }

    async fn subscribe(&self, server: ServerId) -> Result<Subscription, BusError> {
        let Subscription {
            bindings,
            deliveries,
        } = self.bus.subscribe(server).await?;
        Ok(Subscription {
            bindings,
            deliveries: self.measured(SERVER_QUEUE, deliveries),
        })
    }

    async fn control(&self) -> Result<Box<dyn Deliveries>, BusError> {
        Ok(self.measured(HINTS_QUEUE, self.bus.control().await?))
    }

    async fn check(&self) -> Result<(), BusError> {
        self.bus.check().await
    }
}

struct MeasuredDeliveries {
    inner: Box<dyn Deliveries>,
    queue: &'static str,
    deliveries: Family<Received, Counter>,
}

#[async_trait]
impl Deliveries for MeasuredDeliveries {
    async fn next(&mut self) -> Delivery {
        let delivery = self.inner.next().await;
        let kind = match &delivery {
            Delivery::Delta(_) => "delta",
            Delivery::Control(_) => "hint",
            Delivery::Interrupted => "interrupted",
            Delivery::Missed => "missed",
            Delivery::Closed => "closed",
        };
        let queue = self.queue;
        self.deliveries
            .get_or_create(&Received { queue, kind })
            .inc();
        delivery
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU16;

    use super::*;
    use crate::bus::MemoryBus;
    use crate::domain::GroupId;

    fn line(metrics: &Metrics, name: &str) -> Option<String> {
        let text = metrics.encode();
        let value = text.lines().find_map(|line| line.strip_prefix(name));
        value.map(|value| value.trim().to_owned())
    }

    #[tokio::test]
    async fn what_nobody_waits_for_is_not_unconfirmed_for_ever() {
        let metrics = Metrics::default();
        let bus = MeasuredBus::new(Arc::new(MemoryBus::new(NonZeroU16::MIN)), &metrics);
        bus.unconfirmed.inc_by(3);
        drop(Unconfirmed {
            bus: &bus,
            count: 3,
        });
        let abandoned = "tidings_bus_publishes_total{outcome=\"abandoned\"}";
        assert_eq!(line(&metrics, abandoned).as_deref(), Some("3"));
        let unconfirmed = "tidings_bus_unconfirmed_publishes ";
        assert_eq!(line(&metrics, unconfirmed).as_deref(), Some("0"));
    }

    #[tokio::test]
    async fn what_goes_in_and_what_comes_out_is_counted() {
        let metrics = Metrics::default();
        let bus = MeasuredBus::new(Arc::new(MemoryBus::new(NonZeroU16::MIN)), &metrics);
        let mut hints = bus.control().await.unwrap();
        let group = GroupId::generate();
        bus.publish_control(Control::GroupChanged { group, seq: 1 })
            .await
            .unwrap();
        hints.next().await;
        let sent = "tidings_bus_hints_total{outcome=\"confirmed\"}";
        assert_eq!(line(&metrics, sent).as_deref(), Some("1"));
        let received = "tidings_bus_deliveries_total{queue=\"hints\",kind=\"hint\"}";
        assert_eq!(line(&metrics, received).as_deref(), Some("1"));
    }
}
