//! What commands a store sends, for tests of how they are put.

use std::sync::{Arc, Mutex};

use mongodb::bson::Document;
use mongodb::event::EventHandler;
use mongodb::event::command::CommandEvent;
use secrecy::SecretString;

use super::MongoStore;
use super::open::{TRYING, options};
use super::testing::tasks;
use crate::domain::{
    Change, ChannelId, GroupId, GroupKind, InviteId, InviteUse, Key, Place, ReactionCount, Role,
    ServerId, SessionId, StreamId, Timestamp, User, UserId,
};
use crate::store::contract::fixture::{apply, commit, edit, fence, fill, text};
use crate::store::{BusLayout, Claim, IdWindow, NewUser, Store, Window};

/// The commands sent since it was made, in order.
#[derive(Default, Clone)]
pub(super) struct Recording(Arc<Mutex<Vec<Document>>>);

impl Recording {
    /// Opens a store whose commands are recorded.
    pub(super) async fn open(&self, url: &str) -> MongoStore {
        let (mut options, name) = options(&SecretString::from(url)).await.unwrap();
        let commands = Arc::clone(&self.0);
        options.command_event_handler = Some(EventHandler::callback(move |event| {
            if let CommandEvent::Started(started) = event {
                commands.lock().unwrap().push(started.command);
            }
        }));
        MongoStore::connect(options, &name, TRYING, &tasks())
            .await
            .unwrap()
    }

    pub(super) fn take(&self) -> Vec<Document> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

/// Calls every method of a store, most of them so that they find something.
pub(super) async fn exercise(store: &dyn Store) {
    let user = UserId::generate();
    let (group, channel) = exercise_state(store, user).await;
    exercise_reads(store, user, group, channel).await;
    exercise_log(store, channel.into()).await;
    exercise_reading(store, user, group, channel).await;
}

async fn exercise_reading(store: &dyn Store, user: UserId, group: GroupId, channel: ChannelId) {
    let (seq, ord) = (1, 1);
    let moved = Change::ReadMoved { channel, seq, ord };
    commit(store, StreamId::User(user), user, moved).await;
    let (users, channels) = ([user, UserId::generate()], [channel, ChannelId::generate()]);
    let marks = store.read_marks(&users, &channels).await.unwrap();
    assert_eq!(marks.len(), 1);
    let places = [(channel, Place { seq, ord })];
    for joined in [1, 2] {
        let begun = store.begin_reading(user, group, joined, &places).await;
        begun.unwrap();
    }
    let begun = store.begun_reading(user, &[group]).await.unwrap();
    assert_eq!(begun, places);
    assert_eq!(store.ends(&channels).await.unwrap()[0].ord, 2);
    assert_eq!(store.place_at(channel, 1).await.unwrap(), places[0].1);
    assert_eq!(store.last_sent_by(user, &channels).await.unwrap().len(), 1);
    assert_eq!(store.last_sent_in(channel, &users).await.unwrap().len(), 1);
    for behind in [&channels[..1], &channels] {
        let behind: Vec<_> = behind.iter().map(|channel| (*channel, 0)).collect();
        let none = vec![0; behind.len()];
        assert_eq!(store.mentions(user, &behind, 9).await.unwrap(), none);
    }
}

async fn exercise_state(store: &dyn Store, user: UserId) -> (GroupId, ChannelId) {
    let at = Timestamp::from_millis(1);
    let new = NewUser {
        user: User {
            id: user,
            username: "ada".to_owned(),
            display_name: "Ada".to_owned(),
            created_at: at,
        },
        password_hash: String::new(),
        key: Key::unique(),
    };
    for _ in 0..2 {
        store.create_user(new.clone()).await.unwrap();
    }
    let (group, channel, session) = (
        GroupId::generate(),
        ChannelId::generate(),
        SessionId::generate(),
    );
    for change in user_changes(session) {
        commit(store, StreamId::User(user), user, change).await;
    }
    store.rotate_session(session, 1, at, None).await.unwrap();
    for change in group_changes(user, channel) {
        let entry = commit(store, StreamId::Group(group), user, change).await;
        apply(store, &entry).await;
    }
    for change in channel_changes() {
        commit(store, StreamId::Channel(channel), user, change).await;
    }
    let layout = BusLayout {
        prefix: "tidings".to_owned(),
        partitions: 1024,
        exchanges: 8,
    };
    store.agree(layout).await.unwrap();
    store.begin_epoch().await.unwrap();
    let lifetime = std::time::Duration::from_secs(1);
    let leased = store.lease("work", ServerId::generate(), lifetime).await;
    assert!(leased.unwrap());
    store.check().await.unwrap();
    (group, channel)
}

fn user_changes(session: SessionId) -> [Change; 3] {
    let name = || "name".to_owned();
    [
        Change::SessionCreated {
            session,
            device_name: name(),
        },
        Change::UserUpdated {
            display_name: name(),
        },
        Change::SessionRevoked {
            session: SessionId::generate(),
        },
    ]
}

fn group_changes(user: UserId, channel: ChannelId) -> Vec<Change> {
    let name = || "name".to_owned();
    let (other, third) = (UserId::generate(), UserId::generate());
    let role = Role::Member;
    let second = ChannelId::generate();
    let session = SessionId::generate();
    let (invite, shut_out) = (InviteId::generate(), UserId::generate());
    let banned = |user| Change::MemberBanned {
        user,
        was_member: false,
    };
    let created = Change::GroupCreated {
        kind: GroupKind::Group,
        name: Some(name()),
        members: vec![(user, Role::Owner), (other, role)],
        channels: vec![(channel, name())],
    };
    vec![
        created,
        Change::LeaseAcquired { session },
        Change::GroupUpdated {
            name: Some(name()),
            lease: Some(2),
        },
        Change::LeaseReleased { session },
        Change::member_added(third, role),
        Change::MemberUpdated {
            user: third,
            role: Role::Admin,
        },
        Change::MemberRemoved { user: third },
        Change::member_added(third, role),
        Change::ChannelCreated {
            channel: second,
            name: name(),
        },
        Change::ChannelUpdated {
            channel: second,
            name: name(),
            slow_mode_secs: Some(60),
            lease: None,
        },
        Change::ChannelDeleted { channel: second },
        Change::OwnerChanged {
            user: third,
            previous: user,
        },
        Change::MemberMuted {
            user: other,
            until: Some(Timestamp::from_millis(1)),
        },
        Change::MemberBanned {
            user: UserId::generate(),
            was_member: false,
        },
        banned(shut_out),
        Change::MemberUnbanned { user: shut_out },
        banned(shut_out),
        Change::InviteCreated {
            invite,
            expires_at: None,
            max_uses: Some(2),
        },
        Change::MemberAdded {
            user: other,
            role,
            muted_until: None,
            invite: Some(InviteUse { invite, uses: 1 }),
        },
        Change::InviteCreated {
            invite: InviteId::generate(),
            expires_at: None,
            max_uses: None,
        },
        Change::InviteDeleted { invite },
    ]
}

fn channel_changes() -> Vec<Change> {
    let now = || ReactionCount::nobody("👍");
    let message = 1;
    vec![
        text("one"),
        text("two"),
        edit(message, "other"),
        Change::ReactionAdded {
            message,
            now: now(),
        },
        Change::ReactionRemoved {
            message,
            now: now(),
        },
        Change::MessagePinned { message },
        Change::MessageUnpinned { message },
        Change::MessageDeleted { message: 2 },
    ]
}

async fn exercise_reads(store: &dyn Store, user: UserId, group: GroupId, channel: ChannelId) {
    store.meta().await.unwrap();
    store.account("ada").await.unwrap().unwrap();
    assert_eq!(store.users(&[user]).await.unwrap().len(), 1);
    let named = store.users_named(&["ada".to_owned()]).await.unwrap();
    assert_eq!(named.len(), 1);
    let reacting = store.reacting(channel, 1, "👍", user).await.unwrap();
    assert!(reacting.first.is_empty());
    assert_eq!(store.group_of(channel).await.unwrap(), Some(group));
    assert!(store.group(group).await.unwrap().is_some());
    assert!(store.membership(user, group).await.unwrap().is_some());
    assert_eq!(store.group_counts(&[user]).await.unwrap(), [1]);
    assert_eq!(store.streams_of(user).await.unwrap().len(), 2);
    assert_eq!(store.acquaintances(user, 9).await.unwrap().len(), 2);
    let shared = store.shared_groups(user, &[user]).await.unwrap();
    assert_eq!(shared, [(user, group)]);
    for below in [false, true] {
        fn window<T>(below: bool, bound: T) -> IdWindow<T> {
            if below {
                IdWindow::Before(bound)
            } else {
                IdWindow::After(bound)
            }
        }
        let sessions = window(below, SessionId::generate());
        let found = store.sessions(user, sessions, 9).await.unwrap();
        assert_eq!(found.len(), usize::from(below));
        let users = window(below, UserId::generate());
        let found = store.reactors(channel, 1, "👍", users, 9).await.unwrap();
        assert_eq!(found, []);
        let groups = window(below, GroupId::generate());
        let found = store.memberships(user, groups, 9).await.unwrap();
        assert_eq!(found.len(), usize::from(below));
        let users = window(below, UserId::generate());
        let found = store.members(group, users, 9).await.unwrap();
        assert_eq!(found.len(), if below { 3 } else { 0 });
        let users = window(below, UserId::generate());
        let found = store.bans(group, users, 9).await.unwrap();
        assert_eq!(found.len(), if below { 2 } else { 0 });
        let invites = window(below, InviteId::generate());
        let found = store.invites(group, invites, 9).await.unwrap();
        assert_eq!(found.len(), usize::from(below));
    }
    let banned = store.bans(group, IdWindow::First, 1).await.unwrap()[0];
    let restrictions = store.restrictions(group, banned.user).await.unwrap();
    assert_eq!(restrictions.ban, Some(banned));
    let open = store.invites(group, IdWindow::First, 1).await.unwrap();
    let found = store.invite(open[0].id).await.unwrap();
    assert_eq!(found.as_ref(), open.first());
    let session = store.sessions(user, IdWindow::First, 1).await.unwrap()[0].id;
    assert!(store.session(session).await.unwrap().is_some());
}

async fn exercise_log(store: &dyn Store, stream: StreamId) {
    let StreamId::Channel(channel) = stream else {
        panic!("{stream} is no channel");
    };
    fill(store, stream, [fence(), fence()]).await;
    assert_eq!(store.heads(&[stream]).await.unwrap(), [10]);
    let entries = store.entries(stream, 0, 9, 9).await.unwrap();
    assert!(store.find(stream, entries[0].key).await.unwrap().is_some());
    assert!(store.find(stream, Key::unique()).await.unwrap().is_none());
    for window in [
        Window::Newest,
        Window::Before(9),
        Window::After(0),
        Window::Around(2),
    ] {
        let page = store.messages(channel, window, 9).await.unwrap();
        assert_eq!(page.items.len(), 2);
    }
    for window in [Window::Newest, Window::Before(9), Window::After(0)] {
        let page = store.pinned(channel, window, 9).await.unwrap();
        assert_eq!(page.items, []);
    }
    assert_eq!(store.versions(channel, 0, 9).await.unwrap().len(), 2);
    assert_eq!(store.versions_at(channel, &[1]).await.unwrap().len(), 1);
    assert_eq!(store.messages_at(channel, &[1]).await.unwrap().len(), 1);
    assert_eq!(store.with_pending(&[stream]).await.unwrap(), [stream]);
    let pending = store.pending_in(stream, 0, 9).await.unwrap();
    let late = pending[0].at.plus_millis(1_000_000);
    assert!(!store.pending(late, None, 9).await.unwrap().items.is_empty());
    let after = Some((stream, 1));
    store.pending(late, after, 9).await.unwrap();
    let early = Timestamp::from_millis(0);
    for after in [None, after] {
        let later = store.pending_later(early, after, 9).await.unwrap();
        assert!(!later.marks.is_empty());
    }
    assert!(!store.pending_lately(early, 9).await.unwrap().is_empty());
    let claim = Claim {
        stream,
        seq: 1,
        seen: pending[0].at,
    };
    assert_eq!(store.claim(&[claim], late).await.unwrap(), [true]);
    let settled: Vec<_> = pending.iter().map(|entry| (stream, entry.seq)).collect();
    store.settle(&settled).await.unwrap();
    for after in [None, after] {
        let page = store.old_entries(late, after, 9).await.unwrap();
        assert!(!page.streams.is_empty());
    }
    assert!(store.trim(stream, 7).await.unwrap() > 0);
    assert_eq!(store.floor(stream).await.unwrap(), 7);
}
