//! Work that no request waits for: the relay, the trimmer and the janitor. Serves health and
//! metrics only.

mod janitor;
mod relay;
mod trimmer;

pub use janitor::Janitor;
pub use relay::{Away, Relay};
pub use trimmer::{Trimmed, Trimmer};

use tidings_http::health::Readiness;
use tidings_http::process::Process;

/// Relays, trims and cleans up until the process is told to stop, with health and metrics served
/// meanwhile.
///
/// # Errors
///
/// If the server cannot be started.
pub async fn run(process: Process) -> anyhow::Result<()> {
    let (store, clock) = (process.backends.store.clone(), process.clock.clone());
    let log = process.start_log();
    let relay = Relay::new(store.clone(), log.clone(), clock.clone(), &process.metrics);
    let retention = process.config.log.retention;
    let trimmer = Trimmer::new(store.clone(), clock.clone(), retention, &process.metrics);
    let (presence, bus) = (
        process.backends.presence.clone(),
        process.backends.bus.clone(),
    );
    let janitor = Janitor::new(presence, bus, &process.metrics);
    let readiness = Readiness::default()
        .with_store(store, clock)
        .reporting_bus(process.backends.bus.clone());
    let shutdown = process.tasks.shutdown().clone();
    let server = process.serve(readiness, 0, |_| {}, shutdown.clone());
    let (served, (), (), ()) = tokio::join!(
        server,
        relay.run(shutdown.clone()),
        trimmer.run(shutdown.clone()),
        janitor.run(shutdown)
    );
    log.stop().await;
    served
}
