//! `tidings`: api, ws-push and worker in one process on one listener. The only crate that sees
//! all three.

mod listen;
mod serve;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use tidings_common::config::{Binary, Config};
use tidings_http::cli;

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
        None => match Config::load(Binary::Standalone, file) {
            Ok(config) => serve(config),
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
async fn serve(config: Config) -> anyhow::Result<()> {
    let shutdown = cli::shutdown_on_signals().context("listening for signals")?;
    serve::serve(config, shutdown).await
}

#[tokio::main(flavor = "current_thread")]
async fn listen(options: listen::Listen) -> anyhow::Result<()> {
    listen::run(options).await
}
