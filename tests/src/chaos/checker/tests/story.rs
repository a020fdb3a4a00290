//! A small history in which nothing is wrong, to be broken by the tests: a group with an
//! admin and a member besides its owner; the member is removed and comes back.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use crate::chaos::history::{
    Change, DeviceHistory, Event, History, Moment, Operation, Outcome, Source, Truth,
};
use crate::replica::Delta;
use crate::view::{Group, Message, Moderation, View};

pub(super) const GROUP: &str = "g:1";
pub(super) const CHANNEL: &str = "c:1";
/// Bob's own stream, which no device here follows.
pub(super) const BOBS: &str = "u:bob";

pub(super) struct Story {
    pub(super) history: History,
    pub(super) truth: Truth,
}

pub(super) fn at(seconds: u64) -> Moment {
    Duration::from_secs(seconds)
}

pub(super) fn delta(stream: &str, seq: u64, kind: &str, actor: &str, data: Value) -> Arc<Delta> {
    Arc::new(Delta {
        stream: stream.to_owned(),
        first: seq,
        seq,
        kind: kind.to_owned(),
        at: format!("t{stream}{seq}"),
        actor: Some(actor.to_owned()),
        data,
    })
}

pub(super) fn message(seq: u64, actor: &str, content: &str) -> Arc<Delta> {
    let data = json!({"id": format!("m{seq}"), "content": content, "reply_to": null});
    delta(CHANNEL, seq, "message.created", actor, data)
}

pub(super) fn fence(seq: u64, gv: u64) -> Arc<Delta> {
    delta(CHANNEL, seq, "members.changed", "owner", json!({"gv": gv}))
}

fn member(seq: u64, kind: &str, user: &str, role: &str) -> Arc<Delta> {
    let data = json!({"user": user, "role": role});
    delta(GROUP, seq, kind, "owner", data)
}

/// Bob's mark.
pub(super) fn moved(seq: u64, to: u64) -> Arc<Delta> {
    let data = json!({"channel": "1", "seq": to});
    delta(BOBS, seq, "read.moved", "bob", data)
}

pub(super) fn mark(seq: u64) -> Change {
    let channel = "1".to_owned();
    Change::MarkRead { channel, seq }
}

pub(super) fn ok(body: Value) -> Outcome {
    Outcome::Ok {
        status: 200,
        replayed: false,
        body,
    }
}

pub(super) fn send(content: &str) -> Change {
    Change::Send {
        channel: "1".to_owned(),
        content: content.to_owned(),
        reply_to: None,
    }
}

pub(super) fn edit(message: u64, content: &str) -> Change {
    Change::Edit {
        channel: "1".to_owned(),
        message,
        content: content.to_owned(),
    }
}

pub(super) fn rename(name: &str, if_match: Option<u64>) -> Change {
    Change::RenameGroup {
        group: "1".to_owned(),
        name: name.to_owned(),
        if_match,
    }
}

pub(super) fn put(user: &str, role: &str) -> Change {
    Change::PutMember {
        group: "1".to_owned(),
        user: user.to_owned(),
        role: role.to_owned(),
    }
}

pub(super) fn remove(user: &str) -> Change {
    Change::Remove {
        group: "1".to_owned(),
        user: user.to_owned(),
    }
}

impl Story {
    /// Each operation takes a second; entries of the group have even seconds, those of the
    /// channel odd ones.
    pub(super) fn good() -> Self {
        let mut story = Self::empty();
        story.operation("owner", put("ada", "admin"), 4, ok(Value::Null));
        story.operation("owner", put("bob", "member"), 6, ok(Value::Null));
        story.devices();
        let sent = |seq: u64| {
            ok(
                json!({"id": format!("m{seq}"), "seq": seq, "created_at": format!("tc:1{seq}"), "reply_to": null}),
            )
        };
        story.operation("ada", send("hello"), 11, sent(3));
        story.operation("bob", send("salve"), 13, sent(4));
        story.operation("ada", edit(3, "hello all"), 15, ok(Value::Null));
        story.operation("ada", rename("new", Some(1)), 16, ok(Value::Null));
        story.operation("owner", remove("bob"), 20, ok(Value::Null));
        story.operation("ada", send("secret"), 23, sent(7));
        story.operation("owner", put("bob", "member"), 26, ok(Value::Null));
        story.operation("ada", send("welcome"), 31, sent(9));
        let delete = Change::Delete {
            channel: "1".to_owned(),
            message: 4,
        };
        story.operation("bob", delete, 33, ok(Value::Null));
        let read = |seq: u64| ok(json!({"read": seq}));
        story.operation("bob", mark(3), 14, read(3));
        // Two wait for one entry.
        story.operation("bob", mark(4), 35, read(7));
        story.operation("bob", mark(7), 35, read(7));
        story
    }

    fn empty() -> Self {
        let created = json!({"name": "old", "channels": [{"id": "1", "name": "general"}]});
        let edited = json!({"message": 3, "content": "hello all", "edited_at": "e"});
        let groups = vec![
            delta(GROUP, 1, "group.created", "owner", created),
            member(2, "member.added", "ada", "admin"),
            member(3, "member.added", "bob", "member"),
            delta(
                GROUP,
                4,
                "group.updated",
                "ada",
                json!({"name": "new", "version": 4}),
            ),
            member(5, "member.removed", "bob", "member"),
            member(6, "member.added", "bob", "member"),
        ];
        let messages = vec![
            fence(1, 2),
            fence(2, 3),
            message(3, "ada", "hello all"),
            message(4, "bob", ""),
            delta(CHANNEL, 5, "message.edited", "ada", edited),
            fence(6, 5),
            message(7, "ada", "secret"),
            fence(8, 6),
            message(9, "ada", "welcome"),
            delta(CHANNEL, 10, "message.deleted", "bob", json!({"message": 4})),
        ];
        let state = state(&messages);
        let users = ["owner", "ada", "bob", "eve"];
        let history = History {
            users: users
                .iter()
                .map(|user| ((*user).to_owned(), (*user).to_owned()))
                .collect(),
            ..History::default()
        };
        let own = vec![moved(1, 3), moved(2, 7)];
        let heads = [(GROUP, 6), (CHANNEL, 10), (BOBS, 2)];
        let heads = heads.map(|(stream, head)| (stream.to_owned(), head));
        let streams = [(GROUP, groups), (CHANNEL, messages), (BOBS, own)];
        let streams = streams.map(|(stream, entries)| (stream.to_owned(), entries));
        let truth = Truth {
            streams: streams.into(),
            heads: heads.into(),
            state,
            // Bob has marked what he read; Ada has only written.
            read_marks: [("bob", 7), ("ada", 9)]
                .map(|(user, read)| (user.to_owned(), [("1".to_owned(), read)].into()))
                .into(),
        };
        Self { history, truth }
    }

    /// Asked for at this second, answered a second later.
    pub(super) fn operation(&mut self, actor: &str, change: Change, second: u64, outcome: Outcome) {
        self.history.operations.push(Operation {
            actor: actor.to_owned(),
            change,
            key: String::new(),
            invoked: at(second),
            answered: at(second + 1),
            attempts: 1,
            outcome,
        });
    }

    /// Ada's sees all that happens; Bob's is gone for a while.
    fn devices(&mut self) {
        let (ada, bob) = (self.device("ada"), self.device("bob"));
        for device in [ada, bob] {
            for (second, event) in [
                (8, Event::Back),
                (8, Event::Connected),
                (8, taken_up(GROUP, 3)),
                (8, taken_up(CHANNEL, 2)),
                (9, Event::Live),
            ] {
                self.event(device, second, event);
            }
        }
        for (second, stream, seq) in [
            (12, CHANNEL, 3),
            (14, CHANNEL, 4),
            (16, CHANNEL, 5),
            (17, GROUP, 4),
            (21, GROUP, 5),
        ] {
            self.apply(ada, second, stream, seq);
            self.apply(bob, second, stream, seq);
        }
        for stream in [GROUP, CHANNEL] {
            let stream = stream.to_owned();
            self.event(bob, 21, Event::Gone { stream });
        }
        for (second, seq) in [(22, 6), (24, 7), (28, 8)] {
            self.apply(ada, second, CHANNEL, seq);
        }
        self.apply(ada, 27, GROUP, 6);
        let back = self.truth.streams[GROUP][5].clone();
        self.see(bob, 27, &back, Source::Push);
        self.event(bob, 28, taken_up(GROUP, 6));
        self.event(bob, 28, taken_up(CHANNEL, 8));
        for device in [ada, bob] {
            self.apply(device, 32, CHANNEL, 9);
            self.apply(device, 34, CHANNEL, 10);
            self.history.devices[device].cursor = self.truth.heads.clone();
        }
    }

    fn device(&mut self, user: &str) -> usize {
        self.history.devices.push(DeviceHistory {
            name: format!("{user}'s"),
            user: user.to_owned(),
            ..DeviceHistory::default()
        });
        self.history.devices.len() - 1
    }

    pub(super) fn event(&mut self, device: usize, second: u64, event: Event) {
        self.history.devices[device]
            .events
            .push((at(second), event));
    }

    /// What the log has there arrives by push and is applied.
    pub(super) fn apply(&mut self, device: usize, second: u64, stream: &str, seq: u64) {
        let index = usize::try_from(seq - 1).expect("a small number");
        let delta = self.truth.streams[stream][index].clone();
        self.see(device, second, &delta, Source::Push);
        self.event(device, second, Event::Applied(delta));
    }

    pub(super) fn see(&mut self, device: usize, second: u64, delta: &Arc<Delta>, source: Source) {
        let delta = delta.clone();
        self.event(device, second, Event::Seen { delta, source });
    }

    /// A message of the channel shows another content in the end.
    pub(super) fn reword(&mut self, seq: u64, content: &str) {
        let entries = self.truth.streams.get_mut(CHANNEL).expect("it is there");
        let entry = &mut entries[usize::try_from(seq - 1).expect("a small number")];
        Arc::make_mut(entry).data["content"] = json!(content);
        let shown = self.truth.state.channels.get_mut("1");
        let shown = shown.and_then(|messages| messages.get_mut(&seq));
        shown.expect("it is there").content = content.to_owned();
    }

    /// One more entry of the channel, that everybody has.
    pub(super) fn append(&mut self, entry: Arc<Delta>, second: u64) {
        if entry.kind == "message.created" {
            let channel = self.truth.state.channels.entry("1".to_owned()).or_default();
            channel.insert(entry.seq, shown(&entry));
            let author = entry.actor.clone().unwrap_or_default();
            let marks = self.truth.read_marks.entry(author).or_default();
            marks.insert("1".to_owned(), entry.seq);
        }
        let seq = entry.seq;
        let stream = entry.stream.clone();
        self.truth.heads.insert(stream.clone(), seq);
        if let Some(entries) = self.truth.streams.get_mut(&stream) {
            entries.push(entry);
        }
        for device in 0..self.history.devices.len() {
            self.apply(device, second, &stream, seq);
            let cursor = &mut self.history.devices[device].cursor;
            cursor.insert(stream.clone(), seq);
        }
    }
}

pub(super) fn taken_up(stream: &str, head: u64) -> Event {
    Event::TakenUp {
        stream: stream.to_owned(),
        head,
    }
}

/// What HTTP returns in the end.
fn state(messages: &[Arc<Delta>]) -> View {
    let role = |(user, role): (&str, &str)| (user.to_owned(), role.to_owned());
    let members = [("owner", "owner"), ("ada", "admin"), ("bob", "member")].map(role);
    let group = Group {
        name: json!("new"),
        version: 4,
        members: members.into(),
        channels: BTreeMap::from([("1".to_owned(), ("general".to_owned(), 1))]),
        moderation: Some(Moderation::default()),
        ..Group::default()
    };
    let created = messages.iter().filter(|it| it.kind == "message.created");
    let shown = created.map(|entry| (entry.seq, shown(entry)));
    View {
        groups: [("1".to_owned(), group)].into(),
        channels: [("1".to_owned(), shown.collect())].into(),
        ..View::default()
    }
}

fn shown(entry: &Delta) -> Message {
    Message {
        id: entry.data["id"].as_str().unwrap_or_default().to_owned(),
        author: entry.actor.clone().unwrap_or_default(),
        content: entry.data["content"]
            .as_str()
            .unwrap_or_default()
            .to_owned(),
        reply_to: Value::Null,
        quoted: Value::Null,
        mentions: (Value::Null, Value::Null),
        created_at: entry.at.clone(),
        edited_at: Value::Null,
        deleted: false,
        reactions: Vec::new(),
        pinned: false,
    }
}
