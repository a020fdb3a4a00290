//! What `/metrics` serves is what the documentation says.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use tidings_tests::server::Server;

const DOCUMENTATION: &str = include_str!("../../../docs/operations.md");

#[tokio::test]
async fn every_metric_is_documented_and_every_documented_metric_served() -> Result<()> {
    let server = Server::start().await?;
    let answer = server.api.get("/metrics").await?;
    ensure!(answer.status == 200);
    let served = served(&String::from_utf8(answer.body)?)?;
    let documented = documented();
    let undocumented: Vec<_> = served.difference(&documented).collect();
    ensure!(undocumented.is_empty(), "undocumented: {undocumented:?}");
    let missing: Vec<_> = documented.difference(&served).collect();
    ensure!(missing.is_empty(), "not served: {missing:?}");
    Ok(())
}

/// Names with their types, such as `("tidings_ws_connections", "gauge")`.
fn served(text: &str) -> Result<BTreeSet<(String, String)>> {
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    types
        .map(|line| {
            let (name, kind) = line.split_once(' ').context("a name and a type")?;
            let suffix = if kind == "counter" { "_total" } else { "" };
            Ok((format!("{name}{suffix}"), kind.to_owned()))
        })
        .collect()
}

/// The rows of the table: name, type and labels, meaning.
fn documented() -> BTreeSet<(String, String)> {
    let rows = DOCUMENTATION.lines().filter_map(|line| {
        let (name, rest) = line.strip_prefix("| `tidings_")?.split_once("` | ")?;
        let kind = rest.split_whitespace().next()?;
        Some((format!("tidings_{name}"), kind.to_owned()))
    });
    rows.collect()
}
