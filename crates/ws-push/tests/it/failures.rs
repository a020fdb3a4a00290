//! What happens to clients when something behind the server fails, and what readiness says.

use std::sync::Arc;
use std::time::{Duration, Instant};

use secrecy::SecretString;
use serde_json::json;
use tidings_common::bus::Delivery;
use tidings_common::domain::ChannelId;
use tidings_common::presence::RedisPresence;

use crate::harness::{DEADLINE, Server, until};
use crate::tapped_bus::{Tap, TappedBus};

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
    let (status, report) = server.readiness().await;
    assert_eq!(status, 200, "messaging goes on without presence");
    assert_eq!(report["checks"]["presence"], "down");
    server.stop().await;
}

async fn tapped() -> (Server, Tap) {
    let tap = Tap::default();
    let on_the_bus = tap.clone();
    let server = Server::over(&[], |backends| {
        backends.bus = Arc::new(TappedBus::new(backends.bus.clone(), on_the_bus));
    })
    .await;
    (server, tap)
}

#[tokio::test]
async fn a_server_whose_consumer_has_panicked_stops() {
    let (server, tap) = tapped().await;
    let who = server.login();
    let mut client = server.connect(&who).await;
    tap.break_reader();
    let channel = ChannelId::generate();
    server.publish(channel, 1, 1, &[who.user]).await;
    check_stops(server, &mut client).await;
}

#[tokio::test]
async fn a_server_whose_bus_has_ended_stops() {
    let (server, tap) = tapped().await;
    let mut client = server.connect(&server.login()).await;
    tap.deliver(Delivery::Closed);
    check_stops(server, &mut client).await;
}

/// The client is sent elsewhere, and the process ends with an error.
async fn check_stops(server: Server, client: &mut crate::clients::Client) {
    assert_eq!(client.close_code().await, 1012);
    let tasks = server.tasks.clone();
    tokio::time::timeout(DEADLINE, tasks.shutdown().cancelled())
        .await
        .unwrap();
    assert!(tasks.have_failed());
    server.stop().await;
}

#[tokio::test]
async fn a_server_without_its_broker_says_so_takes_nobody_in_and_tells_its_clients_once() {
    let (server, tap) = tapped().await;
    let mut client = server.connect(&server.login()).await;
    for _ in 0..2 {
        tap.deliver(Delivery::Interrupted);
        until("not ready", || async { server.readiness().await.0 == 503 }).await;
        let (_, report) = server.readiness().await;
        let checks = json!({"consumer": "down", "connections": "ok", "presence": "ok"});
        assert_eq!(report["checks"], checks);
        let path = server.path(&server.ticket(&server.login()));
        assert_eq!(server.open(&path, &[]).await.unwrap_err(), 503);
        tap.deliver(Delivery::Missed);
        until("ready", || async { server.readiness().await.0 == 200 }).await;
        assert_eq!(client.frame().await["type"], "resume");
        assert_eq!(server.connect(&server.login()).await.hello["type"], "hello");
    }
    client.say(r#"{"type":"ping"}"#).await;
    assert_eq!(
        client.frame().await["type"],
        "pong",
        "and nothing before it"
    );
    server.stop().await;
}
