//! Bans, mutes, slow mode, invites, and a group's change of hands.

use std::sync::Arc;

use super::fixture::{apply, at, check_both_ways, commit};
use crate::domain::{
    Ban, Change, ChannelId, Entry, GroupId, GroupKind, Invite, InviteId, InviteUse, Member,
    Restrictions, Role, Timestamp, UserId,
};
use crate::store::{IdWindow, Store};

/// A group with an owner, a member and a channel.
struct Example {
    store: Arc<dyn Store>,
    group: GroupId,
    channel: ChannelId,
    owner: UserId,
    member: UserId,
}

/// Of somebody whom the group knows and against whom nothing is held.
fn nothing_but_known() -> Restrictions {
    Restrictions {
        known: true,
        ..Restrictions::default()
    }
}

impl Example {
    async fn create(store: Arc<dyn Store>) -> Self {
        let example = Self {
            store,
            group: GroupId::generate(),
            channel: ChannelId::generate(),
            owner: UserId::generate(),
            member: UserId::generate(),
        };
        let members = [(example.owner, Role::Owner), (example.member, Role::Member)];
        let created = Change::GroupCreated {
            kind: GroupKind::Group,
            name: None,
            members: members.to_vec(),
            channels: vec![(example.channel, "general".to_owned())],
        };
        example.commit(created).await;
        example
    }

    async fn commit(&self, change: Change) -> Entry {
        commit(&*self.store, self.group.into(), self.owner, change).await
    }

    async fn ban(&self, user: UserId, was_member: bool) -> Entry {
        self.commit(Change::MemberBanned { user, was_member }).await
    }

    async fn mute(&self, user: UserId, until: Option<Timestamp>) -> Entry {
        self.commit(Change::MemberMuted { user, until }).await
    }

    async fn restrictions(&self, user: UserId) -> Restrictions {
        self.store.restrictions(self.group, user).await.unwrap()
    }

    async fn found(&self, user: UserId) -> Option<Member> {
        let group = self.store.group(self.group).await.unwrap().unwrap();
        let listed = self.store.members(self.group, IdWindow::First, 9);
        let listed = listed.await.unwrap().into_iter();
        let mut listed = listed.filter(|(id, _)| *id == user).map(|(_, it)| it);
        assert_eq!(listed.next_back(), group.members.get(&user).copied());
        group.members.get(&user).copied()
    }

    async fn count(&self) -> u64 {
        let membership = self.store.membership(self.owner, self.group).await;
        membership.unwrap().unwrap().size.members
    }

    async fn bans(&self) -> Vec<Ban> {
        let bans = self.store.bans(self.group, IdWindow::First, 9).await;
        bans.unwrap()
    }
}

pub(in crate::store) async fn a_ban_removes_and_stays_until_taken_back(store: Arc<dyn Store>) {
    let example = Example::create(store).await;
    let (user, stranger) = (example.member, UserId::generate());
    let ban = |user, seq| Ban {
        user,
        by: Some(example.owner),
        at: at(seq),
    };
    let unknown = example.restrictions(stranger).await;
    assert_eq!(unknown, Restrictions::default());
    assert_eq!(example.restrictions(user).await, nothing_but_known());
    let banned = example.ban(user, true).await;
    assert_eq!(example.found(user).await, None);
    assert_eq!(
        (example.count().await, example.bans().await),
        (1, vec![ban(user, 2)])
    );
    assert_eq!(example.restrictions(user).await.ban, Some(ban(user, 2)));
    // Somebody who never was a member.
    let other = example.ban(stranger, false).await;
    assert_eq!(example.found(stranger).await, None);
    assert_eq!(example.count().await, 1);
    let mut both = vec![ban(user, 2), ban(stranger, 3)];
    both.sort_unstable_by_key(|ban| ban.user);
    assert_eq!(example.bans().await, both);
    for user in [user, stranger] {
        example.commit(Change::MemberUnbanned { user }).await;
        assert_eq!(example.restrictions(user).await, nothing_but_known());
    }
    // What comes late finds that it has been taken back.
    for late in [&banned, &other] {
        apply(&*example.store, late).await;
        assert_eq!(example.bans().await, []);
    }
    for user in [user, stranger] {
        let added = Change::member_added(user, Role::Member);
        example.commit(added).await;
        assert!(example.found(user).await.is_some());
    }
    apply(&*example.store, &banned).await;
    assert_eq!(example.count().await, 3);
    assert!(example.found(user).await.is_some());
}

pub(in crate::store) async fn bans_come_in_pages(store: Arc<dyn Store>) {
    let example = Example::create(store).await;
    let mut expected: Vec<UserId> = (0..7).map(|_| UserId::generate()).collect();
    for user in &expected {
        example.ban(*user, false).await;
    }
    let taken_back = UserId::generate();
    example.ban(taken_back, false).await;
    example
        .commit(Change::MemberUnbanned { user: taken_back })
        .await;
    expected.sort_unstable();
    let read = async |window, limit| -> Vec<UserId> {
        let page = example.store.bans(example.group, window, limit).await;
        page.unwrap().into_iter().map(|ban| ban.user).collect()
    };
    check_both_ways(&expected, UserId::generate, read).await;
    let elsewhere = GroupId::generate();
    let bans = example.store.bans(elsewhere, IdWindow::First, 9).await;
    assert_eq!(bans.unwrap(), []);
}

pub(in crate::store) async fn a_mute_outlasts_membership(store: Arc<dyn Store>) {
    let example = Example::create(store).await;
    let user = example.member;
    let until = Some(at(100));
    let muted = example.mute(user, until).await;
    assert_eq!(example.found(user).await.unwrap().muted_until, until);
    example.commit(Change::MemberRemoved { user }).await;
    assert_eq!(example.restrictions(user).await.muted_until, until);
    example.ban(user, false).await;
    example.commit(Change::MemberUnbanned { user }).await;
    assert_eq!(example.restrictions(user).await.muted_until, until);
    // Who adds says whether it goes on.
    let back = Change::MemberAdded {
        user,
        role: Role::Member,
        muted_until: until,
        invite: None,
    };
    example.commit(back).await;
    assert_eq!(example.found(user).await.unwrap().muted_until, until);
    example.mute(user, None).await;
    apply(&*example.store, &muted).await;
    assert_eq!(example.found(user).await.unwrap().muted_until, None);
    assert_eq!(example.restrictions(user).await, nothing_but_known());
}

pub(in crate::store) async fn ownership_changes_hands_at_once(store: Arc<dyn Store>) {
    let example = Example::create(store).await;
    let (owner, member) = (example.owner, example.member);
    example.mute(member, Some(at(100))).await;
    let changed = Change::OwnerChanged {
        user: member,
        previous: owner,
    };
    let passed_on = example.commit(changed).await;
    let roles = async || {
        let (old, new) = (example.found(owner).await, example.found(member).await);
        let new = new.unwrap();
        (old.unwrap().role, new.role, new.muted_until)
    };
    assert_eq!(roles().await, (Role::Admin, Role::Owner, None));
    let back = Change::OwnerChanged {
        user: owner,
        previous: member,
    };
    example.commit(back).await;
    apply(&*example.store, &passed_on).await;
    assert_eq!(roles().await, (Role::Owner, Role::Admin, None));
}

pub(in crate::store) async fn slow_mode_is_a_channels_setting(store: Arc<dyn Store>) {
    let example = Example::create(store).await;
    let channel = example.channel;
    let update = |name: &str, slow_mode_secs| Change::ChannelUpdated {
        channel,
        name: name.to_owned(),
        slow_mode_secs,
        lease: None,
    };
    let shown = async || {
        let group = example.store.group(example.group).await.unwrap().unwrap();
        let found = group.channels[&channel].clone();
        (found.name, found.slow_mode_secs, found.version)
    };
    assert_eq!(shown().await, ("general".to_owned(), 0, 1));
    let slow = example.commit(update("general", Some(30))).await;
    assert_eq!(shown().await, ("general".to_owned(), 30, 2));
    example.commit(update("slow", None)).await;
    assert_eq!(shown().await, ("slow".to_owned(), 30, 3));
    example.commit(update("slow", Some(0))).await;
    apply(&*example.store, &slow).await;
    assert_eq!(shown().await, ("slow".to_owned(), 0, 4));
}

pub(in crate::store) async fn invites_are_made_used_and_withdrawn(store: Arc<dyn Store>) {
    let example = Example::create(store).await;
    let (id, user) = (InviteId::generate(), UserId::generate());
    assert_eq!(example.store.invite(id).await.unwrap(), None);
    let created = Change::InviteCreated {
        invite: id,
        expires_at: Some(at(100)),
        max_uses: Some(2),
    };
    let created = example.commit(created).await;
    let mut expected = Invite {
        id,
        group: example.group,
        created_by: Some(example.owner),
        created_at: at(2),
        expires_at: Some(at(100)),
        max_uses: Some(2),
        uses: 0,
        deleted: false,
    };
    let check = async |expected: &Invite| {
        let found = example.store.invite(id).await.unwrap();
        assert_eq!(found.as_ref(), Some(expected));
        let listed = example.store.invites(example.group, IdWindow::First, 9);
        let there = (!expected.deleted).then(|| expected.clone());
        assert_eq!(listed.await.unwrap(), Vec::from_iter(there));
    };
    check(&expected).await;
    let joined = Change::MemberAdded {
        user,
        role: Role::Member,
        muted_until: None,
        invite: Some(InviteUse {
            invite: id,
            uses: 1,
        }),
    };
    let joined = example.commit(joined).await;
    assert!(example.found(user).await.is_some());
    expected.uses = 1;
    check(&expected).await;
    apply(&*example.store, &created).await;
    check(&expected).await;
    example.commit(Change::InviteDeleted { invite: id }).await;
    expected.deleted = true;
    for late in [&created, &joined] {
        apply(&*example.store, late).await;
        check(&expected).await;
    }
}

pub(in crate::store) async fn invites_come_in_pages(store: Arc<dyn Store>) {
    let example = Example::create(store).await;
    let create = async |invite| {
        let created = Change::InviteCreated {
            invite,
            expires_at: None,
            max_uses: None,
        };
        example.commit(created).await;
    };
    let mut expected = Vec::new();
    for n in 0..8 {
        let invite = InviteId::generate();
        create(invite).await;
        if n == 3 {
            example.commit(Change::InviteDeleted { invite }).await;
        } else {
            expected.push(invite);
        }
    }
    expected.sort_unstable();
    let read = async |window, limit| -> Vec<InviteId> {
        let page = example.store.invites(example.group, window, limit).await;
        page.unwrap().into_iter().map(|invite| invite.id).collect()
    };
    check_both_ways(&expected, InviteId::generate, read).await;
}
