//! State from entries: what is pending is applied, in stream order; what entries leave to the
//! state is read back for readers.

use std::collections::BTreeMap;

use tracing::Instrument as _;

use super::trace;
use crate::domain::{Change, ChannelId, Entry, Seq, StreamId};
use crate::store::{Store, StoreError, project};

/// Pending entries read at once.
const PAGE: usize = 200;

/// Applies the stream's pending entries with `after < seq ≤ through`, in order, whoever
/// committed them. Entries that are pending no more have been applied by somebody.
pub(super) async fn apply_pending(
    store: &dyn Store,
    fanout_limit: u64,
    stream: StreamId,
    mut after: Seq,
    through: Seq,
) -> Result<(), StoreError> {
    while after < through {
        let pending = store.pending_in(stream, after, PAGE).await?;
        if pending.is_empty() {
            break;
        }
        // A page that is not full may end before one that cannot be read.
        for entry in pending {
            if entry.seq > through {
                return Ok(());
            }
            after = entry.seq;
            let changes = project(&entry, fanout_limit);
            if !changes.is_empty() {
                let applying = store.apply(stream, entry.seq, changes);
                applying.instrument(trace::apply(&entry)).await?;
            }
        }
    }
    Ok(())
}

/// See [`super::fill_in`].
pub(super) async fn fill_in(store: &dyn Store, entries: &mut [Entry]) -> Result<(), StoreError> {
    let mut wanted: BTreeMap<ChannelId, Vec<Seq>> = BTreeMap::new();
    for entry in entries.iter() {
        if let (StreamId::Channel(channel), Change::MessageEdited { message, .. }) =
            (entry.stream, &entry.change)
        {
            wanted.entry(channel).or_default().push(*message);
        }
    }
    let mut contents = BTreeMap::new();
    for (channel, mut seqs) in wanted {
        seqs.sort_unstable();
        seqs.dedup();
        for message in store.messages_at(channel, &seqs).await? {
            let state = message.state;
            let content = (!state.deleted).then_some(state.content);
            let current = (content, state.mentions, state.applied);
            contents.insert((channel, message.seq), current);
        }
    }
    for entry in entries {
        if let (
            StreamId::Channel(channel),
            Change::MessageEdited {
                message,
                content,
                mentions,
                ..
            },
        ) = (entry.stream, &mut entry.change)
        {
            let current = contents.get(&(channel, *message));
            // An edit that is not applied yet holds what the message does not.
            let newer = current.is_some_and(|(.., applied)| *applied < entry.seq);
            if content.is_none() || !newer {
                let now = current.map(|(content, mentions, _)| (content.clone(), mentions.clone()));
                (*content, *mentions) = now.unwrap_or_default();
            }
        }
    }
    Ok(())
}
