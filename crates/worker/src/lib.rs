//! Work that no request waits for: the relay. Serves health and metrics only.

mod relay;

pub use relay::Relay;

use tidings_http::health::Readiness;
use tidings_http::process::Process;

/// Relays until the process is told to stop, with health and metrics served meanwhile.
///
/// # Errors
///
/// If the server cannot be started.
pub async fn run(process: Process) -> anyhow::Result<()> {
    let (store, clock) = (process.backends.store.clone(), process.clock.clone());
    let log = process.start_log();
    let relay = Relay::new(store.clone(), log.clone(), clock.clone(), &process.metrics);
    let readiness = Readiness::default().with_store(store, clock);
    let shutdown = process.tasks.shutdown().clone();
    let server = process.serve(readiness, 0, |_| {}, shutdown.clone());
    let (served, ()) = tokio::join!(server, relay.run(shutdown));
    log.stop().await;
    served
}
