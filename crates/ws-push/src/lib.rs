//! Delivery: clients connect here and are sent what concerns them. Reads its queue on the bus,
//! and for clients that poll the log, to which it appends nothing; a server that dies loses
//! nothing that its clients cannot fetch from the log.

mod acks;
mod binder;
mod connection;
mod consumer;
mod drain;
mod guard;
mod hub;
mod large;
mod metrics;
mod poll;
mod registrar;
mod roster;
mod routes;
mod service;
mod state;
mod trace;
mod watching;

use tidings_http::health::Readiness;
use tidings_http::process::Process;
use tokio_util::sync::CancellationToken;

pub use connection::{Close, CloseRow, Reconnect};
pub use service::{PushService, Surroundings};

/// Serves clients until the process is told to stop, then drains.
///
/// # Errors
///
/// If the store cannot be read, or the server cannot be started.
pub async fn run(process: Process) -> anyhow::Result<()> {
    let surroundings = Surroundings {
        keys: process.keys()?,
        clock: process.clock.clone(),
        revocations: process.follow_revocations().await?,
        tasks: process.tasks.clone(),
    };
    let service = PushService::start(
        &process.config,
        &process.backends,
        surroundings,
        &process.metrics,
    );
    // What it knows of ended sessions grows old without the store; deltas go on.
    let store = process.backends.store.clone();
    let readiness = Readiness::default().reporting_store(store, process.clock.clone());
    let readiness = service.checks(readiness);
    let connections = process.config.ws.max_connections;
    // The listener stays open while connections move over: upgrades are answered 503.
    let drained = CancellationToken::new();
    let server = process.serve(readiness, connections, service.routes(), drained.clone());
    let stop = async {
        service.stopped().await;
        drained.cancel();
    };
    let (served, ()) = tokio::join!(server, stop);
    served
}
