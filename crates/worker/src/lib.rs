//! Work that no request waits for: the relay. Serves health and metrics only.

mod relay;

pub use relay::Relay;

use std::net::TcpListener;
use std::sync::Arc;

use actix_web::web::{Data, ServiceConfig};
use anyhow::Context as _;
use tidings_common::backends::Backends;
use tidings_common::clock::{Clock, SystemClock};
use tidings_common::log::Log;
use tidings_common::telemetry::Metrics;
use tidings_http::access_log::AccessLog;
use tidings_http::health::{self, Readiness};
use tidings_http::server::{ServerOptions, serve};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

/// Runs a worker of its own, with health and metrics on `listener`, until `shutdown`.
///
/// # Errors
///
/// If the server cannot be started.
pub async fn run(
    backends: Backends,
    listener: TcpListener,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let Backends { store, bus, .. } = backends;
    let log = Log::start(store.clone(), bus, clock.clone(), Handle::current());
    let relay = Relay::new(store.clone(), log.clone(), clock.clone());

    let metrics = Data::new(Metrics::default());
    let readiness = Data::new(Readiness::default().with_store(store, clock));
    let options = ServerOptions::new(AccessLog::new(&metrics));
    let configure = move |app: &mut ServiceConfig| {
        app.app_data(readiness.clone())
            .app_data(metrics.clone())
            .configure(health::routes);
    };
    // If the server fails, the relay does not go on as if it had not.
    let server = async {
        let served = serve(listener, options, configure, shutdown.clone()).await;
        shutdown.cancel();
        served
    };
    let (served, ()) = tokio::join!(server, relay.run(shutdown.clone()));
    log.stop().await;
    served.context("serving HTTP")
}
