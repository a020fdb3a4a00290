//! What the simulated database holds: plain maps, and the rules of the traits over them.

use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Included, Unbounded};
use std::time::Duration;

use tokio::time::Instant;

use crate::domain::{Change, User};
use crate::domain::{
    Channel, ChannelId, DeploymentId, Entry, Group, GroupId, GroupKind, Head, Key, Kind, Member,
    Membership, Message, Role, Seq, ServerId, Session, SessionId, StreamId, Timestamp, UserId,
};
use crate::store::old_page::old_page;
use crate::store::run::{NOT_A_RUN, is_run};
use crate::store::{
    Account, Appended, BusLayout, Claim, IdWindow, Meta, NewUser, OldPage, Page, Pending,
    PendingPage, Window,
};

/// Everything, at one moment. Two states are equal if nobody could tell them apart.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct State {
    /// By the stored form of the name, which is the order of `pending`.
    pub(super) streams: BTreeMap<[u8; 17], Stream>,
    pub(super) groups: BTreeMap<GroupId, GroupRow>,
    pub(super) members: BTreeMap<(GroupId, UserId), MemberRow>,
    pub(super) channels: BTreeMap<ChannelId, ChannelRow>,
    pub(super) reactions: BTreeMap<(ChannelId, Seq, String, UserId), ReactionRow>,
    pub(super) users: BTreeMap<UserId, UserRow>,
    pub(super) sessions: BTreeMap<SessionId, (Session, Seq)>,
    leases: BTreeMap<String, (ServerId, Instant)>,
    layout: Option<BusLayout>,
    epoch: u64,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Stream {
    pub(super) rows: BTreeMap<Seq, Row>,
    keys: BTreeMap<Key, Seq>,
    floor: Seq,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Row {
    pub(super) entry: Entry,
    /// Since when; None: settled.
    pending: Option<Timestamp>,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct GroupRow {
    pub(super) kind: GroupKind,
    pub(super) name: Option<String>,
    pub(super) created_at: Timestamp,
    pub(super) version: Seq,
    pub(super) member_count: i64,
    pub(super) deleted: bool,
    pub(super) settings_applied: Seq,
    pub(super) applied: Seq,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct MemberRow {
    pub(super) role: Role,
    pub(super) joined: Seq,
    pub(super) joined_at: Timestamp,
    pub(super) removed: bool,
    pub(super) applied: Seq,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct ChannelRow {
    pub(super) channel: Channel,
    pub(super) deleted: bool,
    pub(super) applied: Seq,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct ReactionRow {
    pub(super) present: bool,
    pub(super) since: Seq,
    pub(super) applied: Seq,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct UserRow {
    pub(super) user: User,
    password_hash: String,
    key: Key,
    pub(super) applied: Seq,
}

/// The log.
impl State {
    fn stream(&self, stream: StreamId) -> Option<&Stream> {
        self.streams.get(&stream.to_bytes())
    }

    fn rows(&self, stream: StreamId) -> impl DoubleEndedIterator<Item = &Row> {
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
    pub(super) fn would_land(&self, run: &[Entry]) -> Result<usize, String> {
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

    fn messages_of(&self, channel: ChannelId) -> impl DoubleEndedIterator<Item = Message> {
        self.rows(channel.into())
            .filter_map(move |row| message(channel, &row.entry))
    }

    pub(crate) fn messages(
        &self,
        channel: ChannelId,
        window: Window,
        limit: usize,
    ) -> Page<Message> {
        let before = |seq: Seq, limit: usize| {
            let older = self.messages_of(channel).rev();
            let mut page = page(older.filter(|message| message.seq < seq), limit);
            page.items.reverse();
            page
        };
        let from = |seq: Seq, limit| {
            let newer = self.messages_of(channel);
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
        found.take(limit).collect()
    }

    pub(crate) fn pending_later(&self, than: Timestamp, limit: usize) -> Vec<Claim> {
        let later = self.pending_rows().filter(|(_, since)| *since > than);
        let found = later.map(|(row, seen)| Claim {
            stream: row.entry.stream,
            seq: row.entry.seq,
            seen,
        });
        found.take(limit).collect()
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
            .map(|row| (row.entry.stream, row.entry.seq, row.entry.at))
            .filter(|(stream, seq, _)| Some((stream.to_bytes(), *seq)) > after)
            .take(limit)
            .collect();
        old_page(&looked_at, before, looked_at.len() == limit)
    }

    /// See [`crate::store::StateStore::lease`]; the clock is tokio's.
    pub(crate) fn lease(&mut self, name: &str, holder: ServerId, lifetime: Duration) -> bool {
        let now = Instant::now();
        let held = self.leases.get(name);
        if held.is_some_and(|(other, until)| *other != holder && *until > now) {
            return false;
        }
        self.leases
            .insert(name.to_owned(), (holder, now + lifetime));
        true
    }

    fn row_mut(&mut self, stream: StreamId, seq: Seq) -> Option<&mut Row> {
        self.streams.get_mut(&stream.to_bytes())?.rows.get_mut(&seq)
    }

    pub(super) fn entry_mut(&mut self, stream: StreamId, seq: Seq) -> Option<&mut Entry> {
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

/// Those of a list that ascends by id which stand in the window.
fn windowed<I: Copy + Ord, T>(
    all: impl DoubleEndedIterator<Item = (I, T)>,
    window: IdWindow<I>,
    limit: usize,
) -> Vec<T> {
    match window {
        IdWindow::First => all.take(limit).map(|(_, item)| item).collect(),
        IdWindow::After(bound) => all
            .filter(|(id, _)| *id > bound)
            .take(limit)
            .map(|(_, item)| item)
            .collect(),
        IdWindow::Before(bound) => {
            let below = all.rev().filter(|(id, _)| *id < bound).take(limit);
            let mut items: Vec<T> = below.map(|(_, item)| item).collect();
            items.reverse();
            items
        }
    }
}

/// Groups, as readers see them.
impl State {
    pub(crate) fn group(&self, id: GroupId) -> Option<Group> {
        let row = self.groups.get(&id)?;
        let members = self.members_of(id);
        let channels = self.channels_of(id);
        Some(Group {
            id,
            kind: row.kind,
            name: row.name.clone(),
            created_at: row.created_at,
            version: row.version,
            applied: row.applied,
            deleted: row.deleted,
            members: members.map(|(user, row)| (user, member(row))).collect(),
            channels: channels.map(|channel| (channel.id, channel)).collect(),
        })
    }

    /// All groups that there ever were.
    pub(crate) fn group_ids(&self) -> Vec<GroupId> {
        self.groups.keys().copied().collect()
    }

    fn members_of(&self, group: GroupId) -> impl DoubleEndedIterator<Item = (UserId, &MemberRow)> {
        let lowest = (group, UserId::from_bytes([0; 16]));
        let highest = (group, UserId::from_bytes([0xff; 16]));
        self.members
            .range((Included(lowest), Included(highest)))
            .filter(|(_, row)| !row.removed)
            .map(|((_, user), row)| (*user, row))
    }

    fn channels_of(&self, group: GroupId) -> impl Iterator<Item = Channel> {
        self.channels
            .values()
            .filter(move |row| row.channel.group == group && !row.deleted)
            .map(|row| row.channel.clone())
    }

    pub(crate) fn group_of(&self, channel: ChannelId) -> Option<GroupId> {
        self.channels.get(&channel).map(|row| row.channel.group)
    }

    pub(crate) fn membership(&self, user: UserId, group: GroupId) -> Option<Membership> {
        let row = self.groups.get(&group).filter(|row| !row.deleted)?;
        let member = self.members.get(&(group, user));
        let member = member.filter(|member| !member.removed)?;
        Some(Membership {
            group,
            kind: row.kind,
            name: row.name.clone(),
            created_at: row.created_at,
            version: row.version,
            role: member.role,
            member_count: u64::try_from(row.member_count).unwrap_or_default(),
            channels: self.channels_of(group).collect(),
        })
    }

    fn memberships_of(&self, user: UserId) -> impl DoubleEndedIterator<Item = Membership> {
        let groups = self.groups.keys();
        groups.filter_map(move |group| self.membership(user, *group))
    }

    pub(crate) fn memberships(
        &self,
        user: UserId,
        window: IdWindow<GroupId>,
        limit: usize,
    ) -> Vec<Membership> {
        let all = self.memberships_of(user);
        windowed(all.map(|found| (found.group, found)), window, limit)
    }

    pub(crate) fn group_counts(&self, users: &[UserId]) -> Vec<u64> {
        let count = |user: &UserId| self.memberships_of(*user).count() as u64;
        users.iter().map(count).collect()
    }

    pub(crate) fn streams_of(&self, user: UserId) -> Vec<StreamId> {
        let mut streams: Vec<StreamId> = self
            .memberships_of(user)
            .flat_map(|found| {
                let channels = found.channels.into_iter();
                let channels = channels.map(|channel| channel.id.into());
                std::iter::once(found.group.into()).chain(channels)
            })
            .collect();
        streams.sort_unstable();
        streams
    }

    pub(crate) fn members(
        &self,
        group: GroupId,
        window: IdWindow<UserId>,
        limit: usize,
    ) -> Vec<(UserId, Member)> {
        let all = self.members_of(group);
        let all = all.map(|(user, row)| (user, (user, member(row))));
        windowed(all, window, limit)
    }

    pub(crate) fn acquaintances(&self, user: UserId, limit: usize) -> Vec<UserId> {
        let mut others: Vec<UserId> = self
            .memberships_of(user)
            .flat_map(|found| self.members_of(found.group).map(|(other, _)| other))
            .filter(|other| *other != user)
            .collect();
        others.sort_unstable();
        others.dedup();
        others.truncate(limit);
        others
    }
}

fn member(row: &MemberRow) -> Member {
    Member {
        role: row.role,
        joined: row.joined,
        joined_at: row.joined_at,
    }
}

/// Accounts, sessions, and what the store knows of the installation.
impl State {
    pub(crate) fn meta(&self) -> Meta {
        Meta {
            deployment: DeploymentId::from_bytes([1; 16]),
            epoch: self.epoch + 1,
        }
    }

    pub(crate) fn agree(&mut self, layout: BusLayout) -> BusLayout {
        self.layout.get_or_insert(layout).clone()
    }

    pub(crate) fn begin_epoch(&mut self) -> u64 {
        self.epoch += 1;
        self.epoch + 1
    }

    pub(crate) fn create_user(&mut self, new: NewUser) -> Option<Account> {
        let known = self.account(&new.user.username);
        if known.is_none() {
            let row = UserRow {
                user: new.user,
                password_hash: new.password_hash,
                key: new.key,
                applied: 0,
            };
            self.users.insert(row.user.id, row);
        }
        known
    }

    pub(crate) fn account(&self, username: &str) -> Option<Account> {
        let mut users = self.users.values();
        let row = users.find(|row| row.user.username == username)?;
        Some(Account {
            user: row.user.clone(),
            password_hash: row.password_hash.clone(),
            key: row.key,
        })
    }

    pub(crate) fn users(&self, ids: &[UserId]) -> Vec<User> {
        let found = self.users.iter().filter(|(id, _)| ids.contains(id));
        found.map(|(_, row)| row.user.clone()).collect()
    }

    pub(crate) fn session(&self, session: SessionId) -> Option<Session> {
        self.sessions.get(&session).map(|(row, _)| row.clone())
    }

    pub(crate) fn sessions(
        &self,
        user: UserId,
        window: IdWindow<SessionId>,
        limit: usize,
    ) -> Vec<Session> {
        let own = |(_, (row, _)): &(&SessionId, &(Session, Seq))| row.user == user && !row.revoked;
        let all = self.sessions.iter().filter(own);
        windowed(all.map(|(id, (row, _))| (*id, row.clone())), window, limit)
    }

    pub(crate) fn rotate_session(
        &mut self,
        session: SessionId,
        generation: u32,
        at: Timestamp,
        key: Option<Key>,
    ) -> bool {
        let Some((row, _)) = self.sessions.get_mut(&session) else {
            return false;
        };
        let valid = row.generation == generation && !row.revoked;
        if valid {
            row.generation += 1;
            row.last_used_at = at;
            row.rotation = Some(crate::domain::Rotation { at, key });
        }
        valid
    }

    pub(super) fn reactions_to(
        &mut self,
        channel: ChannelId,
        message: Seq,
    ) -> impl Iterator<Item = (&(ChannelId, Seq, String, UserId), &mut ReactionRow)> {
        let nobody = UserId::from_bytes([0; 16]);
        let first = (channel, message, String::new(), nobody);
        let behind = (channel, message + 1, String::new(), nobody);
        self.reactions
            .range_mut((Included(first), Excluded(behind)))
    }

    pub(super) fn copies_of(
        &mut self,
        channel: ChannelId,
        message: Seq,
    ) -> impl Iterator<Item = &mut Entry> {
        let stream = StreamId::from(channel).to_bytes();
        let rows = self.streams.get_mut(&stream).into_iter();
        let rows =
            rows.flat_map(move |stream| stream.rows.range_mut((Excluded(message), Unbounded)));
        rows.map(|(_, row)| &mut row.entry)
            .filter(move |entry| crate::store::run::copied_message(&entry.change) == Some(message))
    }
}
