//! The arithmetic of sync, without any reading: what a cursor lacks, and in which order and
//! up to which size it is given out.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::domain::{Cursor, Seq, StreamId};
use crate::wire::ResetReason;

/// Most deltas of one stream in a row while others wait.
const TURN: usize = 100;
/// Streams that are read at the same time for one page.
const AT_ONCE: usize = 8;
/// Most bytes of deltas in an answer, but one delta is always given.
const PAGE_BYTES: usize = 1024 * 1024;
/// Who lacks more of a stream than this reads the state instead.
const TOO_FAR_BEHIND: Seq = 10_000;

/// What a cursor lacks.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Gap {
    /// With the stream's head; 0 if it is gone.
    pub(super) resets: BTreeMap<StreamId, (Seq, ResetReason)>,
    /// Ends of the streams that the cursor lacks or is behind in.
    pub(super) heads: BTreeMap<StreamId, Seq>,
    /// What is to be given out, in the order of the streams' ids: `u:`, `g:`, the others.
    pub(super) lanes: Vec<Lane>,
}

/// A stream of which there is something to give.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lane {
    pub(super) stream: StreamId,
    /// What the client holds, or has been given.
    pub(super) at: Seq,
    pub(super) head: Seq,
}

impl Lane {
    /// Whether it is given out to its end before the next has its turn.
    fn goes_on(&self) -> bool {
        matches!(self.stream, StreamId::User(_) | StreamId::Group(_))
    }
}

impl Gap {
    /// Compares a cursor with the heads of the caller's streams (of those that are looked at:
    /// streams that the cursor names and `heads` lacks are not the caller's).
    pub(super) fn between(
        cursor: &Cursor,
        heads: &BTreeMap<StreamId, Seq>,
        restored: bool,
    ) -> Self {
        let mut gap = Self::default();
        for (&stream, &at) in cursor {
            let Some(&head) = heads.get(&stream) else {
                gap.resets.insert(stream, (0, ResetReason::Gone));
                continue;
            };
            let reason = match at.cmp(&head) {
                _ if restored => ResetReason::Restored,
                std::cmp::Ordering::Equal => continue,
                std::cmp::Ordering::Greater => ResetReason::Ahead,
                std::cmp::Ordering::Less if head - at > TOO_FAR_BEHIND => ResetReason::Behind,
                std::cmp::Ordering::Less => {
                    gap.heads.insert(stream, head);
                    gap.lanes.push(Lane { stream, at, head });
                    continue;
                }
            };
            gap.resets.insert(stream, (head, reason));
            gap.heads.insert(stream, head);
        }
        let lacking = heads
            .iter()
            .filter(|(stream, _)| !cursor.contains_key(stream));
        gap.heads.extend(lacking);
        gap
    }
}

/// What to read next: entries with `after < seq ≤ through`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Read {
    pub(super) stream: StreamId,
    pub(super) after: Seq,
    pub(super) through: Seq,
}

/// An entry that was read, or a run of entries that go as one.
#[derive(Debug)]
pub(super) struct Item<D> {
    pub(super) first: Seq,
    /// The last one.
    pub(super) seq: Seq,
    /// None: not for clients. The cursor passes over it.
    pub(super) delta: Option<D>,
    pub(super) bytes: usize,
}

/// Fills one page, round by round: ask what to read, read it, hand it over.
#[derive(Debug)]
pub(super) struct Pager<D> {
    lanes: VecDeque<Lane>,
    page: Vec<(StreamId, usize, D)>,
    advanced: Cursor,
    expired: BTreeSet<StreamId>,
    limit: usize,
    bytes: usize,
    full: bool,
}

/// A page.
#[derive(Debug)]
pub(super) struct Filled<D> {
    pub(super) deltas: Vec<D>,
    /// How far each stream was given out.
    pub(super) advanced: Cursor,
    /// Streams whose entries had a hole; nothing of them is in `deltas`.
    pub(super) expired: BTreeSet<StreamId>,
    pub(super) more: bool,
}

impl<D> Pager<D> {
    pub(super) fn new(lanes: Vec<Lane>, limit: usize) -> Self {
        Self {
            lanes: lanes.into(),
            page: Vec::new(),
            advanced: Cursor::new(),
            expired: BTreeSet::new(),
            limit,
            bytes: 0,
            full: false,
        }
    }

    /// What to read next, of several streams at once, as far as it does not depend on what the
    /// reads before it bring. Empty: the page is complete.
    pub(super) fn upcoming(&self) -> Vec<Read> {
        let mut reads = Vec::new();
        let mut room = self.limit.saturating_sub(self.page.len());
        if self.full {
            return reads;
        }
        for lane in self.lanes.iter().take(AT_ONCE) {
            if room == 0 {
                break;
            }
            let most = Seq::try_from(room.min(TURN)).unwrap_or(Seq::MAX);
            let through = lane.head.min(lane.at.saturating_add(most));
            reads.push(Read {
                stream: lane.stream,
                after: lane.at,
                through,
            });
            room -= usize::try_from(through - lane.at).unwrap_or(room);
            if lane.goes_on() && through < lane.head {
                break;
            }
        }
        reads
    }

    /// Takes what was read, ascending: once for each of [`Pager::upcoming`], in its order.
    pub(super) fn accept(&mut self, read: Read, items: Vec<Item<D>>) {
        // What a page has no room for stays where it is.
        let next = self.lanes.front();
        if self.full || next.is_none_or(|lane| lane.stream != read.stream) {
            return;
        }
        let Some(mut lane) = self.lanes.pop_front() else {
            return;
        };
        let follows = |after: Seq, item: &Item<D>| (item.first == after + 1).then_some(item.seq);
        if items.iter().try_fold(read.after, follows) != Some(read.through) {
            self.expire(lane.stream);
            return;
        }
        for item in items {
            if let Some(delta) = item.delta {
                if self.bytes + item.bytes > PAGE_BYTES && !self.page.is_empty() {
                    self.full = true;
                    break;
                }
                self.bytes += item.bytes;
                self.page.push((lane.stream, item.bytes, delta));
            }
            lane.at = item.seq;
            self.advanced.insert(lane.stream, item.seq);
        }
        if lane.at == lane.head {
            return;
        }
        if lane.goes_on() {
            self.lanes.push_front(lane);
        } else {
            self.lanes.push_back(lane);
        }
    }

    fn expire(&mut self, stream: StreamId) {
        self.page.retain(|(of, bytes, _)| {
            let stays = *of != stream;
            if !stays {
                self.bytes -= bytes;
            }
            stays
        });
        self.advanced.remove(&stream);
        self.expired.insert(stream);
    }

    pub(super) fn finish(self) -> Filled<D> {
        Filled {
            more: !self.lanes.is_empty(),
            deltas: self.page.into_iter().map(|(_, _, delta)| delta).collect(),
            advanced: self.advanced,
            expired: self.expired,
        }
    }
}

#[cfg(test)]
mod tests;
