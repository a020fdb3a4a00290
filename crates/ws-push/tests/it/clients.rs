//! Two kinds of clients.

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::Value;
use tidings_common::auth::Principal;
use tidings_common::domain::Seq;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use crate::harness::{DEADLINE, Server};

/// A client that behaves.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    pub(crate) hello: Value,
    /// Frames of an array that were not asked for yet, the next one last.
    waiting: Vec<Value>,
}

impl Client {
    /// The status if the upgrade is refused.
    pub(crate) async fn open(url: &str, headers: &[(&'static str, &str)]) -> Result<Self, u16> {
        let mut request = url.into_client_request().unwrap();
        for (name, value) in headers {
            request.headers_mut().append(*name, value.parse().unwrap());
        }
        match timeout(DEADLINE, connect_async(request)).await.unwrap() {
            Ok((socket, _)) => Ok(Self {
                socket,
                hello: Value::Null,
                waiting: Vec::new(),
            }),
            Err(tungstenite::Error::Http(response)) => Err(response.status().as_u16()),
            Err(other) => panic!("{other}"),
        }
    }

    pub(crate) async fn say(&mut self, text: &str) {
        self.socket.send(Message::text(text)).await.unwrap();
    }

    /// The next frame. Pings are answered meanwhile.
    pub(crate) async fn frame(&mut self) -> Value {
        match self.next().await {
            Ok(frame) => frame,
            Err(code) => panic!("closed with {code}"),
        }
    }

    /// The code with which the connection is closed; frames before it are skipped.
    pub(crate) async fn close_code(&mut self) -> u16 {
        loop {
            if let Err(code) = self.next().await {
                return code;
            }
        }
    }

    /// The next frame, or the close code: 1006 if there was none.
    pub(crate) async fn next(&mut self) -> Result<Value, u16> {
        loop {
            if let Some(frame) = self.waiting.pop() {
                return Ok(frame);
            }
            let message = timeout(DEADLINE, self.socket.next());
            match message.await.expect("in time: a frame") {
                Some(Ok(Message::Text(text))) => match serde_json::from_str(&text).unwrap() {
                    Value::Array(frames) => self.waiting.extend(frames.into_iter().rev()),
                    frame => return Ok(frame),
                },
                Some(Ok(Message::Close(Some(frame)))) => return Err(frame.code.into()),
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Err(1006),
            }
        }
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
}

/// A client that writes bytes.
pub(crate) struct RawClient {
    pub(crate) stream: TcpStream,
}

impl RawClient {
    /// Connects and upgrades. With `receive_buffer`, the kernel takes little for it.
    pub(crate) async fn connect(
        server: &Server,
        who: &Principal,
        receive_buffer: Option<u32>,
    ) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        if let Some(bytes) = receive_buffer {
            socket.set_recv_buffer_size(bytes).unwrap();
        }
        let mut stream = socket.connect(server.address).await.unwrap();
        let path = server.path(&server.ticket(who));
        let request = format!(
            "GET {path} HTTP/1.1\r\nhost: {}\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-version: 13\r\nsec-websocket-key: x3JJHMbDL1EzLkh9GBhXDw==\r\n\
             sec-websocket-extensions: permessage-deflate\r\n\r\n",
            server.address
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(timeout(DEADLINE, stream.read_u8()).await.unwrap().unwrap());
        }
        let head = String::from_utf8(head).unwrap().to_lowercase();
        assert!(head.starts_with("http/1.1 101"), "{head}");
        assert!(!head.contains("deflate"), "no compression: {head}");
        Self { stream }
    }

    /// A masked frame (the mask is zero).
    pub(crate) async fn frame(&mut self, first: u8, payload: &[u8]) {
        let mut bytes = vec![first];
        match u8::try_from(payload.len()) {
            Ok(short @ 0..126) => bytes.push(0x80 | short),
            _ => {
                bytes.push(0x80 | 126);
                bytes.extend(u16::try_from(payload.len()).unwrap().to_be_bytes());
            }
        }
        bytes.extend([0; 4]);
        bytes.extend(payload);
        self.stream.write_all(&bytes).await.unwrap();
    }

    /// The next frame: its opcode and payload. None at the end of the stream.
    pub(crate) async fn read_frame(&mut self) -> Option<(u8, Vec<u8>)> {
        timeout(DEADLINE, self.read_frame_whenever())
            .await
            .expect("in time: a frame")
    }

    async fn read_frame_whenever(&mut self) -> Option<(u8, Vec<u8>)> {
        let first = self.stream.read_u8().await.ok()?;
        let length = match self.stream.read_u8().await.ok()? {
            126 => usize::from(self.stream.read_u16().await.ok()?),
            127 => usize::try_from(self.stream.read_u64().await.ok()?).unwrap(),
            short => usize::from(short),
        };
        let mut payload = vec![0; length];
        self.stream.read_exact(&mut payload).await.ok()?;
        Some((first & 0x0f, payload))
    }

    /// All text until the end, and the close code (1006 if there was none).
    pub(crate) async fn read_to_end(&mut self) -> (Vec<String>, u16) {
        let mut texts = Vec::new();
        while let Some((opcode, payload)) = self.read_frame().await {
            match opcode {
                1 => texts.push(String::from_utf8(payload).unwrap()),
                8 => return (texts, u16::from_be_bytes([payload[0], payload[1]])),
                _ => {}
            }
        }
        (texts, 1006)
    }
}
