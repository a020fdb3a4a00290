//! Everything on one listener.

use actix_web::web::ServiceConfig;
use tidings_api::Api;
use tidings_common::config::Config;
use tidings_http::health::Readiness;
use tidings_http::process::Process;
use tidings_worker::{Janitor, Relay, Trimmer};
use tidings_ws_push::PushService;
use tokio_util::sync::CancellationToken;

/// Serves until the process is told to stop, then drains: clients are told to reconnect,
/// requests in flight are finished, what was committed is announced.
pub(crate) async fn serve(process: Process) -> anyhow::Result<()> {
    let (config, backends) = (&process.config, &process.backends);
    let (keys, clock, log) = (process.keys()?, process.clock.clone(), process.start_log());
    let revocations = process.follow_revocations().await?;
    let api = tidings_api::Surroundings {
        keys: keys.clone(),
        clock: clock.clone(),
        log: log.clone(),
        revocations: revocations.clone(),
    };
    let push = tidings_ws_push::Surroundings {
        keys,
        clock: clock.clone(),
        revocations,
        tasks: process.tasks.clone(),
    };
    let api = Api::new(config, backends, api)?;
    let push = PushService::start(config, backends, push, &process.metrics);
    let (store, metrics) = (&backends.store, &process.metrics);
    let relay = Relay::new(store.clone(), log.clone(), clock.clone(), metrics);
    let trimmer = Trimmer::new(store.clone(), clock, config.log.retention, metrics);
    let janitor = Janitor::new(backends.presence.clone(), backends.bus.clone(), metrics);
    announce(config);

    let readiness = push.checks(api.checks(Readiness::default()));
    let (connections, shutdown) = (config.ws.max_connections, process.tasks.shutdown().clone());
    let (api, push_routes) = (api.routes(), push.routes());
    let routes = move |app: &mut ServiceConfig| {
        app.configure(&push_routes).configure(&api);
    };
    // Requests are still served while the connections move over.
    let drained = CancellationToken::new();
    let server = process.serve(readiness, connections, routes, drained.clone());
    let drain = async {
        push.stopped().await;
        drained.cancel();
    };
    let working = async {
        tokio::join!(
            relay.run(shutdown.clone()),
            trimmer.run(shutdown.clone()),
            janitor.run(shutdown)
        )
    };
    let (served, (), _) = tokio::join!(server, drain, working);
    log.stop().await;
    served
}

/// The one line on standard output: where the system is.
#[expect(clippy::print_stdout, reason = "this is what the user asked for")]
fn announce(config: &Config) {
    let url = &config.public_url;
    println!("Tidings is ready: {url} (API documentation: {url}/docs)");
}
