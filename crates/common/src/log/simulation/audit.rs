//! What must hold of every schedule. Reads the journal in order beside a state of its own, the
//! true one: every entry applied the moment it is committed.

use std::collections::{BTreeMap, BTreeSet};

use super::journal::{Answer, AttemptId, Event, ProcessId, label};
use super::operation::{EMOJI, Operation, What};
use crate::domain::*;
use crate::store::project;
use crate::store::simulated::{Begun, State, StoreEvent};

type Position = (StreamId, Seq);
type Checked = Result<(), String>;
/// From which position to before which one a user was a member; ascending.
type Spans = Vec<(Seq, Option<Seq>)>;

#[derive(Default)]
pub(super) struct Audit {
    /// Reads of groups and applies may show what is half done.
    torn: bool,
    relays: BTreeSet<ProcessId>,
    truth: State,
    /// When each key was committed, as the number of the event.
    committed: BTreeMap<(StreamId, Key), usize>,
    original: BTreeMap<Position, Entry>,
    /// Positions whose entries change state, by stream.
    changing: BTreeMap<StreamId, Vec<Seq>>,
    applied: BTreeSet<Position>,
    confirmed: BTreeSet<Position>,
    memberships: BTreeMap<(GroupId, UserId), Spans>,
    /// When a channel came to be, in the stream of its group.
    channels: BTreeMap<ChannelId, (GroupId, Seq)>,
    operations: BTreeMap<Key, Vec<std::sync::Arc<Operation>>>,
    attempts: BTreeMap<AttemptId, Attempt>,
    first_hand: BTreeSet<Key>,
    last_published: BTreeMap<(ProcessId, StreamId), Seq>,
    pub(super) counts: Counts,
}

struct Attempt {
    /// The number of the event.
    begun: usize,
    operation: std::sync::Arc<Operation>,
    refused: bool,
}

/// How much happened, so that it is seen what the schedules reach.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Counts {
    pub(super) committed: u64,
    pub(super) acknowledged: u64,
    pub(super) replayed: u64,
    pub(super) refused: u64,
    pub(super) unanswered: u64,
    pub(super) published: u64,
    pub(super) by_relays: u64,
    pub(super) fences: u64,
}

macro_rules! ensure {
    ($holds:expr, $($why:tt)*) => {
        if !$holds {
            return Err(format!($($why)*));
        }
    };
}

impl Audit {
    /// `truth`: the state before the first entry.
    pub(super) fn new(torn: bool, truth: State) -> Self {
        Self {
            torn,
            truth,
            ..Self::default()
        }
    }

    /// The state that the log adds up to so far, nothing of it pending.
    pub(super) fn truth(mut self) -> State {
        let pending = self.truth.all_pending();
        self.truth.settle(&pending);
        self.truth
    }

    /// The entries as they were committed, in the order of their streams.
    pub(super) fn originals(&self) -> impl Iterator<Item = &Entry> {
        self.original.values()
    }

    /// That processes with this number do as they like with the order of announcements.
    pub(super) fn relays(&mut self, process: ProcessId) {
        self.relays.insert(process);
    }

    pub(super) fn check(&mut self, number: usize, event: &Event) -> Checked {
        match event {
            Event::Store(StoreEvent::Committed(entry)) => self.committed(number, entry),
            Event::Store(StoreEvent::Applied(stream, seq)) => self.applied(*stream, *seq),
            Event::Store(StoreEvent::Settled(stream, seq)) => {
                let position = (*stream, *seq);
                ensure!(
                    self.confirmed.contains(&position),
                    "settled but not announced"
                );
                self.complete(position)
            }
            Event::Store(StoreEvent::Broken(why)) => Err(why.clone()),
            Event::Published {
                by,
                position,
                gv,
                to,
                confirmed,
            } => {
                self.counts.published += 1;
                self.published(*by, *position, *gv, to)?;
                if *confirmed {
                    self.confirmed.insert(*position);
                }
                Ok(())
            }
            Event::Asked {
                attempt, operation, ..
            } => {
                let known = self.operations.entry(operation.key).or_default();
                known.push(operation.clone());
                let attempt_of = Attempt {
                    begun: number,
                    operation: operation.clone(),
                    refused: false,
                };
                self.attempts.insert(*attempt, attempt_of);
                Ok(())
            }
            Event::Answered { attempt, answer } => self.answered(*attempt, answer),
            Event::Note(_) => Ok(()),
        }
    }

    /// What can be said only at the end.
    pub(super) fn check_refusals(&self) -> Checked {
        let mut refused: BTreeMap<(StreamId, Key), bool> = BTreeMap::new();
        for attempt in self.attempts.values() {
            let key = (attempt.operation.stream, attempt.operation.key);
            *refused.entry(key).or_insert(true) &= attempt.refused;
        }
        for (key, only) in refused {
            ensure!(
                !only || !self.committed.contains_key(&key),
                "was refused, each time, and is in the log: {}",
                self.operations[&key.1][0]
            );
        }
        Ok(())
    }

    /// Whoever was added to a group reads its channels from the fences of that on.
    pub(super) fn check_begun(&self, begun: &BTreeMap<(UserId, GroupId), Begun>) -> Checked {
        let mut expected = BTreeMap::new();
        for entry in self.original.values() {
            if let (StreamId::Group(group), Change::MemberAdded { user, .. }) =
                (entry.stream, &entry.change)
            {
                let fences = self
                    .original
                    .values()
                    .filter_map(|fence| match fence.stream {
                        StreamId::Channel(channel) if fence.key == Key::of_entry(entry.id) => {
                            Some((channel, Place::from(fence.head())))
                        }
                        _ => None,
                    });
                let places: BTreeMap<ChannelId, Place> = fences.collect();
                expected.insert((*user, group), (entry.seq, places));
            }
        }
        ensure!(
            begun.keys().eq(expected.keys()),
            "somebody came and does not begin to read, or the other way round"
        );
        for (of, (joined, places)) in &expected {
            let (recorded, begun) = &begun[of];
            ensure!(recorded == joined, "begins to read with another coming");
            // Completed again later, a coming is told to channels that are younger.
            let fits = places
                .iter()
                .all(|(channel, place)| match begun.get(channel) {
                    Some(recorded) => recorded == place,
                    None => self.channels[channel].1 > *joined,
                });
            ensure!(
                fits && begun
                    .keys()
                    .all(|channel| self.channels[channel].1 < *joined),
                "begins to read elsewhere than at the fences"
            );
        }
        Ok(())
    }

    fn committed(&mut self, number: usize, entry: &Entry) -> Checked {
        self.counts.committed += 1;
        let (stream, seq) = (entry.stream, entry.seq);
        let head = self.truth.head(stream);
        ensure!(
            seq == head.seq + 1,
            "a hole or a duplicate after {}",
            head.seq
        );
        ensure!(entry.gv >= head.gv, "gv falls from {}", head.gv);
        let message = matches!(entry.change, Change::MessageCreated(_));
        ensure!(
            entry.ord == head.ord + u64::from(message),
            "ord does not count"
        );
        self.follows_from_the_truth(entry)?;
        let landed = self.truth.append(vec![entry.clone()])?.landed;
        ensure!(landed == 1, "a key twice");
        self.committed.insert((stream, entry.key), number);
        self.original.insert((stream, seq), entry.clone());
        let changes = project(entry, super::FANOUT_LIMIT);
        if !changes.is_empty() {
            self.changing.entry(stream).or_default().push(seq);
        }
        for change in &changes {
            self.truth.change(seq, change);
        }
        if let StreamId::Group(group) = stream {
            self.follow(group, seq, &entry.change);
        }
        Ok(())
    }

    fn follow(&mut self, group: GroupId, seq: Seq, change: &Change) {
        match change {
            Change::GroupCreated {
                members, channels, ..
            } => {
                for (user, _) in members {
                    let spans = self.memberships.entry((group, *user)).or_default();
                    spans.push((seq, None));
                }
                for (channel, _) in channels {
                    self.channels.insert(*channel, (group, seq));
                }
            }
            Change::MemberAdded { user, .. } => {
                let spans = self.memberships.entry((group, *user)).or_default();
                spans.push((seq, None));
            }
            Change::MemberRemoved { user } => {
                let spans = self.memberships.entry((group, *user)).or_default();
                if let Some((_, end)) = spans.last_mut() {
                    *end = Some(seq);
                }
            }
            Change::ChannelCreated { channel, .. } => {
                self.channels.insert(*channel, (group, seq));
            }
            _ => {}
        }
    }

    /// Whether the rules allow the entry where it stands.
    fn follows_from_the_truth(&mut self, entry: &Entry) -> Checked {
        match &entry.change {
            Change::MembersChanged { gv } => {
                self.counts.fences += 1;
                let group = self.group_of(entry.stream)?;
                // Completed late, it stands for where the group has come to.
                let mut of_group = self.original.range((group.into(), 1)..=(group.into(), *gv));
                let decided = of_group.any(|(_, deciding)| {
                    deciding.change.needs_fence() && Key::of_entry(deciding.id) == entry.key
                });
                ensure!(decided && entry.gv >= *gv, "a fence of nothing");
                let reached = self.original.contains_key(&(group.into(), *gv));
                ensure!(reached, "a fence beyond its group");
                return Ok(());
            }
            Change::SessionEnded { session, user } => {
                let decided = self.original.values().any(|deciding| {
                    let revoked = Change::SessionRevoked { session: *session };
                    deciding.stream == StreamId::User(*user)
                        && deciding.change == revoked
                        && Key::of_entry(deciding.id) == entry.key
                });
                ensure!(decided, "a session that nobody ended");
                return Ok(());
            }
            _ => {}
        }
        let operation = self.asked(entry)?;
        let validated = match entry.stream {
            StreamId::Channel(channel) => {
                self.may_have_sent(channel, entry, operation.actor)?;
                match operation.message() {
                    None => Ok(entry.change.clone()),
                    Some(message) => {
                        let found = self.truth.messages_at(channel, &[message]);
                        let at = match entry.change {
                            Change::MessageEdited { edited_at, .. } => edited_at,
                            _ => entry.at,
                        };
                        {
                            let reacting =
                                self.truth
                                    .reacting(channel, message, EMOJI, operation.actor);
                            operation.of_message(at, found.first(), &reacting)
                        }
                    }
                }
            }
            StreamId::Group(id) => match self.truth.group(id) {
                Some(group) => operation.of_group(&group),
                None => operation.creation(self.truth.head(entry.stream)),
            },
            StreamId::User(_) => match &operation.what {
                What::RevokeSession(session) => {
                    operation.of_session(self.truth.session(*session).as_ref())
                }
                _ => Ok(entry.change.clone()),
            },
            StreamId::Sessions => Err(Refusal::NotFound),
        };
        ensure!(
            validated.as_ref() == Ok(&entry.change),
            "committed against old state: {operation}: {validated:?}"
        );
        Ok(())
    }

    fn asked(&self, entry: &Entry) -> Result<std::sync::Arc<Operation>, String> {
        let asked = self.operations.get(&entry.key).into_iter().flatten();
        let mut same = asked.filter(|operation| {
            operation.stream == entry.stream
                && Some(operation.actor) == entry.actor
                && Some(operation.request()) == entry.request
        });
        same.next().cloned().ok_or("nobody asked for it".to_owned())
    }

    fn group_of(&self, stream: StreamId) -> Result<GroupId, String> {
        let StreamId::Channel(channel) = stream else {
            return Err("no channel".to_owned());
        };
        let known = self.channels.get(&channel);
        known
            .map(|(group, _)| *group)
            .ok_or("of no group".to_owned())
    }

    fn spans(&self, group: GroupId, user: UserId) -> &[(Seq, Option<Seq>)] {
        self.memberships
            .get(&(group, user))
            .map_or(&[], Vec::as_slice)
    }

    /// The author was a member where his rights were checked. A read of a group that is changing
    /// may show members that are newer than the position it tells.
    fn may_have_sent(&self, channel: ChannelId, entry: &Entry, actor: UserId) -> Checked {
        let group = self.group_of(channel.into())?;
        let mut spans = self.spans(group, actor).iter();
        let member = spans.any(|(joined, end)| {
            let began = *joined <= entry.gv || self.torn;
            began && end.is_none_or(|end| end > entry.gv)
        });
        ensure!(member, "by somebody who was no member at {}", entry.gv);
        Ok(())
    }

    fn applied(&mut self, stream: StreamId, seq: Seq) -> Checked {
        let position = (stream, seq);
        ensure!(
            self.original.contains_key(&position),
            "applied before committed"
        );
        let before = self.changing.get(&stream).into_iter().flatten();
        for earlier in before.take_while(|earlier| **earlier < seq) {
            let done = self.applied.contains(&(stream, *earlier));
            ensure!(done, "applied before {earlier}");
        }
        self.applied.insert(position);
        Ok(())
    }

    /// Applied, and what derives from it is in.
    fn complete(&self, (stream, seq): Position) -> Checked {
        let Some(entry) = self.original.get(&(stream, seq)) else {
            return Err(format!("{} {seq} is not committed", label(stream)));
        };
        let changes = self.changing.get(&stream);
        let changes = changes.is_some_and(|seqs| seqs.binary_search(&seq).is_ok());
        ensure!(
            !changes || self.applied.contains(&(stream, seq)),
            "{} {seq} is not applied",
            label(stream)
        );
        let derived = Key::of_entry(entry.id);
        let is_in = |stream| self.committed.contains_key(&(stream, derived));
        match (stream, &entry.change) {
            (StreamId::User(_), Change::SessionRevoked { .. }) => {
                ensure!(is_in(StreamId::Sessions), "nobody is told of the session");
            }
            (StreamId::Group(group), change) if change.needs_fence() => {
                for channel in self.to_fence(group, seq, change) {
                    let stream = StreamId::from(channel);
                    ensure!(is_in(stream), "{} has no fence of {seq}", label(stream));
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Channels that were there before this change and still are, and the one it deletes.
    fn to_fence(&self, group: GroupId, seq: Seq, change: &Change) -> Vec<ChannelId> {
        let there = self.truth.group(group).map(|group| group.channels);
        let there = there.unwrap_or_default();
        let deleted = |id: &ChannelId| *change == Change::ChannelDeleted { channel: *id };
        self.channels
            .iter()
            .filter(|(id, (of, created))| {
                *of == group && *created < seq && (there.contains_key(id) || deleted(id))
            })
            .map(|(id, _)| *id)
            .collect()
    }

    fn published(&mut self, by: ProcessId, at: Position, gv: Seq, to: &[UserId]) -> Checked {
        self.complete(at)?;
        let (stream, seq) = at;
        if self.relays.contains(&by) {
            self.counts.by_relays += 1;
        } else {
            let last = self.last_published.insert((by, stream), seq);
            ensure!(last < Some(seq), "announced after {last:?}");
        }
        let group = match stream {
            StreamId::Sessions => {
                ensure!(to.is_empty(), "a client is told of x:sessions");
                return Ok(());
            }
            StreamId::User(user) => {
                ensure!(to == [user], "told to others");
                return Ok(());
            }
            StreamId::Group(group) => group,
            StreamId::Channel(_) => self.group_of(stream)?,
        };
        self.told_to_members(group, &self.original[&at].change, gv, to)
    }

    fn told_to_members(&self, group: GroupId, change: &Change, gv: Seq, to: &[UserId]) -> Checked {
        for user in to {
            let mut spans = self.spans(group, *user).iter();
            let member = spans.any(|(joined, end)| *joined <= gv && end.is_none_or(|end| end > gv));
            let concerned = *change == Change::MemberRemoved { user: *user };
            ensure!(
                member || concerned,
                "told to {user}, who was no member at {gv}"
            );
        }
        for ((of, user), spans) in &self.memberships {
            let mut spans = spans.iter();
            let stayed = spans.any(|(joined, end)| *joined <= gv && end.is_none());
            let missed = *of == group && stayed && !to.contains(user);
            ensure!(!missed, "not told to {user}, a member since before {gv}");
        }
        Ok(())
    }

    fn answered(&mut self, number: AttemptId, answer: &Answer) -> Checked {
        let Some(attempt) = self.attempts.get_mut(&number) else {
            return Err("an answer without a question".to_owned());
        };
        let operation = attempt.operation.clone();
        let key = (operation.stream, operation.key);
        match answer {
            Answer::Committed { entry, replayed } => {
                self.counts.acknowledged += 1;
                self.counts.replayed += u64::from(*replayed);
                let found = self.truth.find(key.0, key.1);
                let same = |it: &Entry| (it.id, it.seq) == (entry.id, entry.seq);
                let found = found
                    .filter(same)
                    .ok_or("acknowledged but not in the log")?;
                // With what is deleted goes what requests are told apart by.
                let forgotten = found.request.is_none();
                let original = &self.original[&(key.0, entry.seq)];
                ensure!(
                    forgotten || original.request == Some(operation.request()),
                    "another request's result"
                );
                ensure!(
                    *replayed || self.first_hand.insert(key.1),
                    "acknowledged twice as the first"
                );
                self.complete((key.0, entry.seq))
            }
            Answer::Refused(_) => {
                self.counts.refused += 1;
                attempt.refused = true;
                let before = self.committed.get(&key).copied();
                let known = before.is_some_and(|at| at < attempt.begun);
                ensure!(!known, "refused, though its first result is in the log");
                Ok(())
            }
            Answer::KeyReused => {
                attempt.refused = true;
                let found = self.truth.find(key.0, key.1);
                let other = found.is_some_and(|it| it.request != Some(operation.request()));
                ensure!(other, "no other body has this key");
                Ok(())
            }
            Answer::Unavailable | Answer::Nothing => {
                self.counts.unanswered += 1;
                Ok(())
            }
        }
    }
}
