//! Which operation became which entry of the log. Every acknowledged change must have become
//! one, and every entry must be one that was asked for.
//!
//! Messages are matched by the position in the answer, names by being unique. Where neither is
//! there (who was removed, which message was deleted), several operations may ask for the same:
//! then each has a window of positions, that which real time leaves, and the two sides are
//! matched one to one within the windows.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::log::Stream;
use super::windows::{Asked, Windows, assign};
use super::{Finding, Log, Rule};
use crate::chaos::history::{Change, History, Operation, Outcome};
use crate::replica::Delta;

/// The outcome.
#[derive(Debug, Default)]
pub(super) struct Matched {
    /// By the operation's index.
    pub(super) position: Vec<Option<u64>>,
    by_entry: HashMap<(String, u64), usize>,
}

impl Matched {
    /// The operation that became this entry.
    pub(super) fn operation<'a>(
        &self,
        history: &'a History,
        stream: &str,
        seq: u64,
    ) -> Option<&'a Operation> {
        let index = self.by_entry.get(&(stream.to_owned(), seq))?;
        Some(&history.operations[*index])
    }

    fn set(&mut self, index: usize, stream: &str, seq: u64) {
        self.position[index] = Some(seq);
        self.by_entry.insert((stream.to_owned(), seq), index);
    }

    fn is_taken(&self, stream: &str, seq: u64) -> bool {
        self.by_entry.contains_key(&(stream.to_owned(), seq))
    }
}

/// Matches all operations and reports what is left over on either side.
pub(super) fn match_operations(history: &History, log: &Log) -> (Matched, Vec<Finding>) {
    let mut matching = Matching {
        history,
        log,
        matched: Matched {
            position: vec![None; history.operations.len()],
            by_entry: HashMap::new(),
        },
        findings: Vec::new(),
    };
    let mut by_stream: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (index, operation) in history.operations.iter().enumerate() {
        by_stream.entry(operation.stream()).or_default().push(index);
    }
    for name in log.streams.keys() {
        by_stream.entry(name.clone()).or_default();
    }
    let nothing = Stream::default();
    for (name, operations) in &by_stream {
        let stream = log.streams.get(name).unwrap_or(&nothing);
        matching.messages(name, stream, operations);
        matching.slots(name, stream, operations, Slot::is_unique);
        matching.slots(name, stream, operations, |slot| !slot.is_unique());
        matching.left_over(name, stream);
    }
    (matching.matched, matching.findings)
}

struct Matching<'a> {
    history: &'a History,
    log: &'a Log,
    matched: Matched,
    findings: Vec<Finding>,
}

impl Matching<'_> {
    /// Messages that were sent: the answer names the place.
    fn messages(&mut self, name: &str, stream: &Stream, operations: &[usize]) {
        for &index in operations {
            let operation = &self.history.operations[index];
            let (Change::Send { content, .. }, Outcome::Ok { body, .. }) =
                (&operation.change, &operation.outcome)
            else {
                continue;
            };
            let seq = body["seq"].as_u64().unwrap_or_default();
            let Some(entry) = stream.entries.get(&seq) else {
                self.lost(index, name, seq);
                continue;
            };
            let same = entry.kind == "message.created"
                && entry.data["id"] == body["id"]
                && entry.actor.as_deref() == Some(&operation.actor)
                && entry.at == body["created_at"].as_str().unwrap_or_default()
                && entry.data["reply_to"] == body["reply_to"]
                && (entry.data["content"] == **content || self.is_changed(stream, seq));
            if !same || self.matched.is_taken(name, seq) {
                self.lost(index, name, seq);
                continue;
            }
            self.matched.set(index, name, seq);
        }
        self.unanswered_messages(name, stream, operations);
    }

    /// Messages whose sender never learned what became of them.
    fn unanswered_messages(&mut self, name: &str, stream: &Stream, operations: &[usize]) {
        for &index in operations {
            let operation = &self.history.operations[index];
            let Change::Send { content, .. } = &operation.change else {
                continue;
            };
            if operation.outcome != Outcome::Unknown {
                continue;
            }
            let of_them = |entry: &&Arc<Delta>| {
                entry.kind == "message.created"
                    && entry.actor.as_deref() == Some(&operation.actor)
                    && !self.matched.is_taken(name, entry.seq)
                    && (entry.data["content"] == **content || self.is_changed(stream, entry.seq))
            };
            if let Some(seq) = stream.entries.values().find(of_them).map(|it| it.seq) {
                self.matched.set(index, name, seq);
            }
        }
    }

    /// Whether a message's content is no longer the one it was sent with.
    fn is_changed(&self, stream: &Stream, seq: u64) -> bool {
        stream.entries.values().any(|entry| {
            matches!(&*entry.kind, "message.edited" | "message.deleted")
                && entry.data["message"].as_u64() == Some(seq)
        })
    }

    fn slots(
        &mut self,
        name: &str,
        stream: &Stream,
        operations: &[usize],
        chosen: impl Fn(&Slot) -> bool,
    ) {
        let known = operations.iter().filter_map(|&index| {
            let seq = self.matched.position[index]?;
            Some((&self.history.operations[index], seq))
        });
        let windows = Windows::of(known);
        let mut slots: BTreeMap<Slot, (Vec<u64>, Vec<Asked>)> = BTreeMap::new();
        for entry in stream.entries.values() {
            if let Some(slot) = Slot::of_entry(entry).filter(&chosen) {
                slots.entry(slot).or_default().0.push(entry.seq);
            }
        }
        for &index in operations {
            let operation = &self.history.operations[index];
            if !operation.may_be_done() {
                continue;
            }
            if let Some(slot) = Slot::of_operation(operation).filter(&chosen) {
                let (from, to) = windows.of_operation(operation);
                slots
                    .entry(slot)
                    .or_default()
                    .1
                    .push(Asked { index, from, to });
            }
        }
        for (entries, asked) in slots.into_values() {
            self.slot(name, &entries, &asked);
        }
    }

    /// That the acknowledged can be matched, and that the entries can, is enough for both
    /// together (Mendelsohn and Dulmage).
    fn slot(&mut self, name: &str, entries: &[u64], asked: &[Asked]) {
        let is_ok = |one: &&Asked| self.history.operations[one.index].is_ok();
        let acknowledged: Vec<Asked> = asked.iter().filter(is_ok).copied().collect();
        let found = assign(entries, &acknowledged);
        for (index, seq) in assign(entries, asked) {
            self.matched.set(index, name, seq);
        }
        for one in acknowledged {
            if !found.iter().any(|(index, _)| *index == one.index) {
                self.lost(one.index, name, one.from);
            }
        }
    }

    fn lost(&mut self, index: usize, name: &str, near: u64) {
        let operation = &self.history.operations[index];
        if self.log.is_deleted(name) {
            let is_send = matches!(operation.change, Change::Send { .. });
            if !is_send || self.log.entry(name, near).is_none() {
                return; // Nobody saw this part of a channel before it was deleted.
            }
        }
        let described = self.history.describe(operation);
        let around = self.log.around(name, near);
        let what = format!("not in the log where it must be: {described}\n  {around}");
        self.findings.push(Finding::new(Rule::Lost, what));
    }

    /// Entries that are nobody's.
    fn left_over(&mut self, name: &str, stream: &Stream) {
        for (seq, entry) in &stream.entries {
            let system = matches!(
                &*entry.kind,
                "group.created"
                    | "members.changed"
                    | "session.created"
                    | "session.revoked"
                    | "read.moved"
            );
            if system || self.matched.is_taken(name, *seq) {
                continue;
            }
            let asked = self
                .history
                .operations
                .iter()
                .filter(|operation| operation.stream() == name && could_be(operation, entry));
            let mut what = format!("{name} {seq} is no operation's: {entry:?}");
            for operation in asked {
                what += "\n    this could be: ";
                what += &self.history.describe(operation);
            }
            what = format!("{what}\n  {}", self.log.around(name, *seq));
            self.findings.push(Finding::new(Rule::Foreign, what));
        }
    }
}

fn could_be(operation: &Operation, entry: &Delta) -> bool {
    match (&operation.change, Slot::of_operation(operation)) {
        (Change::Send { content, .. }, _) => entry.data["content"] == **content,
        (_, slot) => slot.is_some() && slot == Slot::of_entry(entry),
    }
}

/// What an operation and its entry have in common.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Slot(Vec<String>);

impl Slot {
    fn of_operation(operation: &Operation) -> Option<Self> {
        let actor = &*operation.actor;
        Some(match &operation.change {
            // One entry may stand for several marks: `reading` judges them.
            Change::Send { .. } | Change::MarkRead { .. } => return None,
            Change::Edit { message, .. } => Self::new("edit", [actor, &message.to_string()]),
            Change::Delete { message, .. } => Self::new("delete", [actor, &message.to_string()]),
            Change::React {
                message,
                emoji,
                reacts,
                ..
            } => {
                let what = if *reacts { "react" } else { "take back" };
                Self::new(what, [actor, &message.to_string(), emoji])
            }
            Change::Pin {
                message, pinned, ..
            } => {
                let what = if *pinned { "pin" } else { "unpin" };
                Self::new(what, [actor, &message.to_string()])
            }
            Change::RenameGroup { name, .. } => Self::new("name", ["group", name]),
            Change::PutMember { user, role, .. } | Change::SetRole { user, role, .. } => {
                Self::new("role", [actor, user, role])
            }
            Change::Remove { user, .. } => Self::new("remove", [actor, user]),
            Change::Ban { user, .. } => Self::new("ban", [actor, user]),
            Change::Unban { user, .. } => Self::new("unban", [actor, user]),
            Change::Mute { user, until, .. } => Self::new("mute", [actor, user, until]),
            Change::Unmute { user, .. } => Self::new("mute", [actor, user, ""]),
            Change::CreateChannel { name, .. } => Self::new("name", ["channel", name]),
            Change::RenameChannel { channel, name, .. } => Self::new("name", [&**channel, name]),
            Change::DeleteChannel { channel, .. } => Self::new("close", [actor, channel]),
            Change::Profile { display_name } => Self::new("name", ["user", display_name]),
        })
    }

    fn of_entry(entry: &Delta) -> Option<Self> {
        let actor = entry.actor.as_deref().unwrap_or_default();
        let text = |field: &str| entry.data[field].as_str().unwrap_or_default();
        let message = entry.data["message"]
            .as_u64()
            .unwrap_or_default()
            .to_string();
        Some(match &*entry.kind {
            "message.edited" => Self::new("edit", [actor, &message]),
            "message.deleted" => Self::new("delete", [actor, &message]),
            "reaction.added" => Self::new("react", [actor, &message, text("emoji")]),
            "reaction.removed" => Self::new("take back", [actor, &message, text("emoji")]),
            "message.pinned" => Self::new("pin", [actor, &message]),
            "message.unpinned" => Self::new("unpin", [actor, &message]),
            "group.updated" => Self::new("name", ["group", text("name")]),
            "member.added" | "member.updated" => {
                Self::new("role", [actor, text("user"), text("role")])
            }
            "member.removed" => Self::new("remove", [actor, text("user")]),
            "member.banned" => Self::new("ban", [actor, text("user")]),
            "member.unbanned" => Self::new("unban", [actor, text("user")]),
            "member.muted" => Self::new("mute", [actor, text("user"), text("muted_until")]),
            "channel.created" => Self::new("name", ["channel", text("name")]),
            "channel.updated" => Self::new("name", [text("id"), text("name")]),
            "channel.deleted" => Self::new("close", [actor, text("id")]),
            "user.updated" => Self::new("name", ["user", text("display_name")]),
            _ => return None,
        })
    }

    fn new<const N: usize>(kind: &str, parts: [&str; N]) -> Self {
        Self([kind].into_iter().chain(parts).map(str::to_owned).collect())
    }

    /// Names are never used twice.
    fn is_unique(&self) -> bool {
        self.0.first().is_some_and(|kind| kind == "name")
    }
}
