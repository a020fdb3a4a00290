//! Appends that wait to be committed, and those among them that repeat others.

use std::collections::{HashMap, HashSet, VecDeque};

use tokio::sync::oneshot;
use tokio::time::Instant;
use tracing::Span;

use super::append::{Append, AppendError, Committed};
use crate::domain::{EntryId, Key};

/// An append and who waits for it.
pub(super) struct Waiting {
    pub(super) append: Append,
    /// Stays the same over all tries, by which an own entry is known from a replay's.
    pub(super) id: EntryId,
    /// The outcome of an earlier try is unknown: it may still land, so that it cannot be
    /// refused any more.
    pub(super) uncertain: bool,
    pub(super) deadline: Instant,
    pub(super) done: oneshot::Sender<Result<Committed, AppendError>>,
    /// From the request for it to the answer; what is done for the entry are its children.
    pub(super) span: Span,
}

impl Waiting {
    pub(super) fn answer(self, outcome: Result<Committed, AppendError>) {
        match &outcome {
            Ok(committed) => {
                self.span.record("delta.seq", committed.entry.seq);
                self.span.record("replayed", committed.replayed);
            }
            Err(AppendError::Unavailable) => {
                self.span.record("otel.status_code", "ERROR");
            }
            Err(AppendError::Refused(_) | AppendError::KeyReused) => {}
        }
        // A caller that is gone does not want the answer; the entry stands all the same.
        drop(self.done.send(outcome));
    }
}

/// Those that wait with the keys of entries which are known to be in.
pub(super) struct Copies(HashMap<Key, Vec<Waiting>>);

impl Copies {
    /// Takes them out of `waiting`.
    pub(super) fn of(waiting: &mut VecDeque<Waiting>, keys: impl IntoIterator<Item = Key>) -> Self {
        let mut copies: HashMap<Key, Vec<Waiting>> = HashMap::new();
        if waiting.is_empty() {
            return Self(copies);
        }
        let keys: HashSet<Key> = keys.into_iter().collect();
        let all = std::mem::take(waiting).into_iter();
        let (found, others) = all.partition(|one| keys.contains(&one.append.key));
        *waiting = others;
        for one in found {
            copies.entry(one.append.key).or_default().push(one);
        }
        Self(copies)
    }

    /// One, and its copies behind it.
    pub(super) fn with(&mut self, first: Waiting, key: Key) -> Vec<Waiting> {
        let mut all = vec![first];
        all.extend(self.0.remove(&key).unwrap_or_default());
        all
    }
}

/// What may still land for one may land for its copies too.
pub(super) fn share_doubt(batch: &mut VecDeque<Waiting>) {
    let doubtful = batch.iter().filter(|waiting| waiting.uncertain);
    let doubtful: HashSet<Key> = doubtful.map(|waiting| waiting.append.key).collect();
    for waiting in batch {
        waiting.uncertain |= doubtful.contains(&waiting.append.key);
    }
}
