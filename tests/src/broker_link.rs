//! A link between a server and RabbitMQ on which deliveries can be cut: the server goes on
//! publishing, its publishes are confirmed, its connections live, and nothing reaches it.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use anyhow::{Context as _, Result, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

const METHOD: u8 = 1;
/// What follows a delivery's method on its channel: its header and its body.
const CONTENT: [u8; 2] = [2, 3];
/// Class `basic`, method `deliver`.
const DELIVER: [u8; 4] = [0, 60, 0, 60];
const FRAME_HEAD: usize = 7;
const FRAME_END: u8 = 0xCE;

/// Takes connections until it is dropped.
#[derive(Debug)]
pub struct BrokerLink {
    /// The broker's address through this link.
    pub url: String,
    control: Arc<Control>,
    task: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Control {
    cut: AtomicBool,
    withheld: AtomicUsize,
}

impl BrokerLink {
    /// A link to the broker at this address, such as `amqp://user:password@host:port/vhost`.
    ///
    /// # Errors
    /// The address has another form, or there is no free port.
    pub async fn to(url: &str) -> Result<Self> {
        let (before, rest) = url
            .split_once('@')
            .context("a user in the broker's address")?;
        let (broker, vhost) = rest.split_once('/').context("a virtual host")?;
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("{before}@{}/{vhost}", listener.local_addr()?);
        let control = Arc::new(Control::default());
        let (broker, shared) = (broker.to_owned(), control.clone());
        let task = tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                if let Ok(far) = TcpStream::connect(&*broker).await {
                    join(near, far, shared.clone());
                }
            }
        });
        Ok(Self { url, control, task })
    }

    /// From now on no delivery passes.
    pub fn cut(&self) {
        self.control.cut.store(true, Ordering::SeqCst);
    }

    /// Deliveries that did not pass.
    #[must_use]
    pub fn withheld(&self) -> usize {
        self.control.withheld.load(Ordering::SeqCst)
    }
}

impl Drop for BrokerLink {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn join(near: TcpStream, far: TcpStream, control: Arc<Control>) {
    let (mut from_server, to_server) = near.into_split();
    let (from_broker, mut to_broker) = far.into_split();
    tokio::spawn(async move {
        tokio::io::copy(&mut from_server, &mut to_broker).await.ok(); // The connection has ended.
    });
    tokio::spawn(async move {
        pass(from_broker, to_server, &control).await.ok(); // As above.
    });
}

/// Passes the broker's frames on, but for deliveries while the link is cut.
async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, control: &Control) -> Result<()> {
    let mut withheld_on = HashSet::new();
    loop {
        let mut frame = vec![0; FRAME_HEAD];
        from.read_exact(&mut frame).await?;
        let channel = [frame[1], frame[2]];
        let length = u32::from_be_bytes([frame[3], frame[4], frame[5], frame[6]]);
        frame.resize(FRAME_HEAD + usize::try_from(length)? + 1, 0);
        from.read_exact(&mut frame[FRAME_HEAD..]).await?;
        ensure!(
            frame.last() == Some(&FRAME_END),
            "not a frame of AMQP 0-9-1"
        );
        if frame[0] == METHOD {
            withheld_on.remove(&channel);
            if frame[FRAME_HEAD..].starts_with(&DELIVER) && control.cut.load(Ordering::SeqCst) {
                control.withheld.fetch_add(1, Ordering::SeqCst);
                withheld_on.insert(channel);
            }
        }
        let is_content = CONTENT.contains(&frame[0]) || frame[0] == METHOD;
        if !(is_content && withheld_on.contains(&channel)) {
            to.write_all(&frame).await?;
        }
    }
}
