use std::sync::atomic::Ordering;
use std::time::Duration;

use secrecy::ExposeSecret as _;
use tidings_common::auth::Principal;
use tidings_common::clock::Clock as _;
use tidings_common::domain::{SessionId, UserId};

use super::harness::{TestServer, problem};

fn token(server: &TestServer) -> String {
    let (user, session) = (UserId::generate(), SessionId::generate());
    let ttl = Duration::from_secs(900);
    let (token, _) = server
        .keys
        .access_token(user, session, server.clock.now(), ttl);
    token.expose_secret().to_owned()
}

#[tokio::test]
async fn a_good_token_is_let_in_until_it_expires() {
    let server = TestServer::start();
    let token = token(&server);
    let response = server.get("/me").bearer_auth(&token).send().await.unwrap();
    assert_eq!(response.status(), 200);

    server.clock.advance(900_000);
    let response = server.get("/me").bearer_auth(&token).send().await.unwrap();
    let challenge = response.headers()["www-authenticate"].clone();
    assert_eq!(challenge, "Bearer error=\"invalid_token\"");
    problem(response, 401, "token_expired").await;
    server.stop().await;
}

#[tokio::test]
async fn whatever_is_not_one_bearer_token_is_refused() {
    let server = TestServer::start();
    let token = token(&server);
    let principal = Principal {
        user: UserId::generate(),
        session: SessionId::generate(),
        expires_at: server.clock.now().plus_millis(900_000),
    };
    let ticket = server.keys.ticket(&principal, server.clock.now());
    let with = |value: String| server.get("/me").header("authorization", value);
    for request in [
        server.get("/me"),
        with(token.clone()),
        with("Bearer".to_owned()),
        with(format!("Basic {token}")),
        with(format!("Bearer  {token}")),
        with(format!("Bearer {token}x")),
        with(format!("Bearer {}", "x".repeat(20_000))),
        with(format!("Bearer {}", ticket.expose_secret())),
        with(format!("Bearer {token}")).header("authorization", format!("Bearer {token}")),
    ] {
        let response = request.send().await.unwrap();
        assert_eq!(response.headers()["www-authenticate"], "Bearer");
        problem(response, 401, "unauthenticated").await;
    }
    server.stop().await;
}

#[tokio::test]
async fn a_revoked_session_is_refused() {
    let server = TestServer::start();
    let token = token(&server);
    server
        .world
        .sessions_are_revoked
        .store(true, Ordering::SeqCst);
    let response = server.get("/me").bearer_auth(&token).send().await.unwrap();
    problem(response, 401, "unauthenticated").await;
    server.stop().await;
}
