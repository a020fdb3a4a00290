//! What one server pushes to a user, who never asks for anything: what is heard here was
//! announced.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;
use serde_json::Value;
use tidings_tests::client::{Api, Client};
use tidings_tests::socket::{Event, Socket};
use tidings_tests::wait;
use tokio::task::JoinHandle;
use tokio::time::Instant;

pub(super) struct Ear {
    heard: Arc<Mutex<Heard>>,
    task: JoinHandle<()>,
}

/// By stream and position: when it came first, and how often.
type Heard = BTreeMap<(String, u64), (Instant, usize)>;

impl Ear {
    pub(super) async fn at(client: &Client, server: &Api) -> Result<Self> {
        let (mut socket, _) = Socket::connect_at(client, server).await?;
        let heard = Arc::new(Mutex::new(Heard::new()));
        let notes = Arc::clone(&heard);
        let task = tokio::spawn(async move {
            while let Ok(Event::Frame(frame)) = socket.next().await {
                if let Some(position) = position(&frame) {
                    let mut notes = notes.lock().unwrap_or_else(PoisonError::into_inner);
                    notes.entry(position).or_insert((Instant::now(), 0)).1 += 1;
                }
            }
        });
        Ok(Self { heard, task })
    }

    /// When it came first and how often it has come.
    pub(super) fn heard(&self, channel: &str, seq: u64) -> Option<(Instant, usize)> {
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.get(&(format!("c:{channel}"), seq)).copied()
    }

    /// Waits until it has come so often, and returns when it came first.
    pub(super) async fn hears(
        &self,
        channel: &str,
        seq: u64,
        times: usize,
        limit: Duration,
    ) -> Result<Instant> {
        wait::until(
            &format!("{seq} of {channel} is pushed"),
            limit,
            async || {
                let heard = self.heard(channel, seq);
                Ok(heard
                    .filter(|(_, count)| *count >= times)
                    .map(|(first, _)| first))
            },
        )
        .await
    }
}

impl Drop for Ear {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn position(frame: &Value) -> Option<(String, u64)> {
    let stream = frame["stream"].as_str()?;
    Some((stream.to_owned(), frame["seq"].as_u64()?))
}
