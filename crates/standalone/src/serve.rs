//! From settings to a running system, and back to nothing.

use std::net::TcpListener;
use std::sync::Arc;

use actix_web::web::{Data, ServiceConfig};
use anyhow::Context as _;
use secrecy::SecretString;
use tidings_api::Api;
use tidings_common::auth::Keys;
use tidings_common::backends::Backends;
use tidings_common::clock::{Clock, SystemClock};
use tidings_common::config::{Binary, Config, StoreConfig, secret_beside};
use tidings_common::log::{Log, Revocations};
use tidings_common::telemetry::{self, Metrics};
use tidings_http::access_log::AccessLog;
use tidings_http::health::{self, Readiness};
use tidings_http::server::{self, ServerOptions};
use tidings_worker::Relay;
use tidings_ws_push::PushService;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

/// Serves until `shutdown`, then drains: clients are told to reconnect, requests in flight are
/// finished, what was committed is announced.
pub(crate) async fn serve(config: Config, shutdown: CancellationToken) -> anyhow::Result<()> {
    let _telemetry = telemetry::init(Binary::Standalone, &config).context("setting up logs")?;
    let listener = server::bind(config.listen)?;
    let config = config.with_bound_address(listener.local_addr()?);
    server::raise_open_files_limit().context("raising the limit of open files")?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let backends = Backends::open(&config, &clock).await?;
    let system = System::start(&config, &backends, clock, &shutdown).await?;
    announce(&config);
    system.run(listener, shutdown).await
}

/// Everything that runs.
struct System {
    log: Log,
    api: Api,
    push: PushService,
    relay: Relay,
    metrics: Data<Metrics>,
    max_connections: usize,
}

impl System {
    async fn start(
        config: &Config,
        backends: &Backends,
        clock: Arc<dyn Clock>,
        shutdown: &CancellationToken,
    ) -> anyhow::Result<Self> {
        let keys = Arc::new(Keys::new(&secret(config)?));
        let runtime = Handle::current();
        let metrics = Data::new(Metrics::default());
        let Backends { store, bus, .. } = backends;
        let log = Log::start(store.clone(), bus.clone(), clock.clone(), runtime.clone());
        let (access_ttl, bus) = (config.auth.access_ttl, bus.clone());
        let revocations =
            Revocations::start(store.clone(), bus, clock.clone(), access_ttl, &runtime)
                .await
                .context("reading which sessions have ended")?;
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
            runtime,
        };
        Ok(Self {
            api: Api::start(config, backends, api).await?,
            push: PushService::start(config, backends, push, &metrics, shutdown.clone()).await?,
            relay: Relay::new(store.clone(), log.clone(), clock),
            log,
            metrics,
            max_connections: config.ws.max_connections,
        })
    }

    async fn run(self, listener: TcpListener, shutdown: CancellationToken) -> anyhow::Result<()> {
        let readiness = Data::new(self.push.checks(self.api.checks(Readiness::default())));
        let access_log = AccessLog::new(&self.metrics);
        let options = ServerOptions::with_room_for(self.max_connections, access_log);
        let (api, push, metrics) = (self.api.routes(), self.push.routes(), self.metrics.clone());
        let configure = move |app: &mut ServiceConfig| {
            app.app_data(readiness.clone())
                .app_data(metrics.clone())
                .configure(health::routes)
                .configure(&push)
                .configure(&api);
        };
        // Requests are still served while the connections move over.
        let drained = CancellationToken::new();
        let server = server::serve(listener, options, configure, drained.clone());
        // If the server fails, nothing else goes on as if it had not.
        let server = async {
            let served = server.await;
            shutdown.cancel();
            served
        };
        let drain = async {
            self.push.stopped().await;
            drained.cancel();
        };
        let (served, (), ()) = tokio::join!(server, drain, self.relay.run(shutdown.clone()));
        self.log.stop().await;
        served.context("serving HTTP")
    }
}

/// The configured secret, or the one that is kept beside the database.
fn secret(config: &Config) -> anyhow::Result<SecretString> {
    match (&config.auth.secret, &config.store) {
        (Some(secret), _) => Ok(secret.clone()),
        (None, StoreConfig::Sqlite { path }) => Ok(secret_beside(path)?),
        (None, StoreConfig::MongoDb { .. }) => anyhow::bail!("auth.secret is missing"),
    }
}

/// The one line on standard output: where the system is.
#[expect(clippy::print_stdout, reason = "this is what the user asked for")]
fn announce(config: &Config) {
    let url = &config.public_url;
    println!("Tidings is ready: {url} (API documentation: {url}/docs)");
}
