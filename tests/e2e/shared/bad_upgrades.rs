//! Realtime connections that must not come about, and clients that misbehave on one.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use tidings_tests::client::{Answer, Client, text};
use tidings_tests::socket::{Socket, Upgrade};
use tidings_tests::started;
use tidings_tests::wait::SOON;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::protocol::Message;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};

use super::System;

#[tokio::test]
async fn an_upgrade_without_a_good_ticket_is_a_problem_before_it() -> Result<()> {
    let server = started!(System::start().await);
    let ada = server.user("ada").await?;
    let none = refusal(upgrade(&server, "/v1/ws")).await?;
    none.problem(401, "unauthenticated")?;
    let access = ada.access_token();
    for ticket in ["", "x", "a.b.c", &access] {
        let path = format!("/v1/ws?p=0&ticket={ticket}");
        refusal(upgrade(&server, &path))
            .await?
            .problem(401, "unauthenticated")?;
    }
    let bearer = upgrade(&server, "/v1/ws").bearer_auth("x");
    refusal(bearer).await?.problem(401, "unauthenticated")?;

    // A ticket is good for one connection.
    let ticket = ada.ticket().await?;
    let (mut socket, _) = Socket::open(&ticket, None).await?;
    let path = path_of(&ticket)?;
    refusal(upgrade(&server, &path))
        .await?
        .problem(401, "unauthenticated")?;
    ensure!(socket.flush().await?.is_empty());

    // A changed one is none.
    let ticket = ada.ticket().await?;
    let path = path_of(&ticket)? + "x";
    refusal(upgrade(&server, &path))
        .await?
        .problem(401, "unauthenticated")?;
    Ok(())
}

#[tokio::test]
async fn a_foreign_origin_is_refused_and_the_own_is_not() -> Result<()> {
    let server = started!(System::with(&[("ws.origins", "https://chat.example.org")]).await);
    let ada = server.user("ada").await?;
    for origin in [
        "https://evil.example",
        "null",
        "https://chat.example.org.evil.example",
    ] {
        let path = path_of(&ada.ticket().await?)?;
        let request = upgrade(&server, &path).header("origin", origin);
        refusal(request).await?.problem(403, "forbidden")?;
    }
    for origin in ["https://chat.example.org", &server.api.base] {
        let mut request = text(&ada.ticket().await?, "url")?.into_client_request()?;
        request.headers_mut().insert("origin", origin.parse()?);
        let opened = Socket::upgrade(request, None).await?;
        ensure!(matches!(opened, Upgrade::Open(_)), "{origin}: {opened:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_bearer_token_opens_a_socket_too() -> Result<()> {
    let server = started!(System::start().await);
    let ada = server.user("ada").await?;
    let url = server.api.base.replace("http://", "ws://") + "/v1/ws";
    let mut request = url.into_client_request()?;
    let bearer = format!("Bearer {}", ada.access_token());
    request
        .headers_mut()
        .insert("authorization", bearer.parse()?);
    let Upgrade::Open(mut socket) = Socket::upgrade(request, None).await? else {
        anyhow::bail!("refused");
    };
    ensure!(socket.frame(SOON).await?["type"] == "hello");
    Ok(())
}

#[tokio::test]
async fn a_request_that_is_no_upgrade_is_a_problem() -> Result<()> {
    let server = started!(System::start().await);
    let ada = server.user("ada").await?;
    let answer = ada.get("/v1/ws").await?;
    ensure!((400..500).contains(&answer.status), "{}", answer.status);
    ensure!(answer.header("content-type") == "application/problem+json");
    Ok(())
}

#[tokio::test]
async fn frames_that_are_not_allowed_close_the_connection() -> Result<()> {
    let server = started!(System::start().await);
    let ada = server.user("ada").await?;
    let invalid_text = Frame::message(&b"\xff\xfe"[..], OpCode::Data(Data::Text), true);
    for (message, code) in [
        (Message::binary(&b"{}"[..]), 1003),
        (Message::Frame(invalid_text), 1007),
        (Message::text(format!("\"{}\"", "x".repeat(10_000))), 1009),
        (Message::text("x".repeat(1 << 20)), 1009),
    ] {
        let (mut socket, _) = Socket::connect(&ada).await?;
        // The server may close while a large frame is still being sent.
        socket.send_message(message).await.ok();
        let (closed, _) = socket.closed(SOON).await?;
        ensure!(closed == Some(code), "{closed:?} instead of {code}");
    }
    Ok(())
}

#[tokio::test]
async fn frames_that_mean_nothing_are_errors_and_too_many_of_them_the_end() -> Result<()> {
    let server = started!(System::start().await);
    let ada = server.user("ada").await?;
    let (mut socket, _) = Socket::connect(&ada).await?;
    for frame in [
        json!({"type": "nothing"}),
        json!({"type": 1}),
        json!([]),
        json!({"type": "message", "content": "no mutations here"}),
        json!({"type": "ack", "cursor": {"c": -1}}),
    ] {
        socket.send(&frame).await?;
        let answer = socket.frame(SOON).await?;
        ensure!(
            answer["type"] == "error" && answer["code"] == "invalid_frame",
            "{frame}: {answer}"
        );
    }
    socket.send_message(Message::text("{")).await?;
    ensure!(socket.frame(SOON).await?["code"] == "invalid_frame");
    for _ in 0..6 {
        socket.send_message(Message::text("{")).await.ok();
    }
    let (code, _) = socket.closed(SOON).await?;
    ensure!(code == Some(1008), "closed with {code:?}");
    Ok(())
}

#[tokio::test]
async fn one_connection_too_many_takes_the_oldest_place() -> Result<()> {
    let server = started!(System::with(&[("ws.max_connections_per_user", "3")]).await);
    let ada = server.user("ada").await?;
    let group = ada.group("Engine room", &[]).await?;
    let mut sockets = Vec::new();
    for _ in 0..4 {
        sockets.push(Socket::connect(&ada).await?.0);
    }
    let mut oldest = sockets.remove(0);
    let (code, _) = oldest.closed(Duration::from_secs(5)).await?;
    ensure!(code == Some(4010), "closed with {code:?}");
    ada.send(&group.channel, "to the others").await?;
    for socket in &mut sockets {
        socket.delta(&format!("c:{}", group.channel)).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_full_server_answers_503_and_is_not_ready() -> Result<()> {
    let server = started!(System::with(&[("ws.max_connections", "2")]).await);
    let places = 2 * System::WS_PUSH_SERVERS;
    let users = server.users("user", places + 1).await?;
    let (last, first) = users.split_last().context("users")?;
    let mut held = Vec::new();
    for user in first {
        held.push(Socket::connect(user).await?);
    }
    let answer = refused(&server, last).await?;
    answer.problem(503, "unavailable")?;
    ensure!(!answer.header("retry-after").is_empty(), "no Retry-After");
    Ok(())
}

async fn refused(server: &System, client: &Client) -> Result<Answer> {
    let path = path_of(&client.ticket().await?)?;
    refusal(upgrade(server, &path)).await
}

/// The path and query of a ticket's URL.
fn path_of(ticket: &Value) -> Result<String> {
    let url = text(ticket, "url")?;
    let at = url.find("/v1/").context("a path")?;
    Ok(url[at..].to_owned())
}

/// A request for a WebSocket.
fn upgrade(server: &System, path: &str) -> RequestBuilder {
    server
        .api
        .request(Method::GET, path)
        .header("connection", "Upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
}

/// The whole answer to an upgrade that is refused.
async fn refusal(request: RequestBuilder) -> Result<Answer> {
    let response = tokio::time::timeout(SOON, request.send()).await??;
    ensure!(response.status() != 101, "it was accepted");
    Ok(Answer {
        status: response.status().as_u16(),
        headers: response.headers().clone(),
        body: response.bytes().await?.to_vec(),
    })
}
