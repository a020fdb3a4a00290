//! A client of Server-Sent Events, byte by byte.

use std::collections::VecDeque;

use serde_json::Value;
use tidings_common::auth::Principal;
use tidings_common::domain::Seq;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use crate::harness::{DEADLINE, Server};

pub(crate) struct EventClient {
    stream: TcpStream,
    /// Of the answer, in lower case.
    pub(crate) head: String,
    pub(crate) hello: Value,
    /// What was received and belongs to a chunk that is not complete yet.
    chunks: Vec<u8>,
    /// What of an event is there.
    event: Vec<u8>,
    waiting: VecDeque<Value>,
}

impl EventClient {
    /// Connects with a ticket and waits for `hello`.
    pub(crate) async fn connect(server: &Server, who: &Principal) -> Self {
        Self::connect_small(server, who, None).await
    }

    /// With `receive_buffer`, the kernel takes little for it.
    pub(crate) async fn connect_small(
        server: &Server,
        who: &Principal,
        receive_buffer: Option<u32>,
    ) -> Self {
        let path = server.events_path(&server.ticket(who));
        let opened = Self::open(server, &path, "", receive_buffer).await;
        let mut client = opened.unwrap_or_else(|answer| panic!("{answer}"));
        client.hello = client.frame().await;
        assert_eq!(client.hello["type"], "hello");
        client
    }

    /// The whole answer if it is no stream. `headers` are lines with their ends.
    pub(crate) async fn open(
        server: &Server,
        path: &str,
        headers: &str,
        receive_buffer: Option<u32>,
    ) -> Result<Self, String> {
        let socket = TcpSocket::new_v4().unwrap();
        if let Some(bytes) = receive_buffer {
            socket.set_recv_buffer_size(bytes).unwrap();
        }
        let mut stream = socket.connect(server.address).await.unwrap();
        let host = server.address;
        let request = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\n{headers}\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(timeout(DEADLINE, stream.read_u8()).await.unwrap().unwrap());
        }
        let head = String::from_utf8(head).unwrap().to_lowercase();
        if !head.starts_with("http/1.1 200") {
            return Err(head);
        }
        assert!(
            head.contains("\r\ntransfer-encoding: chunked\r\n"),
            "{head}"
        );
        Ok(Self {
            stream,
            head,
            hello: Value::Null,
            chunks: Vec::new(),
            event: Vec::new(),
            waiting: VecDeque::new(),
        })
    }

    /// The next frame but pings.
    pub(crate) async fn frame(&mut self) -> Value {
        self.next().await.expect("a frame before the end")
    }

    /// The next frame but pings; None at the end.
    pub(crate) async fn next(&mut self) -> Option<Value> {
        loop {
            let frame = self.any().await?;
            if frame["type"] != "ping" {
                return Some(frame);
            }
        }
    }

    /// The next frame; None at the end.
    pub(crate) async fn any(&mut self) -> Option<Value> {
        loop {
            if let Some(frame) = self.waiting.pop_front() {
                return Some(frame);
            }
            let chunk = self.chunk().await?;
            self.event.extend(chunk);
            while let Some(end) = self.event.windows(2).position(|two| two == b"\n\n") {
                let rest = self.event.split_off(end + 2);
                let event = std::mem::replace(&mut self.event, rest);
                let data = event[..end].strip_prefix(b"data: ").expect("data alone");
                match serde_json::from_slice(data).unwrap() {
                    Value::Array(frames) => self.waiting.extend(frames),
                    frame => self.waiting.push_back(frame),
                }
            }
        }
    }

    /// The frames before the end, and the code of the `close` among them that is the last.
    pub(crate) async fn closed(&mut self) -> (u64, Vec<Value>) {
        let mut frames = Vec::new();
        while let Some(frame) = self.next().await {
            frames.push(frame);
        }
        assert!(self.event.is_empty(), "half an event before the end");
        let close = frames.pop().expect("a last frame");
        assert_eq!(close["type"], "close", "{close}");
        assert!(close["reason"].is_string(), "{close}");
        (close["code"].as_u64().unwrap(), frames)
    }

    /// The next deltas' positions.
    pub(crate) async fn seqs(&mut self, count: u64) -> Vec<Seq> {
        let mut seqs = Vec::new();
        for _ in 0..count {
            let frame = self.frame().await;
            assert_eq!(frame["type"], "delta", "{frame}");
            seqs.push(frame["seq"].as_u64().unwrap());
        }
        seqs
    }

    /// The content of the next chunk; None at the last, which is empty.
    async fn chunk(&mut self) -> Option<Vec<u8>> {
        loop {
            if let Some(line) = self.chunks.windows(2).position(|two| two == b"\r\n") {
                let length = std::str::from_utf8(&self.chunks[..line]).unwrap();
                let length = usize::from_str_radix(length, 16).unwrap();
                let end = line + 2 + length;
                if self.chunks.len() >= end + 2 {
                    let chunk = self.chunks[line + 2..end].to_vec();
                    self.chunks.drain(..end + 2);
                    return (length > 0).then_some(chunk);
                }
            }
            let read = timeout(DEADLINE, self.stream.read_buf(&mut self.chunks));
            let length = read.await.expect("in time: an event").unwrap();
            assert!(length > 0, "the stream broke off");
        }
    }
}
