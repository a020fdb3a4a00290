//! A chaos run: see docs/reliability.md. `tests/chaos` builds it, finds the services' programs
//! and starts it.
//!
//! Usage: chaos [--minutes N] [--seed S] [--out DIRECTORY]
//!
//! Prints the report. The exit status is 1 if there is anything to be found in it.

#![expect(clippy::print_stdout, reason = "the report is the program's output")]

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use tidings_tests::chaos::run::Options;
use tidings_tests::chaos::session::session;

const MOST_MINUTES: f64 = 24.0 * 60.0;

struct Arguments {
    minutes: f64,
    seed: u64,
    out: PathBuf,
}

#[tokio::main]
async fn main() -> Result<ExitCode> {
    let arguments = parse(std::env::args().skip(1))?;
    let length = Duration::from_secs_f64(arguments.minutes * 60.0);
    let options = Options::new(arguments.seed, length);
    println!("seed {}, {} minutes", options.seed, arguments.minutes);
    let report = Box::pin(session(&options, &arguments.out)).await?;
    println!("{}", report.text());
    println!("the report is in {}", arguments.out.display());
    let good = report.findings.is_empty();
    Ok(if good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Arguments> {
    let mut parsed = Arguments {
        minutes: 2.0,
        seed: fastrand::u64(..),
        out: PathBuf::from("target/chaos"),
    };
    while let Some(name) = arguments.next() {
        let value = arguments
            .next()
            .with_context(|| format!("{name} needs a value"))?;
        match &*name {
            "--minutes" => parsed.minutes = value.parse().context("--minutes")?,
            "--seed" => parsed.seed = value.parse().context("--seed")?,
            "--out" => parsed.out = PathBuf::from(value),
            _ => bail!("usage: chaos [--minutes N] [--seed S] [--out DIRECTORY]"),
        }
    }
    let minutes = parsed.minutes;
    ensure!(
        minutes > 0.0 && minutes <= MOST_MINUTES,
        "--minutes {minutes}"
    );
    Ok(parsed)
}
