//! What only a system in one process has: its file, its port, its command line.

use std::process::{Output, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tidings_tests::client::Api;
use tidings_tests::server::{self, Server};
use tidings_tests::socket::Socket;
use tidings_tests::wait::{self, SOON};
use tokio::process::Command;
use tokio::time::timeout;

#[tokio::test]
async fn a_second_process_on_the_same_data_is_refused() -> Result<()> {
    let server = Server::start().await?;
    let ada = server.user("ada").await?;
    let mut command = server.command()?;
    let port = server::free_port()?;
    command.env("TIDINGS__LISTEN", format!("127.0.0.1:{port}"));
    let output = finish(&mut command).await?;
    let line = only_line(&output)?;
    ensure!(
        line.contains("tidings.db") || line.contains("tidings-data"),
        "{line}"
    );
    // The first one has not noticed.
    ada.get("/v1/users/me").await?.ok()?;
    Ok(())
}

/// What an operator does after putting a backup in place.
#[tokio::test]
async fn a_new_epoch_resets_every_cursor() -> Result<()> {
    let mut server = Server::start().await?;
    let ada = server.user("ada").await?;
    let sync = async |from: &Value| ada.post("/v1/sync", from).await?.ok();
    let before = sync(&serde_json::json!({ "cursor": {} })).await?;
    let before = serde_json::json!({ "cursor": before["heads"], "epoch": before["epoch"] });
    let mut command = server.command()?;
    let line = only_line(&finish(command.arg("new-epoch")).await?)?;
    ensure!(line.contains("tidings.db is in use"), "{line}");

    server.terminate()?;
    server.ended(Duration::from_secs(10)).await?;
    let mut command = server.command()?;
    let output = finish(command.arg("new-epoch")).await?;
    ensure!(output.status.success(), "{output:?}");
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(said == "Epoch 2 has begun\n", "{said}");
    server.restart().await?;
    let after = sync(&before).await?;
    ensure!(after["epoch"] == 2, "{after}");
    let reasons = after["resets"].as_array().context("resets")?;
    let restored = |reset: &Value| reset["reason"] == "restored";
    ensure!(
        !reasons.is_empty() && reasons.iter().all(restored),
        "{after}"
    );
    Ok(())
}

#[tokio::test]
async fn no_epoch_begins_where_there_is_no_database() -> Result<()> {
    let directory = server::new_directory()?;
    let mut command = server::program("tidings")?;
    command.current_dir(&directory).arg("new-epoch");
    let line = only_line(&finish(&mut command).await?)?;
    ensure!(line.contains("there is no database"), "{line}");
    ensure!(
        std::fs::read_dir(&directory)?.next().is_none(),
        "it made one"
    );
    std::fs::remove_dir_all(&directory)?;
    Ok(())
}

#[tokio::test]
async fn a_port_in_use_ends_the_program_with_one_line() -> Result<()> {
    let holder = std::net::TcpListener::bind("127.0.0.1:0")?;
    let address = holder.local_addr()?.to_string();
    let directory = server::new_directory()?;
    let mut command = server::program("tidings")?;
    command
        .current_dir(&directory)
        .env("TIDINGS__LISTEN", &address);
    let output = finish(&mut command).await?;
    std::fs::remove_dir_all(&directory)?;
    let line = only_line(&output)?;
    ensure!(line.contains(&address), "{line}");
    Ok(())
}

/// The address that is printed works, also when the system chose the port.
#[tokio::test]
async fn the_program_says_where_it_serves() -> Result<()> {
    let directory = server::new_directory()?;
    let log = directory.join("out");
    let mut command = server::program("tidings")?;
    command
        .current_dir(&directory)
        .env("TIDINGS__LISTEN", "127.0.0.1:0")
        .stdout(std::fs::File::create(&log)?)
        .stderr(Stdio::null());
    let mut process = command.spawn()?;
    let url = wait::until("a line with the address", SOON, async || {
        let text = std::fs::read_to_string(&log)?;
        let whole_lines = text.rsplit_once('\n').map_or("", |(lines, _)| lines);
        let mut words = whole_lines.split_whitespace();
        Ok(words
            .find(|word| word.starts_with("http://127.0.0.1:"))
            .map(str::to_owned))
    })
    .await?;
    let api = Api::new(url.trim_end_matches(['/', '.', ',']))?;
    let ada = api.user("ada").await?;
    Socket::connect(&ada).await?;
    process.kill().await?;
    std::fs::remove_dir_all(&directory)?;
    Ok(())
}

async fn finish(command: &mut Command) -> Result<Output> {
    let output = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .output();
    timeout(SOON, output)
        .await
        .context("it goes on running")?
        .context("run")
}

/// The one line, for people, with which a program ended that could not start.
fn only_line(output: &Output) -> Result<String> {
    ensure!(!output.status.success(), "it ended with success");
    ensure!(output.status.code().is_some(), "{}", output.status);
    let text = String::from_utf8_lossy(&output.stderr);
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(said.trim().is_empty(), "on standard output: {said}");
    let lines: Vec<&str> = text
        .lines()
        .filter(|line| !line.trim().is_empty())
        .collect();
    ensure!(lines.len() == 1, "not one line:\n{text}");
    Ok(lines[0].to_owned())
}
