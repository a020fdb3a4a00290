//! Groups, their members and channels.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::fixture::{after, apply, apply_at, at, check_both_ways, commit};
use crate::domain::{
    Change, Channel, ChannelId, Entry, Group, GroupId, GroupKind, Lease, Member, Membership, Role,
    Seq, SessionId, Size, StreamId, UserId,
};
use crate::store::{IdWindow, Store};

/// A group of `users`, the first of them its owner, with one channel.
struct Example {
    id: GroupId,
    channel: ChannelId,
    users: Vec<UserId>,
}

impl Example {
    async fn create(store: &dyn Store, users: &[UserId]) -> (Self, Entry) {
        let example = Self {
            id: GroupId::generate(),
            channel: ChannelId::generate(),
            users: users.to_vec(),
        };
        let role = |n| if n == 0 { Role::Owner } else { Role::Member };
        let members = users.iter().enumerate().map(|(n, user)| (*user, role(n)));
        let change = Change::GroupCreated {
            kind: GroupKind::Group,
            name: Some("first".to_owned()),
            members: members.collect(),
            channels: vec![(example.channel, "general".to_owned())],
        };
        let entry = example.commit(store, change).await;
        (example, entry)
    }

    async fn commit(&self, store: &dyn Store, change: Change) -> Entry {
        commit(store, StreamId::Group(self.id), self.users[0], change).await
    }

    async fn read(&self, store: &dyn Store) -> Group {
        store.group(self.id).await.unwrap().unwrap()
    }

    async fn membership(&self, store: &dyn Store, user: UserId) -> Option<Membership> {
        store.membership(user, self.id).await.unwrap()
    }
}

fn users(count: usize) -> Vec<UserId> {
    let mut users: Vec<UserId> = (0..count).map(|_| UserId::generate()).collect();
    users.sort_unstable();
    users
}

fn renamed(channel: ChannelId, name: String) -> Change {
    Change::ChannelUpdated {
        channel,
        name,
        slow_mode_secs: None,
        lease: None,
    }
}

fn member(role: Role, joined: u64) -> Member {
    Member {
        role,
        joined,
        joined_at: at(joined),
        muted_until: None,
    }
}

pub(in crate::store) async fn a_group_starts_with_members_and_channels(store: Arc<dyn Store>) {
    let users = users(2);
    let (example, _) = Example::create(&*store, &users).await;
    let channel = Channel {
        id: example.channel,
        group: example.id,
        name: "general".to_owned(),
        version: 1,
        slow_mode_secs: 0,
        created_at: at(1),
    };
    let members = vec![
        (users[0], member(Role::Owner, 1)),
        (users[1], member(Role::Member, 1)),
    ];
    let two = Size {
        members: 2,
        ..Size::default()
    };
    let expected = Group {
        id: example.id,
        kind: GroupKind::Group,
        name: Some("first".to_owned()),
        created_at: at(1),
        version: 1,
        applied: 1,
        deleted: false,
        size: two,
        lease: None,
        members: members.iter().copied().collect(),
        channels: BTreeMap::from([(example.channel, channel.clone())]),
    };
    assert_eq!(example.read(&*store).await, expected);
    let membership = Membership {
        group: example.id,
        kind: GroupKind::Group,
        name: Some("first".to_owned()),
        created_at: at(1),
        version: 1,
        role: Role::Owner,
        size: two,
        lease: None,
        channels: vec![channel],
    };
    let found = example.membership(&*store, users[0]).await;
    assert_eq!(found.as_ref(), Some(&membership));
    let listed = store
        .memberships(users[0], IdWindow::First, 9)
        .await
        .unwrap();
    assert_eq!(listed, [membership]);
    assert_eq!(
        store.members(example.id, IdWindow::First, 9).await.unwrap(),
        members
    );
    let group = store.group_of(example.channel).await.unwrap();
    assert_eq!(group, Some(example.id));
    assert_eq!(
        store.streams_of(users[1]).await.unwrap(),
        [example.id.into(), example.channel.into()]
    );
    let stranger = UserId::generate();
    assert_eq!(example.membership(&*store, stranger).await, None);
    assert_eq!(store.streams_of(stranger).await.unwrap(), []);
    let counts = store.group_counts(&[stranger, users[1]]).await.unwrap();
    assert_eq!(counts, [0, 1]);
    assert_eq!(store.group(GroupId::generate()).await.unwrap(), None);
    assert_eq!(store.group_of(ChannelId::generate()).await.unwrap(), None);
}

pub(in crate::store) async fn a_name_changes_with_the_version(store: Arc<dyn Store>) {
    let users = users(2);
    let (example, _) = Example::create(&*store, &users).await;
    let added = Change::member_added(UserId::generate(), Role::Member);
    example.commit(&*store, added).await;
    let group = example.read(&*store).await;
    assert_eq!((group.version, group.applied), (1, 2), "not by a member");
    let rename = |name: &str| Change::GroupUpdated {
        name: Some(name.to_owned()),
        lease: None,
    };
    let second = example.commit(&*store, rename("second")).await;
    example.commit(&*store, rename("third")).await;
    apply(&*store, &second).await;
    let group = example.read(&*store).await;
    assert_eq!(group.name.as_deref(), Some("third"));
    assert_eq!((group.version, group.applied), (4, 4));
    // Settings that changed in nothing we know leave all but `applied`.
    example
        .commit(
            &*store,
            Change::GroupUpdated {
                name: None,
                lease: None,
            },
        )
        .await;
    let group = example.read(&*store).await;
    assert_eq!((group.version, group.applied), (4, 5));
    let membership = example.membership(&*store, users[1]).await.unwrap();
    assert_eq!(membership.name.as_deref(), Some("third"));
    assert_eq!(membership.version, 4);
}

pub(in crate::store) async fn an_edit_lease_lasts_until_the_log_says_otherwise(
    store: Arc<dyn Store>,
) {
    let users = users(1);
    let (example, _) = Example::create(&*store, &users).await;
    let (one, other) = (SessionId::generate(), SessionId::generate());
    let held = async || {
        let lease = example.read(&*store).await.lease;
        let membership = example.membership(&*store, users[0]).await.unwrap();
        assert_eq!(membership.lease, lease);
        assert_eq!(membership.version, example.read(&*store).await.version);
        lease
    };
    let taken = async |session| {
        let taken = Change::LeaseAcquired { session };
        let entry = example.commit(&*store, taken).await;
        let lease = Lease {
            token: entry.seq,
            session,
            user: entry.actor.unwrap(),
            since: entry.at,
        };
        assert_eq!(held().await, Some(lease));
        (entry, lease)
    };
    let renamed_under = |lease| Change::GroupUpdated {
        name: Some("another".to_owned()),
        lease,
    };
    assert_eq!(held().await, None);
    let (first, _) = taken(one).await;
    assert_eq!(example.read(&*store).await.version, 1, "no setting");
    let (second, lease) = taken(other).await;
    let under = renamed_under(Some(lease.token));
    let under = example.commit(&*store, under).await;
    for late in [&first, &second, &under] {
        apply(&*store, late).await;
        assert_eq!(held().await, Some(lease));
    }
    let session = other;
    let given_back = Change::LeaseReleased { session };
    let given_back = example.commit(&*store, given_back).await;
    assert_eq!(held().await, None);
    apply(&*store, &second).await;
    assert_eq!(held().await, None);
    // A change without a lease ends one that has run out, of the group as of a channel.
    taken(one).await;
    let without = example.commit(&*store, renamed_under(None)).await;
    assert_eq!(held().await, None);
    taken(one).await;
    let channel = renamed(example.channel, "elsewhere".to_owned());
    example.commit(&*store, channel).await;
    assert_eq!(held().await, None);
    let (_, lease) = taken(other).await;
    for late in [&given_back, &without, &first] {
        apply(&*store, late).await;
        assert_eq!(held().await, Some(lease));
    }
}

pub(in crate::store) async fn members_come_and_go_and_come_back(store: Arc<dyn Store>) {
    let users = users(3);
    let (example, _) = Example::create(&*store, &users[..2]).await;
    let user = users[2];
    let part = async |expected: Option<Member>, count: u64| {
        let group = example.read(&*store).await;
        assert_eq!(group.members.get(&user), expected.as_ref());
        let role = example.membership(&*store, user).await;
        assert_eq!(role.map(|m| m.role), expected.map(|m| m.role));
        let other = example.membership(&*store, users[0]).await.unwrap();
        assert_eq!(other.size.members, count);
        let listed = store
            .members(example.id, IdWindow::After(users[1]), 9)
            .await
            .unwrap();
        assert_eq!(listed.first().map(|(_, m)| *m), expected);
        let streams = store.streams_of(user).await.unwrap();
        assert_eq!(streams.is_empty(), expected.is_none());
    };
    let role = Role::Member;
    let added = example
        .commit(&*store, Change::member_added(user, role))
        .await;
    part(Some(member(Role::Member, 2)), 3).await;
    let role = Role::Admin;
    let updated = example
        .commit(&*store, Change::MemberUpdated { user, role })
        .await;
    part(Some(member(Role::Admin, 2)), 3).await;
    let role = Role::Member;
    example
        .commit(&*store, Change::MemberUpdated { user, role })
        .await;
    apply(&*store, &updated).await;
    part(Some(member(Role::Member, 2)), 3).await;
    let removed = example
        .commit(&*store, Change::MemberRemoved { user })
        .await;
    part(None, 2).await;
    // What comes late finds the tombstone.
    for late in [&added, &updated, &removed] {
        apply(&*store, late).await;
        part(None, 2).await;
    }
    let role = Role::Member;
    example
        .commit(&*store, Change::member_added(user, role))
        .await;
    part(Some(member(Role::Member, 6)), 3).await;
    apply(&*store, &removed).await;
    part(Some(member(Role::Member, 6)), 3).await;
}

pub(in crate::store) async fn channels_come_and_go(store: Arc<dyn Store>) {
    let users = users(1);
    let (example, _) = Example::create(&*store, &users).await;
    let channel = ChannelId::generate();
    let named = |name: &str| name.to_owned();
    let shown = async || {
        let group = example.read(&*store).await;
        let found = group.channels.get(&channel).cloned();
        let membership = example.membership(&*store, users[0]).await.unwrap();
        let channels: Vec<Channel> = group.channels.into_values().collect();
        assert_eq!(membership.channels, channels);
        let streams = store.streams_of(users[0]).await.unwrap();
        assert_eq!(streams.contains(&channel.into()), found.is_some());
        assert!(streams.is_sorted());
        found.map(|channel| (channel.name, channel.version))
    };
    let name = named("one");
    let created = example
        .commit(&*store, Change::ChannelCreated { channel, name })
        .await;
    assert_eq!(shown().await, Some((named("one"), 2)));
    let name = named("two");
    let updated = example.commit(&*store, renamed(channel, name)).await;
    assert_eq!(shown().await, Some((named("two"), 3)));
    let name = named("three");
    example.commit(&*store, renamed(channel, name)).await;
    for late in [&created, &updated] {
        apply(&*store, late).await;
        assert_eq!(shown().await, Some((named("three"), 4)));
    }
    example
        .commit(&*store, Change::ChannelDeleted { channel })
        .await;
    for late in [&created, &updated] {
        apply(&*store, late).await;
        assert_eq!(shown().await, None);
    }
    assert_eq!(store.group_of(channel).await.unwrap(), Some(example.id));
}

pub(in crate::store) async fn a_deleted_group_is_in_no_list(store: Arc<dyn Store>) {
    let users = users(2);
    let (example, _) = Example::create(&*store, &users).await;
    let name = Some("late".to_owned());
    let lease = None;
    let late = Change::GroupUpdated { name, lease };
    let late = example.commit(&*store, late).await;
    example.commit(&*store, Change::GroupDeleted).await;
    apply(&*store, &late).await;

    let group = example.read(&*store).await;
    assert!(group.deleted);
    assert_eq!(group.applied, 3);
    assert_eq!((group.members.len(), group.channels.len()), (2, 1));
    let group = store.group_of(example.channel).await.unwrap();
    assert_eq!(group, Some(example.id));
    assert_eq!(example.membership(&*store, users[0]).await, None);
    assert_eq!(
        store
            .memberships(users[0], IdWindow::First, 9)
            .await
            .unwrap(),
        []
    );
    assert_eq!(store.group_counts(&users).await.unwrap(), [0, 0]);
    assert_eq!(store.streams_of(users[0]).await.unwrap(), []);
    assert_eq!(store.acquaintances(users[0], 9).await.unwrap(), []);
}

pub(in crate::store) async fn applying_again_changes_nothing(store: Arc<dyn Store>) {
    let users = users(3);
    let user = users[2];
    let (example, created) = Example::create(&*store, &users[..2]).await;
    let channel = ChannelId::generate();
    let name = || "another".to_owned();
    let changes = [
        Change::member_added(user, Role::Member),
        Change::LeaseAcquired {
            session: SessionId::generate(),
        },
        Change::GroupUpdated {
            name: Some(name()),
            lease: Some(3),
        },
        Change::ChannelCreated {
            channel,
            name: name(),
        },
        Change::MemberUpdated {
            user,
            role: Role::Admin,
        },
        renamed(channel, name()),
        Change::MemberRemoved { user: users[1] },
        Change::ChannelDeleted {
            channel: example.channel,
        },
    ];
    let mut history = vec![created];
    for change in changes {
        history.push(example.commit(&*store, change).await);
        let expected = example.read(&*store).await;
        let membership = example.membership(&*store, users[0]).await;
        for entry in &history {
            apply(&*store, entry).await;
            assert_eq!(example.read(&*store).await, expected);
        }
        assert_eq!(example.membership(&*store, users[0]).await, membership);
    }
}

pub(in crate::store) async fn members_come_in_pages(store: Arc<dyn Store>) {
    let mut all = users(7);
    let owner = all.remove(3);
    let shuffled = [[owner].as_slice(), &all].concat();
    let (example, _) = Example::create(&*store, &shuffled).await;
    let mut expected = shuffled;
    expected.sort_unstable();
    let read = async |window, limit| -> Vec<UserId> {
        let page = store.members(example.id, window, limit).await.unwrap();
        page.into_iter().map(|(user, _)| user).collect()
    };
    check_both_ways(&expected, UserId::generate, read).await;
}

pub(in crate::store) async fn memberships_come_in_pages(store: Arc<dyn Store>) {
    let user = UserId::generate();
    let mut expected = Vec::new();
    for n in 0..7 {
        let (example, _) = Example::create(&*store, &[user]).await;
        if n == 3 {
            example.commit(&*store, Change::GroupDeleted).await;
        } else {
            expected.push(example.id);
        }
    }
    expected.sort_unstable();
    let read = async |window, limit| -> Vec<GroupId> {
        let page = store.memberships(user, window, limit).await.unwrap();
        assert!(page.iter().all(|membership| membership.channels.len() == 1));
        page.into_iter()
            .map(|membership| membership.group)
            .collect()
    };
    check_both_ways(&expected, GroupId::generate, read).await;
    assert_eq!(store.group_counts(&[user]).await.unwrap(), [6]);
    let streams = store.streams_of(user).await.unwrap();
    assert_eq!(streams.len(), 12);
    assert!(streams.is_sorted());
}

pub(in crate::store) async fn acquaintances_are_named_once(store: Arc<dyn Store>) {
    let users = users(5);
    let (first, _) = Example::create(&*store, &users[..3]).await;
    Example::create(&*store, &users[1..4]).await;
    let found = async |user, limit| {
        let mut found = store.acquaintances(user, limit).await.unwrap();
        found.sort_unstable();
        found
    };
    assert_eq!(found(users[1], 9).await, [users[0], users[2], users[3]]);
    assert_eq!(found(users[0], 9).await, users[1..3]);
    assert_eq!(found(users[1], 2).await.len(), 2);
    assert_eq!(found(users[4], 9).await, []);
    first
        .commit(&*store, Change::MemberRemoved { user: users[0] })
        .await;
    assert_eq!(found(users[0], 9).await, []);
    assert_eq!(found(users[1], 9).await, users[2..4]);
}

pub(in crate::store) async fn who_shares_a_group_is_told_from_others(store: Arc<dyn Store>) {
    let users = users(5);
    let (first, _) = Example::create(&*store, &users[..3]).await;
    let (second, _) = Example::create(&*store, &users[1..4]).await;
    let shared = async |user, others: &[UserId]| {
        let mut found = store.shared_groups(user, others).await.unwrap();
        found.sort_unstable();
        found
    };
    let twice = [&users[..], &users[..]].concat();
    let of_first: Vec<_> = users[..3].iter().map(|user| (*user, first.id)).collect();
    assert_eq!(shared(users[0], &twice).await, of_first);
    assert_eq!(shared(users[3], &users[..2]).await, [(users[1], second.id)]);
    // In two groups with somebody: one of them is named.
    assert_eq!(shared(users[1], &users[2..3]).await.len(), 1);
    assert_eq!(shared(users[4], &users).await, [], "in no group");
    assert_eq!(shared(users[0], &[]).await, []);
    first
        .commit(&*store, Change::MemberRemoved { user: users[0] })
        .await;
    assert_eq!(shared(users[0], &users).await, []);
    assert_eq!(shared(users[1], &users[..1]).await, []);
    second.commit(&*store, Change::GroupDeleted).await;
    assert_eq!(shared(users[3], &users).await, []);
    assert_eq!(shared(users[1], &users[2..]).await, [(users[2], first.id)]);
}

/// Commits to a group of which more than four are large; returns its size.
async fn change(store: &dyn Store, group: GroupId, change: Change) -> (Entry, Size) {
    let stream = StreamId::Group(group);
    let entry = after(stream, store.head(stream).await.unwrap(), change);
    store.append(vec![entry.clone()]).await.unwrap();
    apply_at(store, &entry, 4).await;
    let size = store.group(group).await.unwrap().unwrap().size;
    (entry, size)
}

fn size(members: u64, large: bool, turned: Seq) -> Size {
    Size {
        members,
        large,
        turned,
    }
}

pub(in crate::store) async fn a_large_group_is_read_without_its_members(store: Arc<dyn Store>) {
    let users = users(6);
    let (example, _) = Example::create(&*store, &users[..4]).await;
    let (stranger, group) = (UserId::generate(), example.id);
    let added = |user| Change::member_added(user, Role::Member);
    let (joined, now) = change(&*store, group, added(users[4])).await;
    assert_eq!(now, size(5, true, 2));
    let read = example.read(&*store).await;
    assert_eq!((read.members.len(), read.channels.len()), (0, 1));
    // Again, and later, changes nothing.
    let (_, now) = change(&*store, group, added(users[5])).await;
    apply_at(&*store, &joined, 4).await;
    assert_eq!(example.read(&*store).await.size, now);
    assert_eq!(now, size(6, true, 2));

    let asked = [users[0], users[5], stranger];
    let found = store.group_for(group, &asked).await.unwrap().unwrap();
    let members: Vec<UserId> = found.members.keys().copied().collect();
    assert_eq!(members, [users[0], users[5]]);
    assert_eq!((found.size, found.channels.len()), (now, 1));
    let mut among = store.members_among(group, &asked).await.unwrap();
    among.sort_unstable_by_key(|(user, _)| *user);
    let both = [
        (users[0], member(Role::Owner, 1)),
        (users[5], member(Role::Member, 3)),
    ];
    assert_eq!(among, both);
    assert_eq!(store.members_among(group, &[]).await.unwrap(), []);
    let none = store.group_for(GroupId::generate(), &asked).await.unwrap();
    assert_eq!(none, None);
    let membership = example.membership(&*store, users[5]).await.unwrap();
    assert_eq!(membership.size, now);

    for (user, expected) in [
        (users[5], size(5, true, 2)),
        (users[4], size(4, true, 2)),
        (users[3], size(3, false, 6)),
    ] {
        let (_, now) = change(&*store, group, Change::MemberRemoved { user }).await;
        assert_eq!(now, expected);
    }
    let removed = store.members_among(group, &[users[5]]).await.unwrap();
    assert_eq!(removed, []);
    let found = store.group_for(group, &users).await.unwrap().unwrap();
    assert_eq!(found.members.len(), 3);
    assert_eq!(example.read(&*store).await.members, found.members);
}

pub(in crate::store) async fn who_applies_a_turn_first_decides_it(store: Arc<dyn Store>) {
    let users = users(5);
    let (example, _) = Example::create(&*store, &users[..4]).await;
    let added = Change::member_added(users[4], Role::Member);
    let (entry, now) = change(&*store, example.id, added).await;
    assert_eq!(now, size(5, true, 2));
    // A process with another setting.
    apply_at(&*store, &entry, 1000).await;
    assert_eq!(example.read(&*store).await.size, now);
}
