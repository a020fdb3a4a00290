//! How the four programs start and are told to stop. It stands here and not in common because
//! all four are HTTP servers, and common is free of the terminal.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use tidings_common::config::{Binary, Config, ConfigError};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::probe::ask_health;

/// The command line of a program that only runs.
#[derive(Debug, Parser)]
pub struct Args {
    /// Read settings from this file instead of `tidings.toml`
    #[arg(long, value_name = "FILE", global = true)]
    pub config: Option<PathBuf>,
    #[command(subcommand)]
    pub command: Option<Command>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Subcommand)]
pub enum Command {
    /// Check the settings, print those in effect without secrets, and exit
    CheckConfig,
    /// Ask the running server of these settings whether it is alive; exit 0 if it is
    Health,
}

/// What the command line asked for.
#[derive(Debug)]
pub enum Start {
    Run(Box<Config>),
    /// It is done, or cannot begin; what there is to say has been said.
    Exit(ExitCode),
}

/// Reads the command line and the settings of `binary`. Help, mistakes on the command line and
/// invalid settings are printed, one line for each problem.
#[must_use]
pub fn start(binary: Binary) -> Start {
    let command = Args::command()
        .name(binary.name())
        .about("Tidings, a self-hosted real-time messaging backend")
        .version(env!("CARGO_PKG_VERSION"));
    let matches = command.get_matches();
    let args = Args::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    let file = args.config.as_deref();
    match args.command {
        Some(Command::CheckConfig) => Start::Exit(check_config(binary, file)),
        Some(Command::Health) => Start::Exit(health(binary, file)),
        None => match Config::load(binary, file) {
            Ok(config) => Start::Run(Box::new(config)),
            Err(error) => Start::Exit(report(&error)),
        },
    }
}

/// Prints the effective settings, or what is wrong with them.
#[must_use]
#[expect(clippy::print_stdout, reason = "this is the command's output")]
pub fn check_config(binary: Binary, file: Option<&Path>) -> ExitCode {
    match Config::load(binary, file) {
        Ok(config) => {
            print!("{}", config.effective());
            ExitCode::SUCCESS
        }
        Err(error) => report(&error),
    }
}

/// Asks the server that runs with these settings whether it is alive: success if it says so
/// within seconds.
#[must_use]
pub fn health(binary: Binary, file: Option<&Path>) -> ExitCode {
    let listen = match Config::load(binary, file) {
        Ok(config) => config.listen,
        Err(error) => return report(&error),
    };
    match ask_health(listen) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{} on {listen}: {error}", binary.name());
            ExitCode::FAILURE
        }
    }
}

/// Prints one line for each problem; logging is not set up before the settings are known.
#[must_use]
pub fn report(error: &ConfigError) -> ExitCode {
    for problem in &error.problems {
        eprintln!("{problem}");
    }
    ExitCode::FAILURE
}

/// A token that is cancelled at the first SIGTERM or SIGINT. A second signal ends the process
/// at once, for those who do not want to wait for the drain.
///
/// # Errors
///
/// If the handlers cannot be installed.
pub fn shutdown_on_signals() -> std::io::Result<CancellationToken> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let token = CancellationToken::new();
    let shutdown = token.clone();
    // Owned by nobody, because it lives exactly as long as the process.
    tokio::spawn(async move {
        for is_first in [true, false] {
            // Both branches are cancel-safe: a signal that arrives meanwhile is kept.
            let name = tokio::select! {
                _ = terminate.recv() => "SIGTERM",
                _ = interrupt.recv() => "SIGINT",
            };
            tracing::info!(signal = name, "stopping");
            if is_first {
                shutdown.cancel();
            } else {
                std::process::exit(1);
            }
        }
    });
    Ok(token)
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, Parser as _};

    use super::{Args, Command};

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
        let args = Args::parse_from(["tidings", "check-config", "--config", "a.toml"]);
        assert_eq!(args.command, Some(Command::CheckConfig));
        assert_eq!(args.config.unwrap().to_str(), Some("a.toml"));
        assert!(Args::try_parse_from(["tidings", "explode"]).is_err());
    }
}
