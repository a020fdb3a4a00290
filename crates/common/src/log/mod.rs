//! The log in use: appending with validation at a known head, group commit, projections,
//! derived entries and announcements. Used by api (mutations) and worker (relay).
//!
//! Everything a mutation does after its request was parsed happens here or in the
//! [`Proposal`] that the request brought, in a task that outlives the request.

mod announcer;
mod append;
mod appender;
mod applied;
mod apply;
mod completion;
mod finish;
mod groups;
mod metrics;
mod publisher;
mod revocations;
mod setback;
mod trace;
mod waiting;

#[cfg(test)]
mod contract;
#[cfg(test)]
mod mongo_tests;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{Instrument as _, Span};

use crate::bus::{Announcement, Bus, TraceContext, publish_ephemeral};
use crate::clock::Clock;
use crate::domain::Entry;
use crate::store::{Store, StoreError};
use crate::tasks::Tasks;
use crate::telemetry::{Metrics, traces};

pub use append::{Append, AppendError, Committed, Draft, NotValid, Proposal};
pub use applied::Applied;
pub use finish::{FinishError, Suspect, Unfinished};
pub use groups::Groups;
pub use publisher::NotAnnounced;
pub use revocations::Revocations;

use announcer::Announcer;
use appender::Appenders;
use completion::Completion;
use metrics::LogMetrics;
use publisher::Publisher;

/// How long a caller waits for its append, and longest time that an append is tried.
pub(crate) const APPEND_DEADLINE: Duration = Duration::from_secs(10);

/// Longest time that [`Log::stop`] waits for work under way.
const STOP_DEADLINE: Duration = Duration::from_secs(10);

/// Appends to streams. Cheap to clone; all clones share one set of appenders.
#[derive(Clone)]
pub struct Log {
    parts: Arc<Parts>,
}

struct Parts {
    bus: Arc<dyn Bus>,
    groups: Arc<Groups>,
    appenders: Arc<Appenders>,
    completion: Arc<Completion>,
    announcer: Announcer,
    /// Appenders at work; they end by themselves.
    appending: TaskTracker,
    /// What runs until told to stop.
    background: TaskTracker,
    stopping: CancellationToken,
}

impl Drop for Parts {
    fn drop(&mut self) {
        self.stopping.cancel();
    }
}

impl Log {
    /// Starts the announcer among `tasks`, on whose runtime appends run as well, so that they
    /// outlive the requests that asked for them. Above `fanout_limit` members a group is large.
    #[must_use]
    pub fn start(
        store: Arc<dyn Store>,
        bus: Arc<dyn Bus>,
        clock: Arc<dyn Clock>,
        fanout_limit: u64,
        metrics: &Metrics,
        tasks: &Tasks,
    ) -> Self {
        let metrics = LogMetrics::register(metrics);
        let runtime = tasks.runtime();
        let appending = TaskTracker::new();
        let background = TaskTracker::new();
        let stopping = CancellationToken::new();
        let groups = Groups::new(store.clone(), fanout_limit, metrics.caches.clone());
        let groups = Arc::new(groups);
        background.spawn_on(
            tasks.watched(
                "hints about groups",
                groups::follow_hints(groups.clone(), bus.clone(), stopping.clone()),
            ),
            runtime,
        );
        let publisher = Publisher {
            store: store.clone(),
            bus: bus.clone(),
            groups: groups.clone(),
        };
        let announcer = Announcer::start(
            publisher,
            metrics.clone(),
            tasks,
            &background,
            stopping.clone(),
        );
        let appenders = Appenders::new(
            store.clone(),
            clock,
            metrics,
            appending.clone(),
            runtime.clone(),
        );
        let completion = Arc::new(Completion::new(
            store.clone(),
            fanout_limit,
            groups.clone(),
            Arc::downgrade(&appenders),
        ));
        appenders.connect(completion.clone(), announcer.clone());
        background.spawn_on(
            tasks.watched(
                "appenders' sweep",
                appender::sweep(appenders.clone(), stopping.clone()),
            ),
            runtime,
        );
        let parts = Parts {
            bus,
            groups,
            appenders,
            completion,
            announcer,
            appending,
            background,
            stopping,
        };
        Self {
            parts: Arc::new(parts),
        }
    }

    /// Validates, commits, applies: when this returns `Ok`, the change is durable and the next
    /// read on any server sees it. A repetition of a key answers the first entry.
    ///
    /// Dropping the future does not stop the append.
    ///
    /// # Errors
    ///
    /// See [`AppendError`].
    pub async fn append(&self, request: Append) -> Result<Committed, AppendError> {
        self.parts.appenders.append(request).await
    }

    /// Groups, through a cache.
    #[must_use]
    pub fn groups(&self) -> &Groups {
        &self.parts.groups
    }

    /// Publishes something that is not stored. Best effort, for at most a second.
    pub async fn announce_ephemeral(&self, mut announcement: Announcement) {
        let span = trace::publish(&Span::current());
        announcement.trace = traces::traceparent(&span).map(TraceContext);
        publish_ephemeral(self.parts.bus.as_ref(), &[announcement])
            .instrument(span)
            .await;
    }

    /// How far streams' state is known to have come in this process.
    #[must_use]
    pub fn applied(&self) -> &Arc<Applied> {
        self.parts.completion.applied()
    }

    /// Finishes appends and announcements under way, for at most 10 s. What is not finished
    /// then stays pending, for the relay.
    pub async fn stop(&self) {
        self.parts.appenders.close();
        self.parts.appending.close();
        self.parts.background.close();
        let work = async {
            self.parts.appending.wait().await;
            self.parts.stopping.cancel();
            self.parts.background.wait().await;
        };
        if tokio::time::timeout(STOP_DEADLINE, work).await.is_err() {
            tracing::warn!("stopped with appends or announcements under way");
        }
    }
}

/// Fills in what entries do not hold themselves, for readers: the current content of the
/// messages that edits name (None once deleted), and whom it mentions.
///
/// # Errors
///
/// [`StoreError`] if they could not be read.
pub async fn fill_in(store: &dyn Store, entries: &mut [Entry]) -> Result<(), StoreError> {
    apply::fill_in(store, entries).await
}
