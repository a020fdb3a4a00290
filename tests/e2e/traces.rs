//! Where a message's time goes, as an OTLP receiver is told.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use reqwest::Method;
use serde_json::json;
use tidings_common::clock::{Clock as _, SystemClock};
use tidings_common::domain::{Change, Entry, EntryId, Key, StreamId, UserId};
use tidings_common::store::{LogStore as _, SqliteStore};
use tidings_tests::client::{Client, answer};
use tidings_tests::cluster::Cluster;
use tidings_tests::otlp::{Receiver, Span, SpanKind, named};
use tidings_tests::server::{Server, free_port};
use tidings_tests::socket::Socket;
use tidings_tests::started;
use tidings_tests::wait::{self, SOON};
use tokio::time::Instant;

/// What the trace of a message that somebody received consists of.
const WAY: [&str; 7] = [
    "POST /v1/channels/{channel}/messages",
    "append",
    "insert entries",
    "publish deltas",
    "process deltas",
    "write websocket",
    "settle entries",
];
/// The span of the client, which the server goes on from.
const CALLER: &str = "b7ad6b7169203331";

#[tokio::test]
async fn one_trace_leads_from_the_request_to_the_socket() -> Result<()> {
    let receiver = Receiver::start().await?;
    let server = traced(&receiver, "0").await?;
    let (ada, bob) = (server.user("ada").await?, server.user("bob").await?);
    let group = ada.group("Engine room", &[&bob]).await?;
    // Of several writes one is traced.
    let (mut own, _) = Socket::connect(&ada).await?;
    let (mut socket, _) = Socket::connect(&bob).await?;

    let trace = new_trace();
    let parent = format!("00-{trace}-{CALLER}-01");
    send(&ada, &group.channel, &parent).await?;
    own.frame(SOON).await?;
    socket.frame(SOON).await?;
    let spans = receiver.complete(&trace, &WAY).await?;
    ensure!(spans.len() == WAY.len(), "{spans:#?}");

    let chain = [
        (WAY[0], SpanKind::Server),
        ("append", SpanKind::Internal),
        ("publish deltas", SpanKind::Producer),
        ("process deltas", SpanKind::Consumer),
        ("write websocket", SpanKind::Internal),
    ];
    let mut parent = CALLER;
    for (name, kind) in chain {
        let span = named(&spans, name)?;
        ensure!(span.parent == parent && span.kind == kind, "{span:#?}");
        ensure!(span.service == "tidings" && !span.failed, "{span:#?}");
        ensure!(span.start_nanos <= span.end_nanos, "{span:#?}");
        parent = &span.id;
    }
    let append = &named(&spans, "append")?.id;
    for name in ["insert entries", "settle entries"] {
        let span = named(&spans, name)?;
        ensure!(span.parent == *append, "{span:#?}");
        ensure!(span.kind == SpanKind::Client, "{span:#?}");
        ensure!(span.attribute("db.system.name") == "sqlite", "{span:#?}");
    }
    let request = named(&spans, WAY[0])?;
    ensure!(request.attribute("http.route") == "/v1/channels/{channel}/messages");
    ensure!(request.attribute("http.response.status_code") == "201");
    ensure!(request.attribute("user.id") == ada.user);
    let publish = named(&spans, "publish deltas")?;
    ensure!(publish.attribute("messaging.system") == "memory");
    ensure!(named(&spans, "write websocket")?.attribute("outcome") == "written");
    Ok(())
}

#[tokio::test]
async fn what_a_change_brings_about_is_in_its_trace() -> Result<()> {
    let receiver = Receiver::start().await?;
    let server = traced(&receiver, "0").await?;
    let (ada, bob) = (server.user("ada").await?, server.user("bob").await?);
    let group = ada.group("Engine room", &[&bob]).await?;
    let trace = new_trace();
    let removal = ada
        .request(
            Method::DELETE,
            &format!("/v1/groups/{}/members/{}", group.id, bob.user),
        )
        .header("traceparent", format!("00-{trace}-{CALLER}-01"));
    answer(removal).await?.ok()?;
    let spans = wait::until("two appends", SOON, async || {
        let spans = receiver.trace(&trace);
        let appends = spans.iter().filter(|span| span.name == "append");
        Ok((appends.count() == 2).then_some(spans))
    })
    .await?;
    let of = |stream: &str| {
        let mut appends = spans.iter().filter(|span| span.name == "append");
        appends.find(|span| span.attribute("stream").starts_with(stream))
    };
    let removal = of("g:").context("the removal")?;
    let fence = of("c:").context("the fence")?;
    ensure!(fence.parent == removal.id, "{spans:#?}");
    let apply = named(&spans, "apply")?;
    ensure!(apply.parent == removal.id, "{spans:#?}");
    Ok(())
}

/// Nobody knows any more in which trace an abandoned entry was committed.
#[tokio::test]
async fn the_relay_begins_a_trace() -> Result<()> {
    let receiver = Receiver::start().await?;
    let mut server = traced(&receiver, "1").await?;
    let ada = server.user("ada").await?;
    let group = ada.group("Engine room", &[]).await?;
    server.terminate()?;
    ensure!(server.ended(SOON).await?.success());
    let stream = StreamId::Channel(group.channel.parse()?);
    let entry = abandon(server.directory(), stream, ada.user.parse()?).await?;
    server.restart().await?;
    let relay = wait::until("the relay's span", SOON, async || {
        let spans = receiver.spans();
        Ok(spans.into_iter().find(|span| span.name == "relay"))
    })
    .await?;
    ensure!(relay.parent.is_empty(), "{relay:#?}");
    ensure!(
        relay.attribute("stream") == stream.to_string(),
        "{relay:#?}"
    );
    ensure!(relay.attribute("delta.seq") == entry.seq.to_string());
    let spans = receiver
        .complete(&relay.trace, &["relay", "publish deltas"])
        .await?;
    let publish = named(&spans, "publish deltas")?;
    ensure!(publish.parent == relay.id, "{spans:#?}");
    ensure!(publish.kind == SpanKind::Producer && !publish.failed);
    Ok(())
}

/// Commits a message as a process does that dies right after.
async fn abandon(directory: &Path, stream: StreamId, author: UserId) -> Result<Entry> {
    let store = SqliteStore::open(&directory.join("tidings-data/tidings.db"))?;
    let change = Change::MessageCreated(Box::default());
    let head = store.head(stream).await?;
    let head = head.after(&change, head.gv.max(1));
    let entry = Entry {
        id: EntryId::generate(),
        stream,
        seq: head.seq,
        at: SystemClock.now(),
        actor: Some(author),
        key: Key::unique(),
        request: None,
        gv: head.gv,
        ord: head.ord,
        change,
    };
    let appended = store.append(vec![entry.clone()]).await?;
    ensure!(appended.landed == 1);
    Ok(entry)
}

/// The same way through the processes of a cluster: request and commit in one, delivery in each
/// that has a recipient.
#[tokio::test]
async fn one_trace_leads_through_all_processes() -> Result<()> {
    let receiver = Receiver::start().await?;
    let settings = [
        ("telemetry.otlp_endpoint", &*receiver.endpoint),
        ("telemetry.trace_ratio", "0"),
    ];
    let cluster = started!(Cluster::with(&settings).await);
    let (ada, bob) = (cluster.user("ada").await?, cluster.user("bob").await?);
    let group = ada.group("Engine room", &[&bob]).await?;
    let mut sockets = Vec::new();
    for (user, server) in [&ada, &bob].into_iter().zip(&cluster.ws_pushes) {
        sockets.push(Socket::connect_at(user, &server.api).await?.0);
    }
    let trace = new_trace();
    send(&ada, &group.channel, &format!("00-{trace}-{CALLER}-01")).await?;
    for socket in &mut sockets {
        socket.delta(&format!("c:{}", group.channel)).await?;
    }
    let spans = wait::until("the spans of both deliveries", SOON, async || {
        let spans = receiver.trace(&trace);
        let writes = spans.iter().filter(|span| span.name == "write websocket");
        let is_whole = writes.count() == 2 && WAY.iter().all(|name| named(&spans, name).is_ok());
        Ok(is_whole.then_some(spans))
    })
    .await
    .with_context(|| format!("{:#?}", receiver.trace(&trace)))?;

    let mut parent = CALLER;
    for name in [WAY[0], "append", "publish deltas"] {
        let span = named(&spans, name)?;
        ensure!(
            span.parent == parent && span.service == "tidings-api",
            "{span:#?}"
        );
        parent = &span.id;
    }
    let insert = named(&spans, "insert entries")?;
    ensure!(
        insert.attribute("db.system.name") == "mongodb",
        "{insert:#?}"
    );
    let publish = named(&spans, "publish deltas")?;
    ensure!(
        publish.attribute("messaging.system") == "rabbitmq",
        "{publish:#?}"
    );
    let mut instances = vec![&publish.instance];
    for process in spans.iter().filter(|span| span.name == "process deltas") {
        ensure!(process.parent == publish.id, "{process:#?}");
        ensure!(process.service == "tidings-ws-push", "{process:#?}");
        let mut writes = spans.iter().filter(|span| span.parent == process.id);
        let write = writes.next().context("a write")?;
        ensure!(write.name == "write websocket" && writes.next().is_none());
        instances.push(&process.instance);
    }
    instances.sort_unstable();
    instances.dedup();
    ensure!(instances.len() == 3, "{spans:#?}");
    Ok(())
}

/// Messages that are committed together share the store's span: it is in the trace of one, and
/// the others link to it.
#[tokio::test]
async fn every_message_of_a_batch_leads_to_the_stores_span() -> Result<()> {
    const MESSAGES: usize = 60;
    let receiver = Receiver::start().await?;
    let server = traced(&receiver, "1").await?;
    let ada = server.user("ada").await?;
    let group = ada.group("Engine room", &[]).await?;
    let traces: Vec<String> = std::iter::repeat_with(new_trace).take(MESSAGES).collect();
    let sending = traces.iter().map(|trace| {
        let parent = format!("00-{trace}-{CALLER}-01");
        let (ada, channel) = (&ada, &group.channel);
        async move { send(ada, channel, &parent).await }
    });
    futures_util::future::try_join_all(sending).await?;
    for trace in &traces {
        receiver
            .complete(trace, &["append", "publish deltas"])
            .await?;
    }
    let spans = receiver.spans();
    let inserts: Vec<&Span> = spans
        .iter()
        .filter(|span| span.name == "insert entries")
        .collect();
    let mut linked = 0;
    for trace in &traces {
        let of_trace = receiver.trace(trace);
        let append = named(&of_trace, "append")?;
        let own = inserts.iter().any(|insert| insert.parent == append.id);
        let other = |insert: &&&Span| append.links.contains(&insert.id);
        linked += usize::from(!own);
        ensure!(
            own || inserts.iter().any(|insert| other(&insert)),
            "{append:#?}"
        );
    }
    ensure!(linked > 0, "no two messages were committed together");
    Ok(())
}

/// With a ratio of 0 only what a caller wants traced is traced.
#[tokio::test]
async fn the_ratio_and_the_caller_decide_what_is_recorded() -> Result<()> {
    let receiver = Receiver::start().await?;
    let mut server = traced(&receiver, "0").await?;
    let ada = server.user("ada").await?;
    let group = ada.group("Engine room", &[]).await?;
    let (wanted, unwanted) = (new_trace(), new_trace());
    send(&ada, &group.channel, &format!("00-{unwanted}-{CALLER}-00")).await?;
    send(&ada, &group.channel, "00-not-a-parent-01").await?;
    send(&ada, &group.channel, &format!("00-{wanted}-{CALLER}-01")).await?;
    // What was finished when the process was asked to end is sent before it has ended.
    server.terminate()?;
    ensure!(server.ended(SOON).await?.success());
    let spans = receiver.spans();
    ensure!(spans.iter().all(|span| span.trace == wanted), "{spans:#?}");
    named(&spans, WAY[0])?;
    named(&spans, "publish deltas")?;
    Ok(())
}

#[tokio::test]
async fn health_checks_leave_no_traces() -> Result<()> {
    let receiver = Receiver::start().await?;
    let mut server = traced(&receiver, "1").await?;
    server.api.get("/readyz").await?.ok()?;
    server
        .api
        .get("/v1/users/me")
        .await?
        .problem(401, "unauthenticated")?;
    server
        .api
        .get("/nowhere")
        .await?
        .problem(404, "not_found")?;
    server.terminate()?;
    ensure!(server.ended(SOON).await?.success());
    let spans = receiver.spans();
    let names: Vec<&str> = spans.iter().map(|span| &*span.name).collect();
    ensure!(names == ["GET /v1/users/me", "GET"], "{names:?}");
    ensure!(spans.iter().all(|span| !span.failed), "{spans:#?}");
    Ok(())
}

/// A receiver that is not there is said once, and delays nothing.
#[tokio::test]
async fn without_a_receiver_everything_goes_on() -> Result<()> {
    let endpoint = format!("http://127.0.0.1:{}", free_port()?);
    let settings = [("telemetry.otlp_endpoint", &*endpoint)];
    let mut server = Server::with(&settings).await?;
    let ada = server.user("ada").await?;
    let group = ada.group("Engine room", &[]).await?;
    let complaints = |server: &Server| server.log().matches("spans cannot be sent").count();
    wait::until("a warning", SOON, async || {
        ada.send(&group.channel, "hello").await?;
        Ok((complaints(&server) == 1).then_some(()))
    })
    .await?;
    for _ in 0..100 {
        ada.send(&group.channel, "hello").await?;
    }
    let since = Instant::now();
    server.terminate()?;
    ensure!(server.ended(SOON).await?.success());
    let took = since.elapsed();
    ensure!(took < Duration::from_secs(8), "the end took {took:?}");
    ensure!(complaints(&server) == 1, "{}", server.log());
    Ok(())
}

async fn traced(receiver: &Receiver, ratio: &str) -> Result<Server> {
    let settings = [
        ("telemetry.otlp_endpoint", &*receiver.endpoint),
        ("telemetry.trace_ratio", ratio),
        ("ws.drain_secs", "1"),
    ];
    Server::with(&settings).await
}

async fn send(client: &Client, channel: &str, traceparent: &str) -> Result<()> {
    let path = format!("/v1/channels/{channel}/messages");
    let request = client
        .request(Method::POST, &path)
        .header("traceparent", traceparent)
        .json(&json!({"content": "hello"}));
    answer(request).await?.ok()?;
    Ok(())
}

fn new_trace() -> String {
    format!("{:032x}", fastrand::u128(1..))
}
