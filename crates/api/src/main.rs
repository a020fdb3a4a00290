//! tidings-api: the HTTP API as a process of its own.

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use tidings_common::backends::Backends;
use tidings_common::clock::{Clock, SystemClock};
use tidings_common::config::{Binary, Config};
use tidings_common::telemetry;
use tidings_http::cli::{self, Start};
use tidings_http::server;

fn main() -> ExitCode {
    match cli::start(Binary::Api) {
        Start::Exit(code) => code,
        Start::Run(config) => match run(*config) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("tidings-api: {error:#}");
                ExitCode::FAILURE
            }
        },
    }
}

#[tokio::main]
async fn run(config: Config) -> anyhow::Result<()> {
    let _telemetry = telemetry::init(Binary::Api, &config).context("setting up the log")?;
    let listener = server::bind(config.listen)?;
    let config = config.with_bound_address(listener.local_addr()?);
    server::raise_open_files_limit().context("raising the limit of open files")?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let backends = Backends::open(&config, &clock).await?;
    let shutdown = cli::shutdown_on_signals()?;
    tidings_api::run(config, backends, listener, shutdown).await
}
