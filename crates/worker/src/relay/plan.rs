//! Which of the abandoned entries are announced.

use tidings_common::domain::Entry;
use tidings_common::log::Unfinished;
use tidings_common::store::{Pending, Store};
use tidings_common::telemetry::traces;
use tracing::Span;

use super::Position;

/// Of a stream with more waiting, only the newest is announced: the gap makes its clients sync,
/// which costs less than announcing all.
const ANNOUNCED_PER_STREAM: usize = 100;

/// What is to be done for entries that stand in order, the last of a page that goes on after
/// `next`.
pub(super) async fn plan(
    store: &dyn Store,
    mine: Vec<Pending>,
    next: Option<Position>,
) -> Vec<Unfinished> {
    let mut plan = Vec::with_capacity(mine.len());
    for of_stream in mine.chunk_by(|a, b| a.entry.stream == b.entry.stream) {
        let silent = match of_stream {
            few if few.len() <= ANNOUNCED_PER_STREAM => 0,
            [.., last] if goes_on(store, &last.entry, next).await => of_stream.len(),
            many => many.len() - 1,
        };
        let unfinished = of_stream
            .iter()
            .enumerate()
            .map(|(index, pending)| Unfinished {
                entry: pending.entry.clone(),
                announce: index >= silent,
                span: relay_span(&pending.entry),
            });
        plan.extend(unfinished);
    }
    plan
}

/// Whether more entries wait behind `last` in its stream, on pages behind `next`: they show
/// its clients the gap.
async fn goes_on(store: &dyn Store, last: &Entry, next: Option<Position>) -> bool {
    if next.is_none_or(|(stream, _)| stream != last.stream) {
        return false;
    }
    let behind = store.pending_in(last.stream, last.seq, 1).await;
    behind.is_ok_and(|behind| !behind.is_empty())
}

/// Begins a trace: the one in which the entry was committed is not known any more.
fn relay_span(entry: &Entry) -> Span {
    tracing::info_span!(
        target: traces::TARGET,
        parent: None,
        "relay",
        stream = %entry.stream,
        delta.seq = entry.seq,
    )
}
