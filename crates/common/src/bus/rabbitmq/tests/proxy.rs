//! A way to the broker that can be cut, held up, and more.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Passes connections on to the broker while it is open.
pub(super) struct Proxy {
    pub(super) address: SocketAddr,
    target: SocketAddr,
    open: Option<CancellationToken>,
    tasks: TaskTracker,
    mode: watch::Sender<Mode>,
}

/// What the proxy does to what it passes on.
#[derive(Debug, Clone, Copy, Default)]
struct Mode {
    /// Nothing passes, and nobody is told.
    is_held: bool,
    /// Bytes per second to the broker.
    rate: Option<f64>,
    /// Whoever has just asked for confirmations is told in the same breath that the broker takes
    /// no messages.
    says_blocked: bool,
}

impl Proxy {
    /// Closed at first: connections are refused.
    pub(super) async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        Self {
            address: listener.local_addr().unwrap(),
            target,
            open: None,
            tasks: TaskTracker::new(),
            mode: watch::Sender::default(),
        }
    }

    pub(super) async fn open(&mut self) {
        let listener = TcpListener::bind(self.address).await.unwrap();
        let open = CancellationToken::new();
        self.open = Some(open.clone());
        let (target, tasks, mode) = (self.target, self.tasks.clone(), self.mode.subscribe());
        self.tasks.spawn(async move {
            while let Some(Ok((client, _))) = open.run_until_cancelled(listener.accept()).await {
                let (open, mode) = (open.clone(), mode.clone());
                tasks.spawn(async move {
                    open.run_until_cancelled(pass(client, target, mode)).await;
                });
            }
        });
    }

    /// Breaks every connection and refuses new ones.
    pub(super) async fn cut(&mut self) {
        if let Some(open) = self.open.take() {
            open.cancel();
        }
        self.tasks.close();
        self.tasks.wait().await;
        self.tasks.reopen();
    }

    /// The broker stands still, as it looks from here; or moves again.
    pub(super) fn hold(&self, is_held: bool) {
        self.mode.send_modify(|mode| mode.is_held = is_held);
    }

    pub(super) fn slow_down(&self, bytes_per_second: f64) {
        self.mode
            .send_modify(|mode| mode.rate = Some(bytes_per_second));
    }

    pub(super) fn say_blocked(&self) {
        self.mode.send_modify(|mode| mode.says_blocked = true);
    }
}

async fn pass(client: TcpStream, target: SocketAddr, mode: watch::Receiver<Mode>) {
    let Ok(server) = TcpStream::connect(target).await else {
        return;
    };
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    // How either side ends is theirs to notice.
    tokio::select! {
        () = pump(from_client, to_server, mode.clone(), true) => {}
        () = pump(from_server, to_client, mode, false) => {}
    }
}

async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut mode: watch::Receiver<Mode>,
    to_broker: bool,
) {
    let mut buffer = Vec::new();
    loop {
        buffer.clear();
        buffer.reserve(64 * 1024);
        if from.read_buf(&mut buffer).await.unwrap_or(0) == 0 {
            return;
        }
        let now = match mode.wait_for(|mode| !mode.is_held).await {
            Ok(now) => *now,
            Err(_) => return,
        };
        if let Some(rate) = now.rate
            && to_broker
        {
            sleep(Duration::from_secs_f64(buffer.len() as f64 / rate)).await;
        }
        if now.says_blocked && !to_broker && buffer.ends_with(CONFIRM_SELECT_OK) {
            buffer.extend_from_slice(CONNECTION_BLOCKED);
        }
        if to.write_all(&buffer).await.is_err() {
            return;
        }
    }
}

/// The end of a frame: class 85, method 11.
const CONFIRM_SELECT_OK: &[u8] = b"\0\x55\0\x0b\xce";
/// A frame of channel 0: class 10, method 60, with a reason.
const CONNECTION_BLOCKED: &[u8] = b"\x01\0\0\0\0\0\x09\0\x0a\0\x3c\x04test\xce";
