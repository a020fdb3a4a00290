//! What one device holds: its cursor, the deltas it applied, those that wait beyond a gap, and
//! the state they add up to. The rules of the client algorithm, without a connection.

use std::collections::BTreeMap;

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
        if waiting.insert(delta.seq, delta).is_some() {
            self.duplicates += 1;
        }
        match position {
            None => Ok(Offered::Unknown),
            Some(position) => {
                self.apply_waiting(&stream)?;
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

    /// A sync found that the stream is to be taken up. `reset`: go back to `head` if need be,
    /// for what is held cannot be continued.
    ///
    /// # Errors
    /// As [`Replica::take_up`].
    pub fn take_found(&mut self, stream: &str, head: u64, part: Part, reset: bool) -> Result<()> {
        // A channel created in the meantime may be further already.
        let position = self.cursor.get(stream);
        if reset || position.is_none_or(|position| *position < head) {
            self.take_up(stream, head, part)?;
        }
        Ok(())
    }

    /// The server says that the stream is no longer the user's. With a group's go those of its
    /// channels, though it was perhaps asked for this one alone.
    pub fn gone(&mut self, stream: &str) {
        for stream in self.streams_of(stream) {
            self.forget(&stream);
        }
    }

    fn forget(&mut self, stream: &str) {
        self.waiting.remove(stream);
        self.view.forget(stream);
        if self.cursor.remove(stream).is_some() {
            self.history.push(Step::Gone {
                stream: stream.to_owned(),
            });
        }
    }

    /// Forgets deltas of streams that the cursor still lacks after a whole sync: they are not
    /// the user's any more.
    pub fn drop_unknown(&mut self) {
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
            && let Some(next) = waiting.first_entry()
            && next.get().first <= position + 1
        {
            let delta = next.remove();
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
        if delta.kind == "channel.created" {
            self.begin(text(&delta.data, "id")?)?;
        }
        for stream in self.ended_by(&delta) {
            self.forget(&stream);
        }
        Ok(())
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
            members: BTreeMap::new(),
            channels: BTreeMap::from([("1".to_owned(), ("general".to_owned(), 1))]),
        };
        replica.take_up("g:2", 7, Part::Group(group)).unwrap();
        replica.gone("g:2");
        assert_eq!(replica.cursor, Cursor::new());
        assert_eq!(replica.view, View::default());
    }

    #[test]
    fn a_mark_rises_by_what_is_read_what_is_told_and_what_is_written() {
        let mut replica = replica(3);
        replica
            .take_up("u:u", 1, Part::Marks([("1".to_owned(), 2)].into()))
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
            assert_eq!(replica.view.marks["1"], expected);
        }
        let part = Part::Messages(BTreeMap::new(), 7);
        replica.take_up("c:1", 6, part).unwrap();
        assert_eq!(replica.view.marks["1"], 9);
        replica.gone("c:1");
        assert!(replica.view.marks.is_empty());
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
