//! Reads what the servers hold in the end.

use anyhow::{Context as _, Result, ensure};
use serde_json::json;

use super::history::Truth;
use super::recorder::Recorder;
use crate::client::{Client, items};
use crate::replica::{Cursor, Delta};
use crate::view::{self, View};

/// Reads the log from its beginning and the state: what the auditor, who is in every group,
/// sees, and each user's own stream.
///
/// # Errors
/// The servers refuse a read, or a stream does not begin at its beginning.
pub async fn read(auditor: &Client, users: &[Client], recorder: &Recorder) -> Result<Truth> {
    let mut truth = Truth {
        state: View::fetch(auditor).await?,
        ..Truth::default()
    };
    for client in [auditor].into_iter().chain(users) {
        let heads: Cursor = serde_json::from_value(client.heads().await?)?;
        let own = format!("u:{}", client.user);
        let marks = view::fetch_read_marks(client).await?;
        truth.read_marks.insert(client.user.clone(), marks);
        for (stream, head) in heads {
            if client.user == auditor.user || stream == own {
                read_stream(client, &stream, recorder, &mut truth).await?;
                truth.heads.insert(stream, head);
            }
        }
    }
    Ok(truth)
}

async fn read_stream(
    client: &Client,
    stream: &str,
    recorder: &Recorder,
    truth: &mut Truth,
) -> Result<()> {
    let entries = truth.streams.entry(stream.to_owned()).or_default();
    let mut after = 0;
    // Of a large group, a page of more tells of comings and goings by runs.
    let limit = if stream.starts_with("g:") { 1 } else { 500 };
    loop {
        let body = json!({"cursor": {stream: after}, "only": true, "limit": limit});
        let page = client.post("/v1/sync", &body).await?.ok()?;
        ensure!(items(&page, "resets")?.is_empty(), "{stream}: {page}");
        for delta in items(&page, "deltas")? {
            let delta = Delta::parse(delta)?.context("a delta with a position")?;
            after = delta.seq;
            entries.push(recorder.delta(delta));
        }
        if page["more"] != true {
            return Ok(());
        }
    }
}
