//! `tidings`: api, ws-push and worker in one process on one listener. The only crate that sees
//! all three.

mod listen;
mod serve;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tidings_common::config::{Binary, Config};
use tidings_http::{cli, process};

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
    Listen(listen::Listen),
}

fn main() -> ExitCode {
    let args = Args::parse();
    let file = args.config.as_deref();
    let outcome = match args.command {
        Some(Command::CheckConfig) => return cli::check_config(Binary::Standalone, file),
        Some(Command::Listen(options)) => listen(options),
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

#[tokio::main(flavor = "current_thread")]
async fn listen(options: listen::Listen) -> anyhow::Result<()> {
    listen::run(options).await
}
