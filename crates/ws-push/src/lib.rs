//! Delivery: clients connect here and are sent what concerns them. Reads its queue on the bus
//! and writes nothing to the store; a server that dies loses nothing that its clients cannot
//! fetch from the log.

mod acks;
mod binder;
mod connection;
mod consumer;
mod drain;
mod guard;
mod hub;
mod metrics;
mod origin;
mod routes;
mod service;
mod state;
mod trace;

use std::net::TcpListener;
use std::sync::Arc;

use actix_web::web::{Data, ServiceConfig};
use anyhow::Context as _;
use tidings_common::auth::Keys;
use tidings_common::backends::Backends;
use tidings_common::clock::{Clock, SystemClock};
use tidings_common::config::Config;
use tidings_common::log::Revocations;
use tidings_common::telemetry::Metrics;
use tidings_http::access_log::AccessLog;
use tidings_http::health::{self, Readiness};
use tidings_http::server::{ServerOptions, serve};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

pub use connection::{Close, CloseRow, Reconnect};
pub use service::{PushService, Surroundings};

/// Runs a ws-push server of its own on `listener` until `shutdown`, then drains it.
///
/// # Errors
///
/// If the store cannot be read, or the server cannot be started.
pub async fn run(
    config: Config,
    backends: Backends,
    listener: TcpListener,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let secret = config
        .auth
        .secret
        .as_ref()
        .context("auth.secret is missing")?;
    let keys = Arc::new(Keys::new(secret));
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let metrics = Data::new(Metrics::default());
    let revocations = Revocations::start(
        backends.store.clone(),
        backends.bus.clone(),
        clock.clone(),
        config.auth.access_ttl,
        &Handle::current(),
    )
    .await
    .context("reading which sessions have ended")?;
    let surroundings = Surroundings {
        keys,
        clock,
        revocations,
        runtime: Handle::current(),
    };
    let service = PushService::start(&config, &backends, surroundings, &metrics, shutdown.clone())
        .await
        .context("reading the installation's epoch")?;

    let readiness = Data::new(service.checks(Readiness::default()));
    let access_log = AccessLog::new(&metrics);
    let options = ServerOptions::with_room_for(config.ws.max_connections, access_log);
    let routes = service.routes();
    let configure = move |app: &mut ServiceConfig| {
        app.app_data(readiness.clone())
            .app_data(metrics.clone())
            .configure(health::routes)
            .configure(&routes);
    };
    // The listener stays open while connections move over: upgrades are answered 503.
    let drained = CancellationToken::new();
    // If the server fails, the service does not go on as if it had not.
    let failed = shutdown.clone();
    let server = async {
        let served = serve(listener, options, configure, drained.clone()).await;
        failed.cancel();
        served
    };
    let stop = async {
        service.stopped().await;
        drained.cancel();
    };
    let (served, ()) = tokio::join!(server, stop);
    served.context("serving HTTP")
}
