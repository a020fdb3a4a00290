//! What the log and the spans say, and what they never say.

use anyhow::{Context as _, Result, ensure};
use reqwest::Method;
use serde_json::{Value, json};
use tidings_tests::client::{Client, answer, number, text};
use tidings_tests::otlp::Receiver;
use tidings_tests::server::Server;
use tidings_tests::socket::{Socket, Upgrade};
use tidings_tests::wait::SOON;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;

/// Stands in everything that people write, and in everything that is not understood.
const CANARY: &str = "kanarienvogel";
const PASSWORD: &str = "kanarienvogel is secret";

/// All that Tidings itself can say, and of the libraries what is said by default.
const SETTINGS: [(&str, &str); 3] = [
    ("telemetry.log_format", "json"),
    ("telemetry.log_filter", "info,lapin=error,tidings=trace"),
    ("ws.drain_secs", "1"),
];

#[tokio::test]
async fn neither_logs_nor_spans_hold_tokens_or_what_people_write() -> Result<()> {
    let receiver = Receiver::start().await?;
    let endpoint = [("telemetry.otlp_endpoint", &*receiver.endpoint)];
    let mut server = Server::with(&[&SETTINGS[..], &endpoint].concat()).await?;
    let (ada, mut secrets) = register(&server).await?;
    let channel = converse(&ada).await?;
    secrets.push(invite(&server, &ada).await?);
    secrets.extend(connect(&ada, &channel).await?);
    misunderstand(&server, &ada, &channel).await?;
    server.terminate()?;
    ensure!(server.ended(SOON).await?.success());

    let log = server.log();
    let lines = parse(&log)?;
    let sent = find(
        &lines,
        "request answered",
        "/v1/channels/{channel}/messages",
    )?;
    ensure!(sent["level"] == "DEBUG", "{sent}");
    ensure!(text(sent, "span_id")?.len() == 16, "{sent}");
    let trace = receiver.trace(text(sent, "trace_id")?);
    ensure!(!trace.is_empty(), "{sent} is of no trace");
    ensure!(lines.iter().any(|line| line["level"] == "TRACE"), "{log}");

    secrets.extend([CANARY.to_owned(), "kanarien%76ogel".to_owned()]);
    for secret in secrets {
        ensure!(secret.len() > 8, "{secret:?} is in anything");
        ensure!(!log.contains(&secret), "{secret} is in the log:\n{log}");
        ensure!(!receiver.contains(&secret), "{secret} is in a span");
    }
    // It would be found.
    ensure!(receiver.contains("db.operation.name"));
    Ok(())
}

#[tokio::test]
async fn without_tracing_lines_are_json_and_name_no_trace() -> Result<()> {
    let mut server = Server::with(&SETTINGS).await?;
    let ada = server.user("ada").await?;
    let group = ada.group("Engine room", &[]).await?;
    ada.send(&group.channel, "hello").await?;
    server.terminate()?;
    ensure!(server.ended(SOON).await?.success());
    let log = server.log();
    let lines = parse(&log)?;
    find(&lines, "request answered", "/v1/users")?;
    ensure!(lines.iter().all(|line| line.get("trace_id").is_none()));
    // Spans are for the receiver alone.
    ensure!(!log.contains("otel.kind"), "{log}");
    Ok(())
}

/// Registers, logs in, refreshes; returns the user and all tokens.
async fn register(server: &Server) -> Result<(Client, Vec<String>)> {
    let ada = server.user("ada").await?;
    let account = json!({"username": "eve", "password": PASSWORD, "display_name": CANARY});
    server.api.post("/v1/users", &account).await?.ok()?;
    let login = json!({"username": "eve", "password": PASSWORD, "device_name": CANARY});
    let session = server.api.post("/v1/sessions", &login).await?.ok()?;
    let refresh = text(&session, "refresh_token")?;
    let body = json!({ "refresh_token": refresh });
    let path = "/v1/sessions/refresh";
    let fresh = server.api.post(path, &body).await?.ok()?;
    let mut secrets = vec![PASSWORD.to_owned()];
    for tokens in [&session, &fresh] {
        secrets.extend(parts(text(tokens, "access_token")?));
        secrets.extend(parts(text(tokens, "refresh_token")?));
    }
    secrets.extend(parts(&ada.access_token()));
    // A token that is not one, and a wrong password.
    let wrong = json!({ "refresh_token": format!("{refresh}{CANARY}") });
    server
        .api
        .post(path, &wrong)
        .await?
        .problem(401, "unauthenticated")?;
    let wrong = json!({"username": "eve", "password": CANARY, "device_name": ""});
    ensure!(server.api.post("/v1/sessions", &wrong).await?.status >= 400);
    Ok((ada, secrets))
}

/// Writes what people write; returns the channel.
async fn converse(ada: &Client) -> Result<String> {
    let group = ada.group(CANARY, &[]).await?;
    let sent = ada.send(&group.channel, CANARY).await?;
    let seq = number(&sent, "seq")?;
    let path = format!("/v1/channels/{}/messages", group.channel);
    let edited = ada
        .patch(
            &format!("{path}/{seq}"),
            &json!({"content": format!("{CANARY} again")}),
        )
        .await?;
    edited.ok()?;
    let reply = json!({"content": CANARY, "reply_to": seq, "nonce": CANARY});
    ada.post(&path, &reply).await?.ok()?;
    ada.patch("/v1/users/me", &json!({"display_name": CANARY}))
        .await?
        .ok()?;
    ada.delete(&format!("{path}/{seq}")).await?.ok()?;
    Ok(group.channel)
}

/// Makes an invite and uses it; returns its code.
async fn invite(server: &Server, ada: &Client) -> Result<String> {
    let group = ada.group(CANARY, &[]).await?;
    let path = format!("/v1/groups/{}/invites", group.id);
    let made = ada.post(&path, &json!({})).await?.ok()?;
    ada.get(&path).await?.ok()?;
    let code = text(&made, "code")?.to_owned();
    let bob = server.user("bob").await?;
    let way_in = format!("/v1/invites/{code}");
    bob.get(&way_in).await?.ok()?;
    bob.post(&way_in, &json!({})).await?.ok()?;
    let unknown = format!("/v1/invites/{CANARY}");
    ensure!(bob.post(&unknown, &json!({})).await?.status == 404);
    Ok(code)
}

/// Connects with a ticket and with a token, is sent a message and says what is no frame; returns
/// the ticket.
async fn connect(ada: &Client, channel: &str) -> Result<Vec<String>> {
    let ticket = ada.ticket().await?;
    let (mut socket, _) = Socket::open(&ticket, None).await?;
    ada.send(channel, CANARY).await?;
    socket.frame(SOON).await?;
    for frame in [
        json!({"type": CANARY}).to_string(),
        json!({"type": "ack", "cursor": {CANARY: 1}}).to_string(),
        CANARY.to_owned(),
        json!({"type": "auth", "access_token": CANARY}).to_string(),
    ] {
        socket.send_message(Message::text(frame)).await?;
    }
    socket.flush().await?;
    socket.send_message(Message::binary(CANARY)).await?;
    socket.closed(SOON).await?;
    let url = text(&ticket, "url")?;
    let used = url.into_client_request()?;
    ensure!(matches!(
        Socket::upgrade(used, None).await?,
        Upgrade::Refused(_)
    ));
    let token = url.split_once("ticket=").context("a ticket")?.1;
    let token = token.split('&').next().unwrap_or_default();
    Ok(parts(token))
}

/// Sends what is refused, with the canary wherever it can stand.
async fn misunderstand(server: &Server, ada: &Client, channel: &str) -> Result<()> {
    let messages = format!("/v1/channels/{channel}/messages");
    for body in [
        CANARY.to_owned(),
        format!("{{\"{CANARY}\":1}}"),
        format!("{{\"content\":\"{CANARY}\",\"content\":\"{CANARY}\"}}"),
        format!("{{\"content\":[\"{CANARY}\"]}}"),
        format!("{{\"content\":\"{CANARY}\",\"reply_to\":\"{CANARY}\"}}"),
        format!("{{\"content\":\"{}\"}}", CANARY.repeat(10_000)),
    ] {
        let request = ada
            .request(Method::POST, &messages)
            .header("content-type", "application/json")
            .body(body);
        ensure!((400..500).contains(&answer(request).await?.status));
    }
    for path in [
        format!("/{CANARY}"),
        format!("/v1/users/{CANARY}"),
        format!("/v1/channels/{CANARY}/messages"),
        format!("{messages}?after={CANARY}"),
        format!("/v1/users?username={CANARY}&{CANARY}={CANARY}"),
        format!("/v1/ws?ticket={CANARY}"),
        "/v1/users/kanarien%76ogel".to_owned(),
    ] {
        let status = ada.get(&path).await?.status;
        ensure!((200..500).contains(&status), "{path}: {status}");
    }
    for (name, value) in [
        ("authorization", format!("Bearer {CANARY}")),
        ("traceparent", CANARY.to_owned()),
        ("tracestate", format!("{CANARY}={CANARY}")),
        ("idempotency-key", CANARY.to_owned()),
        ("content-type", CANARY.to_owned()),
        ("x-forwarded-for", CANARY.to_owned()),
        ("x-forwarded-proto", CANARY.to_owned()),
        ("user-agent", CANARY.to_owned()),
    ] {
        let request = server
            .api
            .request(Method::POST, &messages)
            .header(name, &value)
            .body("{}");
        let status = answer(request).await?.status;
        ensure!((400..500).contains(&status), "{name}: {status}");
    }
    Ok(())
}

/// A token and its parts, but for the first, which says only how it is signed.
fn parts(token: &str) -> Vec<String> {
    let parts = token.split('.').skip(1).filter(|part| part.len() > 20);
    parts.chain([token]).map(str::to_owned).collect()
}

/// Every line but the one on standard output.
fn parse(log: &str) -> Result<Vec<Value>> {
    let lines = log
        .lines()
        .filter(|line| !line.starts_with("Tidings is ready"));
    lines
        .map(|line| {
            let value: Value = serde_json::from_str(line).context(line.to_owned())?;
            for field in ["timestamp", "level", "message", "target"] {
                text(&value, field)?;
            }
            Ok(value)
        })
        .collect()
}

/// The line that says this of a request to this route.
fn find<'a>(lines: &'a [Value], message: &str, route: &str) -> Result<&'a Value> {
    let mut found = lines.iter().filter(|line| line["message"] == message);
    found
        .find(|line| line["span"]["http.route"] == route)
        .with_context(|| format!("no line {message:?} of {route}"))
}
