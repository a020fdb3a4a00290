//! The way by which a device is connected: over which transport, to which server, for how long.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::client::{Client, text};
use crate::event_stream::EventStream;
use crate::socket::{Event, Socket};

/// The shortest and the longest time for which a hopping device stays, in milliseconds.
const STAY_MS: std::ops::Range<u64> = 20..400;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Transport {
    WebSocket,
    Events,
    Poll,
}

impl Transport {
    pub const ALL: [Self; 3] = [Self::WebSocket, Self::Events, Self::Poll];
}

/// See the module's documentation.
#[derive(Debug, Clone)]
pub struct Way {
    choice: Choice,
    /// In the place of the server that tickets name.
    via: Option<String>,
}

#[derive(Debug, Clone)]
enum Choice {
    Always(Transport),
    /// Another for each connection, for a short while.
    Random(Arc<Mutex<fastrand::Rng>>),
}

/// One connection's part of a way.
#[derive(Debug, Clone)]
pub struct Leg {
    pub transport: Transport,
    /// After which the device hops on; None: it stays.
    pub stay: Option<Duration>,
    /// Counted from when it is live; else from before it is connected.
    pub patient: bool,
    /// Whether the balancer is told the user's partition.
    balanced: bool,
    via: Option<String>,
}

impl Way {
    /// Always over this transport.
    #[must_use]
    pub fn over(transport: Transport) -> Self {
        Self {
            choice: Choice::Always(transport),
            via: None,
        }
    }

    /// Hops from one transport to another, at random times, and by chance to servers that the
    /// balancer would not choose.
    #[must_use]
    pub fn hopping(seed: u64) -> Self {
        let random = fastrand::Rng::with_seed(seed);
        Self {
            choice: Choice::Random(Arc::new(Mutex::new(random))),
            via: None,
        }
    }

    /// Through something at this address, such as `http://127.0.0.1:1234`.
    #[must_use]
    pub fn via(self, base: &str) -> Self {
        Self {
            via: Some(base.to_owned()),
            ..self
        }
    }

    /// How to connect this time.
    #[must_use]
    pub fn next(&self) -> Leg {
        let via = self.via.clone();
        match &self.choice {
            Choice::Always(transport) => Leg {
                transport: *transport,
                stay: None,
                patient: true,
                balanced: true,
                via,
            },
            Choice::Random(random) => {
                let mut random = random.lock().unwrap_or_else(PoisonError::into_inner);
                Leg {
                    transport: Transport::ALL[random.usize(..Transport::ALL.len())],
                    stay: Some(Duration::from_millis(random.u64(STAY_MS))),
                    patient: random.bool(),
                    balanced: random.bool(),
                    via,
                }
            }
        }
    }
}

impl Leg {
    /// One of a ticket's addresses, as this leg has it.
    ///
    /// # Errors
    /// The ticket lacks it.
    pub fn url(&self, ticket: &Value, field: &str) -> Result<String> {
        let mut url = text(ticket, field)?.to_owned();
        if let Some(base) = &self.via {
            let (scheme, rest) = url.split_once("://").context("a scheme")?;
            let path = &rest[rest.find('/').context("a path")?..];
            let (_, host) = base.split_once("://").context("a scheme")?;
            url = format!("{scheme}://{host}{path}");
        }
        if !self.balanced {
            url = url.replace("?p=", "?p=&was=");
        }
        Ok(url)
    }
}

/// A connection over which frames are pushed.
#[derive(Debug)]
pub enum Line {
    Socket(Box<Socket>),
    Events(Box<EventStream>),
}

impl Line {
    /// Connects with a ticket and waits for `hello`, which is returned too.
    ///
    /// # Errors
    /// The server refuses it, or the first frame is not `hello`.
    pub async fn open(leg: &Leg, ticket: &Value) -> Result<(Self, Value)> {
        if leg.transport == Transport::Events {
            let url = leg.url(ticket, "events_url")?;
            let (stream, hello) = EventStream::open(&url, None).await?;
            return Ok((Self::Events(Box::new(stream)), hello));
        }
        let mut ticket = ticket.clone();
        ticket["url"] = leg.url(&ticket, "url")?.into();
        let (socket, hello) = Socket::open(&ticket, None).await?;
        Ok((Self::Socket(Box::new(socket)), hello))
    }

    /// The next frame, or the end. Cancelling this loses nothing.
    ///
    /// # Errors
    /// What came is not as the protocol has it.
    pub async fn next(&mut self) -> Result<Event> {
        match self {
            Self::Socket(socket) => socket.next().await,
            Self::Events(stream) => stream.next().await,
        }
    }
}

/// Where this leg's client polls, and how.
///
/// # Errors
/// The ticket lacks it.
pub fn poll_at(leg: &Leg, ticket: &Value, client: &Client) -> Result<(Client, String)> {
    let url = leg.url(ticket, "poll_url")?;
    let at = url.find("/v1/").context("a path")?;
    let mut api = client.api.clone();
    api.base = url[..at].to_owned();
    Ok((client.at(&api), url[at..].to_owned()))
}
