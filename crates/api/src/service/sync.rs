//! Catching up: everything that a device lacks, from the log. Memberships are read first, then
//! all heads at once, then only the streams that have moved. Nothing comes from a cache.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::future::try_join_all;
use tidings_common::domain::{Cursor, Entry, Seq, StreamId, UserId};
use tidings_common::log::fill_in;

use super::paging::{Gap, Item, Pager, Read};
use super::{Context, ResetReason, ServiceError};

pub(crate) struct Sync {
    context: Context,
}

/// What a device holds, and what it wants.
pub(crate) struct SyncFrom {
    pub(crate) cursor: Cursor,
    pub(crate) limit: usize,
    /// Look at the cursor's streams alone.
    pub(crate) only: bool,
    /// The epoch that the cursor is from.
    pub(crate) epoch: Option<u64>,
}

/// What a device lacks.
pub(crate) struct Synced<D> {
    pub(crate) deltas: Vec<D>,
    /// The streams that `deltas` are of.
    given: BTreeSet<StreamId>,
    pub(crate) cursor: Cursor,
    pub(crate) more: bool,
    pub(crate) resets: BTreeMap<StreamId, (Seq, ResetReason)>,
    pub(crate) heads: BTreeMap<StreamId, Seq>,
    pub(crate) epoch: u64,
}

/// An entry as a client gets it.
pub(crate) struct Encoded<D> {
    pub(crate) delta: D,
    pub(crate) bytes: usize,
}

impl Sync {
    pub(crate) fn new(context: Context) -> Self {
        Self { context }
    }

    /// `encode` makes an entry what clients see; None for what they do not.
    pub(crate) async fn sync<D>(
        &self,
        who: UserId,
        from: SyncFrom,
        encode: impl Fn(&Entry) -> Option<Encoded<D>>,
    ) -> Result<Synced<D>, ServiceError> {
        loop {
            let synced = self.read_once(who, &from, &encode).await?;
            // Who was removed in the meantime must not see what was written since.
            if synced.given.is_empty() || self.are_still_of(who, &synced.given).await? {
                return Ok(synced);
            }
        }
    }

    async fn are_still_of(
        &self,
        who: UserId,
        streams: &BTreeSet<StreamId>,
    ) -> Result<bool, ServiceError> {
        let own: BTreeSet<_> = self
            .context
            .store
            .streams_of(who)
            .await?
            .into_iter()
            .collect();
        let is_own = |stream: &StreamId| *stream == who.into() || own.contains(stream);
        Ok(streams.iter().all(is_own))
    }

    async fn read_once<D>(
        &self,
        who: UserId,
        from: &SyncFrom,
        encode: &impl Fn(&Entry) -> Option<Encoded<D>>,
    ) -> Result<Synced<D>, ServiceError> {
        let epoch = self.context.epoch;
        let heads = self.heads(who, from).await?;
        let restored = from.epoch.is_some_and(|known| known != epoch);
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
            let items = reads.iter().map(|read| self.read(*read, encode));
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
        self.context.log.apply_through(taken_up).await?;
        Ok(Synced {
            deltas: page.deltas,
            given,
            cursor,
            more: page.more,
            resets,
            heads: lacking,
            epoch,
        })
    }

    /// Heads of the caller's streams, or of those among them that were asked for.
    async fn heads(
        &self,
        who: UserId,
        from: &SyncFrom,
    ) -> Result<BTreeMap<StreamId, Seq>, ServiceError> {
        let store = &self.context.store;
        let mut streams = store.streams_of(who).await?;
        streams.push(who.into());
        if from.only {
            streams.retain(|stream| from.cursor.contains_key(stream));
        }
        let heads = store.heads(&streams).await?;
        Ok(streams.into_iter().zip(heads).collect())
    }

    async fn read<D>(
        &self,
        read: Read,
        encode: &impl Fn(&Entry) -> Option<Encoded<D>>,
    ) -> Result<Vec<Item<D>>, ServiceError> {
        let Read {
            stream,
            after,
            through,
        } = read;
        let store = &self.context.store;
        let limit = usize::try_from(through - after).unwrap_or(usize::MAX);
        let mut entries = store.entries(stream, after, through, limit).await?;
        fill_in(store.as_ref(), &mut entries).await?;
        let items = entries.iter().map(|entry| {
            let (delta, bytes) = match encode(entry) {
                Some(encoded) => (Some(encoded.delta), encoded.bytes),
                None => (None, 0),
            };
            Item {
                seq: entry.seq,
                delta,
                bytes,
            }
        });
        Ok(items.collect())
    }
}
