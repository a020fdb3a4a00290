//! What the simulated database holds: plain maps, and the rules of the traits over them.

mod log;
mod reactions;
mod reading;

pub(crate) use reading::Begun;

use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Included, Unbounded};
use std::time::Duration;

use tokio::time::Instant;

use crate::domain::User;
use crate::domain::{
    Ban, Channel, ChannelId, DeploymentId, Entry, Group, GroupId, GroupKind, Invite, InviteId, Key,
    Lease, Member, Membership, ReadMark, Restrictions, Role, Seq, ServerId, Session, SessionId,
    Size, StreamId, Timestamp, UserId,
};
use crate::store::{Account, BusLayout, IdWindow, Meta, NewUser};

/// Everything, at one moment. Two states are equal if nobody could tell them apart.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct State {
    /// By the stored form of the name, which is the order of `pending`.
    pub(super) streams: BTreeMap<[u8; 17], Stream>,
    pub(super) groups: BTreeMap<GroupId, GroupRow>,
    pub(super) members: BTreeMap<(GroupId, UserId), MemberRow>,
    pub(super) channels: BTreeMap<ChannelId, ChannelRow>,
    pub(super) invites: BTreeMap<InviteId, InviteRow>,
    pub(super) reactions: BTreeMap<(ChannelId, Seq, String, UserId), ReactionRow>,
    pub(super) users: BTreeMap<UserId, UserRow>,
    pub(super) sessions: BTreeMap<SessionId, (Session, Seq)>,
    marks: BTreeMap<(UserId, ChannelId), ReadMark>,
    begun: BTreeMap<(UserId, GroupId), Begun>,
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
    pub(super) size: Size,
    pub(super) deleted: bool,
    pub(super) lease: Option<Lease>,
    pub(super) settings_applied: Seq,
    pub(super) applied: Seq,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct MemberRow {
    pub(super) role: Role,
    pub(super) joined: Seq,
    pub(super) joined_at: Timestamp,
    pub(super) removed: bool,
    pub(super) restrictions: Restrictions,
    pub(super) applied: Seq,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct InviteRow {
    pub(super) invite: Invite,
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
    /// With all its members, unless it is large.
    pub(crate) fn group(&self, id: GroupId) -> Option<Group> {
        let mut group = self.whole_group(id)?;
        if group.size.large {
            group.members.clear();
        }
        Some(group)
    }

    pub(crate) fn group_for(&self, id: GroupId, users: &[UserId]) -> Option<Group> {
        let mut group = self.whole_group(id)?;
        group.members.retain(|user, _| users.contains(user));
        Some(group)
    }

    pub(crate) fn members_among(&self, group: GroupId, users: &[UserId]) -> Vec<(UserId, Member)> {
        let members = self.members_of(group);
        members
            .filter(|(user, _)| users.contains(user))
            .map(|(user, row)| (user, member(row)))
            .collect()
    }

    fn whole_group(&self, id: GroupId) -> Option<Group> {
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
            lease: row.lease,
            size: row.size,
            members: members.map(|(user, row)| (user, member(row))).collect(),
            channels: channels.map(|channel| (channel.id, channel)).collect(),
        })
    }

    /// All groups that there ever were.
    pub(crate) fn group_ids(&self) -> Vec<GroupId> {
        self.groups.keys().copied().collect()
    }

    fn members_of(&self, group: GroupId) -> impl DoubleEndedIterator<Item = (UserId, &MemberRow)> {
        self.known_in(group).filter(|(_, row)| !row.removed)
    }

    /// Members, and those of whom there is something to be known.
    fn known_in(&self, group: GroupId) -> impl DoubleEndedIterator<Item = (UserId, &MemberRow)> {
        let lowest = (group, UserId::from_bytes([0; 16]));
        let highest = (group, UserId::from_bytes([0xff; 16]));
        self.members
            .range((Included(lowest), Included(highest)))
            .map(|((_, user), row)| (*user, row))
    }

    pub(crate) fn restrictions(&self, group: GroupId, user: UserId) -> Restrictions {
        let known = self.members.get(&(group, user));
        known.map(|row| row.restrictions).unwrap_or_default()
    }

    pub(crate) fn bans(&self, group: GroupId, window: IdWindow<UserId>, limit: usize) -> Vec<Ban> {
        let known = self.known_in(group);
        let banned = known.filter_map(|(user, row)| Some((user, row.restrictions.ban?)));
        windowed(banned, window, limit)
    }

    pub(crate) fn invite(&self, invite: InviteId) -> Option<Invite> {
        self.invites.get(&invite).map(|row| row.invite.clone())
    }

    pub(crate) fn invites(
        &self,
        group: GroupId,
        window: IdWindow<InviteId>,
        limit: usize,
    ) -> Vec<Invite> {
        let all = self.invites.iter();
        let all = all.filter(|(_, row)| row.invite.group == group && !row.invite.deleted);
        windowed(
            all.map(|(id, row)| (*id, row.invite.clone())),
            window,
            limit,
        )
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
            size: row.size,
            lease: row.lease,
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

    pub(crate) fn shared_groups(&self, user: UserId, others: &[UserId]) -> Vec<(UserId, GroupId)> {
        let shared: BTreeMap<UserId, GroupId> = self
            .memberships_of(user)
            .flat_map(|found| {
                let members = self.members_of(found.group);
                members.map(move |(other, _)| (other, found.group))
            })
            .filter(|(other, _)| others.contains(other))
            .collect();
        shared.into_iter().collect()
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
        muted_until: row.restrictions.muted_until,
    }
}

/// Accounts, sessions, and what the store knows of the installation.
impl State {
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

    pub(crate) fn users_named(&self, usernames: &[String]) -> Vec<User> {
        let named = |row: &&UserRow| usernames.contains(&row.user.username);
        let found = self.users.values().filter(named);
        found.map(|row| row.user.clone()).collect()
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
