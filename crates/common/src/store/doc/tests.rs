use super::*;
use crate::domain::{
    Change, ChannelId, GroupKind, InviteId, InviteUse, Kind, Mentions, MessageState, ReactionCount,
    Role, SessionId, Timestamp, UserId,
};

fn message(reacted: UserId) -> MessageState {
    MessageState {
        content: "with \"quotes\"\nand 👍".to_owned(),
        reply_to: Some(3),
        mentions: Mentions {
            users: vec![UserId::generate()],
            everyone: true,
        },
        reactions: vec![ReactionCount {
            emoji: "👍".to_owned(),
            count: 1,
            users: vec![reacted],
        }],
        edited_at: Some(Timestamp::from_millis(1_795_262_400_123)),
        deleted: true,
        pinned: true,
        applied: 9,
    }
}

pub(in crate::store) fn example(kind: Kind) -> Change {
    let user = UserId::generate();
    let session = SessionId::generate();
    let channel = ChannelId::generate();
    let invite = InviteId::generate();
    let role = Role::Admin;
    let name = "general".to_owned();
    let now = ReactionCount {
        emoji: "❤️".to_owned(),
        count: 4,
        users: vec![user],
    };
    match kind {
        Kind::SessionCreated => Change::SessionCreated {
            session,
            device_name: name,
        },
        Kind::SessionRevoked => Change::SessionRevoked { session },
        Kind::UserUpdated => Change::UserUpdated { display_name: name },
        Kind::ReadMoved => Change::ReadMoved {
            channel,
            seq: 9,
            ord: 7,
        },
        Kind::GroupCreated => Change::GroupCreated {
            kind: GroupKind::Direct,
            name: Some(name.clone()),
            members: vec![(user, Role::Owner), (UserId::generate(), Role::Member)],
            channels: vec![(channel, name)],
        },
        Kind::GroupUpdated => Change::GroupUpdated { name: Some(name) },
        Kind::GroupDeleted => Change::GroupDeleted,
        Kind::MemberAdded => Change::member_added(user, role),
        Kind::MemberUpdated => Change::MemberUpdated { user, role },
        Kind::OwnerChanged => Change::OwnerChanged {
            user,
            previous: UserId::generate(),
        },
        Kind::MemberMuted => Change::MemberMuted {
            user,
            until: Some(Timestamp::from_millis(7)),
        },
        Kind::MemberRemoved => Change::MemberRemoved { user },
        Kind::MemberBanned => Change::MemberBanned {
            user,
            was_member: true,
        },
        Kind::MemberUnbanned => Change::MemberUnbanned { user },
        Kind::ChannelCreated => Change::ChannelCreated { channel, name },
        Kind::ChannelUpdated => Change::ChannelUpdated {
            channel,
            name,
            slow_mode_secs: Some(30),
        },
        Kind::ChannelDeleted => Change::ChannelDeleted { channel },
        Kind::InviteCreated => Change::InviteCreated {
            invite,
            expires_at: Some(Timestamp::from_millis(7)),
            max_uses: Some(3),
        },
        Kind::InviteDeleted => Change::InviteDeleted { invite },
        Kind::MembersChanged => Change::MembersChanged {
            gv: (1 << 53) + 1, // more than a double holds
        },
        Kind::MessageCreated => Change::MessageCreated(Box::new(message(user))),
        Kind::MessageEdited => Change::MessageEdited {
            message: 7,
            content: Some(name),
            mentions: Mentions {
                users: vec![user],
                everyone: true,
            },
            edited_at: Timestamp::from_millis(5),
        },
        Kind::MessageDeleted => Change::MessageDeleted { message: 7 },
        Kind::ReactionAdded => Change::ReactionAdded { message: 7, now },
        Kind::ReactionRemoved => Change::ReactionRemoved { message: 7, now },
        Kind::MessagePinned => Change::MessagePinned { message: 7 },
        Kind::MessageUnpinned => Change::MessageUnpinned { message: 7 },
        Kind::SessionEnded => Change::SessionEnded { session, user },
    }
}

fn check(change: &Change) {
    let data = encode(change).unwrap();
    let kind = change.kind().as_str();
    assert_eq!(&decode(kind, &data).unwrap(), change, "{kind}: {data}");
}

#[test]
fn every_kind_survives_storage() {
    for kind in Kind::ALL {
        let change = example(*kind);
        assert_eq!(change.kind(), *kind);
        check(&change);
    }
}

#[test]
fn what_is_empty_survives_storage() {
    check(&Change::GroupUpdated { name: None });
    check(&Change::MemberMuted {
        user: UserId::generate(),
        until: None,
    });
    check(&Change::MemberAdded {
        user: UserId::generate(),
        role: Role::Member,
        muted_until: Some(Timestamp::from_millis(7)),
        invite: Some(InviteUse {
            invite: InviteId::generate(),
            uses: 2,
        }),
    });
    check(&Change::MessageCreated(Box::default()));
    check(&Change::ReactionRemoved {
        message: 1,
        now: ReactionCount::nobody("👍"),
    });
    check(&Change::MessageEdited {
        message: 1,
        content: None,
        mentions: Mentions::default(),
        edited_at: Timestamp::from_millis(0),
    });
    check(&Change::GroupCreated {
        kind: GroupKind::Group,
        name: None,
        members: Vec::new(),
        channels: Vec::new(),
    });
}

#[test]
fn a_plain_message_is_stored_as_its_content() {
    let state = MessageState {
        content: "hello".to_owned(),
        ..MessageState::default()
    };
    let data = encode(&Change::MessageCreated(Box::new(state.clone()))).unwrap();
    assert_eq!(data, r#"{"content":"hello"}"#);
    assert_eq!(decode_message(&data).unwrap(), state);
}

#[test]
fn unknown_fields_are_ignored() {
    let change = decode("message.deleted", r#"{"message":4,"reason":"later"}"#).unwrap();
    assert_eq!(change, Change::MessageDeleted { message: 4 });
}

#[test]
fn what_is_not_a_change_is_unreadable() {
    for (kind, data) in [
        ("message.lost", "{}"),
        ("message.deleted", "{}"),
        ("message.deleted", "not json"),
        ("message.deleted", r#"{"message":-1}"#),
        ("member.added", r#"{"user":"x","role":"owner"}"#),
        ("message.created", "[]"),
        ("message.created", "null"),
    ] {
        assert!(decode(kind, data).is_err(), "{kind} {data}");
    }
}
