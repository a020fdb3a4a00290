//! Server-Sent Events: refused, served and ended as sockets are.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use reqwest::Method;
use serde_json::{Value, json};
use tidings_tests::client::{answer, number, text};
use tidings_tests::device::Device;
use tidings_tests::event_stream::EventStream;
use tidings_tests::socket::Socket;
use tidings_tests::started;
use tidings_tests::wait::SOON;
use tidings_tests::way::{Transport, Way};

use super::System;
use super::slow::{check_told, flood, recovers};

#[tokio::test]
async fn a_stream_is_refused_as_a_socket_is_before_it_begins() -> Result<()> {
    let settings = [
        ("ws.origins", "https://chat.example.org"),
        ("ws.max_connections", "1"),
    ];
    let server = started!(System::with(&settings).await);
    let (ada, bob) = (server.user("ada").await?, server.user("bob").await?);
    let access = ada.access_token();
    for ticket in ["", "x", "a.b.c", &access] {
        let path = format!("/v1/events?p=0&ticket={ticket}");
        server
            .api
            .get(&path)
            .await?
            .problem(401, "unauthenticated")?;
    }
    server
        .api
        .get("/v1/events")
        .await?
        .problem(401, "unauthenticated")?;
    let posted = ada.post("/v1/events", &json!({})).await?;
    posted.problem(405, "method_not_allowed")?;
    for origin in ["https://evil.example", "null"] {
        let path = path_of(&ada.ticket().await?)?;
        let request = server.api.request(Method::GET, &path);
        let refused = answer(request.header("origin", origin)).await?;
        refused.problem(403, "forbidden")?;
    }

    // A ticket is good for one connection of any kind.
    let ticket = ada.ticket().await?;
    let (held, _) = EventStream::open(text(&ticket, "events_url")?, None).await?;
    let again = server.api.get(&path_of(&ticket)?).await?;
    // The balancer may have found that the server which knows the ticket has no room.
    ensure!(
        again.status == 401 || again.status == 503,
        "{}",
        again.status
    );
    let mut others = Vec::new();
    while 1 + others.len() < System::WS_PUSH_SERVERS {
        others.push(EventStream::connect(&bob).await?);
    }
    let full = server.api.get(&path_of(&bob.ticket().await?)?).await?;
    full.problem(503, "unavailable")?;
    ensure!(!full.header("retry-after").is_empty(), "no Retry-After");
    drop((held, others));
    Ok(())
}

#[tokio::test]
async fn a_stream_receives_each_delta_once_and_in_order_until_its_session_ends() -> Result<()> {
    let settings = [
        ("ws.heartbeat_ms", "500"),
        ("ws.max_connections_per_user", "2"),
    ];
    let server = started!(System::with(&settings).await);
    let (ada, bob) = (server.user("ada").await?, server.user("bob").await?);
    let bob_again = server.api.login("bob").await?;
    let group = ada.group("Engine room", &[&bob]).await?;
    let (mut oldest, _) = Socket::connect(&bob).await?;
    // Read all the time, since a socket has to answer pings.
    let oldest = tokio::spawn(async move { oldest.closed(3 * SOON).await });
    let (mut events, hello) = EventStream::connect(&bob).await?;
    for field in ["heartbeat_ms", "session_expires_in", "sync_secs", "epoch"] {
        ensure!(hello[field].is_u64(), "{field} in {hello}");
    }
    let channel = format!("c:{}", group.channel);
    for number in 0..30 {
        let sent = ada.send(&group.channel, &number.to_string()).await?;
        let delta = events.delta(&channel).await?;
        let expected = json!({
            "type": "delta", "stream": channel, "seq": sent["seq"], "kind": "message.created",
            "at": sent["created_at"], "actor": ada.user,
            "data": {"id": sent["id"], "content": sent["content"], "reply_to": null, "mentions": [], "mentions_everyone": false},
        });
        ensure!(delta == expected, "{delta} not {expected}");
    }
    // Sockets and streams count together.
    let (mut newest, _) = EventStream::connect(&bob_again).await?;
    ensure!(oldest.await??.0 == Some(4010));
    // Nothing happens, and the stream is not idle: half a minute of this would be one ping.
    let idle = tokio::time::timeout(Duration::from_secs(3), events.next()).await;
    ensure!(idle.is_err(), "{idle:?}");
    ensure!(events.pings >= 2, "{} pings in 3 s", events.pings);

    let revoked = bob_again
        .delete(&format!("/v1/sessions/{}", bob.session))
        .await?;
    ensure!(revoked.status == 204);
    let (code, frames) = events.closed(SOON).await?;
    ensure!(code == Some(4009), "closed with {code:?}");
    let channel_frames = frames.iter().filter(|frame| frame["stream"] == *channel);
    ensure!(channel_frames.count() == 0, "{frames:?}");
    let last = ada.send(&group.channel, "to those who stay").await?;
    ensure!(newest.delta(&channel).await?["seq"] == last["seq"]);
    Ok(())
}

#[tokio::test]
async fn a_slow_reader_is_told_to_resume_then_closed_and_recovers_everything() -> Result<()> {
    // The client sleeps for as long as the others send; that is not to end it.
    let server = started!(System::with(&[("ws.write_deadline_ms", "120000")]).await);
    let (ada, bob) = (server.user("ada").await?, server.user("bob").await?);
    let group = ada.group("Engine room", &[&bob]).await?;
    let mut device = Device::start_by(&bob, Way::over(Transport::Events)).await?;
    device.go_away().await?;
    let (mut slow, _) = EventStream::connect_small(&bob, 4096).await?;

    let last = flood(&ada, &group.channel).await?;
    check_told(slow.closed(SOON).await?)?;
    recovers(&mut device, &bob, &group.channel, last).await
}

#[tokio::test]
async fn a_server_that_stops_sends_its_streams_elsewhere_each_in_its_slot() -> Result<()> {
    const DRAIN: Duration = Duration::from_secs(3);
    let mut server = started!(System::with(&[("ws.drain_secs", "3")]).await);
    let users = server.users("user", 6).await?;
    let mut streams = Vec::new();
    for user in &users {
        streams.push(EventStream::connect(user).await?.0);
    }
    server.terminate()?;
    for mut stream in streams {
        let (code, frames) = stream.closed(SOON).await?;
        ensure!(code == Some(1012), "closed with {code:?} after {frames:?}");
        let frame = frames.last().context("a frame before the end")?;
        ensure!(frame["type"] == "reconnect", "{frame}");
        let after = number(frame, "after_ms")?;
        ensure!(u128::from(after) <= DRAIN.as_millis(), "{frame}");
    }
    let status = server.ended(DRAIN + SOON).await?;
    ensure!(status.success(), "ended with {status}");
    Ok(())
}

/// The path and query of a ticket's address for events.
fn path_of(ticket: &Value) -> Result<String> {
    let url = text(ticket, "events_url")?;
    let at = url.find("/v1/").context("a path")?;
    Ok(url[at..].to_owned())
}
