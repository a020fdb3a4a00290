//! The stored form of entries. Needs no server.

use mongodb::bson::{RawDocumentBuf, cstr, rawdoc};

use super::entry;
use crate::domain::{
    Change, ChannelId, Entry, EntryId, Key, Kind, Mentions, MessageState, RequestHash, StreamId,
    Timestamp, UserId,
};
use crate::store::doc::tests::example;

fn with(change: Change) -> Entry {
    Entry {
        id: EntryId::generate(),
        stream: StreamId::Channel(ChannelId::generate()),
        seq: 1 << 40,
        at: Timestamp::from_millis(1_795_262_400_123),
        actor: Some(UserId::generate()),
        key: Key::unique(),
        request: Some(RequestHash::of("POST", &[b"body"])),
        gv: (1 << 53) + 1,
        ord: 3,
        change,
    }
}

#[test]
fn every_kind_survives_storage() {
    for kind in Kind::ALL {
        let all = with(example(*kind));
        let least = Entry {
            actor: None,
            request: None,
            stream: StreamId::Sessions,
            ..all.clone()
        };
        for entry in [all, least] {
            let stored = entry::encode(&entry).unwrap();
            assert_eq!(entry::decode(&stored).unwrap(), entry, "{stored:?}");
        }
    }
}

#[test]
fn a_message_is_read_from_its_entry() {
    let entry = with(example(Kind::MessageCreated));
    let StreamId::Channel(channel) = entry.stream else {
        unreachable!("made above")
    };
    let stored = entry::encode(&entry).unwrap();
    let message = entry::decode_message(channel, &stored).unwrap();
    assert_eq!((message.seq, message.id), (entry.seq, entry.id));
    assert_eq!(Some(message.author), entry.actor);
    assert_eq!(message.created_at, entry.at);
    assert_eq!(
        entry.change,
        Change::MessageCreated(Box::new(message.state))
    );
}

#[test]
fn a_plain_message_is_stored_as_its_content() {
    let state = MessageState {
        content: "hello".to_owned(),
        ..MessageState::default()
    };
    let data = entry::encode_data(&Change::MessageCreated(Box::new(state.clone()))).unwrap();
    assert_eq!(data, rawdoc! { "content": "hello" });
    assert_eq!(entry::decode_state(&data).unwrap(), state);
}

#[test]
fn an_edit_says_whose_content_it_holds() {
    let edit = |content: Option<&str>| {
        let change = Change::MessageEdited {
            message: 7,
            content: content.map(str::to_owned),
            mentions: Mentions::default(),
            edited_at: Timestamp::from_millis(5),
        };
        entry::encode(&with(change)).unwrap()
    };
    assert_eq!(edit(Some("new")).get_i64("copy_of").unwrap(), 7);
    assert!(edit(None).get("copy_of").unwrap().is_none());
}

#[test]
fn unknown_fields_are_ignored() {
    let data = rawdoc! { "message": 4_i64, "reason": "later" };
    let change = entry::decode_data("message.deleted", &data).unwrap();
    assert_eq!(change, Change::MessageDeleted { message: 4 });
}

#[test]
fn what_is_not_an_entry_is_unreadable() {
    for (kind, data) in [
        ("message.lost", rawdoc! {}),
        ("message.deleted", rawdoc! {}),
        ("message.deleted", rawdoc! { "message": -1_i64 }),
        ("message.deleted", rawdoc! { "message": "four" }),
        ("message.created", rawdoc! { "content": 1 }),
    ] {
        assert!(entry::decode_data(kind, &data).is_err(), "{kind} {data:?}");
    }
    let good = entry::encode(&with(example(Kind::GroupDeleted))).unwrap();
    for field in ["_id", "s", "n", "kind", "key", "at", "data", "gv", "ord"] {
        let mut damaged = RawDocumentBuf::new();
        for element in good.iter() {
            let (name, value) = element.unwrap();
            if name.as_str() != field {
                damaged.append(name, value);
            }
        }
        assert!(entry::decode(&damaged).is_err(), "without {field}");
        damaged.append(mongodb::bson::raw::CString::try_from(field).unwrap(), true);
        assert!(entry::decode(&damaged).is_err(), "{field} is no boolean");
    }
    let mut damaged = good.clone();
    damaged.append(cstr!("extra"), 1);
    assert!(entry::decode(&damaged).is_ok());
}
