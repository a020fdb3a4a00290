//! One WebSocket connection, frame by frame.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, timeout_at};
use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::handshake::client::Request;
use tokio_tungstenite::tungstenite::protocol::{Message, WebSocketConfig};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

use crate::client::{Answer, Api, Client, text};
use crate::failure::{self, Broken, Refused};
use crate::wait::SOON;

/// An open connection.
#[derive(Debug)]
pub struct Socket {
    stream: WebSocketStream<TcpStream>,
    /// Frames that came in one array and have not been taken yet.
    ready: VecDeque<Value>,
}

/// What a connection yields.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    Frame(Value),
    /// The end, with the close code; `None` if the transport just ended.
    Closed(Option<u16>),
}

/// What became of an upgrade.
#[derive(Debug)]
pub enum Upgrade {
    Open(Box<Socket>),
    Refused(Answer),
}

impl Socket {
    /// Takes a ticket, connects and waits for `hello`, which is returned too.
    ///
    /// # Errors
    /// The server refuses it, or the first frame is not `hello`.
    pub async fn connect(client: &Client) -> Result<(Self, Value)> {
        Self::open(&client.ticket().await?, None).await
    }

    /// Like [`Socket::connect`], to one server rather than where the ticket says.
    ///
    /// # Errors
    /// As there.
    pub async fn connect_at(client: &Client, server: &Api) -> Result<(Self, Value)> {
        let mut ticket = client.ticket().await?;
        let url = text(&ticket, "url")?;
        let path = &url[url.find("/v1/").context("a path")?..];
        ticket["url"] = json!(server.base.replace("http://", "ws://") + path);
        Self::open(&ticket, None).await
    }

    /// Like [`Socket::connect`], with a small buffer for what has been received and not read.
    ///
    /// # Errors
    /// As there.
    pub async fn connect_small(client: &Client, receive_bytes: u32) -> Result<(Self, Value)> {
        Self::open(&client.ticket().await?, Some(receive_bytes)).await
    }

    /// Connects with a ticket and waits for `hello`, which is returned too.
    ///
    /// # Errors
    /// The server refuses it, or the first frame is not `hello`.
    pub async fn open(ticket: &Value, receive_bytes: Option<u32>) -> Result<(Self, Value)> {
        let request = text(ticket, "url")?.into_client_request()?;
        let mut socket = match Self::upgrade(request, receive_bytes).await? {
            Upgrade::Open(socket) => *socket,
            Upgrade::Refused(answer) => return Err(Refused::of(&answer).into()),
        };
        let hello = socket.frame(SOON).await?;
        ensure!(hello["type"] == "hello", "{hello} came before hello");
        Ok((socket, hello))
    }

    /// Asks for a connection; the request may be of any kind.
    ///
    /// # Errors
    /// There was no answer, or none of HTTP.
    pub async fn upgrade(request: Request, receive_bytes: Option<u32>) -> Result<Upgrade> {
        let address: SocketAddr = request
            .uri()
            .authority()
            .context("an address")?
            .as_str()
            .parse()?;
        let tcp = TcpSocket::new_v4()?;
        if let Some(bytes) = receive_bytes {
            tcp.set_recv_buffer_size(bytes)?;
        }
        let tcp = tcp.connect(address).await?;
        tcp.set_nodelay(true)?;
        let config = WebSocketConfig::default()
            .read_buffer_size(4096)
            .write_buffer_size(0);
        let opening = client_async_with_config(request, tcp, Some(config));
        match tokio::time::timeout(SOON, opening).await? {
            Ok((stream, _)) => Ok(Upgrade::Open(Box::new(Self {
                stream,
                ready: VecDeque::new(),
            }))),
            Err(Error::Http(response)) => {
                let (parts, body) = response.into_parts();
                Ok(Upgrade::Refused(Answer {
                    status: parts.status.as_u16(),
                    headers: parts.headers,
                    body: body.unwrap_or_default(),
                }))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The next frame, or the end. Cancelling this loses nothing.
    ///
    /// # Errors
    /// What came is not JSON in a text frame, or no WebSocket frame at all.
    pub async fn next(&mut self) -> Result<Event> {
        loop {
            if let Some(frame) = self.ready.pop_front() {
                return Ok(Event::Frame(frame));
            }
            match self.stream.next().await {
                Some(Ok(Message::Text(text))) => match serde_json::from_str(&text)? {
                    Value::Array(frames) => self.ready.extend(frames),
                    frame => self.ready.push_back(frame),
                },
                Some(Ok(Message::Close(close))) => {
                    return Ok(Event::Closed(close.map(|close| close.code.into())));
                }
                Some(Ok(Message::Binary(_))) => bail!("a binary frame"),
                Some(Ok(_)) => {}
                Some(Err(error)) if !failure::is_broken(&error) => return Err(error.into()),
                Some(Err(_)) | None => return Ok(Event::Closed(None)),
            }
        }
    }

    /// The next frame.
    ///
    /// # Errors
    /// There is none within `limit`.
    pub async fn frame(&mut self, limit: Duration) -> Result<Value> {
        match tokio::time::timeout(limit, self.next()).await {
            Ok(event) => match event? {
                Event::Frame(frame) => Ok(frame),
                Event::Closed(code) => Err(Broken(format!("closed with {code:?}")).into()),
            },
            Err(_) => Err(Broken(format!("no frame within {limit:?}")).into()),
        }
    }

    /// The next frame that `wanted` accepts; others are skipped.
    ///
    /// # Errors
    /// There is none within `limit`.
    pub async fn find(
        &mut self,
        limit: Duration,
        mut wanted: impl FnMut(&Value) -> bool,
    ) -> Result<Value> {
        let deadline = Instant::now() + limit;
        loop {
            let event = timeout_at(deadline, self.next()).await;
            match event.with_context(|| format!("no such frame within {limit:?}"))?? {
                Event::Frame(frame) if wanted(&frame) => return Ok(frame),
                Event::Frame(_) => {}
                Event::Closed(code) => bail!("closed with {code:?}"),
            }
        }
    }

    /// The next delta of a stream.
    ///
    /// # Errors
    /// There is none within [`SOON`].
    pub async fn delta(&mut self, stream: &str) -> Result<Value> {
        let wanted = |frame: &Value| frame["type"] == "delta" && frame["stream"] == stream;
        self.find(SOON, wanted).await
    }

    /// Reads to the end and returns the close code and the frames before it.
    ///
    /// # Errors
    /// It is still open after `limit`.
    pub async fn closed(&mut self, limit: Duration) -> Result<(Option<u16>, Vec<Value>)> {
        let deadline = Instant::now() + limit;
        let mut frames = Vec::new();
        loop {
            let event = timeout_at(deadline, self.next()).await;
            match event.with_context(|| format!("still open after {limit:?}"))?? {
                Event::Frame(frame) => frames.push(frame),
                Event::Closed(code) => return Ok((code, frames)),
            }
        }
    }

    /// Everything that came before the answer to a `ping` that is sent now: what the server
    /// had for this connection until then.
    ///
    /// # Errors
    /// There is no answer.
    pub async fn flush(&mut self) -> Result<Vec<Value>> {
        self.send(&json!({"type": "ping"})).await?;
        let mut frames = Vec::new();
        loop {
            let frame = self.frame(SOON).await?;
            if frame["type"] == "pong" {
                return Ok(frames);
            }
            frames.push(frame);
        }
    }

    /// # Errors
    /// The connection has ended.
    pub async fn send(&mut self, frame: &Value) -> Result<()> {
        self.send_message(Message::text(frame.to_string())).await
    }

    /// Sends what clients normally do not.
    ///
    /// # Errors
    /// The connection has ended.
    pub async fn send_message(&mut self, message: Message) -> Result<()> {
        Ok(self.stream.send(message).await?)
    }
}
