use std::num::NonZeroU16;

use lapin::message::Delivery as Received;

use super::*;
use crate::bus::{Broadcast, Part};
use crate::domain::{ChannelId, GroupId};

fn codec(partitions: u16, exchanges: u16) -> Codec {
    Codec {
        topology: Topology {
            prefix: "test".into(),
            partitions: NonZeroU16::new(partitions).unwrap(),
            exchanges: NonZeroU16::new(exchanges).unwrap(),
        },
        deployment: DeploymentId::generate(),
    }
}

fn user_in(partition: u16) -> UserId {
    let mut bytes = *UserId::generate().as_bytes();
    bytes[8..].copy_from_slice(&u64::from(partition).to_be_bytes());
    UserId::from_bytes(bytes)
}

fn envelope(to: Recipients) -> Envelope {
    Envelope {
        id: Some(EntryId::generate()),
        position: Some((StreamId::Channel(ChannelId::generate()), u64::MAX / 2)),
        at: Timestamp::from_millis(1_795_262_400_123),
        to,
        trace: Some(TraceContext(
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into(),
        )),
        body: Bytes::from_static(b"{}"),
    }
}

/// As the broker hands it on.
fn received(message: Message) -> Received {
    let body = message.body.to_vec();
    let mut received = Received::mock(1, message.exchange, message.routing_key, false, body);
    received.properties = message.properties;
    received
}

fn decoded(codec: &Codec, message: Message) -> Envelope {
    match codec.decode(received(message)).unwrap() {
        Delivery::Delta(envelope) => (*envelope).clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn each_exchange_gets_its_own_recipients_and_their_partitions_as_keys() {
    let codec = codec(8, 2);
    let users = [7, 0, 3, 0, 1].map(user_in);
    let sent = envelope(Recipients::Users(users.to_vec()));
    let messages = codec.envelope("message.created", &sent);
    let keys: Vec<_> = messages
        .iter()
        .map(|message| {
            let headers = message.properties.headers().as_ref().unwrap();
            let others = match headers.inner().get("CC") {
                Some(AMQPValue::FieldArray(keys)) => keys.as_slice().to_vec(),
                None => Vec::new(),
                other => panic!("{other:?}"),
            };
            let others: Vec<_> = others
                .iter()
                .map(|key| String::from_utf8(bytes_of(key).unwrap().to_vec()).unwrap())
                .collect();
            (
                message.exchange.to_string(),
                message.routing_key.to_string(),
                others,
            )
        })
        .collect();
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    assert_eq!(
        keys,
        [
            ("test.deltas.0".to_owned(), "0".to_owned(), Vec::new()),
            (
                "test.deltas.1".to_owned(),
                "1".to_owned(),
                names(&["3", "7"])
            ),
        ]
    );
    let expected = [vec![users[1], users[3]], vec![users[0], users[2], users[4]]];
    for (message, expected) in messages.into_iter().zip(expected) {
        let properties = message.properties.clone();
        assert_eq!(
            properties.kind().as_ref().unwrap().as_str(),
            "message.created"
        );
        assert_eq!(*properties.timestamp(), Some(1_795_262_400));
        assert_eq!(*properties.delivery_mode(), Some(TRANSIENT));
        let got = decoded(&codec, message);
        assert!(matches!(&got.to, Recipients::Users(users) if *users == expected));
        assert_eq!(
            (got.id, got.position, got.at),
            (sent.id, sent.position, sent.at)
        );
        assert_eq!(
            (got.trace, got.body),
            (sent.trace.clone(), sent.body.clone())
        );
    }
}

#[test]
fn nobody_to_tell_is_nothing_to_send() {
    let sent = envelope(Recipients::Users(Vec::new()));
    assert!(codec(8, 2).envelope("message.created", &sent).is_empty());
}

#[test]
fn unknown_headers_are_passed_over() {
    let codec = codec(8, 1);
    let sent = envelope(Recipients::Users(vec![user_in(1)]));
    let mut message = codec.envelope("message.created", &sent).remove(0);
    change(&mut message, "later", Some(text("something")));
    assert_eq!(decoded(&codec, message).id, sent.id);
}

fn change(message: &mut Message, header: &str, value: Option<AMQPValue>) {
    let headers = message.properties.headers().clone().unwrap();
    let mut headers = headers.inner().clone();
    headers.remove(header);
    headers.extend(value.map(|value| (header.into(), value)));
    message.properties = message.properties.clone().with_headers(headers.into());
}

#[test]
fn what_cannot_be_used_is_refused_with_the_reason() {
    let codec = codec(8, 1);
    let check = |header: &str, value: Option<AMQPValue>, expected: Unusable| {
        let sent = envelope(Recipients::Users(vec![user_in(1)]));
        let mut message = codec.envelope("message.created", &sent).remove(0);
        change(&mut message, header, value);
        assert_eq!(codec.decode(received(message)).unwrap_err(), expected);
    };
    let bytes = |count| AMQPValue::ByteArray(ByteArray::from(vec![7; count]));
    check(
        "v",
        Some(AMQPValue::LongLongInt(2)),
        Unusable::UnknownVersion,
    );
    check("v", None, Unusable::UnknownVersion);
    let other = text(&DeploymentId::generate());
    check("deployment", Some(other), Unusable::OtherDeployment);
    check("deployment", None, Unusable::OtherDeployment);
    check("stream", Some(text("q:1")), Unusable::Header("stream"));
    check("stream", None, Unusable::Header("stream"));
    check(
        "seq",
        Some(AMQPValue::LongLongInt(-1)),
        Unusable::Header("seq"),
    );
    check("seq", Some(text("1")), Unusable::Header("seq"));
    check("at_ms", None, Unusable::Header("at_ms"));
    check("to", None, Unusable::Header("to"));
    check("to", Some(bytes(0)), Unusable::Header("to"));
    check("to", Some(bytes(17)), Unusable::Header("to"));
}

#[test]
fn a_broadcast_that_does_not_say_for_whom_is_refused() {
    let codec = codec(8, 1);
    let sent = envelope(Recipients::Group(Broadcast {
        group: GroupId::generate(),
        gv: 7,
        part: Part::Admins,
        about: None,
    }));
    for (header, value) in [
        ("part", None),
        ("part", Some(text("everybody"))),
        ("about", Some(text("nobody"))),
        ("gv", None),
    ] {
        let mut message = codec.envelope("member.banned", &sent).remove(0);
        change(&mut message, header, value);
        let refused = codec.decode(received(message)).unwrap_err();
        assert_eq!(refused, Unusable::Header(header));
    }
}

#[test]
fn hints_survive_the_way() {
    let codec = codec(8, 1);
    let changed = Control::GroupChanged {
        group: GroupId::generate(),
        seq: 7,
    };
    for sent in [Control::SessionsEnded, changed] {
        let got = codec.decode(received(codec.control(sent))).unwrap();
        assert!(matches!(got, Delivery::Control(got) if got == sent));
    }
    let mut unknown = codec.control(Control::SessionsEnded);
    unknown.properties = unknown.properties.with_type("other".into());
    let refused = codec.decode(received(unknown)).unwrap_err();
    assert_eq!(refused, Unusable::UnknownType);
}

/// The most recipients that settings allow, none of them in one partition with another, with
/// the longest keys, all on one exchange.
pub(in crate::bus::rabbitmq) fn largest() -> (Codec, Envelope) {
    let users = (0..4000).map(|place| user_in(u16::MAX - 1 - place));
    (
        codec(u16::MAX, 1),
        envelope(Recipients::Users(users.collect())),
    )
}

#[test]
fn the_largest_envelope_fits_into_a_frame() {
    let (codec, envelope) = largest();
    let message = codec.envelope("message.created", &envelope).remove(0);
    let headers = message.properties.headers().as_ref().unwrap();
    let bytes: usize = headers
        .inner()
        .iter()
        .map(|(name, value)| 1 + name.as_str().len() + encoded_size(value))
        .sum();
    // The properties beside the headers, and the frame around them, take less than 512 bytes.
    assert!(
        (100_000..FRAME_BYTES as usize - 512).contains(&bytes),
        "{bytes}"
    );
}

/// As AMQP 0-9-1 writes a value in a table: its type, its length where it has one, itself.
fn encoded_size(value: &AMQPValue) -> usize {
    match value {
        AMQPValue::LongLongInt(_) => 1 + 8,
        AMQPValue::LongString(text) => 1 + 4 + text.len(),
        AMQPValue::ByteArray(bytes) => 1 + 4 + bytes.len(),
        AMQPValue::FieldArray(values) => {
            1 + 4 + values.as_slice().iter().map(encoded_size).sum::<usize>()
        }
        other => panic!("{other:?}"),
    }
}
