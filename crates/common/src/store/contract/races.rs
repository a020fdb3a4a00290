//! Several processes that apply the same entries at the same time, each in order, each at its
//! own pace. What comes of it is compared with the same entries, applied once.

use std::sync::Arc;

use futures_util::future::join_all;

use super::fixture::{all, apply, channel, channel_id, edit, run, text};
use crate::domain::{
    Change, ChannelId, Entry, EntryId, Group, GroupId, GroupKind, Head, Key, MessageState,
    ReactionCount, Role, SessionId, StreamId, Timestamp, UserId,
};
use crate::store::{IdWindow, Store};

const PROCESSES: usize = 4;

async fn append(store: &dyn Store, entries: &[Entry]) {
    let appended = store.append(entries.to_vec()).await.unwrap();
    assert_eq!(appended.landed, entries.len());
}

/// Commits `entries`, and the same in `elsewhere`. Several apply the former, one the latter.
async fn race(store: &Arc<dyn Store>, entries: &[Entry], elsewhere: &[Entry]) {
    append(&**store, entries).await;
    append(&**store, elsewhere).await;
    let processes = (0..PROCESSES).map(|_| {
        let (store, entries) = (Arc::clone(store), entries.to_vec());
        tokio::spawn(async move {
            for entry in &entries {
                apply(&*store, entry).await;
            }
        })
    });
    for process in join_all(processes).await {
        process.unwrap();
    }
    for entry in elsewhere {
        apply(&**store, entry).await;
    }
}

/// The same entries in another stream.
fn moved(entries: &[Entry], stream: StreamId) -> Vec<Entry> {
    let moved = |entry: &Entry| Entry {
        id: EntryId::generate(),
        key: Key::unique(),
        stream,
        ..entry.clone()
    };
    entries.iter().map(moved).collect()
}

fn reaction(message: u64, emoji: &str, present: bool) -> Change {
    let now = ReactionCount::nobody(emoji);
    if present {
        Change::ReactionAdded { message, now }
    } else {
        Change::ReactionRemoved { message, now }
    }
}

/// Two messages, and what four users do to them.
fn conversation(stream: StreamId) -> Vec<Entry> {
    let mut changes = vec![text("one"), text("two")];
    for round in 0..3_u64 {
        for message in [1, 2] {
            changes.push(edit(message, &format!("round {round}")));
            changes.push(reaction(message, "👍", true));
            changes.push(reaction(message, "🎉", true));
            changes.push(reaction(message, "👍", false));
            changes.push(reaction(message, "👍", true));
        }
    }
    changes.push(Change::MessageDeleted { message: 2 });
    changes.push(reaction(2, "👍", true));
    let users: Vec<UserId> = (0..4).map(|_| UserId::generate()).collect();
    let mut entries = run(stream, Head::default(), changes);
    for (entry, user) in entries.iter_mut().zip(users.iter().cycle()) {
        entry.actor = Some(*user);
    }
    entries
}

async fn states(store: &dyn Store, stream: StreamId) -> Vec<MessageState> {
    let found = store.messages_at(channel_id(stream), &[1, 2]).await;
    let found = found.unwrap().into_iter();
    found.map(|message| message.state).collect()
}

pub(in crate::store) async fn who_applies_to_a_channel_does_not_matter(store: Arc<dyn Store>) {
    for _ in 0..3 {
        let (stream, other) = (channel(), channel());
        let entries = conversation(stream);
        race(&store, &entries, &moved(&entries, other)).await;
        let found = states(&*store, stream).await;
        assert_eq!(found, states(&*store, other).await);
        assert_eq!(found[0].content, "round 2");
        assert!(found[1].deleted);
        // No content is left outside its message.
        let left = all(&*store, stream).await.into_iter().filter(|entry| {
            let kept = |content: &Option<String>| content.is_some();
            matches!(&entry.change, Change::MessageEdited { content, .. } if kept(content))
        });
        assert_eq!(left.count(), 0);
    }
}

/// What happens in a group of `users`, whose second channel is `channel`.
fn affairs(stream: StreamId, users: &[UserId], channel: ChannelId) -> Vec<Entry> {
    let name = |n: u64| format!("name {n}");
    let member = |user: &UserId| (*user, Role::Member);
    let mut changes = vec![
        Change::GroupCreated {
            kind: GroupKind::Group,
            name: Some(name(0)),
            members: users[..20].iter().map(member).collect(),
            channels: vec![(ChannelId::generate(), name(0))],
        },
        Change::ChannelCreated {
            channel,
            name: name(0),
        },
    ];
    for (n, user) in (1..).zip(&users[20..]) {
        let (user, role) = (*user, Role::Member);
        changes.push(Change::member_added(user, role));
        changes.push(Change::GroupUpdated {
            name: Some(name(n)),
            lease: (n == 1).then_some(9),
        });
        let role = Role::Admin;
        changes.push(Change::MemberUpdated { user, role });
        changes.push(Change::ChannelUpdated {
            channel,
            name: name(n),
            slow_mode_secs: (n % 2 == 0).then_some(60),
            lease: None,
        });
        changes.push(Change::MemberRemoved { user: users[1] });
        let (user, role) = (users[1], Role::Member);
        changes.push(Change::member_added(user, role));
        let until = Some(Timestamp::from_millis(1));
        changes.push(Change::MemberMuted { user, until });
        let (user, previous) = (users[3], users[0]);
        changes.push(Change::OwnerChanged { user, previous });
        let (user, was_member) = (users[4], n == 1);
        changes.push(Change::MemberBanned { user, was_member });
        changes.push(Change::MemberUnbanned { user });
        let session = SessionId::from_bytes([7; 16]);
        changes.push(Change::LeaseAcquired { session });
    }
    changes.push(Change::MemberRemoved { user: users[2] });
    run(stream, Head::default(), changes)
}

/// What there is to say of a group but for ids.
async fn outline(store: &dyn Store, group: GroupId, user: UserId) -> String {
    let count = store.membership(user, group).await.unwrap().unwrap();
    let listed = store.members(group, IdWindow::First, 99).await.unwrap();
    let Group {
        name,
        version,
        applied,
        lease,
        members,
        channels,
        ..
    } = store.group(group).await.unwrap().unwrap();
    assert_eq!(count.size.members, members.len() as u64);
    assert_eq!(count.lease, lease);
    let lease = lease.map(|lease| (lease.token, lease.session, lease.since));
    assert_eq!(listed.len(), members.len());
    let mut channels: Vec<_> = channels
        .into_values()
        .map(|channel| (channel.name, channel.version, channel.slow_mode_secs))
        .collect();
    channels.sort();
    format!("{name:?} {version} {applied} {lease:?} {members:?} {channels:?}")
}

pub(in crate::store) async fn who_applies_to_a_group_does_not_matter(store: Arc<dyn Store>) {
    let users: Vec<UserId> = (0..26).map(|_| UserId::generate()).collect();
    for _ in 0..3 {
        let (group, other) = (GroupId::generate(), GroupId::generate());
        let entries = affairs(group.into(), &users, ChannelId::generate());
        let elsewhere = affairs(other.into(), &users, ChannelId::generate());
        race(&store, &entries, &elsewhere).await;
        let found = outline(&*store, group, users[0]).await;
        assert_eq!(found, outline(&*store, other, users[0]).await);
    }
}
