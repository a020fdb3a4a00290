//! Server-Sent Events: let in, served and ended as WebSockets are.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tidings_common::domain::{ChannelId, UserId};

use crate::harness::{Server, now};
use crate::stream::EventClient;

const EVENTS: &str = "/v1/events";
const OPEN: &str = r#"tidings_ws_transport_connections{transport="events"}"#;

/// The head of the answer to a client that is refused.
async fn refused(server: &Server, path: &str, headers: &str) -> String {
    match EventClient::open(server, path, headers, None).await {
        Ok(client) => panic!("it was let in: {}", client.head),
        Err(head) => head,
    }
}

fn check_problem(head: &str, status: u16) {
    assert!(head.starts_with(&format!("http/1.1 {status} ")), "{head}");
    assert!(
        head.contains("\r\ncontent-type: application/problem+json\r\n"),
        "{head}"
    );
}

#[tokio::test]
async fn hello_is_the_first_event_of_a_stream_that_nobody_may_keep_or_hold_back() {
    let server = Server::start().await;
    let client = EventClient::connect(&server, &server.login()).await;
    for header in [
        "content-type: text/event-stream",
        "cache-control: no-store",
        "x-accel-buffering: no",
    ] {
        assert!(
            client.head.contains(&format!("\r\n{header}\r\n")),
            "{}",
            client.head
        );
    }
    let hello = &client.hello;
    assert_eq!(hello["heartbeat_ms"], 25_000);
    assert_eq!(hello["sync_secs"], 120);
    assert_eq!(hello["epoch"], 1);
    assert_eq!(hello["acks"], false, "there is no way to send any");
    assert!(
        (890..=900).contains(&hello["session_expires_in"].as_u64().unwrap()),
        "{hello}"
    );
    assert_eq!(server.metric(OPEN), Some(1.0));
    server.stop().await;
}

#[tokio::test]
async fn whatever_is_published_after_hello_arrives_once_and_in_order() {
    let server = Server::start().await;
    let who = server.login();
    let mut client = EventClient::connect(&server, &who).await;
    let mut stranger = EventClient::connect(&server, &server.login()).await;
    let channel = ChannelId::generate();
    for first in (1..=1000).step_by(100) {
        server.publish(channel, first, 100, &[who.user]).await;
        let expected: Vec<_> = (first..first + 100).collect();
        assert_eq!(client.seqs(100).await, expected);
    }
    server
        .bus
        .sever(stranger.hello["server"].as_str().unwrap().parse().unwrap());
    for client in [&mut client, &mut stranger] {
        let frame = client.frame().await;
        let expected = json!({"type": "resume", "reason": "missed", "after_ms": frame["after_ms"]});
        assert_eq!(frame, expected, "and nothing before it");
    }
    assert_eq!(
        server.metric("tidings_delivery_seconds_count"),
        Some(1000.0)
    );
    server.stop().await;
}

#[tokio::test]
async fn a_ticket_admits_once_and_to_one_transport() {
    let server = Server::start().await;
    let who = server.login();
    let ticket = server.ticket(&who);
    let path = server.events_path(&ticket);
    let first = EventClient::open(&server, &path, "", None).await;
    assert!(first.is_ok());
    check_problem(&refused(&server, &path, "").await, 401);
    assert_eq!(
        server.open(&server.path(&ticket), &[]).await.unwrap_err(),
        401
    );
    server.stop().await;
}

#[tokio::test]
async fn a_ticket_or_token_that_is_not_good_is_a_problem_before_the_stream() {
    let server = Server::start().await;
    let who = server.login();
    let old = server.ticket_made_at(&who, now().plus_millis(-31_000));
    let access_token = server.access_token(&who, Duration::from_secs(900));
    for ticket in ["", "nonsense", &old, &access_token] {
        check_problem(
            &refused(&server, &server.events_path(ticket), "").await,
            401,
        );
    }
    check_problem(&refused(&server, EVENTS, "").await, 401);
    check_problem(
        &refused(&server, EVENTS, "authorization: Bearer nonsense\r\n").await,
        401,
    );
    assert_eq!(server.metric(OPEN), Some(0.0));
    let bearer = format!("authorization: Bearer {access_token}\r\n");
    assert!(
        EventClient::open(&server, EVENTS, &bearer, None)
            .await
            .is_ok()
    );
    server.stop().await;
}

#[tokio::test]
async fn only_pages_of_allowed_origins_may_read_the_events() {
    let listed = ("WS__ORIGINS", "https://app.example.org");
    let server = Server::with(&[listed]).await;
    let who = server.login();
    for origin in ["https://evil.test", "http://app.example.org", "null"] {
        let path = server.events_path(&server.ticket(&who));
        let head = refused(&server, &path, &format!("origin: {origin}\r\n")).await;
        check_problem(&head, 403);
        assert!(!head.contains("access-control-allow"), "{head}");
    }
    let path = server.events_path(&server.ticket(&who));
    let origin = "origin: https://app.example.org\r\n";
    let client = EventClient::open(&server, &path, origin, None).await;
    let head = client.unwrap_or_else(|head| panic!("{head}")).head;
    let allowed = "\r\naccess-control-allow-origin: https://app.example.org\r\n";
    assert!(
        head.contains(allowed) && head.contains("\r\nvary: origin"),
        "{head}"
    );
    server.stop().await;
}

#[tokio::test]
async fn other_methods_are_not_allowed() {
    let server = Server::start().await;
    let url = format!("http://{}{EVENTS}", server.address);
    let answer = reqwest::Client::new().post(url).send().await.unwrap();
    assert_eq!(answer.status(), 405);
    assert_eq!(answer.headers()["content-type"], "application/problem+json");
    server.stop().await;
}

#[tokio::test]
async fn a_full_server_answers_503_and_the_ticket_stays_good() {
    let server = Server::with(&[("WS__MAX_CONNECTIONS", "2"), ("WS__HEARTBEAT_MS", "100")]).await;
    let first = EventClient::connect(&server, &server.login()).await;
    let _second = server.connect(&server.login()).await;
    let path = server.events_path(&server.ticket(&server.login()));
    let head = refused(&server, &path, "").await;
    check_problem(&head, 503);
    assert!(head.contains("\r\nretry-after: "), "{head}");
    drop(first);
    // That it has gone shows when something is written to it.
    server.metric_becomes(OPEN, 0.0).await;
    assert!(EventClient::open(&server, &path, "", None).await.is_ok());
    server.stop().await;
}

#[tokio::test]
async fn the_end_of_the_token_is_the_last_event() {
    let server = Server::start().await;
    let who = server.login_for(UserId::generate(), Duration::from_secs(2));
    let mut client = EventClient::connect(&server, &who).await;
    assert_eq!(client.closed().await, (4001, vec![]));
    server.stop().await;
}

#[tokio::test]
async fn a_revoked_session_is_cut_off_within_a_second_and_not_let_in_again() {
    let server = Server::start().await;
    let user = UserId::generate();
    let (stolen, own) = (server.login_of(user), server.login_of(user));
    let mut thief = EventClient::connect(&server, &stolen).await;
    let mut owner = EventClient::connect(&server, &own).await;
    let ticket = server.ticket(&stolen);
    let started = Instant::now();
    server.revoke(&stolen).await;
    assert_eq!(thief.closed().await, (4009, vec![]));
    assert!(started.elapsed() < Duration::from_secs(1));
    check_problem(
        &refused(&server, &server.events_path(&ticket), "").await,
        401,
    );
    server.publish(ChannelId::generate(), 1, 1, &[user]).await;
    assert_eq!(owner.seqs(1).await, [1]);
    server.stop().await;
}

#[tokio::test]
async fn streams_and_sockets_of_a_user_count_together() {
    let server = Server::with(&[("WS__MAX_CONNECTIONS_PER_USER", "2")]).await;
    let user = UserId::generate();
    let mut stream = EventClient::connect(&server, &server.login_of(user)).await;
    let mut socket = server.connect(&server.login_of(user)).await;
    let _second = EventClient::connect(&server, &server.login_of(user)).await;
    assert_eq!(stream.closed().await, (4010, vec![]));
    let _third = EventClient::connect(&server, &server.login_of(user)).await;
    assert_eq!(socket.close_code().await, 4010);
    server.metric_becomes(OPEN, 2.0).await;
    let sockets = r#"tidings_ws_transport_connections{transport="websocket"}"#;
    server.metric_becomes(sockets, 0.0).await;
    server.stop().await;
}

#[tokio::test]
async fn a_draining_server_moves_its_streams_over_each_in_its_slot() {
    let server = Server::with(&[("WS__DRAIN_SECS", "2")]).await;
    let mut clients = Vec::new();
    for _ in 0..4 {
        clients.push(EventClient::connect(&server, &server.login()).await);
    }
    let path = server.events_path(&server.ticket(&server.login()));
    let started = Instant::now();
    server.tasks.shutdown().cancel();
    let mut slots = Vec::new();
    for client in &mut clients {
        let (code, frames) = client.closed().await;
        assert_eq!(code, 1012);
        assert_eq!(frames.len(), 1, "{frames:?}");
        assert_eq!(frames[0]["type"], "reconnect");
        let slot = frames[0]["after_ms"].as_u64().unwrap();
        assert!(started.elapsed() >= Duration::from_millis(slot));
        slots.push(slot);
        if slots.len() == 1 {
            check_problem(&refused(&server, &path, "").await, 503);
        }
    }
    slots.sort_unstable();
    assert_eq!(slots, [500, 1000, 1500, 2000]);
    server.stop().await;
}

/// A proxy that cuts idle connections never finds one idle; and a client that only listens is
/// not taken for gone.
#[tokio::test]
async fn a_stream_with_nothing_to_say_has_a_heartbeat() {
    let server = Server::with(&[("WS__HEARTBEAT_MS", "300")]).await;
    let mut client = EventClient::connect(&server, &server.login()).await;
    let started = Instant::now();
    for _ in 0..5 {
        assert_eq!(client.any().await, Some(json!({"type": "ping"})));
    }
    assert!(started.elapsed() >= Duration::from_millis(1_200));
    assert_eq!(server.metric(OPEN), Some(1.0));
    server.stop().await;
}

#[tokio::test]
async fn a_reader_that_does_not_read_is_told_to_resume_and_then_closed() {
    const TOO_SLOW: &str = r#"tidings_ws_closes_total{code="4008"}"#;
    let small = [("WS__MAILBOX_BYTES", "16384"), ("WS__MAILBOX_DELTAS", "50")];
    let server = Server::with(&small).await;
    let who = server.login();
    let mut slow = EventClient::connect_small(&server, &who, Some(4096)).await;
    let mut fast = EventClient::connect(&server, &server.login_of(who.user)).await;
    let channel = ChannelId::generate();
    let mut published = 0;
    while server.metric(TOO_SLOW) != Some(1.0) {
        server
            .publish(channel, published + 1, 20, &[who.user])
            .await;
        let expected: Vec<_> = (published + 1..=published + 20).collect();
        assert_eq!(fast.seqs(20).await, expected, "others notice nothing");
        published += 20;
        assert!(published < 100_000, "something must be bounded");
    }
    let (code, frames) = slow.closed().await;
    assert_eq!(code, 4008);
    let last = frames.last().unwrap();
    assert_eq!(
        (&last["type"], &last["reason"]),
        (&"resume".into(), &"slow".into())
    );
    // Holes only where it was told to resume.
    for run in frames.split(|frame| frame["type"] == "resume") {
        let seqs: Vec<u64> = run
            .iter()
            .filter_map(|frame: &Value| frame["seq"].as_u64())
            .collect();
        assert!(
            seqs.windows(2).all(|pair| pair[0] + 1 == pair[1]),
            "{seqs:?}"
        );
    }
    server.metric_becomes(OPEN, 1.0).await;
    server.stop().await;
}
