//! `tidings`: api, ws-push and worker in one process on one listener. The only crate that sees
//! all three.

mod listen;
mod serve;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, ensure};
use clap::{Parser, Subcommand};
use tidings_common::backends::open_store;
use tidings_common::config::{Binary, Config, StoreConfig};
use tidings_common::tasks::Tasks;
use tidings_common::telemetry;
use tidings_http::{cli, process};
use tokio_util::sync::CancellationToken;

/// A self-hosted real-time messaging backend, all of it in this one process
#[derive(Debug, Parser)]
#[command(name = "tidings", version)]
struct Args {
    /// Read settings from this file instead of `tidings.toml`
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Check the settings, print those in effect without secrets, and exit
    CheckConfig,
    /// Begin a new epoch, while no process runs, after the database was restored from a backup:
    /// clients are told that what they hold may never have happened, and read everything anew
    NewEpoch,
    /// Ask the running server of these settings whether it is alive; exit 0 if it is
    Health,
    Listen(listen::Listen),
}

fn main() -> ExitCode {
    let args = Args::parse();
    let file = args.config.as_deref();
    let outcome = match args.command {
        Some(Command::CheckConfig) => return cli::check_config(Binary::Standalone, file),
        Some(Command::Health) => return cli::health(Binary::Standalone, file),
        Some(Command::Listen(options)) => listen(options),
        Some(Command::NewEpoch) => match Config::load(Binary::Standalone, file) {
            Ok(config) => new_epoch(config),
            Err(error) => return cli::report(&error),
        },
        None => match Config::load(Binary::Standalone, file) {
            Ok(config) => return process::run(Binary::Standalone, config, serve::serve),
            Err(error) => return cli::report(&error),
        },
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tidings: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[tokio::main]
#[expect(clippy::print_stdout, reason = "this is the command's output")]
async fn new_epoch(config: Config) -> anyhow::Result<()> {
    let _telemetry =
        telemetry::init(Binary::Standalone, &config).context("setting up the program's log")?;
    if let StoreConfig::Sqlite { path } = &config.store {
        // Opening would make one.
        ensure!(path.exists(), "there is no database {}", path.display());
    }
    let tasks = Tasks::new(CancellationToken::new());
    let store = open_store(&config.store, &tasks).await?;
    let epoch = store.begin_epoch().await.context("raising the epoch")?;
    println!("Epoch {epoch} has begun");
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn listen(options: listen::Listen) -> anyhow::Result<()> {
    listen::run(options).await
}
