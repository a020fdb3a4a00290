//! `tidings listen`: a small client that logs in, connects and prints what it is sent. For
//! trying things out; it neither stores a cursor nor catches up.

use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use futures_util::StreamExt as _;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::Message;

/// Longest time for a request and for the connection to be made.
const DEADLINE: Duration = Duration::from_secs(10);

/// Log in as a user and print every frame as a line of JSON
#[derive(Debug, Args)]
pub(crate) struct Listen {
    /// Where the API is (http only; put TLS in front of anything public)
    #[arg(long, default_value = "http://127.0.0.1:8080")]
    pub(crate) url: String,
    /// Whom to log in as
    #[arg(long)]
    pub(crate) username: String,
    /// The user's password; other users of this machine can see it while the program runs
    #[arg(long)]
    pub(crate) password: String,
    /// Exit after so many deltas
    #[arg(long, value_name = "N")]
    pub(crate) count: Option<u64>,
}

/// Listens until the server closes the connection, or `count` deltas have come.
pub(crate) async fn run(listen: Listen) -> anyhow::Result<()> {
    let url = ticket_url(&listen).await?;
    let connect = tokio::time::timeout(DEADLINE, connect_async(&url));
    let (mut socket, _) = connect
        .await
        .context("the WebSocket was not opened in time")?
        .context("opening the WebSocket")?;
    let mut left = listen.count;
    while let Some(message) = socket.next().await {
        let text = match message.context("reading from the WebSocket")? {
            Message::Text(text) => text,
            Message::Close(Some(frame)) => {
                let code = u16::from(frame.code);
                bail!("closed by the server: {code} {}", frame.reason);
            }
            // Pings are answered by the library.
            _ => continue,
        };
        if print(&text, &mut left).context("reading a frame")? {
            break;
        }
    }
    // The server notices all the same if this is lost.
    if let Err(error) = socket.close(None).await {
        tracing::debug!(
            error = &error as &dyn std::error::Error,
            "closing the WebSocket"
        );
    }
    Ok(())
}

async fn ticket_url(listen: &Listen) -> anyhow::Result<String> {
    let http = reqwest::Client::builder().timeout(DEADLINE).build()?;
    let login = json!({
        "username": listen.username,
        "password": listen.password,
        "device_name": "tidings listen",
    });
    let sessions = format!("{}/v1/sessions", listen.url);
    let session = post(http.post(sessions).json(&login))
        .await
        .context("logging in")?;
    let token = text(&session, "access_token")?;
    let tickets = format!("{}/v1/realtime/tickets", listen.url);
    let ticket = post(http.post(tickets).bearer_auth(token)).await;
    text(&ticket.context("taking a ticket")?, "url").map(str::to_owned)
}

async fn post(request: reqwest::RequestBuilder) -> anyhow::Result<Value> {
    let response = request.send().await?;
    let status = response.status();
    let body: Value = response.json().await.context("the answer is not JSON")?;
    if !status.is_success() {
        bail!(
            "{status}: {}",
            body["detail"].as_str().unwrap_or("no detail")
        );
    }
    Ok(body)
}

fn text<'a>(value: &'a Value, field: &str) -> anyhow::Result<&'a str> {
    value[field]
        .as_str()
        .with_context(|| format!("the answer has no {field}"))
}

/// Prints each frame of a message as it came; true when enough deltas have been printed.
#[expect(clippy::print_stdout, reason = "this is the command's output")]
fn print(text: &str, left: &mut Option<u64>) -> serde_json::Result<bool> {
    let frames: Vec<&RawValue> = match text.starts_with('[') {
        true => serde_json::from_str(text)?,
        false => vec![serde_json::from_str(text)?],
    };
    for frame in frames {
        if *left == Some(0) {
            break;
        }
        println!("{frame}");
        let kind: Kind<'_> = serde_json::from_str(frame.get())?;
        if let Some(left) = left
            && kind.r#type == "delta"
        {
            *left -= 1;
        }
    }
    Ok(*left == Some(0))
}

#[derive(Deserialize)]
struct Kind<'a> {
    r#type: &'a str,
}
