//! What runs in the background does not end unnoticed.

use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::{Context, SubscriberExt as _};

use super::super::*;
use super::faults::{await_delivery, behind_proxy, eventually};
use super::with_broker;
use crate::bus::Delivery;

/// Breaks whoever says this.
struct Trap(&'static str);

impl<S: Subscriber> Layer<S> for Trap {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut message = Message::default();
        event.record(&mut message);
        assert!(!message.0.contains(self.0), "as the test wants it");
    }
}

#[derive(Default)]
struct Message(String);

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        if field.name() == "message" {
            self.0 = format!("{value:?}");
        }
    }
}

async fn breaks(said: &'static str) {
    with_broker(async |admin| {
        let (bus, mut proxy) = behind_proxy(&admin).await;
        proxy.open().await;
        eventually("connected", async || bus.check().await.is_ok()).await;
        let mut server = bus.subscribe(ServerId::generate()).await.unwrap();
        let trap = tracing_subscriber::registry().with(Trap(said));
        // The test's tasks run on its own thread.
        let _trapped = tracing::subscriber::set_default(trap);
        proxy.cut().await;
        let tasks = bus.tasks.clone();
        eventually("the end", async || tasks.have_failed()).await;
        assert!(tasks.shutdown().is_cancelled());
        if said.contains("queue") {
            await_delivery(&mut server.deliveries, |delivery| {
                matches!(delivery, Delivery::Closed)
            })
            .await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_panic_of_what_reads_a_queue_ends_the_process() {
    breaks("a queue or its connection was lost").await;
}

#[tokio::test]
async fn a_panic_of_what_publishes_ends_the_process() {
    breaks("the connection that publishes was lost").await;
}
