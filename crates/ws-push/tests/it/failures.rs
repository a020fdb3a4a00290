//! What happens to clients when something behind the server fails.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use secrecy::SecretString;
use tidings_common::bus::{
    Announcement, Bus, BusError, Control, Deliveries, Delivery, Subscription,
};
use tidings_common::domain::{ChannelId, ServerId};
use tidings_common::presence::RedisPresence;

use crate::harness::{DEADLINE, Server};

/// It accepts connections, as a Redis does whose process is stopped, and never answers.
#[tokio::test]
async fn a_redis_that_does_not_answer_stalls_no_upgrade() {
    let redis = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("redis://{}", redis.local_addr().unwrap());
    let server = Server::over(&[], |backends| {
        let presence = RedisPresence::open(&SecretString::from(url), "tidings");
        backends.presence = Arc::new(presence.unwrap());
    })
    .await;
    let path = server.path(&server.ticket(&server.login()));
    let started = Instant::now();
    // Single use is waived.
    for _ in 0..2 {
        let mut client = server.open(&path, &[]).await.unwrap();
        assert_eq!(client.frame().await["type"], "hello");
    }
    assert!(started.elapsed() < Duration::from_secs(2));
    server.stop().await;
}

/// A bus whose server's queue breaks the task that reads it.
struct Trap {
    bus: Arc<dyn Bus>,
    is_set: Arc<AtomicBool>,
}

#[async_trait]
impl Bus for Trap {
    async fn publish(&self, announcements: &[Announcement]) -> Vec<Result<(), BusError>> {
        self.bus.publish(announcements).await
    }

    async fn publish_control(&self, control: Control) -> Result<(), BusError> {
        self.bus.publish_control(control).await
    }

    async fn subscribe(&self, server: ServerId) -> Result<Subscription, BusError> {
        let subscription = self.bus.subscribe(server).await?;
        let deliveries = TrappedDeliveries {
            inner: subscription.deliveries,
            is_set: self.is_set.clone(),
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

struct TrappedDeliveries {
    inner: Box<dyn Deliveries>,
    is_set: Arc<AtomicBool>,
}

#[async_trait]
impl Deliveries for TrappedDeliveries {
    async fn next(&mut self) -> Delivery {
        let delivery = self.inner.next().await;
        assert!(!self.is_set.load(Ordering::SeqCst), "as the test wants it");
        delivery
    }
}

#[tokio::test]
async fn a_server_whose_consumer_has_panicked_stops() {
    let is_set = Arc::new(AtomicBool::new(false));
    let trap = is_set.clone();
    let server = Server::over(&[], |backends| {
        let bus = backends.bus.clone();
        backends.bus = Arc::new(Trap { bus, is_set: trap });
    })
    .await;
    let who = server.login();
    let mut client = server.connect(&who).await;
    is_set.store(true, Ordering::SeqCst);
    let channel = ChannelId::generate();
    server.publish(channel, 1, 1, &[who.user]).await;
    assert_eq!(client.close_code().await, 1012);
    let stopped = server.shutdown.clone();
    tokio::time::timeout(DEADLINE, stopped.cancelled())
        .await
        .unwrap();
    server.stop().await;
}
