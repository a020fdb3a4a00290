//! `tidings-worker`: the relay as a process of its own.

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use tidings_common::backends::Backends;
use tidings_common::clock::{Clock, SystemClock};
use tidings_common::config::{Binary, Config};
use tidings_common::telemetry;
use tidings_http::cli::{self, Start};
use tidings_http::server::bind;

#[tokio::main]
async fn main() -> ExitCode {
    let config = match cli::start(Binary::Worker) {
        Start::Run(config) => *config,
        Start::Exit(code) => return code,
    };
    match run(config).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(config: Config) -> anyhow::Result<()> {
    let _telemetry = telemetry::init(Binary::Worker, &config).context("setting up logs")?;
    let shutdown = cli::shutdown_on_signals().context("listening for signals")?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let backends = Backends::open(&config, &clock).await?;
    tidings_worker::run(backends, bind(config.listen)?, shutdown).await
}
