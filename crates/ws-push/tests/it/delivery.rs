//! What reaches clients.

use futures_util::future::join_all;
use serde_json::json;
use tidings_common::domain::{ChannelId, ServerId, UserId};

use crate::harness::{Server, until};

#[tokio::test]
async fn whatever_is_published_after_hello_arrives() {
    let server = Server::start().await;
    for _ in 0..50 {
        let who = server.login();
        let mut client = server.connect(&who).await;
        server
            .publish(ChannelId::generate(), 7, 1, &[who.user])
            .await;
        assert_eq!(client.seqs(1).await, [7]);
    }
    server.stop().await;
}

#[tokio::test]
async fn five_devices_receive_everything_once_and_in_order() {
    let server = Server::start().await;
    let user = UserId::generate();
    let logins: Vec<_> = (0..5).map(|_| server.login_of(user)).collect();
    let mut devices = join_all(logins.iter().map(|who| server.connect(who))).await;
    let mut stranger = server.connect(&server.login()).await;
    let channel = ChannelId::generate();
    for first in (1..=1000).step_by(100) {
        server
            .publish(channel, first, 100, &[user, UserId::generate()])
            .await;
        let expected: Vec<_> = (first..first + 100).collect();
        for device in &mut devices {
            assert_eq!(device.seqs(100).await, expected);
        }
    }
    stranger.say(r#"{"type":"ping"}"#).await;
    assert_eq!(stranger.frame().await, json!({"type": "pong"}));
    server
        .metric_becomes("tidings_ws_deliveries_total", 5000.0)
        .await;
    assert_eq!(
        server.metric("tidings_delivery_seconds_count"),
        Some(5000.0)
    );
    server.stop().await;
}

#[tokio::test]
async fn a_delta_looks_as_published() {
    let server = Server::start().await;
    let who = server.login();
    let mut client = server.connect(&who).await;
    let channel = ChannelId::generate();
    server.publish(channel, 3, 1, &[who.user]).await;
    let delta = client.frame().await;
    assert_eq!(delta["type"], "delta");
    assert_eq!(delta["stream"], format!("c:{channel}"));
    assert_eq!(delta["seq"], 3);
    assert_eq!(delta["kind"], "members.changed");
    server.stop().await;
}

#[tokio::test]
async fn a_lost_queue_makes_everyone_sync() {
    let server = Server::start().await;
    let (ada, bob) = (server.login(), server.login());
    let mut clients = [server.connect(&ada).await, server.connect(&bob).await];
    let id: ServerId = clients[0].hello["server"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    server.bus.sever(id);
    for client in &mut clients {
        let frame = client.frame().await;
        assert_eq!(
            (&frame["type"], &frame["reason"]),
            (&json!("resume"), &json!("missed"))
        );
    }
    server
        .publish(ChannelId::generate(), 1, 1, &[ada.user, bob.user])
        .await;
    for client in &mut clients {
        assert_eq!(client.seqs(1).await, [1]);
    }
    server.stop().await;
}

#[tokio::test]
async fn acknowledgements_are_recorded() {
    let server = Server::start().await;
    let who = server.login();
    let mut client = server.connect(&who).await;
    let stream = format!("c:{}", ChannelId::generate());
    for seq in [3, 5, 4] {
        let ack = json!({"type": "ack", "cursor": {stream.as_str(): seq}});
        client.say(&ack.to_string()).await;
    }
    until("the highest is recorded", || async {
        server.acknowledged(&who).await == [5]
    })
    .await;
    server.stop().await;
}

#[tokio::test]
async fn gauges_return_to_zero_after_churn() {
    let server = Server::start().await;
    let user = UserId::generate();
    for round in 0..5 {
        let logins: Vec<_> = (0..20).map(|_| server.login()).collect();
        let mut clients = join_all(logins.iter().map(|who| server.connect(who))).await;
        server.publish(ChannelId::generate(), 1, 20, &[user]).await;
        for (place, client) in clients.iter_mut().enumerate() {
            // Some say goodbye, some just go.
            if (place + round) % 2 == 0 {
                client.socket.close(None).await.unwrap();
            }
        }
    }
    server.metric_becomes("tidings_ws_connections", 0.0).await;
    until("everyone was counted", || async {
        let normal = server.metric(r#"tidings_ws_closes_total{code="1000"}"#);
        let silent = server.metric(r#"tidings_ws_closes_total{code="1006"}"#);
        (normal, silent) == (Some(50.0), Some(50.0))
    })
    .await;
    server.stop().await;
}
