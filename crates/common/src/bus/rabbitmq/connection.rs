//! Connections to the broker: where it is, how long to wait for it, and when to try again.

use std::error::Error;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::StreamExt as _;
use lapin::uri::AMQPUri;
use lapin::{Channel, Connection, ConnectionProperties, Event};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout};

use super::super::BusError;
use super::codec::{Codec, FRAME_BYTES};

/// Seconds: a peer that has been silent for twice as long is gone, which lapin looks at twice in
/// that time: it is noticed after 30 s at the latest.
const HEARTBEAT_SECS: u16 = 12;
/// When a connection that was given up is closed at last, if its heartbeat has not failed.
const ABANDONED: Duration = Duration::from_secs(60);
/// For a connection with its first channel and the exchanges, and for what follows on it.
const CONNECT_DEADLINE: Duration = Duration::from_secs(10);
/// For one request to the broker.
pub(super) const REQUEST_DEADLINE: Duration = Duration::from_secs(5);
const CLOSE_DEADLINE: Duration = Duration::from_secs(1);
/// Between attempts: doubled from the first to the last, with jitter.
const FIRST_RETRY: Duration = Duration::from_millis(100);
const LAST_RETRY: Duration = Duration::from_secs(5);

/// What happens to the connections of one bus. Cheap to clone.
#[derive(Debug, Clone)]
pub struct RabbitMqCounters {
    /// Connections that were made; of each purpose one, and one more each time it was lost.
    pub connections: Family<Purpose, Counter>,
    /// 1 while the broker takes no messages.
    pub blocked: Gauge,
    /// Messages that were dropped because they could not be read.
    pub undecodable: Counter,
}

/// What a connection is for.
#[derive(Debug, Clone, Copy, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct Purpose {
    purpose: &'static str,
}

impl Purpose {
    pub(super) const PUBLISH: Self = Self { purpose: "publish" };
    pub(super) const CONSUME: Self = Self { purpose: "consume" };
    pub(super) const CONTROL: Self = Self { purpose: "control" };
}

impl Default for RabbitMqCounters {
    fn default() -> Self {
        let connections = Family::<Purpose, Counter>::default();
        for purpose in [Purpose::PUBLISH, Purpose::CONSUME, Purpose::CONTROL] {
            drop(connections.get_or_create(&purpose));
        }
        Self {
            connections,
            blocked: Gauge::default(),
            undecodable: Counter::default(),
        }
    }
}

/// Where the broker is, and how to speak to it.
#[derive(Debug)]
pub(super) struct Broker {
    /// Of one cluster, so that any will do; not empty.
    addresses: Vec<Address>,
    /// Which one is tried next: the one that answered last, or the one after a failure.
    next: AtomicUsize,
    pub(super) codec: Codec,
    pub(super) counters: RabbitMqCounters,
}

#[derive(Debug)]
struct Address {
    uri: AMQPUri,
    /// The last attempt got no answer.
    is_silent: AtomicBool,
}

/// A connection on which the exchanges exist. Dropping it closes it.
pub(super) struct Link {
    pub(super) connection: Connection,
    pub(super) channel: Channel,
}

/// What the broker did not do.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("the broker refused")]
    Broker(#[from] lapin::Error),
    #[error("the broker did not answer in time")]
    Timeout,
    #[error(
        "the broker's frames are limited to {0} bytes, which is too small for the recipients of \
         a large delta; its frame_max must be at least {FRAME_BYTES}"
    )]
    SmallFrames(u32),
    #[error("the broker cannot be reached")]
    Away,
    #[error("the broker takes no messages for now")]
    Blocked,
    #[error("the broker did not take the message")]
    Nacked,
    #[error("the queue is gone")]
    QueueGone,
    #[error("the bus has been shut down")]
    ShutDown,
}

impl From<Failure> for BusError {
    fn from(failure: Failure) -> Self {
        Self(Box::new(failure))
    }
}

impl Broker {
    pub(super) fn new(addresses: Vec<AMQPUri>, codec: Codec) -> Self {
        let address = |uri| Address {
            uri,
            is_silent: AtomicBool::new(false),
        };
        Self {
            addresses: addresses.into_iter().map(address).collect(),
            next: AtomicUsize::new(0),
            codec,
            counters: RabbitMqCounters::default(),
        }
    }

    /// Connects to one of the addresses, each tried once.
    pub(super) async fn connect(&self, purpose: Purpose) -> Result<Link, Failure> {
        let mut failure = Failure::Away;
        for _ in &self.addresses {
            let place = self.next.load(Ordering::Relaxed);
            let address = &self.addresses[place % self.addresses.len()];
            let attempt = self.connect_to(address, purpose.purpose);
            let outcome = timeout(CONNECT_DEADLINE, attempt).await;
            address.is_silent.store(outcome.is_err(), Ordering::Relaxed);
            match outcome {
                Ok(Ok(link)) => {
                    self.counters.connections.get_or_create(&purpose).inc();
                    return Ok(link);
                }
                Ok(Err(refused)) => failure = refused,
                Err(_) => failure = Failure::Timeout,
            }
            // Another connection may have moved on from the same address already.
            let next = place.wrapping_add(1);
            let moved =
                self.next
                    .compare_exchange(place, next, Ordering::Relaxed, Ordering::Relaxed);
            tracing::debug!(
                bus.address = place % self.addresses.len(),
                moved = moved.is_ok(),
                error = &failure as &dyn Error,
                "an address of the broker failed"
            );
        }
        Err(failure)
    }

    async fn connect_to(&self, address: &Address, purpose: &str) -> Result<Link, Failure> {
        if address.is_silent.load(Ordering::Relaxed) {
            greet(&address.uri).await.map_err(|_| Failure::Away)?;
        }
        let name = format!("{} {purpose}", self.codec.topology.prefix);
        let properties = ConnectionProperties::default().with_connection_name(name.into());
        let connection = Connection::connect_uri(address.uri.clone(), properties).await?;
        let frame_bytes = connection.configuration().frame_max();
        if frame_bytes < FRAME_BYTES {
            return Err(Failure::SmallFrames(frame_bytes));
        }
        let channel = connection.create_channel().await?;
        self.codec.topology.declare_exchanges(&channel).await?;
        Ok(Link {
            connection,
            channel,
        })
    }
}

impl Link {
    /// Says goodbye; the broker would notice all the same.
    pub(super) async fn close(self) {
        let goodbye = self.connection.close(200, "done".into());
        if !matches!(timeout(CLOSE_DEADLINE, goodbye).await, Ok(Ok(()))) {
            tracing::debug!("a connection to the broker was not closed in order");
        }
    }

    /// Lets go of a connection on which nothing comes. lapin does not look at the heartbeat of one
    /// that is being closed, and keeps its thread, and what it could not write, for as long as
    /// the socket stands: so it is closed only once its heartbeat has failed.
    pub(super) fn abandon(self) {
        tokio::spawn(async move {
            let mut events = Box::pin(self.connection.events_listener());
            let ended = async {
                while let Some(event) = events.next().await {
                    if let Event::Error(_) = event {
                        return;
                    }
                }
            };
            if timeout(ABANDONED, ended).await.is_err() {
                self.close().await;
            }
        });
    }
}

/// Waits until whoever listens at an address says something, if only goodbye to a language that it
/// does not speak.
///
/// A broker that stands still is asked again and again; lapin would keep a thread and its buffers
/// for each attempt, until the broker moves.
async fn greet(address: &AMQPUri) -> std::io::Result<()> {
    let place = (address.authority.host.as_str(), address.authority.port);
    let mut connection = TcpStream::connect(place).await?;
    connection.write_all(b"AMQP\0\0\x09\x01").await?;
    drop(connection.read_u8().await);
    Ok(())
}

/// One request to the broker, within its deadline.
pub(super) async fn request<T>(
    asked: impl Future<Output = lapin::Result<T>>,
) -> Result<T, Failure> {
    match timeout(REQUEST_DEADLINE, asked).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(Failure::Timeout),
    }
}

/// Returns at `moment`; without one, never.
pub(super) async fn due(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

/// Growing pauses with jitter.
#[derive(Debug)]
pub(super) struct Backoff(Duration);

impl Backoff {
    pub(super) fn new() -> Self {
        Self(FIRST_RETRY)
    }

    pub(super) async fn pause(&mut self) {
        tokio::time::sleep(self.0.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
        self.0 = (self.0 * 2).min(LAST_RETRY);
    }
}

/// An address in `bus.urls` cannot be understood. It is not quoted: it holds a password.
#[derive(Debug, thiserror::Error)]
#[error("address {} of bus.urls is not an AMQP URL", .0 + 1)]
pub struct BadAddress(pub usize);

/// Reads addresses. Ours are heartbeats (unless the URL asks for more frequent ones) and frames.
pub(super) fn parse_addresses<'a>(
    urls: impl Iterator<Item = &'a str>,
) -> Result<Vec<AMQPUri>, BadAddress> {
    urls.enumerate()
        .map(|(place, url)| {
            let mut address: AMQPUri = url.parse().map_err(|_| BadAddress(place))?;
            let heartbeat = address.query.heartbeat.unwrap_or(HEARTBEAT_SECS);
            address.query.heartbeat = Some(heartbeat.clamp(1, HEARTBEAT_SECS));
            address.query.frame_max = Some(FRAME_BYTES);
            Ok(address)
        })
        .collect()
}
