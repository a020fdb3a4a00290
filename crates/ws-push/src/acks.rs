//! Positions that clients have acknowledged, gathered for a moment and recorded together.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tidings_common::domain::{Cursor, SessionId};
use tidings_common::presence::Presence;
use tokio::sync::mpsc;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

/// How long reports are gathered.
const GATHER: Duration = Duration::from_millis(200);
/// Reports that wait. Beyond they are dropped: a client reports again, and a late report only
/// means a push notification too many.
const MAX_WAITING: usize = 10_000;
/// Sessions recorded at the same time.
const AT_ONCE: usize = 16;

/// Where connections report to.
#[derive(Debug, Clone)]
pub(crate) struct AckReports(mpsc::Sender<(SessionId, Cursor)>);

/// What is to be recorded.
#[derive(Debug)]
pub(crate) struct AckRecorder(mpsc::Receiver<(SessionId, Cursor)>);

pub(crate) fn channel() -> (AckReports, AckRecorder) {
    let (sender, receiver) = mpsc::channel(MAX_WAITING);
    (AckReports(sender), AckRecorder(receiver))
}

impl AckReports {
    /// False: it was dropped.
    pub(crate) fn report(&self, session: SessionId, cursor: Cursor) -> bool {
        self.0.try_send((session, cursor)).is_ok()
    }
}

impl AckRecorder {
    /// Records until `stop`, then what is still waiting.
    pub(crate) async fn run(mut self, presence: Arc<dyn Presence>, stop: CancellationToken) {
        loop {
            let first = tokio::select! {
                first = self.0.recv() => first,
                () = stop.cancelled() => self.0.try_recv().ok(),
            };
            let Some((session, cursor)) = first else {
                return;
            };
            tokio::select! {
                () = sleep(GATHER) => {}
                () = stop.cancelled() => {}
            }
            let mut gathered = HashMap::from([(session, cursor)]);
            // What comes while this runs waits for the next round.
            for _ in 0..MAX_WAITING {
                let Ok((session, cursor)) = self.0.try_recv() else {
                    break;
                };
                raise(gathered.entry(session).or_default(), cursor);
            }
            record(&*presence, gathered).await;
        }
    }
}

fn raise(known: &mut Cursor, by: Cursor) {
    for (stream, seq) in by {
        let position = known.entry(stream).or_default();
        *position = seq.max(*position);
    }
}

/// Presence answers within its own deadline. After a failure the rest of the round is given up:
/// they would wait as long, and clients report again.
async fn record(presence: &dyn Presence, gathered: HashMap<SessionId, Cursor>) {
    let records = gathered
        .into_iter()
        .map(|(session, cursor)| async move { presence.record(session, &cursor).await });
    let recorded = stream::iter(records).buffer_unordered(AT_ONCE);
    if let Err(error) = recorded.try_collect::<()>().await {
        tracing::warn!(
            error = &error as &dyn std::error::Error,
            "acknowledged positions were not recorded"
        );
    }
}
