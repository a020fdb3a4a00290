//! A TCP proxy in front of one address, at which a test refuses, silences, delays and watches.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::process::Ports;
use super::watch::{Seen, Side, Watch};

/// Bytes that are read at once, and lie in the proxy while they wait.
const CHUNK: usize = 64 * 1024;

/// Takes connections on a port of its own, the same while it lives, and passes them on to one
/// address, whether anybody listens there or not. Ends with all of its connections when it is
/// dropped.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    rules: watch::Sender<Rules>,
    watch: Arc<Mutex<Option<Watch>>>,
    task: JoinHandle<()>,
}

/// What happens to connections, those that are open and those that come.
#[derive(Debug, Clone, Default)]
struct Rules {
    link: Link,
    /// Whose connections are reset: numbers that [`Identify`] yields.
    barred: BTreeSet<usize>,
    to_server: Duration,
    to_client: Duration,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Link {
    #[default]
    Pass,
    Refuse,
    Silent,
}

impl Rules {
    fn refuse(&self, dialer: Option<usize>) -> bool {
        self.link == Link::Refuse || dialer.is_some_and(|dialer| self.barred.contains(&dialer))
    }
}

/// Says who has made a connection.
pub(super) type Identify = Arc<dyn Fn(Ports) -> Option<usize> + Send + Sync>;

impl Proxy {
    /// A proxy in front of a port of 127.0.0.1.
    ///
    /// # Errors
    /// There is no free port.
    pub async fn before(port: u16) -> Result<Self> {
        Self::identifying(port, Arc::new(|_| None)).await
    }

    /// A proxy that knows who dials, so that it can be silent for some.
    pub(super) async fn identifying(server: u16, identify: Identify) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let port = listener.local_addr()?.port();
        let rules = watch::Sender::new(Rules::default());
        let watch = Arc::default();
        let connections = Connections {
            server: (Ipv4Addr::LOCALHOST, server).into(),
            identify,
            rules: rules.subscribe(),
            watch: Arc::clone(&watch),
        };
        let task = tokio::spawn(async move {
            while let Ok((near, from)) = listener.accept().await {
                let ports = Ports {
                    from: from.port(),
                    to: port,
                };
                tokio::spawn(connections.of(near, ports));
            }
        });
        Ok(Self {
            port,
            rules,
            watch,
            task,
        })
    }

    /// The port of 127.0.0.1 where it takes connections.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Resets the connections that are open and those that come, until [`Proxy::heal`].
    pub fn cut(&self) {
        self.rules.send_modify(|rules| rules.link = Link::Refuse);
    }

    /// Passes nothing on, neither bytes nor ends, until [`Proxy::heal`]; connections stay open,
    /// new ones are accepted. What was sent meanwhile passes afterwards.
    pub fn silence(&self) {
        self.rules.send_modify(|rules| rules.link = Link::Silent);
    }

    /// Like [`Proxy::cut`], for these dialers besides those before.
    pub(super) fn bar(&self, dialers: impl IntoIterator<Item = usize>) {
        self.rules.send_modify(|rules| rules.barred.extend(dialers));
    }

    /// Lets each piece of up to 64 KiB wait so long in each direction. Members of a set reach each
    /// other as before: with a delay of seconds there would be no set.
    pub fn delay(&self, to_server: Duration, to_client: Duration) {
        self.rules.send_modify(|rules| {
            rules.to_server = to_server;
            rules.to_client = to_client;
        });
    }

    /// Passes everything on again, at once. A watch goes on.
    pub fn heal(&self) {
        self.rules.send_modify(|rules| *rules = Rules::default());
    }

    /// From now on this watch sees what passes, in the place of the one before.
    pub fn set_watch(&self, watch: &Watch) {
        *self.watch.lock().unwrap_or_else(PoisonError::into_inner) = Some(watch.clone());
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What each connection needs.
struct Connections {
    server: SocketAddr,
    identify: Identify,
    rules: watch::Receiver<Rules>,
    watch: Arc<Mutex<Option<Watch>>>,
}

impl Connections {
    fn of(&self, near: TcpStream, ports: Ports) -> impl Future<Output = ()> + use<> {
        let line = Line {
            dialer: (self.identify)(ports),
            ports,
            rules: self.rules.clone(),
            watch: Arc::clone(&self.watch),
        };
        serve(near, self.server, line)
    }
}

/// One connection's view of the rules.
#[derive(Clone)]
struct Line {
    dialer: Option<usize>,
    ports: Ports,
    rules: watch::Receiver<Rules>,
    watch: Arc<Mutex<Option<Watch>>>,
}

/// Serves a connection until both sides have ended it, one fails, or it is refused.
async fn serve(mut near: TcpStream, server: SocketAddr, line: Line) {
    let refused = line.clone().refused();
    tokio::select! {
        carried = carry(&mut near, server, line) => if carried.is_ok() {
            return;
        },
        () = refused => {}
    }
    near.set_zero_linger().ok(); // Then it is closed in the ordinary way.
}

async fn carry(near: &mut TcpStream, server: SocketAddr, mut line: Line) -> Result<()> {
    line.open().await?;
    let mut far = TcpStream::connect(server).await?;
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    let (from_client, to_client) = near.split();
    let (from_server, to_server) = far.split();
    let upwards = pump(from_client, to_server, Side::ToServer, line.clone());
    let downwards = pump(from_server, to_client, Side::ToClient, line);
    let ended = tokio::try_join!(upwards, downwards);
    if ended.is_err() {
        far.set_zero_linger().ok(); // As above.
    }
    ended.map(drop)
}

/// Passes one direction on until its end, which is passed on too.
async fn pump(
    mut from: tokio::net::tcp::ReadHalf<'_>,
    mut to: tokio::net::tcp::WriteHalf<'_>,
    side: Side,
    mut line: Line,
) -> Result<()> {
    let mut buffer = vec![0; CHUNK];
    loop {
        let length = from.read(&mut buffer).await?;
        line.open().await?;
        if length == 0 {
            return to.shutdown().await.context("pass the end on");
        }
        tokio::time::sleep(line.delay(side)).await;
        let watch = line.watch();
        let seen = Seen {
            side,
            ports: line.ports,
            bytes: &buffer[..length],
        };
        let passes = watch.as_ref().map_or(length, |watch| watch.ask(&seen));
        to.write_all(&buffer[..passes.min(length)]).await?;
        if let Some(watch) = watch.filter(|_| passes < length) {
            watch.hold().await?;
            to.write_all(&buffer[passes..length]).await?;
        }
    }
}

impl Line {
    /// Waits until something passes here.
    async fn open(&mut self) -> Result<()> {
        let silent = |rules: &Rules| rules.link == Link::Silent;
        let dialer = self.dialer;
        let rules = self.rules.wait_for(|rules| !silent(rules)).await?;
        ensure!(!rules.refuse(dialer), "refused");
        Ok(())
    }

    /// Waits until the connection is refused, or the proxy is gone.
    async fn refused(mut self) {
        let refused = |rules: &Rules| rules.refuse(self.dialer);
        self.rules.wait_for(refused).await.ok(); // An error means that the proxy is gone.
    }

    fn delay(&self, side: Side) -> Duration {
        if self.dialer.is_some() {
            return Duration::ZERO;
        }
        let rules = self.rules.borrow();
        match side {
            Side::ToServer => rules.to_server,
            Side::ToClient => rules.to_client,
        }
    }

    fn watch(&self) -> Option<Watch> {
        let watch = self.watch.lock().unwrap_or_else(PoisonError::into_inner);
        watch.clone()
    }
}
