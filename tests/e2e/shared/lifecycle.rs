//! Start, stop and start again.

use std::process::{Output, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tidings_tests::check;
use tidings_tests::client::{Api, number};
use tidings_tests::device::Device;
use tidings_tests::server::{self, Server};
use tidings_tests::socket::Socket;
use tidings_tests::wait::{self, SOON};
use tokio::process::Command;
use tokio::time::{Instant, timeout};

#[tokio::test]
async fn sigterm_moves_the_sockets_over_and_ends_with_success() -> Result<()> {
    const DRAIN: Duration = Duration::from_secs(3);
    let mut server = Server::with(&[("ws.drain_secs", "3")]).await?;
    let users = server.users("user", 12).await?;
    let mut sockets = Vec::new();
    for user in &users {
        sockets.push(Socket::connect(user).await?.0);
    }
    let since = Instant::now();
    server.terminate()?;
    let mut ends = Vec::new();
    for mut socket in sockets {
        let watch = tokio::spawn(async move {
            let (code, frames) = socket.closed(SOON).await?;
            anyhow::Ok((code, frames, Instant::now()))
        });
        ends.push(watch);
    }
    for end in ends {
        let (code, frames, at) = end.await??;
        ensure!(code == Some(1012), "closed with {code:?} after {frames:?}");
        let frame = frames.last().context("a frame before the end")?;
        ensure!(frame["type"] == "reconnect", "{frame}");
        let after = number(frame, "after_ms")?;
        ensure!(u128::from(after) <= DRAIN.as_millis(), "{frame}");
        ensure!(
            at - since < DRAIN + Duration::from_secs(2),
            "{:?}",
            at - since
        );
    }
    let status = server.ended(DRAIN + Duration::from_secs(5)).await?;
    ensure!(status.success(), "ended with {status}");
    Ok(())
}

#[tokio::test]
async fn a_restart_keeps_sessions_and_messages() -> Result<()> {
    let mut server = Server::with(&[("ws.drain_secs", "1")]).await?;
    let (ada, bob) = (server.user("ada").await?, server.user("bob").await?);
    let group = ada.group("Engine room", &[&bob]).await?;
    let device = Device::start(&bob).await?;
    ada.send(&group.channel, "before").await?;
    let before = ada.messages(&group.channel).await?;
    let epoch = |value: serde_json::Value| value["epoch"].clone();
    let sync = async || {
        ada.post("/v1/sync", &serde_json::json!({"cursor": {}}))
            .await?
            .ok()
    };
    let epoch_before = epoch(sync().await?);

    server.terminate()?;
    let status = server.ended(Duration::from_secs(10)).await?;
    ensure!(status.success(), "ended with {status}");
    server.restart().await?;

    ensure!(ada.messages(&group.channel).await? == before);
    ensure!(epoch(sync().await?) == epoch_before);
    ensure!(ada.refresh().await?, "the refresh token was forgotten");
    let after = ada.send(&group.channel, "after").await?;
    device
        .reaches(&format!("c:{}", group.channel), number(&after, "seq")?)
        .await?;
    let replica = device.look(|record| record.replica.clone());
    ensure!(replica.contents(&group.channel) == ["before", "after"]);
    check::dense(&replica)?;
    check::same_as_fresh(&replica, &bob).await
}

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

#[tokio::test]
async fn a_port_in_use_ends_the_program_with_one_line() -> Result<()> {
    let holder = std::net::TcpListener::bind("127.0.0.1:0")?;
    let address = holder.local_addr()?.to_string();
    let directory = server::new_directory()?;
    let mut command = server::program()?;
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
    let mut command = server::program()?;
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
