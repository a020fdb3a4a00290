//! From complete to announced: resolves who is to hear of an entry, publishes it, and clears
//! its pending mark once the broker has confirmed it.
//!
//! Best effort throughout: whatever is skipped here stays pending, and the relay repeats it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{Instrument as _, Span, field};

use super::apply::fill_in;
use super::groups::Groups;
use super::metrics::LogMetrics;
use super::trace;
use crate::bus::{Announcement, Audience, Bus, Control, Payload, TraceContext};
use crate::domain::{Change, Entry, Seq, StreamId, UserId};
use crate::store::{Store, StoreError};
use crate::tasks::Tasks;
use crate::telemetry::traces;

/// Entries that may wait to be announced. When it is full, the appender waits.
const QUEUE: usize = 4096;
/// How long an appender waits for room, so that overload shows at the entrance; then the
/// entries are left to the relay.
const ROOM_DEADLINE: Duration = Duration::from_secs(2);
/// Longest wait for the broker to confirm a batch, and to take a hint.
const PUBLISH_DEADLINE: Duration = Duration::from_secs(10);
const HINT_DEADLINE: Duration = Duration::from_secs(1);
/// Entries published together.
const BATCH: usize = 256;
/// Announced entries that may wait for their marks to be cleared; more are left to the relay.
const SETTLE_QUEUE: usize = 8192;
/// Marks are cleared when so many have gathered, or so much time has passed.
const SETTLE_BATCH: usize = 500;
const SETTLE_INTERVAL: Duration = Duration::from_millis(100);

#[derive(Clone)]
pub(super) struct Announcer {
    queue: mpsc::Sender<Complete>,
    publisher: Arc<Publisher>,
    metrics: LogMetrics,
}

/// A complete entry, with the span of what brought it about.
pub(super) struct Complete {
    pub(super) entry: Entry,
    pub(super) span: Span,
}

/// An entry that the bus has confirmed.
pub(super) struct Announced {
    position: (StreamId, Seq),
    span: Span,
}

pub(super) struct Publisher {
    pub(super) store: Arc<dyn Store>,
    pub(super) bus: Arc<dyn Bus>,
    pub(super) groups: Arc<Groups>,
}

impl Announcer {
    pub(super) fn start(
        publisher: Publisher,
        metrics: LogMetrics,
        tasks: &Tasks,
        background: &TaskTracker,
        stopping: CancellationToken,
    ) -> Self {
        let (queue, entries) = mpsc::channel(QUEUE);
        let (announced, to_settle) = mpsc::channel(SETTLE_QUEUE);
        let store = publisher.store.clone();
        let announcer = Self {
            queue,
            publisher: Arc::new(publisher),
            metrics,
        };
        let (publisher, metrics) = (announcer.publisher.clone(), announcer.metrics.clone());
        let announcing = announce(publisher, metrics, entries, announced, stopping);
        let runtime = tasks.runtime();
        background.spawn_on(tasks.watched("announcer", announcing), runtime);
        background.spawn_on(tasks.watched("settler", settle(store, to_settle)), runtime);
        announcer
    }

    /// Queues complete entries. Those of one stream must come in order.
    pub(super) async fn enqueue(&self, entries: impl IntoIterator<Item = Complete>) {
        let deadline = Instant::now() + ROOM_DEADLINE;
        let mut entries = entries.into_iter();
        while let Some(complete) = entries.next() {
            let (stream, seq) = (complete.entry.stream, complete.entry.seq);
            let queued = timeout_at(deadline, self.queue.send(complete)).await;
            if !matches!(queued, Ok(Ok(()))) {
                tracing::warn!(
                    stream = %stream,
                    delta.seq = seq,
                    "announcing is left to the relay from here on"
                );
                self.metrics
                    .left_to_relay
                    .inc_by(1 + entries.count() as u64);
                return;
            }
            self.metrics.announcements_waiting.inc();
        }
    }

    /// Publishes now and returns which were confirmed.
    pub(super) async fn publish(&self, entries: Vec<Complete>) -> Vec<Announced> {
        self.publisher.publish(entries).await
    }
}

async fn announce(
    publisher: Arc<Publisher>,
    metrics: LogMetrics,
    mut entries: mpsc::Receiver<Complete>,
    announced: mpsc::Sender<Announced>,
    stopping: CancellationToken,
) {
    let mut batch = Vec::with_capacity(BATCH);
    loop {
        tokio::select! {
            // `recv_many` is cancel-safe: it takes nothing unless it returns.
            count = entries.recv_many(&mut batch, BATCH) => {
                if count == 0 {
                    return;
                }
            }
            // What was queued before the stop is still announced.
            () = stopping.cancelled(), if !entries.is_closed() => {
                entries.close();
                continue;
            }
        }
        let entries = std::mem::take(&mut batch);
        let count = entries.len();
        metrics.announcements_waiting.dec_by(count as i64);
        let confirmed = publisher.publish(entries).await;
        let left = count.saturating_sub(confirmed.len());
        metrics.left_to_relay.inc_by(left as u64);
        for entry in confirmed {
            if announced.try_send(entry).is_err() {
                tracing::debug!("clearing a pending mark is left to the relay");
            }
        }
    }
}

async fn settle(store: Arc<dyn Store>, mut announced: mpsc::Receiver<Announced>) {
    let mut batch = Vec::with_capacity(SETTLE_BATCH);
    // Waiting first and then taking what has gathered needs no timer while nothing happens.
    while announced.recv_many(&mut batch, SETTLE_BATCH).await > 0 {
        let full = gather(&mut batch, &mut announced);
        if timeout(SETTLE_INTERVAL, full).await.is_err() {
            tracing::trace!(entries = batch.len(), "clearing pending marks");
        }
        let positions: Vec<_> = batch.iter().map(|entry| entry.position).collect();
        let initiators = batch.iter().map(|announced| &announced.span);
        let span = trace::settle(initiators, batch.len());
        if let Err(error) = store.settle(&positions).instrument(span).await {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "pending marks were not cleared; the relay will announce these entries again"
            );
        }
        batch.clear();
    }
}

/// Fills `batch`; returns when it is full or nothing more can come.
async fn gather(batch: &mut Vec<Announced>, from: &mut mpsc::Receiver<Announced>) {
    while batch.len() < SETTLE_BATCH {
        let room = SETTLE_BATCH - batch.len();
        if from.recv_many(batch, room).await == 0 {
            return;
        }
    }
}

impl Publisher {
    /// Publishes entries in order; returns those that were confirmed.
    async fn publish(&self, complete: Vec<Complete>) -> Vec<Announced> {
        let (mut entries, spans): (Vec<_>, Vec<_>) = complete
            .into_iter()
            .map(|Complete { entry, span }| (entry, span))
            .unzip();
        if let Err(error) = fill_in(self.store.as_ref(), &mut entries).await {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "the contents of edits could not be read; announcing is left to the relay"
            );
            return Vec::new();
        }
        let mut publishing = Vec::with_capacity(entries.len());
        let mut announcements = Vec::with_capacity(entries.len());
        for (entry, span) in entries.into_iter().zip(spans) {
            let position = (entry.stream, entry.seq);
            self.hint(&entry).await;
            let Some(audience) = self.known_audience(&entry).await else {
                continue;
            };
            let publish = trace::publish(&span);
            publish.record("messaging.message.id", field::display(entry.id));
            announcements.push(Announcement {
                payload: Payload::Entry(Box::new(entry)),
                audience,
                trace: traces::traceparent(&publish).map(TraceContext),
            });
            publishing.push((Announced { position, span }, publish));
        }
        let outcomes = timeout(PUBLISH_DEADLINE, self.bus.publish(&announcements)).await;
        let Ok(outcomes) = outcomes else {
            tracing::warn!("the bus did not confirm in time; announcing is left to the relay");
            return Vec::new();
        };
        let mut confirmed = Vec::with_capacity(outcomes.len());
        for ((announced, publish), outcome) in publishing.into_iter().zip(outcomes) {
            if let Err(error) = outcome {
                publish.record("otel.status_code", "ERROR");
                tracing::debug!(
                    stream = %announced.position.0,
                    delta.seq = announced.position.1,
                    error = &error as &dyn std::error::Error,
                    "a delta was not confirmed; announcing is left to the relay"
                );
                continue;
            }
            confirmed.push(announced);
        }
        confirmed
    }

    /// Who is to hear of an entry; None if that cannot be found out now.
    async fn known_audience(&self, entry: &Entry) -> Option<Audience> {
        match self.audience(entry).await {
            Ok(Some(audience)) => Some(audience),
            Ok(None) => {
                tracing::warn!(
                    stream = %entry.stream,
                    delta.seq = entry.seq,
                    "the group of a delta is not known; announcing is left to the relay"
                );
                None
            }
            Err(error) => {
                tracing::warn!(
                    stream = %entry.stream,
                    delta.seq = entry.seq,
                    error = &error as &dyn std::error::Error,
                    "the recipients could not be read; announcing is left to the relay"
                );
                None
            }
        }
    }

    /// Hints may be lost: caches live 30 s and `x:sessions` is read every 3 s all the same.
    async fn hint(&self, entry: &Entry) {
        let hint = match entry.stream {
            StreamId::Sessions => Control::SessionsEnded,
            StreamId::Group(group) => Control::GroupChanged {
                group,
                seq: entry.seq,
            },
            StreamId::User(_) | StreamId::Channel(_) => return,
        };
        let publishing = timeout(HINT_DEADLINE, self.bus.publish_control(hint));
        if let Ok(Err(error)) = publishing.await {
            tracing::debug!(
                error = &error as &dyn std::error::Error,
                "a hint was not published"
            );
        }
    }

    /// Who is to hear of an entry: members as of the position its rights were checked at who
    /// are members still, and whom it is about. None: the group is not known (yet).
    async fn audience(&self, entry: &Entry) -> Result<Option<Audience>, StoreError> {
        let (group, as_of) = match entry.stream {
            StreamId::Sessions => return Ok(Some(Audience::Users(Vec::new()))),
            StreamId::User(user) => return Ok(Some(Audience::Users(vec![user]))),
            StreamId::Group(group) => (self.groups.get(group, entry.seq).await?, entry.seq),
            StreamId::Channel(channel) => {
                (self.groups.of_channel(channel, entry.gv).await?, entry.gv)
            }
        };
        let Some(group) = group else {
            return Ok(None);
        };
        let members = group.members.iter();
        let mut users: Vec<UserId> = members
            .filter(|(_, member)| member.joined <= as_of)
            .map(|(user, _)| *user)
            .collect();
        if let Change::MemberRemoved { user } = &entry.change
            && !users.contains(user)
        {
            users.push(*user);
        }
        Ok(Some(Audience::Users(users)))
    }
}
