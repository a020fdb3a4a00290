//! Catching up: everything that a device lacks, from the log. Memberships are read first, then
//! all heads at once, then only the streams that have moved. Nothing comes from a cache.
//!
//! Used by api for `POST /v1/sync`, and by ws-push, which answers polls with nothing else.

mod paging;
mod request;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures_util::future::try_join_all;

use crate::domain::{Cursor, Entry, GroupId, Membership, Role, Seq, StreamId, UserId};
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
        let shown = self.shown(who, stream, &entries).await?;
        let mut items = Vec::with_capacity(entries.len());
        let mut run = None;
        for (index, entry) in entries.iter().enumerate() {
            let first = run.take().unwrap_or(entry.seq);
            // Of a run of such entries the last stands for all.
            let next = entries.get(index + 1);
            if next.is_some_and(|next| shown.as_one(entry, next)) {
                run = Some(first);
                continue;
            }
            let delta = shown.delta(entry, first);
            items.push(Item {
                first,
                seq: entry.seq,
                bytes: delta.as_ref().map_or(0, |delta| delta.to_frame().len()),
                delta,
            });
        }
        Ok(items)
    }

    /// How these entries are to be shown: what is for admins alone only to those who are admins
    /// now, who came and went in runs where the group is large now.
    async fn shown(
        &self,
        who: UserId,
        stream: StreamId,
        entries: &[Entry],
    ) -> Result<Shown, StoreError> {
        let StreamId::Group(group) = stream else {
            return Ok(Shown::WHOLE);
        };
        let depends = |entry: &Entry| {
            entry.change.is_confidential() || entry.change.coming_or_going().is_some()
        };
        if !entries.iter().any(depends) {
            return Ok(Shown::WHOLE);
        }
        let membership = self.store.membership(who, group).await?;
        Ok(membership.map_or(Shown::HIDING, |membership| Shown::to(group, &membership)))
    }
}

/// How a group's entries are shown to somebody.
struct Shown {
    /// What is for admins alone, too.
    whole: bool,
    /// Comings and goings as runs, with the number of members.
    runs: Option<(GroupId, u64)>,
}

impl Shown {
    const WHOLE: Self = Self {
        whole: true,
        runs: None,
    };
    const HIDING: Self = Self {
        whole: false,
        runs: None,
    };

    fn to(group: GroupId, membership: &Membership) -> Self {
        let size = membership.size;
        Self {
            whole: membership.role > Role::Member,
            runs: size.large.then_some((group, size.members)),
        }
    }

    /// Whether one delta stands for these two, which follow each other.
    fn as_one(&self, entry: &Entry, next: &Entry) -> bool {
        let hidden = |entry: &Entry| !self.whole && entry.change.is_hidden();
        let moves = |entry: &Entry| self.runs.is_some() && entry.change.coming_or_going().is_some();
        hidden(entry) && hidden(next) || moves(entry) && moves(next)
    }

    /// What clients see; None: nothing. `first` begins the run that the entry ends, or is its own
    /// position.
    fn delta(&self, entry: &Entry, first: Seq) -> Option<Delta> {
        let is_run = first < entry.seq;
        if let Some((group, count)) = self.runs
            && is_run
            && entry.change.coming_or_going().is_some()
        {
            let run = (first, entry.seq);
            return Some(Delta::members_changed(group, run, entry.at, count));
        }
        let delta = if self.whole {
            Delta::of_entry(entry)
        } else {
            Delta::concealed(entry)
        };
        let first = is_run.then_some(first);
        delta.map(|delta| Delta { first, ..delta })
    }
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
