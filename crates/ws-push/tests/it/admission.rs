//! Who may connect.

use std::time::Duration;

use crate::harness::{Server, now, until};

const WEBSOCKET: &str = "/v1/ws";

#[tokio::test]
async fn hello_comes_first_and_says_what_the_client_needs() {
    let server = Server::start().await;
    let who = server.login();
    let client = server.connect(&who).await;
    let hello = &client.hello;
    assert_eq!(hello["heartbeat_ms"], 25_000);
    assert_eq!(hello["sync_secs"], 120);
    assert_eq!(hello["epoch"], 1);
    assert_eq!(hello["acks"], true);
    let expires_in = hello["session_expires_in"].as_u64().unwrap();
    assert!((890..=900).contains(&expires_in), "{hello}");
    assert!(hello["server"].is_string() && hello["connection"].is_string());
    server.stop().await;
}

#[tokio::test]
async fn a_ticket_admits_once() {
    let server = Server::start().await;
    let path = server.path(&server.ticket(&server.login()));
    let _client = server.open(&path, &[]).await.unwrap();
    assert_eq!(server.open(&path, &[]).await.unwrap_err(), 401);
    server.stop().await;
}

#[tokio::test]
async fn a_ticket_that_is_not_good_is_refused_before_the_upgrade() {
    let server = Server::start().await;
    let who = server.login();
    let old = server.ticket_made_at(&who, now().plus_millis(-31_000));
    let mut tampered = server.ticket(&who);
    let last = tampered.pop().unwrap();
    tampered.insert(20, last);
    let access_token = server.access_token(&who, Duration::from_secs(900));
    for ticket in ["", "nonsense", &old, &tampered, &access_token] {
        let refused = server.open(&server.path(ticket), &[]).await;
        assert_eq!(refused.unwrap_err(), 401, "{ticket}");
    }
    assert_eq!(server.open(WEBSOCKET, &[]).await.unwrap_err(), 401);
    assert_eq!(server.metric("tidings_ws_connections"), Some(0.0));
    server.stop().await;
}

#[tokio::test]
async fn refusals_are_problems() {
    let server = Server::start().await;
    let url = format!("http://{}{WEBSOCKET}", server.address);
    let client = reqwest::Client::new();
    let not_an_upgrade = client.get(&url).send().await.unwrap();
    assert_eq!(not_an_upgrade.status(), 400);
    let upgrade = client
        .get(&url)
        .header("connection", "upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "x3JJHMbDL1EzLkh9GBhXDw==")
        .send()
        .await
        .unwrap();
    assert_eq!(upgrade.status(), 401);
    for refused in [not_an_upgrade, upgrade] {
        assert_eq!(
            refused.headers()["content-type"],
            "application/problem+json"
        );
    }
    server.stop().await;
}

#[tokio::test]
async fn a_bearer_token_admits() {
    let server = Server::start().await;
    let who = server.login();
    let token = server.access_token(&who, Duration::from_secs(900));
    let bearer = format!("Bearer {token}");
    let headers = [("authorization", bearer.as_str())];
    let mut client = server.open(WEBSOCKET, &headers).await.unwrap();
    assert_eq!(client.frame().await["type"], "hello");
    let headers = [("authorization", "Bearer nonsense")];
    assert_eq!(server.open(WEBSOCKET, &headers).await.unwrap_err(), 401);
    server.stop().await;
}

#[tokio::test]
async fn web_pages_of_other_origins_may_not_connect() {
    let listed = ("WS__ORIGINS", "https://app.example.org");
    let server = Server::with(&[listed]).await;
    let who = server.login();
    let own = format!("http://{}", server.address);
    for (origin, expected) in [
        (own.as_str(), None),
        ("https://app.example.org", None),
        ("https://app.example.org.evil.test", Some(403)),
        ("https://evil.test", Some(403)),
        ("http://app.example.org", Some(403)),
        ("http://127.0.0.1", Some(403)),
        ("null", Some(403)),
    ] {
        let path = server.path(&server.ticket(&who));
        let outcome = server.open(&path, &[("origin", origin)]).await;
        assert_eq!(outcome.err(), expected, "{origin}");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_revoked_session_is_not_admitted() {
    let server = Server::start().await;
    let who = server.login();
    let mut client = server.connect(&who).await;
    let path = server.path(&server.ticket(&who));
    server.revoke(&who).await;
    assert_eq!(client.close_code().await, 4009);
    assert_eq!(server.open(&path, &[]).await.unwrap_err(), 401);
    server.stop().await;
}

#[tokio::test]
async fn a_full_server_is_not_ready_and_answers_503() {
    let server = Server::with(&[("WS__MAX_CONNECTIONS", "2")]).await;
    let mut first = server.connect(&server.login()).await;
    let _second = server.connect(&server.login()).await;
    assert_eq!(server.status("/readyz").await, 503);
    let path = server.path(&server.ticket(&server.login()));
    assert_eq!(server.open(&path, &[]).await.unwrap_err(), 503);
    first.socket.close(None).await.unwrap();
    server.metric_becomes("tidings_ws_connections", 1.0).await;
    assert!(
        server.open(&path, &[]).await.is_ok(),
        "the ticket is still good"
    );
    server.stop().await;
}

#[tokio::test]
async fn a_server_cut_off_from_the_bus_takes_nobody_until_it_is_back() {
    let server = Server::start().await;
    let who = server.login();
    let mut client = server.connect(&who).await;
    let id = client.hello["server"].as_str().unwrap().parse().unwrap();
    server.bus.interrupt(id);
    until("the server is not ready", || async {
        server.status("/readyz").await == 503
    })
    .await;
    let refused = server.open(&server.path(&server.ticket(&who)), &[]).await;
    assert_eq!(refused.unwrap_err(), 503);
    server.bus.sever(id);
    // Whoever was connected stays, and is told to sync.
    assert_eq!(client.frame().await["type"], "resume");
    assert_eq!(server.status("/readyz").await, 200);
    server.connect(&who).await;
    server.stop().await;
}
