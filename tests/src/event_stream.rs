//! One stream of Server-Sent Events, frame by frame, over a connection of its own.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use reqwest::header::HeaderMap;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, timeout, timeout_at};

use crate::client::{Answer, Client, text};
use crate::failure::{Broken, Refused};
use crate::socket::Event;
use crate::wait::SOON;

/// An open stream.
#[derive(Debug)]
pub struct EventStream {
    stream: TcpStream,
    /// What has come of chunks that are not complete.
    chunks: Vec<u8>,
    /// What has come of an event that is not complete.
    event: Vec<u8>,
    ready: VecDeque<Value>,
    /// The code of the `close` that came; nothing may follow it.
    closing: Option<u16>,
    /// Heartbeats so far.
    pub pings: usize,
}

/// What a chunked body yields.
enum Part {
    Content(Vec<u8>),
    Last,
    /// It broke off.
    Broken,
}

impl EventStream {
    /// Takes a ticket, connects and waits for `hello`, which is returned too.
    ///
    /// # Errors
    /// The server refuses it, or the first frame is not `hello`.
    pub async fn connect(client: &Client) -> Result<(Self, Value)> {
        Self::open(text(&client.ticket().await?, "events_url")?, None).await
    }

    /// Like [`EventStream::connect`], with a small buffer for what has been received and not read.
    ///
    /// # Errors
    /// As there.
    pub async fn connect_small(client: &Client, receive_bytes: u32) -> Result<(Self, Value)> {
        let ticket = client.ticket().await?;
        Self::open(text(&ticket, "events_url")?, Some(receive_bytes)).await
    }

    /// Connects to a ticket's address and waits for `hello`, which is returned too.
    ///
    /// # Errors
    /// The server refuses it, or the first frame is not `hello`.
    pub async fn open(url: &str, receive_bytes: Option<u32>) -> Result<(Self, Value)> {
        let mut stream = timeout(SOON, Self::request(url, receive_bytes)).await??;
        match timeout(SOON, stream.next()).await?? {
            Event::Frame(hello) if hello["type"] == "hello" => Ok((stream, hello)),
            Event::Frame(frame) => anyhow::bail!("{frame} came before hello"),
            Event::Closed(code) => Err(Broken(format!("closed with {code:?}")).into()),
        }
    }

    async fn request(url: &str, receive_bytes: Option<u32>) -> Result<Self> {
        let rest = url.strip_prefix("http://").context("http")?;
        let (host, path) = rest.split_at(rest.find('/').context("a path")?);
        let socket = TcpSocket::new_v4()?;
        if let Some(bytes) = receive_bytes {
            socket.set_recv_buffer_size(bytes)?;
        }
        let mut stream = socket.connect(host.parse::<SocketAddr>()?).await?;
        let head =
            format!("GET {path} HTTP/1.1\r\nhost: {host}\r\naccept: text/event-stream\r\n\r\n");
        stream.write_all(head.as_bytes()).await?;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await?);
        }
        let head = String::from_utf8(head)?.to_lowercase();
        let status = head.split(' ').nth(1).context("a status")?.parse()?;
        if status != 200 {
            let body = refusal(&mut stream, &head).await?;
            let headers = HeaderMap::new();
            return Err(Refused::of(&Answer {
                status,
                headers,
                body,
            })
            .into());
        }
        for header in [
            "transfer-encoding: chunked",
            "content-type: text/event-stream",
            "cache-control: no-store",
        ] {
            ensure!(
                head.contains(&format!("\r\n{header}\r\n")),
                "no {header}: {head}"
            );
        }
        Ok(Self {
            stream,
            chunks: Vec::new(),
            event: Vec::new(),
            ready: VecDeque::new(),
            closing: None,
            pings: 0,
        })
    }

    /// The next frame but heartbeats, or the end. Cancelling this loses nothing.
    ///
    /// # Errors
    /// What came is no event as the protocol has it.
    pub async fn next(&mut self) -> Result<Event> {
        loop {
            while let Some(frame) = self.ready.pop_front() {
                ensure!(self.closing.is_none(), "{frame} after the close");
                match frame["type"].as_str() {
                    Some("ping") => self.pings += 1,
                    Some("close") => {
                        let code = frame["code"].as_u64().context("a code")?;
                        self.closing = Some(code.try_into()?);
                    }
                    _ => return Ok(Event::Frame(frame)),
                }
            }
            match self.part().await? {
                Part::Content(content) => {
                    self.event.extend(content);
                    self.take_events()?;
                }
                Part::Last => {
                    ensure!(self.event.is_empty(), "half an event before the end");
                    ensure!(self.closing.is_some(), "it ended without a reason");
                    return Ok(Event::Closed(self.closing));
                }
                Part::Broken => return Ok(Event::Closed(None)),
            }
        }
    }

    fn take_events(&mut self) -> Result<()> {
        while let Some(end) = self.event.windows(2).position(|two| two == b"\n\n") {
            let rest = self.event.split_off(end + 2);
            let event = std::mem::replace(&mut self.event, rest);
            let data = event[..end].strip_prefix(b"data: ");
            match serde_json::from_slice(data.context("something else than data")?)? {
                Value::Array(frames) => self.ready.extend(frames),
                frame => self.ready.push_back(frame),
            }
        }
        Ok(())
    }

    /// The next part of the body.
    async fn part(&mut self) -> Result<Part> {
        loop {
            if let Some(line) = self.chunks.windows(2).position(|two| two == b"\r\n") {
                let length = std::str::from_utf8(&self.chunks[..line])?;
                let length = usize::from_str_radix(length, 16)?;
                let (begin, end) = (line + 2, line + 2 + length);
                if self.chunks.len() >= end + 2 {
                    let content = self.chunks[begin..end].to_vec();
                    self.chunks.drain(..end + 2);
                    return Ok(match length {
                        0 => Part::Last,
                        _ => Part::Content(content),
                    });
                }
            }
            match self.stream.read_buf(&mut self.chunks).await {
                Ok(0) | Err(_) => return Ok(Part::Broken),
                Ok(_) => {}
            }
        }
    }

    /// The next delta of a stream; other frames are skipped.
    ///
    /// # Errors
    /// There is none within [`SOON`].
    pub async fn delta(&mut self, stream: &str) -> Result<Value> {
        let deadline = Instant::now() + SOON;
        loop {
            match timeout_at(deadline, self.next()).await?? {
                Event::Frame(frame) if frame["stream"] == stream => return Ok(frame),
                Event::Frame(_) => {}
                Event::Closed(code) => anyhow::bail!("closed with {code:?}"),
            }
        }
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
}

/// The body of an answer that is no stream.
async fn refusal(stream: &mut TcpStream, head: &str) -> Result<Vec<u8>> {
    let mut lines = head.lines();
    let length = lines.find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.context("its length")?.parse()?];
    stream.read_exact(&mut body).await?;
    Ok(body)
}
