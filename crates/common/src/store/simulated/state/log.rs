//! The log.

use super::{Row, State, Stream};
use crate::domain::{
    Change, ChannelId, Entry, Head, Key, Kind, Message, Seq, StreamId, Timestamp, Version,
};
use crate::store::mark_page::mark_page;
use crate::store::old_page::old_page;
use crate::store::run::{NOT_A_RUN, is_run};
use crate::store::{Appended, Claim, MarkPage, OldPage, Page, Pending, PendingPage, Window};

impl State {
    fn stream(&self, stream: StreamId) -> Option<&Stream> {
        self.streams.get(&stream.to_bytes())
    }

    pub(super) fn rows(&self, stream: StreamId) -> impl DoubleEndedIterator<Item = &Row> {
        self.stream(stream)
            .into_iter()
            .flat_map(|stream| stream.rows.values())
    }

    /// # Errors
    ///
    /// What is wrong with the run.
    pub(crate) fn append(&mut self, run: Vec<Entry>) -> Result<Appended, String> {
        let landed = self.would_land(&run)?;
        for entry in run.into_iter().take(landed) {
            let stream = self.streams.entry(entry.stream.to_bytes()).or_default();
            stream.keys.insert(entry.key, entry.seq);
            let pending = Some(entry.at);
            stream.rows.insert(entry.seq, Row { entry, pending });
        }
        Ok(Appended { landed })
    }

    /// How many of these entries find their position and key free.
    pub(in crate::store::simulated) fn would_land(&self, run: &[Entry]) -> Result<usize, String> {
        let Some(first) = run.first() else {
            return Ok(0);
        };
        if !is_run(run) {
            return Err(NOT_A_RUN.to_owned());
        }
        let head = self.head(first.stream).seq;
        if first.seq > head + 1 {
            let (seq, stream) = (first.seq, first.stream);
            return Err(format!(
                "entry {seq} of {stream} would leave a hole after {head}"
            ));
        }
        if first.seq <= head {
            return Ok(0);
        }
        let taken = |key: &Key| {
            self.stream(first.stream)
                .is_some_and(|stream| stream.keys.contains_key(key))
        };
        let free = run.iter().enumerate().take_while(|(index, entry)| {
            let twice = run[..*index].iter().any(|other| other.key == entry.key);
            !twice && !taken(&entry.key)
        });
        Ok(free.count())
    }

    pub(crate) fn head(&self, stream: StreamId) -> Head {
        let last = self.rows(stream).next_back();
        last.map(|row| row.entry.head()).unwrap_or_default()
    }

    pub(crate) fn heads(&self, streams: &[StreamId]) -> Vec<Seq> {
        streams.iter().map(|id| self.head(*id).seq).collect()
    }

    pub(crate) fn find(&self, stream: StreamId, key: Key) -> Option<Entry> {
        let stream = self.stream(stream)?;
        let seq = stream.keys.get(&key)?;
        stream.rows.get(seq).map(|row| row.entry.clone())
    }

    pub(crate) fn entries(
        &self,
        stream: StreamId,
        after: Seq,
        through: Seq,
        limit: usize,
    ) -> Vec<Entry> {
        let wanted = |row: &&Row| row.entry.seq > after && row.entry.seq <= through;
        let found = self.rows(stream).filter(wanted).take(limit);
        found.map(|row| row.entry.clone()).collect()
    }

    pub(crate) fn newest(&self, stream: StreamId, limit: usize) -> Vec<Entry> {
        let found = self.rows(stream).rev().take(limit);
        found.map(|row| row.entry.clone()).collect()
    }

    pub(super) fn messages_of(
        &self,
        channel: ChannelId,
    ) -> impl DoubleEndedIterator<Item = Message> {
        self.rows(channel.into())
            .filter_map(move |row| message(channel, &row.entry))
    }

    pub(crate) fn messages(
        &self,
        channel: ChannelId,
        window: Window,
        limit: usize,
    ) -> Page<Message> {
        self.page_of(channel, |_| true, window, limit)
    }

    pub(crate) fn pinned(&self, channel: ChannelId, window: Window, limit: usize) -> Page<Message> {
        self.page_of(channel, |message| message.state.pinned, window, limit)
    }

    fn page_of(
        &self,
        channel: ChannelId,
        chosen: fn(&Message) -> bool,
        window: Window,
        limit: usize,
    ) -> Page<Message> {
        let before = |seq: Seq, limit: usize| {
            let older = self.messages_of(channel).filter(chosen).rev();
            let mut page = page(older.filter(|message| message.seq < seq), limit);
            page.items.reverse();
            page
        };
        let from = |seq: Seq, limit| {
            let newer = self.messages_of(channel).filter(chosen);
            page(newer.filter(|message| message.seq >= seq), limit)
        };
        match window {
            Window::Newest => before(Seq::MAX, limit),
            Window::Before(seq) => before(seq, limit),
            Window::After(seq) => from(seq.saturating_add(1), limit),
            Window::Around(seq) => {
                let mut page = before(seq, limit / 2);
                let rest = from(seq, limit - limit / 2);
                page.items.extend(rest.items);
                page.more |= rest.more;
                page
            }
        }
    }

    pub(crate) fn messages_at(&self, channel: ChannelId, seqs: &[Seq]) -> Vec<Message> {
        self.messages_of(channel)
            .filter(|message| seqs.contains(&message.seq))
            .collect()
    }

    pub(crate) fn versions(&self, channel: ChannelId, after: Seq, through: Seq) -> Vec<Version> {
        let found = self.messages_of(channel);
        let found = found.filter(|message| message.seq > after && message.seq <= through);
        found.map(|message| Version::from(&message)).collect()
    }

    pub(crate) fn versions_at(&self, channel: ChannelId, seqs: &[Seq]) -> Vec<Version> {
        let found = self.messages_at(channel, seqs);
        found.iter().map(Version::from).collect()
    }

    fn pending_rows(&self) -> impl Iterator<Item = (&Row, Timestamp)> {
        let rows = self
            .streams
            .values()
            .flat_map(|stream| stream.rows.values());
        rows.filter_map(|row| row.pending.map(|since| (row, since)))
    }

    pub(crate) fn pending_in(&self, stream: StreamId, after: Seq, limit: usize) -> Vec<Entry> {
        let waits = |row: &&Row| row.pending.is_some() && row.entry.seq > after;
        let found = self.rows(stream).filter(waits).take(limit);
        found.map(|row| row.entry.clone()).collect()
    }

    pub(crate) fn with_pending(&self, streams: &[StreamId]) -> Vec<StreamId> {
        let waits = |stream: &&StreamId| self.rows(**stream).any(|row| row.pending.is_some());
        streams.iter().filter(waits).copied().collect()
    }

    pub(crate) fn pending(
        &self,
        before: Timestamp,
        after: Option<(StreamId, Seq)>,
        limit: usize,
    ) -> PendingPage {
        let after = after.map(|(stream, seq)| (stream.to_bytes(), seq));
        let behind = |entry: &Entry| Some((entry.stream.to_bytes(), entry.seq)) > after;
        let mut found = self
            .pending_rows()
            .filter(|(row, since)| *since <= before && behind(&row.entry));
        let page = found.by_ref().take(limit);
        let items: Vec<Pending> = page
            .map(|(row, since)| Pending {
                entry: row.entry.clone(),
                since,
            })
            .collect();
        let last = items
            .last()
            .map(|pending| (pending.entry.stream, pending.entry.seq));
        let next = found.next().and(last);
        PendingPage {
            items,
            next,
            unreadable: 0,
        }
    }

    pub(crate) fn pending_lately(&self, since: Timestamp, limit: usize) -> Vec<Pending> {
        let late = self.pending_rows().filter(|(row, _)| row.entry.at >= since);
        let found = late.map(|(row, since)| Pending {
            entry: row.entry.clone(),
            since,
        });
        let mut found: Vec<Pending> = found.collect();
        found.sort_by_key(|found| std::cmp::Reverse(found.entry.at));
        found.truncate(limit);
        found
    }

    pub(crate) fn pending_later(
        &self,
        than: Timestamp,
        after: Option<(StreamId, Seq)>,
        limit: usize,
    ) -> MarkPage {
        let after = after.map(|(stream, seq)| (stream.to_bytes(), seq));
        let marks = self.pending_rows().map(|(row, seen)| Claim {
            stream: row.entry.stream,
            seq: row.entry.seq,
            seen,
        });
        let behind = marks.filter(|mark| Some((mark.stream.to_bytes(), mark.seq)) > after);
        let found: Vec<_> = behind.take(limit).collect();
        let looked_at = found.len();
        mark_page(found, than, (looked_at, limit))
    }

    pub(crate) fn old_entries(
        &self,
        before: Timestamp,
        after: Option<(StreamId, Seq)>,
        limit: usize,
    ) -> OldPage {
        let after = after.map(|(stream, seq)| (stream.to_bytes(), seq));
        let rows = self
            .streams
            .values()
            .flat_map(|stream| stream.rows.values());
        let others = rows.filter(|row| !matches!(row.entry.change, Change::MessageCreated(_)));
        let looked_at: Vec<_> = others
            .map(|row| (row.entry.stream, row.entry.seq, Some(row.entry.at)))
            .filter(|(stream, seq, _)| Some((stream.to_bytes(), *seq)) > after)
            .take(limit)
            .collect();
        old_page(&looked_at, before, looked_at.len() == limit)
    }

    fn row_mut(&mut self, stream: StreamId, seq: Seq) -> Option<&mut Row> {
        self.streams.get_mut(&stream.to_bytes())?.rows.get_mut(&seq)
    }

    pub(in crate::store::simulated) fn entry_mut(
        &mut self,
        stream: StreamId,
        seq: Seq,
    ) -> Option<&mut Entry> {
        self.row_mut(stream, seq).map(|row| &mut row.entry)
    }

    pub(crate) fn claim(&mut self, claims: &[Claim], now: Timestamp) -> Vec<bool> {
        let mut take = |claim: &Claim| match self.row_mut(claim.stream, claim.seq) {
            Some(row) if row.pending == Some(claim.seen) => {
                row.pending = Some(claim.taken(now));
                true
            }
            _ => false,
        };
        claims.iter().map(&mut take).collect()
    }

    /// Answers which of them were pending.
    pub(crate) fn settle(&mut self, entries: &[(StreamId, Seq)]) -> Vec<(StreamId, Seq)> {
        let mut settled = Vec::new();
        for &(stream, seq) in entries {
            if let Some(row) = self.row_mut(stream, seq)
                && row.pending.take().is_some()
            {
                settled.push((stream, seq));
            }
        }
        settled
    }

    pub(crate) fn floor(&self, stream: StreamId) -> Seq {
        self.stream(stream).map_or(0, |stream| stream.floor)
    }

    pub(crate) fn trim(&mut self, stream: StreamId, through: Seq) -> u64 {
        let most = self.head(stream).seq.saturating_sub(1);
        let Some(stream) = self.streams.get_mut(&stream.to_bytes()) else {
            return 0;
        };
        stream.floor = stream.floor.max(through.min(most));
        let floor = stream.floor;
        let before = stream.rows.len();
        stream.rows.retain(|seq, row| {
            let message = row.entry.change.kind() == Kind::MessageCreated;
            *seq > floor || message || row.pending.is_some()
        });
        let rows = &stream.rows;
        stream.keys.retain(|_, seq| rows.contains_key(seq));
        (before - stream.rows.len()) as u64
    }

    /// Positions of all entries that are pending.
    pub(crate) fn all_pending(&self) -> Vec<(StreamId, Seq)> {
        let rows = self.pending_rows();
        rows.map(|(row, _)| (row.entry.stream, row.entry.seq))
            .collect()
    }
}

fn message(channel: ChannelId, entry: &Entry) -> Option<Message> {
    let Change::MessageCreated(state) = &entry.change else {
        return None;
    };
    Some(Message {
        id: entry.id,
        channel,
        seq: entry.seq,
        author: entry.actor?,
        created_at: entry.at,
        state: (**state).clone(),
    })
}

fn page<T>(mut from: impl Iterator<Item = T>, limit: usize) -> Page<T> {
    let items = from.by_ref().take(limit).collect();
    let more = from.next().is_some();
    Page { items, more }
}
