//! The listener and the server on it: limits of connections, timeouts, socket options, and an
//! orderly end.

use std::any::Any;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::num::NonZeroUsize;
use std::time::Duration;

use actix_web::dev::Server;
use actix_web::middleware::from_fn;
use actix_web::rt::net::TcpStream;
use actix_web::web::ServiceConfig;
use actix_web::{App, HttpServer};
use socket2::{Domain, SockRef, Socket, TcpKeepalive, Type};
use tokio_util::sync::CancellationToken;

use crate::access_log::AccessLog;
use crate::origins::Origins;
use crate::problem;

/// Connections that wait to be accepted: after a restart all clients come at once.
const BACKLOG: i32 = 4096;
/// A head that takes longer is answered 408.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Longer than the proxies' (60 s), so that it is never us who close a connection they reuse.
const KEEP_ALIVE: Duration = Duration::from_secs(75);
/// A client that does not read costs the kernel 0.3 MiB with this, 4 MiB without.
const SEND_BUFFER_BYTES: usize = 64 * 1024;
/// Nothing else closes a connection whose client accepts no data: actix has no write timeout.
const UNACKNOWLEDGED: Duration = Duration::from_secs(30);

/// Connections of a server that holds few for long.
const MAX_CONNECTIONS: NonZeroUsize = NonZeroUsize::new(25_000).expect("it is not zero");
/// Connections for requests beside those that stay: where these are refused with an answer,
/// accepting must not have stopped.
const HEADROOM: usize = 5_000;

/// How a server is run.
#[derive(Debug, Clone)]
pub struct ServerOptions {
    /// Threads that serve requests; the number of cores by default.
    pub workers: NonZeroUsize,
    /// Connections of the whole server, shared evenly by the workers. At the limit accepting
    /// stops, and who comes waits in the backlog.
    pub max_connections: NonZeroUsize,
    /// How long requests in flight may take to end after the shutdown began.
    pub shutdown_timeout: Duration,
    pub access_log: AccessLog,
    /// Web pages that may read what is answered.
    pub origins: Origins,
}

impl ServerOptions {
    /// For a server that holds up to `connections` for long, and answers requests beside them.
    #[must_use]
    pub fn with_room_for(connections: usize, access_log: AccessLog) -> Self {
        let wanted = NonZeroUsize::MIN.saturating_add(connections.saturating_add(HEADROOM));
        Self {
            max_connections: wanted.max(MAX_CONNECTIONS),
            ..Self::new(access_log)
        }
    }

    #[must_use]
    pub fn new(access_log: AccessLog) -> Self {
        Self {
            workers: std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN),
            max_connections: MAX_CONNECTIONS,
            shutdown_timeout: Duration::from_secs(10),
            access_log,
            origins: Origins::default(),
        }
    }
}

/// A listener could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    #[error("the address {address} is in use by another program; choose another with `listen`")]
    InUse { address: SocketAddr },
    #[error("cannot listen on {address}")]
    Failed {
        address: SocketAddr,
        #[source]
        source: io::Error,
    },
}

/// Opens a listener on `address`; port 0 takes any free one.
///
/// # Errors
///
/// If the address is in use, or not one of this machine's.
pub fn bind(address: SocketAddr) -> Result<TcpListener, BindError> {
    listen(address).map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => BindError::InUse { address },
        _ => BindError::Failed { address, source },
    })
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    // A restart need not wait until connections of the previous run have left TIME_WAIT.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Raises this process's limit of open files to what it is allowed, and returns it. Each
/// connection is an open file, and the usual soft limit is 1,024.
///
/// # Errors
///
/// If the system refuses.
pub fn raise_open_files_limit() -> io::Result<u64> {
    rlimit::increase_nofile_limit(u64::MAX)
}

/// Serves what `configure` mounts until `shutdown`, then stops accepting, finishes what is in
/// flight, and returns. Every refusal of the framework is rendered as a problem and every
/// request is recorded. `configure` runs once for each worker: state is built outside it.
///
/// # Errors
///
/// If the server cannot be started on `listener`.
pub fn serve<F>(
    listener: TcpListener,
    options: ServerOptions,
    configure: F,
    shutdown: CancellationToken,
) -> impl Future<Output = io::Result<()>> + Send
where
    F: Fn(&mut ServiceConfig) + Clone + Send + 'static,
{
    // The builder cannot move between threads, the built server can: so the future may be
    // spawned on any runtime.
    let server = build(listener, options, configure, shutdown);
    async move { server?.await }
}

fn build<F>(
    listener: TcpListener,
    options: ServerOptions,
    configure: F,
    shutdown: CancellationToken,
) -> io::Result<Server>
where
    F: Fn(&mut ServiceConfig) + Clone + Send + 'static,
{
    let ServerOptions {
        workers,
        max_connections,
        shutdown_timeout,
        access_log,
        origins,
    } = options;
    let application = move || {
        let access_log = access_log.clone();
        App::new()
            .configure(configure.clone())
            .wrap(from_fn(problem::render_all))
            .wrap(origins.cors())
            // Once more, for what is refused to a page before it has sent it.
            .wrap(from_fn(problem::render_all))
            .wrap(from_fn(move |request, next| {
                access_log.clone().record(request, next)
            }))
    };
    let server = HttpServer::new(application)
        .workers(workers.get())
        .max_connections(max_connections.get().div_ceil(workers.get()))
        .client_request_timeout(HEAD_TIMEOUT)
        .keep_alive(KEEP_ALIVE)
        .on_connect(|connection, _| set_options(connection))
        .shutdown_timeout(shutdown_timeout.as_secs())
        .shutdown_signal(shutdown.cancelled_owned())
        .listen(listener)?;
    Ok(server.run())
}

fn set_options(connection: &dyn Any) {
    let Some(stream) = connection.downcast_ref::<TcpStream>() else {
        return;
    };
    // A connection that is gone already refuses its options; reading from it says so too.
    if let Err(error) = set_socket_options(&SockRef::from(stream)) {
        tracing::debug!(%error, "cannot set options of a connection");
    }
}

fn set_socket_options(socket: &SockRef<'_>) -> io::Result<()> {
    let keepalive = TcpKeepalive::new()
        .with_time(Duration::from_secs(30))
        .with_interval(Duration::from_secs(10))
        .with_retries(3);
    socket.set_send_buffer_size(SEND_BUFFER_BYTES)?;
    socket.set_tcp_keepalive(&keepalive)?;
    socket.set_tcp_nodelay(true)?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use socket2::SockRef;

    use super::{BindError, UNACKNOWLEDGED, bind, set_socket_options};

    #[test]
    fn an_address_in_use_is_named_in_one_line() {
        let listener = bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        let error = bind(address).unwrap_err();
        assert!(matches!(error, BindError::InUse { .. }));
        assert!(error.to_string().contains(&address.to_string()));
        assert_eq!(error.to_string().lines().count(), 1);
    }

    #[test]
    fn a_connection_gets_its_options() {
        let listener = bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let socket = SockRef::from(&stream);
        set_socket_options(&socket).unwrap();
        assert!(socket.keepalive().unwrap() && socket.tcp_nodelay().unwrap());
        // Linux doubles what is asked for, to have room for its own bookkeeping.
        assert!(socket.send_buffer_size().unwrap() <= 2 * 64 * 1024);
        #[cfg(target_os = "linux")]
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(UNACKNOWLEDGED));
    }
}
