//! Against a real broker, named by `TIDINGS_TEST_RABBITMQ_URL`. Each test has exchanges and
//! queues of its own.

mod broker;
mod faults;
mod load;
mod proxy;
mod silence;
mod watched;

use std::future::Future;
use std::sync::Arc;

use self::broker::Admin;
use super::*;
use crate::bus::contract::{Fixture, bus_contract};

const LIMITS: ConsumerLimits = ConsumerLimits {
    queue: QueueLimits {
        count: 16,
        bytes: 16 * 1024,
    },
    prefetch: 4,
    handover: 4,
};

bus_contract!(fresh_bus);

async fn fresh_bus() -> Option<Fixture> {
    let admin = Arc::new(Admin::connect().await?);
    let bus = Arc::new(RabbitMqBus::start(admin.config(LIMITS), &tasks()).unwrap());
    let (severed, counted, stopped) = (bus.clone(), bus.clone(), bus.clone());
    let counting = admin.clone();
    Some(Fixture {
        bus,
        queue_count: LIMITS.queue.count,
        queue_bytes: LIMITS.queue.bytes,
        // What is unacknowledged, and what has been acknowledged and not been taken.
        on_their_way: 2 * usize::from(LIMITS.prefetch) + LIMITS.handover,
        exchanges: admin.exchanges.get(),
        sever: Box::new(move |server| {
            let (admin, bus) = (admin.clone(), severed.clone());
            Box::pin(async move { admin.delete_queue_of(&bus, server).await })
        }),
        open_queues: Box::new(move |servers| {
            let (admin, bus) = (counting.clone(), counted.clone());
            Box::pin(async move { admin.count_queues(&bus, &servers).await })
        }),
        shutdown: Box::new(move || stopped.shutdown()),
    })
}

/// Tasks that end with the test.
fn tasks() -> Tasks {
    Tasks::new(CancellationToken::new())
}

/// Runs a test if there is a broker.
async fn with_broker<T: Future<Output = ()>>(test: impl FnOnce(Arc<Admin>) -> T) {
    if let Some(admin) = Admin::connect().await {
        test(Arc::new(admin)).await;
    }
}
