//! Catching up: everything that a device lacks, from the log. Memberships are read first, then
//! all heads at once, then only the streams that have moved. Nothing comes from a cache.
//!
//! Used by api for `POST /v1/sync`, and by ws-push, which answers polls with nothing else.

mod paging;
mod request;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures_util::future::try_join_all;

use crate::domain::{Cursor, Entry, Role, Seq, StreamId, UserId};
use crate::log::{Applied, fill_in};
use crate::store::{Store, StoreError};
use crate::wire::{Delta, Reset, ResetReason, SyncAnswer};

pub use request::SyncFrom;

use paging::{Gap, Item, Pager, Read};

/// Answers what a device lacks.
pub struct Sync {
    store: Arc<dyn Store>,
    applied: Arc<Applied>,
    epoch: u64,
}

/// What a device lacks.
struct Synced {
    deltas: Vec<Delta>,
    /// The streams that `deltas` are of.
    given: BTreeSet<StreamId>,
    cursor: Cursor,
    more: bool,
    resets: BTreeMap<StreamId, (Seq, ResetReason)>,
    heads: BTreeMap<StreamId, Seq>,
}

impl Sync {
    /// `epoch` is the installation's, which changes only while nothing runs.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, applied: Arc<Applied>, epoch: u64) -> Self {
        Self {
            store,
            applied,
            epoch,
        }
    }

    /// Everything that a device of this user lacks, up to a page's limits; never what the user
    /// is not a member of any more. The state of streams that the client will read next, because
    /// its cursor lacks them or they were reset, is brought up to the heads in the answer.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the store cannot be read, or an entry in it cannot.
    pub async fn answer(&self, who: UserId, from: &SyncFrom) -> Result<SyncAnswer, StoreError> {
        loop {
            let synced = self.read_once(who, from).await?;
            // Who was removed in the meantime must not see what was written since.
            if synced.given.is_empty() || self.are_still_of(who, &synced.given).await? {
                return Ok(synced.into_answer(self.epoch));
            }
        }
    }

    async fn are_still_of(
        &self,
        who: UserId,
        streams: &BTreeSet<StreamId>,
    ) -> Result<bool, StoreError> {
        let own: BTreeSet<_> = self.store.streams_of(who).await?.into_iter().collect();
        let is_own = |stream: &StreamId| *stream == who.into() || own.contains(stream);
        Ok(streams.iter().all(is_own))
    }

    async fn read_once(&self, who: UserId, from: &SyncFrom) -> Result<Synced, StoreError> {
        let heads = self.heads(who, from).await?;
        let restored = from.epoch.is_some_and(|known| known != self.epoch);
        let Gap {
            mut resets,
            heads: lacking,
            lanes,
        } = Gap::between(&from.cursor, &heads, restored);
        let mut pager = Pager::new(lanes, from.limit);
        loop {
            let reads = pager.upcoming();
            if reads.is_empty() {
                break;
            }
            let items = reads.iter().map(|read| self.read(who, *read));
            let items = try_join_all(items).await?;
            for (read, items) in reads.into_iter().zip(items) {
                pager.accept(read, items);
            }
        }
        let page = pager.finish();
        for stream in page.expired {
            let head = heads.get(&stream).copied().unwrap_or_default();
            resets.insert(stream, (head, ResetReason::Expired));
        }
        let mut cursor = from.cursor.clone();
        let given = page.advanced.keys().copied().collect();
        cursor.extend(page.advanced);
        cursor.retain(|stream, _| !resets.contains_key(stream));
        // Their state will be read as of these positions, so it has to be there.
        let reset = resets.iter().map(|(stream, (head, _))| (*stream, *head));
        let taken_up = lacking.iter().map(|(stream, head)| (*stream, *head));
        let taken_up = taken_up.chain(reset);
        let taken_up = taken_up.filter(|(stream, _)| !cursor.contains_key(stream));
        self.applied.reach_all(taken_up).await?;
        Ok(Synced {
            deltas: page.deltas,
            given,
            cursor,
            more: page.more,
            resets,
            heads: lacking,
        })
    }

    /// Heads of the caller's streams, or of those among them that were asked for.
    async fn heads(
        &self,
        who: UserId,
        from: &SyncFrom,
    ) -> Result<BTreeMap<StreamId, Seq>, StoreError> {
        let mut streams = self.store.streams_of(who).await?;
        streams.push(who.into());
        if from.only {
            streams.retain(|stream| from.cursor.contains_key(stream));
        }
        let heads = self.store.heads(&streams).await?;
        Ok(streams.into_iter().zip(heads).collect())
    }

    async fn read(&self, who: UserId, read: Read) -> Result<Vec<Item<Delta>>, StoreError> {
        let Read {
            stream,
            after,
            through,
        } = read;
        let store = self.store.as_ref();
        let limit = usize::try_from(through - after).unwrap_or(usize::MAX);
        let mut entries = store.entries(stream, after, through, limit).await?;
        fill_in(store, &mut entries).await?;
        let whole = self.sees_all(who, stream, &entries).await?;
        let hidden = |entry: &Entry| !whole && entry.change.is_hidden();
        let mut items = Vec::with_capacity(entries.len());
        let mut run = None;
        for (index, entry) in entries.iter().enumerate() {
            let first = run.take().unwrap_or(entry.seq);
            // Of a run of hidden entries the last stands for all.
            if hidden(entry) && entries.get(index + 1).is_some_and(hidden) {
                run = Some(first);
                continue;
            }
            let delta = encode(entry, first, whole);
            items.push(Item {
                first,
                seq: entry.seq,
                bytes: delta.as_ref().map_or(0, |delta| delta.to_frame().len()),
                delta,
            });
        }
        Ok(items)
    }

    /// Whether these entries are to be shown whole: what is for admins alone only to those who
    /// are admins now.
    async fn sees_all(
        &self,
        who: UserId,
        stream: StreamId,
        entries: &[Entry],
    ) -> Result<bool, StoreError> {
        let StreamId::Group(group) = stream else {
            return Ok(true);
        };
        if !entries.iter().any(|entry| entry.change.is_confidential()) {
            return Ok(true);
        }
        let membership = self.store.membership(who, group).await?;
        Ok(membership.is_some_and(|membership| membership.role > Role::Member))
    }
}

/// What clients see; None: nothing. `first` begins the run of hidden entries that the entry ends,
/// or is its own position; not `whole`: as members see it who are no admins.
fn encode(entry: &Entry, first: Seq, whole: bool) -> Option<Delta> {
    let delta = if whole {
        Delta::of_entry(entry)
    } else {
        Delta::concealed(entry)
    };
    let first = (first < entry.seq).then_some(first);
    delta.map(|delta| Delta { first, ..delta })
}

impl Synced {
    fn into_answer(self, epoch: u64) -> SyncAnswer {
        let resets = self.resets.into_iter();
        SyncAnswer {
            deltas: self.deltas,
            cursor: named(self.cursor),
            more: self.more,
            resets: resets
                .map(|(stream, (head, reason))| Reset {
                    stream: stream.to_string(),
                    head,
                    reason,
                })
                .collect(),
            heads: named(self.heads),
            epoch,
        }
    }
}

fn named(positions: BTreeMap<StreamId, Seq>) -> BTreeMap<String, Seq> {
    let named = positions.into_iter();
    named
        .map(|(stream, seq)| (stream.to_string(), seq))
        .collect()
}
