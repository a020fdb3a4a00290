//! What one device holds: its cursor, the deltas it applied, those that wait beyond a gap, and
//! the state they add up to. The rules of the client algorithm, without a connection.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::client::{number, text};
use crate::view::{Messages, Part, View};

/// Stream → last applied position; everything up to it has been applied.
pub type Cursor = BTreeMap<String, u64>;

/// One entry of a stream, or a run of entries from `first` to `seq`.
#[derive(Debug, Clone, PartialEq)]
pub struct Delta {
    pub stream: String,
    pub first: u64,
    pub seq: u64,
    pub kind: String,
    pub at: String,
    pub actor: Option<String>,
    pub data: Value,
}

/// What became of a delta.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offered {
    /// It was the next one. Those that waited for it have been applied too.
    Applied,
    /// It was applied before.
    Duplicate,
    /// Something before it is missing.
    Gap,
    /// The cursor lacks its stream.
    Unknown,
}

/// One step of a device's history.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// The state of a stream was read over HTTP, after its head had been read.
    TakenUp {
        stream: String,
        head: u64,
    },
    Applied(Delta),
    /// The stream is no longer the user's.
    Gone {
        stream: String,
    },
}

/// See the module's documentation.
#[derive(Debug, Clone, Default)]
pub struct Replica {
    /// The user's id: what happens to him may end a stream.
    pub user: String,
    pub cursor: Cursor,
    /// Everything that happened here, in order.
    pub history: Vec<Step>,
    pub view: View,
    /// Deltas that came a second time.
    pub duplicates: usize,
    waiting: BTreeMap<String, BTreeMap<u64, Delta>>,
    /// Streams whose state is being read, and that have not ended since the reading began.
    reading: BTreeSet<String>,
    /// Groups whose members have changed, no delta said how: they are to be read again; and those
    /// of which that is under way, with the place in the cursor at its beginning.
    stale: BTreeSet<String>,
    refreshing: Cursor,
    /// Streams that the cursor lacks because their state is another now that the user is an admin.
    to_read: BTreeSet<String>,
}

impl Delta {
    /// Reads a delta from a frame or a sync answer; `None` for an ephemeral one.
    ///
    /// # Errors
    /// It lacks a field that every delta has.
    pub fn parse(value: &Value) -> Result<Option<Self>> {
        if value["seq"].is_null() {
            return Ok(None);
        }
        let seq = number(value, "seq")?;
        Ok(Some(Self {
            stream: text(value, "stream")?.to_owned(),
            first: value["first"].as_u64().unwrap_or(seq),
            seq,
            kind: text(value, "kind")?.to_owned(),
            at: text(value, "at")?.to_owned(),
            actor: value["actor"].as_str().map(str::to_owned),
            data: value.get("data").context("data")?.clone(),
        }))
    }
}

impl Replica {
    #[must_use]
    pub fn new(user: &str) -> Self {
        Self {
            user: user.to_owned(),
            ..Self::default()
        }
    }

    /// Takes a delta, live or from a sync; applies what has become contiguous, in order.
    ///
    /// # Errors
    /// The delta lacks what its kind promises.
    pub fn offer(&mut self, delta: Delta) -> Result<Offered> {
        let stream = delta.stream.clone();
        let position = self.cursor.get(&stream).copied();
        if position.is_some_and(|position| delta.seq <= position) {
            self.duplicates += 1;
            return Ok(Offered::Duplicate);
        }
        let waiting = self.waiting.entry(stream.clone()).or_default();
        match waiting.get(&delta.seq) {
            // Of two that end alike the longer run says more.
            Some(held) if held.first <= delta.first => self.duplicates += 1,
            Some(_) => {
                self.duplicates += 1;
                waiting.insert(delta.seq, delta);
            }
            None => drop(waiting.insert(delta.seq, delta)),
        }
        match position {
            None => Ok(Offered::Unknown),
            Some(position) => {
                self.apply_waiting(&stream)?;
                if self.to_read.contains(&stream) {
                    return Ok(Offered::Unknown);
                }
                let advanced = self.cursor.get(&stream) != Some(&position);
                Ok(if advanced {
                    Offered::Applied
                } else {
                    Offered::Gap
                })
            }
        }
    }

    /// The stream's state was read over HTTP: continue behind `head`, which was read before.
    ///
    /// # Errors
    /// A delta that waited lacks what its kind promises.
    pub fn take_up(&mut self, stream: &str, head: u64, part: Part) -> Result<()> {
        self.view.set(stream, part);
        self.cursor.insert(stream.to_owned(), head);
        self.history.push(Step::TakenUp {
            stream: stream.to_owned(),
            head,
        });
        self.apply_waiting(stream)
    }

    /// The state of a stream that a sync found begins to be read.
    pub fn begin_reading(&mut self, stream: &str) {
        self.reading.insert(stream.to_owned());
    }

    /// What was read of a stream that a sync found, since [`Replica::begin_reading`]. `reset`: go
    /// back to `head` if need be, for what is held cannot be continued.
    ///
    /// # Errors
    /// As [`Replica::take_up`].
    pub fn take_found(&mut self, stream: &str, head: u64, part: Part, reset: bool) -> Result<()> {
        // The stream may have ended in the meantime. If it came back, another sync finds it.
        if !self.reading.remove(stream) {
            return Ok(());
        }
        // A channel created in the meantime may be further already.
        let position = self.cursor.get(stream);
        if reset || position.is_none_or(|position| *position < head) {
            self.take_up(stream, head, part)?;
        }
        Ok(())
    }

    /// Whether nothing of the state waits to be read again.
    #[must_use]
    pub fn is_fresh(&self) -> bool {
        self.stale.is_empty() && self.refreshing.is_empty()
    }

    /// Groups whose state is to be read again.
    pub fn begin_refreshing(&mut self) -> BTreeSet<String> {
        let again = std::mem::take(&mut self.refreshing).into_keys();
        let streams: BTreeSet<String> = again.chain(std::mem::take(&mut self.stale)).collect();
        let at = |stream: &String| Some((stream.clone(), *self.cursor.get(stream)?));
        self.refreshing = streams.iter().filter_map(at).collect();
        streams
    }

    /// The state of a group as it was read since [`Replica::begin_refreshing`]; perhaps newer
    /// than the cursor, which does no harm. If the cursor has moved meanwhile it may be older,
    /// and is read once more.
    pub fn refreshed(&mut self, stream: &str, part: Option<Part>) {
        let (Some(before), Some(part)) = (self.refreshing.remove(stream), part) else {
            return;
        };
        match self.cursor.get(stream) {
            Some(now) if *now == before => self.view.set(stream, part),
            Some(_) => drop(self.stale.insert(stream.to_owned())),
            None => {}
        }
    }

    /// The server says that the stream is no longer the user's. With a group's go those of its
    /// channels, though it was perhaps asked for this one alone.
    pub fn gone(&mut self, stream: &str) {
        for stream in self.streams_of(stream) {
            self.forget(&stream);
        }
    }

    /// What waits of it stays: its return may be among it.
    fn forget(&mut self, stream: &str) {
        self.reading.remove(stream);
        self.stale.remove(stream);
        self.refreshing.remove(stream);
        self.view.forget(stream);
        if self.cursor.remove(stream).is_some() {
            self.history.push(Step::Gone {
                stream: stream.to_owned(),
            });
        }
    }

    /// Whether deltas wait of streams that the cursor lacks, new ones or such as ended and came
    /// back: a whole sync is needed.
    #[must_use]
    pub fn lacks_streams(&self) -> bool {
        let mut streams = self.waiting.keys().chain(&self.to_read);
        streams.any(|stream| !self.cursor.contains_key(stream))
    }

    /// Drops the deltas of streams that the cursor lacks, before a whole sync is asked for: it
    /// finds those that are the user's, with heads that cover these deltas.
    pub fn drop_unknown(&mut self) {
        self.to_read.clear();
        let cursor = &self.cursor;
        self.waiting.retain(|stream, _| cursor.contains_key(stream));
    }

    /// Streams with deltas that wait for one that is missing, with the place in the cursor;
    /// `None` where the cursor lacks the stream.
    #[must_use]
    pub fn gaps(&self) -> BTreeMap<String, Option<u64>> {
        self.waiting
            .keys()
            .map(|stream| (stream.clone(), self.cursor.get(stream).copied()))
            .collect()
    }

    /// The deltas applied of one stream, in order.
    pub fn applied<'a>(&'a self, stream: &'a str) -> impl Iterator<Item = &'a Delta> {
        self.history.iter().filter_map(move |step| match step {
            Step::Applied(delta) if delta.stream == stream => Some(delta),
            _ => None,
        })
    }

    /// The contents of the messages that came as deltas of a channel, in order.
    #[must_use]
    pub fn contents(&self, channel: &str) -> Vec<String> {
        self.applied(&format!("c:{channel}"))
            .filter(|delta| delta.kind == "message.created")
            .map(|delta| {
                delta.data["content"]
                    .as_str()
                    .unwrap_or_default()
                    .to_owned()
            })
            .collect()
    }

    /// Applies what waits and follows the prefix; drops what the prefix covers.
    fn apply_waiting(&mut self, stream: &str) -> Result<()> {
        while let Some(position) = self.cursor.get(stream).copied()
            && let Some(waiting) = self.waiting.get_mut(stream)
            // One that waits may stand before a run that it is part of.
            && let Some(seq) = waiting
                .values()
                .find(|delta| delta.first <= position + 1)
                .map(|delta| delta.seq)
            && let Some(delta) = waiting.remove(&seq)
        {
            if delta.seq > position {
                self.apply(delta)?;
            }
        }
        if self.waiting.get(stream).is_some_and(BTreeMap::is_empty) {
            self.waiting.remove(stream);
        }
        Ok(())
    }

    fn apply(&mut self, delta: Delta) -> Result<()> {
        self.view.apply(&delta)?;
        self.view.note_own(&self.user, &delta);
        self.cursor.insert(delta.stream.clone(), delta.seq);
        self.history.push(Step::Applied(delta.clone()));
        if delta.kind == "members.changed" && delta.stream.starts_with("g:") {
            self.stale.insert(delta.stream.clone());
        }
        if delta.kind == "channel.created" {
            self.begin(text(&delta.data, "id")?)?;
        }
        for stream in self.ended_by(&delta) {
            self.forget(&stream);
        }
        self.follow_role(&delta.stream);
        Ok(())
    }

    /// Who becomes an admin of a group reads it again, now with what admins see: it is forgotten,
    /// so that a sync takes the stream up. Who is none any more forgets what admins see.
    fn follow_role(&mut self, stream: &str) {
        let Some(id) = stream.strip_prefix("g:") else {
            return;
        };
        let Some(group) = self.view.groups.get_mut(id) else {
            return;
        };
        let role = group.members.get(&self.user);
        let is_admin = role.is_some_and(|role| role != "member");
        if !is_admin {
            group.moderation = None;
        } else if group.moderation.is_none() {
            self.view.groups.remove(id);
            self.cursor.remove(stream);
            self.to_read.insert(stream.to_owned());
        }
    }

    /// A channel that has just come to be is followed from its beginning.
    fn begin(&mut self, channel: &str) -> Result<()> {
        let stream = format!("c:{channel}");
        if self.cursor.contains_key(&stream) {
            return Ok(());
        }
        self.take_up(&stream, 0, Part::Messages(Messages::new(), 0))
    }

    /// The streams that are the user's no longer after this delta.
    fn ended_by(&self, delta: &Delta) -> Vec<String> {
        match &*delta.kind {
            "channel.deleted" => {
                let channel = delta.data["id"].as_str().unwrap_or_default();
                vec![format!("c:{channel}")]
            }
            "member.removed" if delta.data["user"] == *self.user => self.streams_of(&delta.stream),
            "group.deleted" => self.streams_of(&delta.stream),
            _ => Vec::new(),
        }
    }

    /// A group's stream and those of its channels.
    fn streams_of(&self, stream: &str) -> Vec<String> {
        let id = stream.trim_start_matches("g:");
        let group = self.view.groups.get(id);
        let channels = group.into_iter().flat_map(|group| group.channels.keys());
        channels
            .map(|channel| format!("c:{channel}"))
            .chain([stream.to_owned()])
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::Group;
    use serde_json::json;

    fn delta(seq: u64) -> Delta {
        let data = json!({"id": "m", "content": seq.to_string(), "reply_to": null});
        let value =
            json!({"stream": "c:1", "seq": seq, "kind": "message.created", "at": "", "data": data});
        Delta::parse(&value).unwrap().unwrap()
    }

    fn replica(head: u64) -> Replica {
        let mut replica = Replica::new("u");
        let part = Part::Messages(BTreeMap::new(), 0);
        replica.take_up("c:1", head, part).unwrap();
        replica
    }

    #[test]
    fn what_lies_beyond_a_gap_waits_and_is_applied_in_order() {
        let mut replica = replica(3);
        assert_eq!(replica.offer(delta(6)).unwrap(), Offered::Gap);
        assert_eq!(replica.offer(delta(5)).unwrap(), Offered::Gap);
        assert_eq!(replica.gaps()["c:1"], Some(3));
        assert_eq!(replica.offer(delta(4)).unwrap(), Offered::Applied);
        assert_eq!(replica.contents("1"), ["4", "5", "6"]);
        assert!(replica.gaps().is_empty());
    }

    #[test]
    fn what_was_applied_is_dropped() {
        let mut replica = replica(3);
        for (seq, expected) in [
            (3, Offered::Duplicate),
            (4, Offered::Applied),
            (4, Offered::Duplicate),
        ] {
            assert_eq!(replica.offer(delta(seq)).unwrap(), expected);
        }
        assert_eq!(replica.contents("1"), ["4"]);
    }

    #[test]
    fn with_a_group_its_channels_go() {
        let mut replica = replica(3);
        let group = Group {
            name: json!("group"),
            version: 1,
            channels: BTreeMap::from([("1".to_owned(), ("general".to_owned(), 1))]),
            ..Group::default()
        };
        replica.take_up("g:2", 7, Part::Group(group)).unwrap();
        replica.gone("g:2");
        assert_eq!(replica.cursor, Cursor::new());
        assert_eq!(replica.view, View::default());
    }

    #[test]
    fn who_becomes_an_admin_reads_the_group_again() {
        let mut replica = Replica::new("u");
        let mut group = Group {
            members: BTreeMap::from([("u".to_owned(), "member".to_owned())]),
            ..Group::default()
        };
        let part = |group: &Group| Part::Group(group.clone());
        replica.take_up("g:2", 7, part(&group)).unwrap();
        let role = |seq: u64, role: &str| {
            let data = json!({"user": "u", "role": role});
            let delta = json!({"stream": "g:2", "seq": seq, "kind": "member.updated", "at": "", "data": data});
            Delta::parse(&delta).unwrap().unwrap()
        };
        assert_eq!(replica.offer(role(8, "admin")).unwrap(), Offered::Unknown);
        assert_eq!(replica.cursor, Cursor::new());
        assert!(replica.lacks_streams());
        replica.drop_unknown();
        assert!(!replica.lacks_streams());
        group.moderation = Some(crate::view::Moderation::default());
        replica.begin_reading("g:2");
        replica.take_found("g:2", 8, part(&group), false).unwrap();
        assert_eq!(replica.offer(role(9, "owner")).unwrap(), Offered::Applied);
        assert!(replica.view.groups["2"].moderation.is_some());
        assert_eq!(replica.offer(role(10, "member")).unwrap(), Offered::Applied);
        assert_eq!(replica.view.groups["2"].moderation, None);
    }

    #[test]
    fn what_was_read_of_a_stream_that_ended_meanwhile_is_dropped() {
        let mut replica = replica(3);
        for (ends, expected) in [(false, Some(&7)), (true, None)] {
            replica.begin_reading("c:1");
            if ends {
                replica.gone("c:1");
            }
            let part = Part::Messages(BTreeMap::new(), 0);
            replica.take_found("c:1", 7, part, true).unwrap();
            assert_eq!(replica.cursor.get("c:1"), expected);
        }
    }

    #[test]
    fn what_waits_of_a_stream_that_ended_asks_for_a_sync() {
        let mut replica = replica(3);
        replica.offer(delta(5)).unwrap();
        assert!(!replica.lacks_streams());
        replica.gone("c:1");
        assert!(replica.lacks_streams());
        replica.drop_unknown();
        assert!(!replica.lacks_streams());
    }

    #[test]
    fn a_mark_rises_by_what_is_read_what_is_told_and_what_is_written() {
        let mut replica = replica(3);
        replica
            .take_up("u:u", 1, Part::ReadMarks([("1".to_owned(), 2)].into()))
            .unwrap();
        let moved = |seq: u64, to: u64| {
            let data = json!({"channel": "1", "seq": to});
            let value =
                json!({"stream": "u:u", "seq": seq, "kind": "read.moved", "at": "", "data": data});
            Delta::parse(&value).unwrap().unwrap()
        };
        let by = |seq: u64, actor: &str| Delta {
            actor: Some(actor.to_owned()),
            ..delta(seq)
        };
        for (delta, expected) in [
            (moved(2, 4), 4),
            (by(4, "v"), 4),
            (by(5, "u"), 5),
            (moved(3, 3), 5),
            (moved(4, 9), 9),
            (by(6, "u"), 9),
        ] {
            replica.offer(delta).unwrap();
            assert_eq!(replica.view.read_marks["1"], expected);
        }
        let part = Part::Messages(BTreeMap::new(), 7);
        replica.take_up("c:1", 6, part).unwrap();
        assert_eq!(replica.view.read_marks["1"], 9);
        replica.gone("c:1");
        assert!(replica.view.read_marks.is_empty());
    }

    #[test]
    fn a_run_moves_the_cursor_to_its_end() {
        let mut replica = replica(3);
        let mut run = delta(9);
        run.first = 4;
        assert_eq!(replica.offer(run).unwrap(), Offered::Applied);
        assert_eq!(replica.cursor["c:1"], 9);
    }

    #[test]
    fn a_run_of_comings_and_goings_makes_the_members_be_read_again() {
        let mut replica = Replica::new("u");
        let part = |name: &str| {
            Part::Group(Group {
                name: json!(name),
                ..Group::default()
            })
        };
        replica.take_up("g:2", 7, part("old")).unwrap();
        let run = |first: u64, seq: u64| {
            let data = json!({"count": 9});
            let delta = json!({"stream": "g:2", "first": first, "seq": seq, "kind": "members.changed", "at": "", "data": data});
            Delta::parse(&delta).unwrap().unwrap()
        };
        // It overlaps what is held, and is longer than one that ends alike.
        assert_eq!(replica.offer(run(10, 12)).unwrap(), Offered::Gap);
        assert_eq!(replica.offer(run(6, 12)).unwrap(), Offered::Applied);
        assert_eq!(replica.cursor["g:2"], 12);
        assert!(!replica.is_fresh());
        assert_eq!(replica.begin_refreshing().len(), 1);
        assert_eq!(replica.offer(run(13, 14)).unwrap(), Offered::Applied);
        replica.refreshed("g:2", Some(part("new")));
        assert!(!replica.is_fresh(), "more came meanwhile");
        assert_eq!(replica.view.groups["2"].name, "old");
        replica.begin_refreshing();
        replica.refreshed("g:2", Some(part("newer")));
        assert!(replica.is_fresh());
        assert_eq!(replica.view.groups["2"].name, "newer");
    }

    #[test]
    fn a_run_closes_the_gap_before_what_waits_and_is_part_of_it() {
        let mut replica = replica(3);
        assert_eq!(replica.offer(delta(5)).unwrap(), Offered::Gap);
        let mut run = delta(7);
        run.first = 4;
        assert_eq!(replica.offer(run).unwrap(), Offered::Applied);
        assert_eq!(replica.cursor["c:1"], 7);
        assert!(replica.gaps().is_empty());
    }

    #[test]
    fn deltas_of_a_stream_wait_until_its_state_is_taken_up() {
        let mut replica = Replica::new("u");
        for seq in 1..=3 {
            assert_eq!(replica.offer(delta(seq)).unwrap(), Offered::Unknown);
        }
        let part = Part::Messages(BTreeMap::new(), 0);
        replica.take_up("c:1", 2, part).unwrap();
        assert_eq!(replica.contents("1"), ["3"]);
        assert!(replica.gaps().is_empty());
    }
}
