use super::*;
use crate::domain::{
    Change, ChannelId, GroupKind, Kind, MessageState, ReactionCount, Role, SessionId, Timestamp,
    UserId,
};

fn message(reacted: UserId) -> MessageState {
    MessageState {
        content: "with \"quotes\"\nand 👍".to_owned(),
        reply_to: Some(3),
        mentions: vec![UserId::generate()],
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
    let role = Role::Admin;
    let name = "general".to_owned();
    let emoji = "❤️".to_owned();
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
        Kind::MemberAdded => Change::MemberAdded { user, role },
        Kind::MemberUpdated => Change::MemberUpdated { user, role },
        Kind::MemberRemoved => Change::MemberRemoved { user },
        Kind::ChannelCreated => Change::ChannelCreated { channel, name },
        Kind::ChannelUpdated => Change::ChannelUpdated { channel, name },
        Kind::ChannelDeleted => Change::ChannelDeleted { channel },
        Kind::MembersChanged => Change::MembersChanged {
            gv: (1 << 53) + 1, // more than a double holds
        },
        Kind::MessageCreated => Change::MessageCreated(Box::new(message(user))),
        Kind::MessageEdited => Change::MessageEdited {
            message: 7,
            content: Some(name),
            edited_at: Timestamp::from_millis(5),
        },
        Kind::MessageDeleted => Change::MessageDeleted { message: 7 },
        Kind::ReactionAdded => Change::ReactionAdded { message: 7, emoji },
        Kind::ReactionRemoved => Change::ReactionRemoved { message: 7, emoji },
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
    check(&Change::MessageCreated(Box::default()));
    check(&Change::MessageEdited {
        message: 1,
        content: None,
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
