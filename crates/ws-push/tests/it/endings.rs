//! How connections end, and how they are kept.

use std::time::{Duration, Instant};

use serde_json::json;
use tidings_common::domain::UserId;
use tokio::io::AsyncReadExt as _;
use tokio::time::timeout;

use crate::clients::RawClient;
use crate::harness::{DEADLINE, Server};

#[tokio::test]
async fn a_connection_is_closed_when_its_token_ends() {
    let server = Server::start().await;
    let who = server.login_for(UserId::generate(), Duration::from_secs(2));
    let mut client = server.connect(&who).await;
    assert_eq!(client.close_code().await, 4001);
    server.stop().await;
}

#[tokio::test]
async fn a_new_token_keeps_it_open() {
    let server = Server::start().await;
    let who = server.login_for(UserId::generate(), Duration::from_secs(2));
    let mut client = server.connect(&who).await;
    let auth = |token: String| json!({"type": "auth", "access_token": token}).to_string();

    client.say(&auth("nonsense".to_owned())).await;
    let error = json!({"type": "error", "code": "invalid_token"});
    assert_eq!(client.frame().await, error);

    let other = server.login_of(who.user);
    let others = server.access_token(&other, Duration::from_secs(900));
    client.say(&auth(others)).await;
    let error = json!({"type": "error", "code": "forbidden"});
    assert_eq!(client.frame().await, error);

    let renewed = server.access_token(&who, Duration::from_secs(900));
    client.say(&auth(renewed)).await;
    let frame = client.frame().await;
    assert_eq!(frame["type"], "auth");
    assert!(frame["session_expires_in"].as_u64().unwrap() >= 890);
    let closed = timeout(Duration::from_secs(3), client.next()).await;
    assert!(closed.is_err(), "{closed:?}");
    server.stop().await;
}

#[tokio::test]
async fn a_revoked_session_is_cut_off_within_a_second() {
    let server = Server::start().await;
    let user = UserId::generate();
    let (stolen, own) = (server.login_of(user), server.login_of(user));
    let mut thief = server.connect(&stolen).await;
    let mut owner = server.connect(&own).await;
    let started = Instant::now();
    server.revoke(&stolen).await;
    assert_eq!(thief.close_code().await, 4009);
    assert!(started.elapsed() < Duration::from_secs(1));
    owner.say(r#"{"type":"ping"}"#).await;
    assert_eq!(owner.frame().await, json!({"type": "pong"}));
    server.stop().await;
}

#[tokio::test]
async fn one_connection_too_many_closes_the_oldest() {
    let server = Server::with(&[("WS__MAX_CONNECTIONS_PER_USER", "2")]).await;
    let user = UserId::generate();
    let mut first = server.connect(&server.login_of(user)).await;
    let mut second = server.connect(&server.login_of(user)).await;
    let _third = server.connect(&server.login_of(user)).await;
    assert_eq!(first.close_code().await, 4010);
    second.say(r#"{"type":"ping"}"#).await;
    assert_eq!(second.frame().await, json!({"type": "pong"}));
    server.metric_becomes("tidings_ws_connections", 2.0).await;
    server.stop().await;
}

#[tokio::test]
async fn a_client_that_answers_pings_stays_and_a_silent_one_goes() {
    let server = Server::with(&[("WS__HEARTBEAT_MS", "500")]).await;
    let mut alive = server.connect(&server.login()).await;
    let mut silent = RawClient::connect(&server, &server.login(), None).await;
    let mut bytes = Vec::new();
    // One answers pings while it waits for frames, the other reads everything and answers
    // nothing.
    let waiting = timeout(Duration::from_secs(3), alive.next());
    let reading = timeout(DEADLINE, silent.stream.read_to_end(&mut bytes));
    let (alive, silent) = tokio::join!(waiting, reading);
    assert!(alive.is_err(), "{alive:?}");
    assert!(silent.is_ok(), "the silent client's connection should end");
    assert!(bytes.contains(&0x89), "it was pinged before");
    assert_eq!(server.metric("tidings_ws_connections"), Some(1.0));
    server.stop().await;
}

#[tokio::test]
async fn a_draining_server_moves_its_clients_over() {
    let server = Server::with(&[("WS__DRAIN_SECS", "2")]).await;
    let mut clients = Vec::new();
    for _ in 0..4 {
        clients.push(server.connect(&server.login()).await);
    }
    let path = server.path(&server.ticket(&server.login()));
    let started = Instant::now();
    server.tasks.shutdown().cancel();
    let mut slots = Vec::new();
    for client in &mut clients {
        let frame = client.frame().await;
        assert_eq!(frame["type"], "reconnect");
        slots.push(frame["after_ms"].as_u64().unwrap());
    }
    assert_eq!(server.status("/readyz").await, 503);
    assert_eq!(server.open(&path, &[]).await.unwrap_err(), 503);
    for client in &mut clients {
        assert_eq!(client.close_code().await, 1012);
    }
    assert!(started.elapsed() >= Duration::from_millis(1900));
    slots.sort_unstable();
    assert_eq!(slots, [500, 1000, 1500, 2000]);
    server.stop().await;
}
