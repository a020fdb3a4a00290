//! The server of a simulated client: streams, who may see them, and what sync answers, as
//! docs/protocol.md has it. The state is that of the client's own view, every delta applied the
//! moment it is committed.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::replica::{Cursor, Delta};
use crate::view::{Group, Messages, Part, View};

/// The client's user.
pub(super) const ME: &str = "me";

#[derive(Default)]
struct Stream {
    /// Entry `n` at `n − 1`.
    deltas: Vec<Delta>,
    /// Entries at or below it are not given out any more.
    floor: u64,
}

pub(super) struct Model {
    streams: BTreeMap<String, Stream>,
    pub(super) truth: View,
    deleted: BTreeSet<String>,
    groups: usize,
    channels: usize,
}

/// What goes out for a change, if it is for this user.
pub(super) type Push = Option<Value>;

impl Model {
    pub(super) fn new() -> Self {
        let mut model = Self {
            streams: BTreeMap::new(),
            truth: View::default(),
            deleted: BTreeSet::new(),
            groups: 0,
            channels: 0,
        };
        model.streams.insert(format!("u:{ME}"), Stream::default());
        model.create_group(true);
        model.create_group(true);
        model
    }

    fn is_mine(&self, stream: &str) -> bool {
        let of_group = |group: &String| {
            let known = self.truth.groups.get(group);
            known.is_some_and(|group| group.members.contains_key(ME))
                && !self.deleted.contains(group)
        };
        match stream.split_once(':') {
            Some(("u", _)) => true,
            Some(("g", id)) => of_group(&id.to_owned()),
            Some((_, id)) => self
                .truth
                .groups
                .iter()
                .any(|(group, state)| state.channels.contains_key(id) && of_group(group)),
            None => false,
        }
    }

    fn mine(&self) -> impl Iterator<Item = (&String, &Stream)> {
        let streams = self.streams.iter();
        streams.filter(|(stream, _)| self.is_mine(stream))
    }

    /// Where a client that has everything stands.
    pub(super) fn heads(&self) -> Cursor {
        self.mine()
            .map(|(stream, log)| (stream.clone(), log.deltas.len() as u64))
            .collect()
    }

    /// What a client that has everything shows.
    pub(super) fn view(&self) -> View {
        let mut view = View::default();
        for (stream, _) in self.mine() {
            if let Some(part) = self.read(stream) {
                view.set(stream, part);
            }
        }
        view.shown()
    }

    /// An entry as it was committed.
    pub(super) fn entry(&self, stream: &str, seq: u64) -> Option<&Delta> {
        let index = usize::try_from(seq.checked_sub(1)?).ok()?;
        self.streams.get(stream)?.deltas.get(index)
    }

    /// Whether a position in the stream may have expired.
    pub(super) fn was_trimmed(&self, stream: &str) -> bool {
        self.streams.get(stream).is_some_and(|log| log.floor > 0)
    }

    /// The state of a stream over HTTP; `None`: 404.
    pub(super) fn read(&self, stream: &str) -> Option<Part> {
        if !self.is_mine(stream) {
            return None;
        }
        let (letter, id) = stream.split_once(':')?;
        Some(match letter {
            "g" => Part::Group(self.truth.groups.get(id)?.clone()),
            "c" => {
                let messages = self.truth.channels.get(id).cloned().unwrap_or_default();
                Part::Messages(messages, self.read_through(id))
            }
            _ => {
                let mut marks = self.truth.read_marks.clone();
                marks.retain(|channel, _| self.is_mine(&format!("c:{channel}")));
                Part::ReadMarks(marks)
            }
        })
    }

    fn read_through(&self, channel: &str) -> u64 {
        self.truth
            .read_marks
            .get(channel)
            .copied()
            .unwrap_or_default()
    }

    fn commit(&mut self, stream: &str, kind: &str, data: Value) -> Push {
        let was_mine = self.is_mine(stream);
        let actor = match was_mine && fastrand::bool() {
            true => ME,
            false => "somebody",
        };
        let log = self.streams.entry(stream.to_owned()).or_default();
        let seq = log.deltas.len() as u64 + 1;
        let delta = Delta {
            stream: stream.to_owned(),
            first: seq,
            seq,
            kind: kind.to_owned(),
            at: format!("at {seq}"),
            actor: Some(actor.to_owned()),
            data,
        };
        log.deltas.push(delta.clone());
        self.truth
            .apply(&delta)
            .expect("the model's deltas are whole");
        self.truth.note_own(ME, &delta);
        if delta.kind == "group.deleted" {
            self.deleted.insert(stream[2..].to_owned());
        }
        (was_mine || self.is_mine(stream)).then(|| self.encode(&delta, delta.seq))
    }

    /// A delta, or a run of them up to `last`, with the content as it is now.
    fn encode(&self, delta: &Delta, last: u64) -> Value {
        let mut data = delta.data.clone();
        let channel = self.truth.channels.get(&delta.stream[2..]);
        let message = match &*delta.kind {
            "message.created" => Some(delta.seq),
            "message.edited" => data["message"].as_u64(),
            _ => None,
        };
        if let Some(seq) = message
            && let Some(now) = channel.and_then(|messages| messages.get(&seq))
        {
            data["content"] = match now.deleted {
                true => Value::Null,
                false => json!(now.content),
            };
        }
        let mut value = json!({"type": "delta", "stream": delta.stream, "seq": last,
            "kind": delta.kind, "at": delta.at, "actor": delta.actor, "data": data});
        if last > delta.first {
            value["first"] = json!(delta.first);
        }
        value
    }

    fn create_group(&mut self, with_me: bool) -> Vec<Push> {
        self.groups += 1;
        let id = self.groups.to_string();
        let role = |role: &str| role.to_owned();
        let mut members = BTreeMap::from([("owner".to_owned(), role("owner"))]);
        if with_me {
            members.insert(ME.to_owned(), role("member"));
        }
        let group = Group {
            name: json!("new"),
            version: 1,
            members,
            ..Group::default()
        };
        self.truth.groups.insert(id.clone(), group);
        let stream = format!("g:{id}");
        let created = self.commit(&stream, "group.created", json!({}));
        vec![created, self.create_channel(&id)]
    }

    fn create_channel(&mut self, group: &str) -> Push {
        self.channels += 1;
        let id = self.channels.to_string();
        self.streams.insert(format!("c:{id}"), Stream::default());
        self.truth.channels.insert(id.clone(), Messages::new());
        let data = json!({"id": id, "name": "channel"});
        self.commit(&format!("g:{group}"), "channel.created", data)
    }

    /// Something happens. Returns what is pushed to the user, in order.
    pub(super) fn act(&mut self) -> Vec<Push> {
        let groups: Vec<String> = self.truth.groups.keys().cloned().collect();
        let living = groups.into_iter().filter(|id| !self.deleted.contains(id));
        let Some(group) = fastrand::choice(living.collect::<Vec<_>>()) else {
            return self.create_group(true);
        };
        let stream = format!("g:{group}");
        let channels = self.truth.groups[&group].channels.keys().cloned();
        let channel = fastrand::choice(channels);
        match (fastrand::u8(..100), channel) {
            (0..60, Some(channel)) => self.in_channel(&channel),
            (60..65, Some(channel)) => self.fences(&channel),
            (65..68, Some(channel)) => {
                vec![self.commit(&stream, "channel.deleted", json!({"id": channel}))]
            }
            (68..74, _) => vec![self.create_channel(&group)],
            (74..80, _) => {
                let version = self.streams[&stream].deltas.len() + 1;
                let data = json!({"name": version.to_string(), "version": version});
                vec![self.commit(&stream, "group.updated", data)]
            }
            (80..92, _) => {
                let user = fastrand::choice([ME, ME, "other"]).unwrap_or(ME);
                let known = self.truth.groups[&group].members.contains_key(user);
                let (kind, data) = match known {
                    true => ("member.removed", json!({"user": user})),
                    false => ("member.added", json!({"user": user, "role": "member"})),
                };
                vec![self.commit(&stream, kind, data)]
            }
            (92..94, _) => self.create_group(fastrand::bool()),
            (94, _) => vec![self.commit(&stream, "group.deleted", json!({}))],
            (95, _) => {
                self.trim();
                Vec::new()
            }
            (96..98, Some(channel)) if self.is_mine(&format!("c:{channel}")) => {
                let head = self.streams[&format!("c:{channel}")].deltas.len() as u64;
                let to = self.read_through(&channel) + fastrand::u64(1..4);
                let data = json!({"channel": channel, "seq": to.min(head)});
                vec![self.commit(&format!("u:{ME}"), "read.moved", data)]
            }
            _ => vec![self.commit(&format!("u:{ME}"), "user.updated", json!({}))],
        }
    }

    fn in_channel(&mut self, channel: &str) -> Vec<Push> {
        let stream = format!("c:{channel}");
        let next = self.streams[&stream].deltas.len() as u64 + 1;
        let messages = self.truth.channels[channel].iter();
        let standing = messages.filter(|(_, message)| !message.deleted);
        let standing: Vec<u64> = standing.map(|(seq, _)| *seq).collect();
        let message = fastrand::choice(standing);
        let content = fastrand::u32(..).to_string();
        let (kind, data) = match (fastrand::u8(..5), message) {
            (0, Some(message)) => (
                "message.edited",
                json!({"message": message, "content": content, "edited_at": next.to_string()}),
            ),
            (1, Some(message)) if fastrand::bool() => {
                ("message.deleted", json!({"message": message}))
            }
            (2, Some(message)) if fastrand::u8(..4) == 0 => {
                let kind = fastrand::choice(["message.pinned", "message.unpinned"]);
                (kind.unwrap_or_default(), json!({"message": message}))
            }
            (2, Some(message)) => self.reaction(channel, message),
            _ => {
                let reply_to = message.filter(|_| fastrand::u8(..3) == 0);
                let id = format!("{channel} {next}");
                (
                    "message.created",
                    json!({"id": id, "content": content, "reply_to": reply_to}),
                )
            }
        };
        vec![self.commit(&stream, kind, data)]
    }

    /// Somebody reacts, or takes it back.
    fn reaction(&self, channel: &str, message: u64) -> (&'static str, Value) {
        let emoji = fastrand::choice(["👍", "🎉"]).unwrap_or("👍");
        let reactions = &self.truth.channels[channel][&message].reactions;
        let reacts = !reactions.iter().any(|reaction| reaction.emoji == emoji);
        let users: &[&str] = if reacts { &["somebody"] } else { &[] };
        let data =
            json!({"message": message, "emoji": emoji, "count": users.len(), "users": users});
        let kind = if reacts {
            "reaction.added"
        } else {
            "reaction.removed"
        };
        (kind, data)
    }

    /// Several fences, pushed as one run, one by one, or both.
    fn fences(&mut self, channel: &str) -> Vec<Push> {
        let stream = format!("c:{channel}");
        let first = self.streams[&stream].deltas.len() as u64 + 1;
        let count = fastrand::u64(1..=4);
        let mut pushes = Vec::new();
        for _ in 0..count {
            pushes.push(self.commit(&stream, "members.changed", json!({"gv": 1})));
        }
        if fastrand::bool() && self.is_mine(&stream) {
            let keep = fastrand::usize(..=pushes.len());
            pushes.truncate(keep);
            let begin = self.entry(&stream, first).expect("just committed");
            pushes.push(Some(self.encode(begin, first + count - 1)));
        }
        pushes
    }

    fn trim(&mut self) {
        for log in self.streams.values_mut() {
            if fastrand::u8(..3) == 0 {
                let head = log.deltas.len() as u64;
                log.floor = log.floor.max(head.saturating_sub(fastrand::u64(..10)));
            }
        }
    }

    /// `POST /v1/sync`. A page holds at most `limit` deltas.
    pub(super) fn sync(&self, request: &Value, limit: usize) -> Value {
        let cursor: Cursor = serde_json::from_value(request["cursor"].clone()).expect("a cursor");
        let only = request["only"] == true;
        let heads: Cursor = self
            .heads()
            .into_iter()
            .filter(|(stream, _)| !only || cursor.contains_key(stream))
            .collect();
        let (mut resets, mut next) = (Vec::new(), cursor.clone());
        let mut lanes = Vec::new();
        let reset = |stream: &String, head: u64, reason: &str| json!({"stream": stream, "head": head, "reason": reason});
        for (stream, at) in &cursor {
            match heads.get(stream) {
                None => resets.push(reset(stream, 0, "gone")),
                Some(head) if at > head => resets.push(reset(stream, *head, "ahead")),
                Some(head) if at < head && *at < self.streams[stream].floor => {
                    resets.push(reset(stream, *head, "expired"));
                }
                Some(head) => lanes.push((stream.clone(), *at, *head)),
            }
        }
        for reset in &resets {
            next.remove(reset["stream"].as_str().expect("a name"));
        }
        // `u:`, then `g:`, then the others.
        lanes.sort_by_key(|(stream, ..)| std::cmp::Reverse(order(stream)));
        let mut deltas = Vec::new();
        let mut more = false;
        for (stream, mut at, head) in lanes {
            while at < head {
                if deltas.len() == limit {
                    more = true;
                    break;
                }
                let through = self.run_from(&stream, at + 1, head);
                let entry = self.entry(&stream, at + 1).expect("below the head");
                deltas.push(self.encode(entry, through));
                at = through;
            }
            next.insert(stream, at);
        }
        let lacking = heads
            .iter()
            .filter(|(stream, head)| cursor.get(*stream).is_none_or(|at| at != *head));
        let heads: Cursor = lacking
            .map(|(stream, head)| (stream.clone(), *head))
            .collect();
        json!({"deltas": deltas, "cursor": next, "more": more, "resets": resets,
               "heads": heads, "epoch": 1})
    }

    /// Where a run that begins here ends: fences may be given out together.
    fn run_from(&self, stream: &str, first: u64, head: u64) -> u64 {
        let fence = |seq: u64| {
            let entry = self.entry(stream, seq);
            entry.is_some_and(|entry| entry.kind == "members.changed")
        };
        let mut last = first;
        while last < head && fence(first) && fence(last + 1) && fastrand::bool() {
            last += 1;
        }
        last
    }
}

fn order(stream: &str) -> u8 {
    match stream.as_bytes().first() {
        Some(b'u') => 2,
        Some(b'g') => 1,
        _ => 0,
    }
}
