//! The log as it is in the end, and what can be read from it: who was a member when, which
//! channels there were.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::chaos::history::{Event, History, Truth};
use crate::replica::Delta;

/// Every stream of a run.
#[derive(Debug, Default)]
pub struct Log {
    pub streams: BTreeMap<String, Stream>,
    /// By id.
    pub groups: BTreeMap<String, Group>,
    /// Channel → group.
    pub group_of: BTreeMap<String, String>,
}

#[derive(Debug, Default)]
pub struct Stream {
    pub entries: BTreeMap<u64, Arc<Delta>>,
    /// Of a channel: how far its group had come, and the first fence that says so or more;
    /// ascending.
    pub fences: Vec<(u64, u64)>,
    /// Whether these are all. Of a channel that was deleted only what devices saw is known:
    /// nobody can read it any more.
    pub complete: bool,
}

/// What a group's stream says of it.
#[derive(Debug, Default)]
pub struct Group {
    pub channels: BTreeMap<String, Channel>,
    /// User → times without membership, in order. The first is from 0, before all entries.
    pub absences: BTreeMap<String, Vec<Absence>>,
}

/// Where in the group's stream a channel came and went.
#[derive(Debug, Clone, Copy)]
pub struct Channel {
    pub created: u64,
    pub deleted: Option<u64>,
}

/// From one entry of the group's stream to another: somebody is no member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Absence {
    /// The removal's position; 0 before the first entry.
    pub from: u64,
    /// That of the addition that ended it.
    pub to: Option<u64>,
}

impl Log {
    #[must_use]
    pub fn of(history: &History, truth: &Truth) -> Self {
        let mut log = Self::default();
        for (name, entries) in &truth.streams {
            let entries = entries.iter().map(|entry| (entry.seq, entry.clone()));
            let stream = Stream {
                entries: entries.collect(),
                fences: Vec::new(),
                complete: true,
            };
            log.streams.insert(name.clone(), stream);
        }
        log.read_groups(history);
        log.add_observed(history);
        for stream in log.streams.values_mut() {
            stream.find_fences();
        }
        log
    }

    /// The entry at a place.
    #[must_use]
    pub fn entry(&self, stream: &str, seq: u64) -> Option<&Arc<Delta>> {
        self.streams.get(stream)?.entries.get(&seq)
    }

    /// The group that a stream of a group or a channel belongs to.
    #[must_use]
    pub fn group_of_stream<'a>(&'a self, stream: &'a str) -> Option<&'a str> {
        match stream.split_once(':')? {
            ("g", group) => Some(group),
            ("c", channel) => self.group_of.get(channel).map(|group| &**group),
            _ => None,
        }
    }

    /// The entries about a place, for messages to people.
    #[must_use]
    pub fn around(&self, stream: &str, seq: u64) -> String {
        let Some(found) = self.streams.get(stream) else {
            return format!("the log has no {stream}");
        };
        let mut lines = format!("the log of {stream} there:");
        for (seq, entry) in found
            .entries
            .range(seq.saturating_sub(3)..=seq.saturating_add(3))
        {
            let (kind, at, data) = (&entry.kind, &entry.at, &entry.data);
            let actor = entry.actor.as_deref().unwrap_or("the system");
            lines += &format!("\n    {seq} {kind} at {at} by {actor}: {data}");
        }
        lines
    }

    /// The first position of a channel that belongs to the time after a change of its group:
    /// behind the fence. `None` if there is no such fence.
    #[must_use]
    pub fn fence(&self, channel: &str, change: u64) -> Option<u64> {
        let group = self.groups.get(self.group_of.get(channel)?)?;
        if change < group.channels.get(channel)?.created {
            return Some(1);
        }
        let fences = &self.streams.get(&format!("c:{channel}"))?.fences;
        let first = fences.partition_point(|(gv, _)| *gv < change);
        fences.get(first).map(|(_, seq)| *seq)
    }

    fn read_groups(&mut self, history: &History) {
        for (name, stream) in &self.streams {
            let Some(id) = name.strip_prefix("g:") else {
                continue;
            };
            let group = Group::of(stream, history);
            for channel in group.channels.keys() {
                self.group_of.insert(channel.clone(), id.to_owned());
            }
            self.groups.insert(id.to_owned(), group);
        }
    }

    /// Deleted channels: what devices saw of them stands for their log.
    fn add_observed(&mut self, history: &History) {
        for delta in seen(history) {
            let known = self.streams.get(&delta.stream);
            if known.is_some_and(|stream| stream.complete) || !self.is_deleted(&delta.stream) {
                continue;
            }
            let stream = self.streams.entry(delta.stream.clone()).or_default();
            let entry = stream.entries.entry(delta.seq);
            entry.or_insert_with(|| delta.clone());
        }
    }

    /// Whether a stream is that of a channel which was deleted: nobody can read it any more.
    pub(super) fn is_deleted(&self, stream: &str) -> bool {
        let channel = stream.strip_prefix("c:").unwrap_or_default();
        let group = self.group_of.get(channel);
        let group = group.and_then(|group| self.groups.get(group));
        let channel = group.and_then(|group| group.channels.get(channel));
        channel.is_some_and(|channel| channel.deleted.is_some())
    }
}

impl Stream {
    fn find_fences(&mut self) {
        let entries = self.entries.values();
        let fences = entries.filter(|entry| entry.kind == "members.changed");
        let of = |entry: &Arc<Delta>| (entry.data["gv"].as_u64().unwrap_or_default(), entry.seq);
        self.fences = fences.map(of).collect();
        // Fences of changes at the same time may overtake each other, and those that are made
        // up for come late: a later one counts for all changes before it.
        self.fences.sort_unstable();
        let mut first = u64::MAX;
        for (_, seq) in self.fences.iter_mut().rev() {
            first = first.min(*seq);
            *seq = first;
        }
    }
}

impl Group {
    /// Reads it from its stream. Groups of a run begin with nobody but their owner, because
    /// the entry that creates one does not say who else is in it.
    fn of(stream: &Stream, history: &History) -> Self {
        let mut group = Self::default();
        let owner = stream.entries.get(&1).and_then(|entry| entry.actor.clone());
        for user in history
            .users
            .keys()
            .filter(|user| Some(*user) != owner.as_ref())
        {
            let never = Absence { from: 0, to: None };
            group.absences.insert(user.clone(), vec![never]);
        }
        for (seq, entry) in &stream.entries {
            group.read(*seq, entry);
        }
        group
    }

    fn read(&mut self, seq: u64, entry: &Delta) {
        let id = |value: &serde_json::Value| value["id"].as_str().unwrap_or_default().to_owned();
        let created = Channel {
            created: seq,
            deleted: None,
        };
        let user = entry.data["user"].as_str().unwrap_or_default();
        let absences = self.absences.entry(user.to_owned());
        match &*entry.kind {
            "group.created" => {
                let channels = entry.data["channels"].as_array().into_iter().flatten();
                self.channels.extend(channels.map(|one| (id(one), created)));
            }
            "channel.created" => drop(self.channels.insert(id(&entry.data), created)),
            "channel.deleted" => {
                if let Some(channel) = self.channels.get_mut(&id(&entry.data)) {
                    channel.deleted = Some(seq);
                }
            }
            "member.added" => {
                if let Some(last) = absences.or_default().last_mut() {
                    last.to = last.to.or(Some(seq));
                }
            }
            "member.removed" => absences.or_default().push(Absence {
                from: seq,
                to: None,
            }),
            // Perhaps of somebody who is no member.
            "member.banned" => {
                let absences = absences.or_default();
                if absences.last().is_none_or(|last| last.to.is_some()) {
                    let (from, to) = (seq, None);
                    absences.push(Absence { from, to });
                }
            }
            _ => {}
        }
    }
}

/// Everything that devices and readers saw, with the repetitions.
pub(super) fn seen(history: &History) -> impl Iterator<Item = &Arc<Delta>> {
    let events = history.devices.iter().flat_map(|device| &device.events);
    let by_devices = events.filter_map(|(_, event)| match event {
        Event::Seen { delta, .. } => Some(delta),
        _ => None,
    });
    by_devices.chain(history.reads.iter().flat_map(|read| &read.deltas))
}
