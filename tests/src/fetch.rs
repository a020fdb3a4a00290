//! What a client asks over HTTP to catch up, page by page, and reads of the state afterwards.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::Result;
use serde_json::Value;
use serde_json::json;
use tokio::sync::{mpsc, watch};

use crate::catch_up::{CatchUp, TakeUp};
use crate::client::Client;
use crate::device::Record;
use crate::view::Part;

/// Steps of a sync that may wait for the device.
const STEPS: usize = 4;

/// What a sync found, in the order in which it is to be taken.
pub enum Found {
    Deltas(Vec<Value>),
    TakenUp {
        stream: String,
        head: u64,
        part: Box<Part>,
        /// Go back to `head` if need be: what is held cannot be continued.
        reset: bool,
    },
    Gone(String),
    /// The state of a group was read again; None: it is gone.
    Refreshed(String, Option<Box<Part>>),
}

/// How a sync begins.
pub enum First {
    Sync,
    /// With a poll, which waits so long for something to come.
    Poll {
        client: Client,
        path: String,
        timeout: Duration,
    },
}

/// Starts a sync. What it finds comes through the channel; its end is the sync's. Whose state it
/// begins to read goes into the record at once.
pub fn sync(
    client: &Client,
    record: &watch::Sender<Record>,
    sync: CatchUp,
    first: First,
) -> mpsc::Receiver<Result<Found>> {
    let (found, receiver) = mpsc::channel(STEPS);
    let (client, record) = (client.clone(), record.clone());
    tokio::spawn(async move {
        // Whoever asked may have gone, and needs nothing then.
        let asked = found.clone();
        let work = async {
            if let Err(error) = catch_up(&client, &record, sync, first, &found).await {
                found.send(Err(error)).await.ok(); // The connection may have ended first.
            }
        };
        tokio::select! {
            () = work => {}
            () = asked.closed() => {}
        }
    });
    receiver
}

/// Reads groups again whose members have changed. What it finds comes through the channel.
pub fn refresh(client: &Client, streams: BTreeSet<String>) -> mpsc::Receiver<Result<Found>> {
    let (found, receiver) = mpsc::channel(STEPS);
    let client = client.clone();
    tokio::spawn(async move {
        for stream in streams {
            let part = Part::fetch(&client, &stream).await;
            let part = part.map(|part| Found::Refreshed(stream, part.map(Box::new)));
            if found.send(part).await.is_err() {
                return; // The connection has ended; the next one reads them.
            }
        }
    });
    receiver
}

/// Pages through what the cursor lacks, then reads the state of what it cannot continue.
async fn catch_up(
    client: &Client,
    record: &watch::Sender<Record>,
    mut sync: CatchUp,
    first: First,
    found: &mpsc::Sender<Result<Found>>,
) -> Result<()> {
    let mut polled = match first {
        First::Sync => None,
        First::Poll {
            client,
            path,
            timeout,
        } => Some((client, path, timeout)),
    };
    loop {
        let answer = match polled.take() {
            Some((at, path, timeout)) => {
                let mut body = sync.request();
                body["timeout"] = json!(timeout.as_secs());
                body.as_object_mut().map(|body| body.remove("only"));
                at.post(&path, &body).await?.ok()?
            }
            None => client.post("/v1/sync", &sync.request()).await?.ok()?,
        };
        let page = sync.answered(&answer)?;
        for stream in page.gone {
            found.send(Ok(Found::Gone(stream))).await?;
        }
        found.send(Ok(Found::Deltas(page.deltas))).await?;
        if page.last {
            break;
        }
    }
    for TakeUp {
        stream,
        head,
        reset,
    } in sync.to_take_up()
    {
        record.send_modify(|record| record.replica.begin_reading(&stream));
        let what = match Part::fetch(client, &stream).await? {
            Some(part) => Found::TakenUp {
                stream,
                head,
                part: Box::new(part),
                reset,
            },
            None => Found::Gone(stream),
        };
        found.send(Ok(what)).await?;
    }
    Ok(())
}
