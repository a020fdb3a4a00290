//! The life of a server program, from its command line to its exit code. What all four do in
//! the same way stands here: the log, the listener, the backends, the signals, the health
//! routes, and what is said when something fails.

use std::net::TcpListener;
use std::process::ExitCode;
use std::sync::Arc;

use actix_web::web::{Data, ServiceConfig};
use anyhow::Context as _;
use tidings_common::auth::Keys;
use tidings_common::backends::Backends;
use tidings_common::clock::{Clock, SystemClock};
use tidings_common::config::{Binary, Config, StoreConfig, secret_beside};
use tidings_common::log::{Log, Revocations};
use tidings_common::measured::register_process;
use tidings_common::tasks::Tasks;
use tidings_common::telemetry::{self, Metrics};
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

use crate::access_log::AccessLog;
use crate::cli::{self, Start};
use crate::health::{self, Readiness};
use crate::origins::Origins;
use crate::server::{self, ServerOptions};

/// What a server program has before it does anything of its own.
pub struct Process {
    pub config: Config,
    pub backends: Backends,
    pub clock: Arc<dyn Clock>,
    pub metrics: Data<Metrics>,
    /// Where its tasks run, and its shutdown: at a signal, or when one of them fails.
    pub tasks: Tasks,
    listener: TcpListener,
}

/// The whole of a program without commands of its own: reads the command line and the settings
/// of `binary`, and runs `serve`.
#[must_use]
pub fn main<S, F>(binary: Binary, serve: S) -> ExitCode
where
    S: FnOnce(Process) -> F,
    F: Future<Output = anyhow::Result<()>>,
{
    match cli::start(binary) {
        Start::Run(config) => run(binary, *config, serve),
        Start::Exit(code) => code,
    }
}

/// Runs `serve` with these settings. What fails is said in one line on standard error, after
/// the program's name.
#[must_use]
pub fn run<S, F>(binary: Binary, config: Config, serve: S) -> ExitCode
where
    S: FnOnce(Process) -> F,
    F: Future<Output = anyhow::Result<()>>,
{
    let ended = Runtime::new()
        .context("starting threads")
        .and_then(|runtime| runtime.block_on(live(binary, config, serve)));
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}: {error:#}", binary.name());
            ExitCode::FAILURE
        }
    }
}

async fn live<S, F>(binary: Binary, config: Config, serve: S) -> anyhow::Result<()>
where
    S: FnOnce(Process) -> F,
    F: Future<Output = anyhow::Result<()>>,
{
    let _telemetry = telemetry::init(binary, &config).context("setting up the program's log")?;
    // Before anything that takes long or leaves traces: a second start on the same address
    // ends here.
    let listener = server::bind(config.listen)?;
    let config = config.with_bound_address(listener.local_addr()?);
    server::raise_open_files_limit().context("raising the limit of open files")?;
    let shutdown = cli::shutdown_on_signals().context("listening for signals")?;
    let tasks = Tasks::new(shutdown);
    let metrics = Data::new(Metrics::default());
    register_process(&metrics);
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    // The store may be waited for, and whoever stops the process meanwhile does not wait.
    let opening = Backends::open(&config, &clock, &metrics, &tasks);
    let Some(backends) = tasks.shutdown().run_until_cancelled(opening).await else {
        return Ok(());
    };
    let process = Process {
        config,
        backends: backends?,
        clock,
        metrics,
        tasks: tasks.clone(),
        listener,
    };
    ended(serve(process).await, &tasks)
}

/// A process that has stopped because a task failed has failed, however orderly its end.
fn ended(served: anyhow::Result<()>, tasks: &Tasks) -> anyhow::Result<()> {
    served?;
    anyhow::ensure!(
        !tasks.have_failed(),
        "a task has failed; the log says which"
    );
    Ok(())
}

impl Process {
    /// The keys of the configured secret, or of the one that is kept beside the database.
    ///
    /// # Errors
    ///
    /// If there is none, or it cannot be read.
    pub fn keys(&self) -> anyhow::Result<Arc<Keys>> {
        let secret = match (&self.config.auth.secret, &self.config.store) {
            (Some(secret), _) => secret.clone(),
            (None, StoreConfig::Sqlite { path }) => secret_beside(path)?,
            (None, StoreConfig::MongoDb { .. }) => anyhow::bail!("auth.secret is missing"),
        };
        Ok(Arc::new(Keys::new(&secret)))
    }

    /// Starts what appends to the log.
    #[must_use]
    pub fn start_log(&self) -> Log {
        let Backends { store, bus, .. } = &self.backends;
        let (store, bus, clock) = (store.clone(), bus.clone(), self.clock.clone());
        let fanout_limit = self.config.limits.fanout_limit.into();
        Log::start(store, bus, clock, fanout_limit, &self.metrics, &self.tasks)
    }

    /// Starts following which sessions have ended, once it is known which have.
    ///
    /// # Errors
    ///
    /// If the store cannot be read.
    pub async fn follow_revocations(&self) -> anyhow::Result<Arc<Revocations>> {
        let Backends { store, bus, .. } = &self.backends;
        let (store, bus, clock) = (store.clone(), bus.clone(), self.clock.clone());
        let access_ttl = self.config.auth.access_ttl;
        Revocations::start(store, bus, clock, access_ttl, &self.tasks)
            .await
            .context("reading which sessions have ended")
    }

    /// Serves `routes` beside health and metrics until `until`, with room for so many
    /// connections that stay. If the server ends for any other reason, the shutdown of the
    /// whole process begins.
    ///
    /// # Errors
    ///
    /// If the server cannot be started.
    pub fn serve<R>(
        self,
        readiness: Readiness,
        connections: usize,
        routes: R,
        until: CancellationToken,
    ) -> impl Future<Output = anyhow::Result<()>> + use<R>
    where
        R: Fn(&mut ServiceConfig) + Clone + Send + 'static,
    {
        let access_log = AccessLog::new(&self.metrics);
        let options = ServerOptions {
            origins: Origins::new(&self.config.public_url, &self.config.ws.origins),
            ..ServerOptions::with_room_for(connections, access_log)
        };
        let (readiness, metrics) = (Data::new(readiness), self.metrics);
        let configure = move |app: &mut ServiceConfig| {
            app.app_data(readiness.clone())
                .app_data(metrics.clone())
                .configure(health::routes)
                .configure(&routes);
        };
        let served = server::serve(self.listener, options, configure, until);
        let shutdown = self.tasks.shutdown().clone();
        async move {
            let served = served.await.context("serving HTTP");
            shutdown.cancel();
            served
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_orderly_end_after_a_panic_is_a_failure() {
        let tasks = Tasks::new(CancellationToken::new());
        ended(Ok(()), &tasks).unwrap();
        tasks
            .watched("one that breaks", async { panic!("as it should") })
            .await;
        ended(Ok(()), &tasks).unwrap_err();
    }
}
