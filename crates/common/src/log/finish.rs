//! For the relay: what remains to be done for committed entries, whoever committed them.

use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use tokio::time::timeout;
use tracing::{Instrument as _, Span};

use super::Log;
use super::announcer::BATCH;
use super::append::AppendError;
use super::applied::APPLYING_AT_ONCE;
use super::completion::Incomplete;
use super::publisher::{Complete, NotAnnounced};
use crate::bus::BusError;
use crate::domain::Entry;
use crate::store::StoreError;

/// Longest wait for the bus to say whether it works.
const CHECK_DEADLINE: Duration = Duration::from_secs(2);

/// A committed entry that is to be finished.
pub struct Unfinished {
    pub entry: Entry,
    /// Otherwise it is completed and not published.
    pub announce: bool,
    /// What is done for it is done below this span.
    pub span: Span,
}

/// What could not be done for an entry.
#[derive(Debug, thiserror::Error)]
pub enum FinishError {
    #[error("an entry could not be applied")]
    Store(#[source] StoreError),
    #[error("an entry's derived entries could not be appended")]
    Derived(#[source] AppendError),
    #[error("a change before it in its stream could not be applied")]
    Behind,
    #[error("an entry was not announced")]
    NotAnnounced(#[source] NotAnnounced),
}

/// What may be away as a whole where an entry could not be finished.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Suspect {
    Store,
    Bus,
}

impl FinishError {
    /// None: it is the entry's own failure.
    #[must_use]
    pub fn suspect(&self) -> Option<Suspect> {
        match self {
            Self::Store(error) | Self::NotAnnounced(NotAnnounced::Store(error)) => match error {
                StoreError::Unavailable(_) | StoreError::Uncertain(_) => Some(Suspect::Store),
                StoreError::Corrupt(_) => None,
            },
            Self::Derived(AppendError::Unavailable) => Some(Suspect::Store),
            Self::NotAnnounced(NotAnnounced::Bus(_) | NotAnnounced::Late) => Some(Suspect::Bus),
            Self::Derived(AppendError::Refused(_) | AppendError::KeyReused)
            | Self::NotAnnounced(NotAnnounced::NoGroup)
            | Self::Behind => None,
        }
    }
}

impl Log {
    /// Completes entries (applies each after those before it, and appends what derives from it),
    /// publishes them, and waits for the broker. Those of a stream stand together, ascending, and
    /// are published in their order. Returns, in their order, what became of each; where a change
    /// of the state cannot be applied, those behind it in its stream are not tried, but what
    /// changes no state is published all the same. Doing so twice does no harm. The caller
    /// settles.
    pub async fn finish(&self, entries: &[Unfinished]) -> Vec<Result<(), FinishError>> {
        let streams = entries.chunk_by(|a, b| a.entry.stream == b.entry.stream);
        let completing: Vec<_> = streams.map(|run| self.complete(run)).collect();
        let completing = stream::iter(completing).buffered(APPLYING_AT_ONCE);
        let completed: Vec<Vec<_>> = completing.collect().await;
        let mut outcomes: Vec<_> = completed.into_iter().flatten().collect();
        let announced = |index: &usize| entries[*index].announce && outcomes[*index].is_ok();
        let announced: Vec<usize> = (0..entries.len()).filter(announced).collect();
        for batch in announced.chunks(BATCH) {
            let complete = batch.iter().map(|index| Complete {
                entry: entries[*index].entry.clone(),
                span: entries[*index].span.clone(),
            });
            let published = self.parts.announcer.publish(complete.collect()).await;
            for (index, published) in batch.iter().zip(published) {
                outcomes[*index] = published.map(|_| ()).map_err(FinishError::NotAnnounced);
            }
        }
        outcomes
    }

    /// Whether deltas can be published now.
    ///
    /// # Errors
    ///
    /// The bus's word that it cannot, or its silence.
    pub async fn check_bus(&self) -> Result<(), BusError> {
        match timeout(CHECK_DEADLINE, self.parts.bus.check()).await {
            Ok(checked) => checked,
            Err(elapsed) => Err(BusError(elapsed.into())),
        }
    }

    /// Completes entries of one stream.
    async fn complete(&self, run: &[Unfinished]) -> Vec<Result<(), FinishError>> {
        let completion = &self.parts.completion;
        let mut applied = 0;
        let changes = |unfinished: &&Unfinished| unfinished.entry.change.changes_state();
        if let Some(last) = run.iter().rfind(changes)
            && run.iter().filter(changes).count() > 1
        {
            // All at once, since each would look for those before it. If that fails, one after
            // the other shows which of them it is.
            let (stream, seq) = (last.entry.stream, last.entry.seq);
            let applying = completion.applied().reach(stream, 0, seq);
            if applying.instrument(last.span.clone()).await.is_ok() {
                applied = seq;
            }
        }
        let mut failed = false;
        let mut outcomes = Vec::with_capacity(run.len());
        for unfinished in run {
            if failed && changes(&unfinished) {
                outcomes.push(Err(FinishError::Behind));
                continue;
            }
            let completing = completion.complete(&unfinished.entry, applied, true);
            let completed = completing.instrument(unfinished.span.clone()).await;
            failed |= completed.is_err();
            outcomes.push(match completed {
                Ok(through) => {
                    applied = through;
                    Ok(())
                }
                Err(Incomplete::Store(error)) => Err(FinishError::Store(error)),
                Err(Incomplete::Derived(error)) => Err(FinishError::Derived(error)),
            });
        }
        outcomes
    }
}
