//! Envelopes and hints as AMQP messages. Readers pass over headers that they do not know, so
//! that writers may add some.

use std::collections::BTreeMap;

use bytes::Bytes;
use lapin::BasicProperties;
use lapin::types::{AMQPValue, ByteArray, FieldArray, FieldTable, LongString, ShortString};

use super::super::{Broadcast, Control, Delivery, Envelope, Part, Recipients, TraceContext};
use super::topology::Topology;
use crate::domain::{DeploymentId, EntryId, Seq, StreamId, Timestamp, UserId};

/// Of the headers. What has another version is dropped.
const VERSION: i64 = 1;

/// RabbitMQ's own bound on a frame, and what this side asks for. All properties of a message
/// are one frame: [`tests::the_largest_envelope_fits_into_a_frame`].
pub(super) const FRAME_BYTES: u32 = 128 * 1024;

const SESSIONS_ENDED: &str = "sessions.ended";
const GROUP_CHANGED: &str = "group.changed";

/// Neither stored nor kept over a restart of the broker: the log has it.
const TRANSIENT: u8 = 1;

/// One message to one exchange.
#[derive(Debug, Clone)]
pub(super) struct Message {
    pub(super) exchange: ShortString,
    pub(super) routing_key: ShortString,
    pub(super) properties: BasicProperties,
    pub(super) body: Bytes,
}

impl Message {
    /// About what it takes in memory and on the wire.
    pub(super) fn size(&self) -> usize {
        let recipients = self.properties.headers().as_ref().and_then(|headers| {
            let to = headers.inner().get("to")?;
            Some(bytes_of(to)?.len())
        });
        self.body.len() + recipients.unwrap_or_default() + 512
    }
}

/// Why a message cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unusable {
    #[error("it is of another installation")]
    OtherDeployment,
    #[error("it has a version that this program does not know")]
    UnknownVersion,
    #[error("the header {0} is missing or wrong")]
    Header(&'static str),
    #[error("it has a type that this program does not know")]
    UnknownType,
}

/// Writes and reads the messages of one installation.
#[derive(Debug, Clone)]
pub(super) struct Codec {
    pub(super) topology: Topology,
    pub(super) deployment: DeploymentId,
}

impl Codec {
    /// One message per exchange that has recipients.
    pub(super) fn envelope(&self, kind: &str, envelope: &Envelope) -> Vec<Message> {
        match &envelope.to {
            Recipients::Group(broadcast) => {
                let mut headers = self.headers_of(envelope);
                headers.insert("group".into(), text(&broadcast.group));
                headers.insert("gv".into(), number(broadcast.gv));
                headers.insert("part".into(), text(part_name(broadcast.part)));
                if let Some(user) = broadcast.about {
                    headers.insert("about".into(), text(&user));
                }
                vec![self.broadcast(kind, envelope, headers)]
            }
            Recipients::Watchers(user) => {
                let mut headers = self.headers_of(envelope);
                headers.insert("watched".into(), text(user));
                vec![self.broadcast(kind, envelope, headers)]
            }
            Recipients::Users(users) => self
                .by_exchange(users)
                .into_iter()
                .map(|(exchange, recipients)| Message {
                    exchange: self.topology.deltas(exchange),
                    routing_key: recipients.first_key(),
                    properties: properties(
                        kind,
                        envelope,
                        recipients.into_headers(self.headers_of(envelope)),
                    ),
                    body: envelope.body.clone(),
                })
                .collect(),
        }
    }

    /// To every server.
    fn broadcast(&self, kind: &str, envelope: &Envelope, headers: FieldTable) -> Message {
        Message {
            exchange: self.topology.broadcast(),
            routing_key: "".into(),
            properties: properties(kind, envelope, headers),
            body: envelope.body.clone(),
        }
    }

    pub(super) fn control(&self, control: Control) -> Message {
        let mut headers = self.headers();
        let kind = match control {
            Control::SessionsEnded => SESSIONS_ENDED,
            Control::GroupChanged { group, seq } => {
                headers.insert("group".into(), text(&group));
                headers.insert("seq".into(), number(seq));
                GROUP_CHANGED
            }
        };
        Message {
            exchange: self.topology.control(),
            routing_key: "".into(),
            properties: BasicProperties::default()
                .with_delivery_mode(TRANSIENT)
                .with_type(kind.into())
                .with_headers(headers),
            body: Bytes::new(),
        }
    }

    /// What a message of one of the installation's exchanges says.
    pub(super) fn decode(&self, message: lapin::message::Delivery) -> Result<Delivery, Unusable> {
        let headers = Headers(message.properties.headers().as_ref());
        if headers.number("v") != Some(VERSION) {
            return Err(Unusable::UnknownVersion);
        }
        if headers.parsed("deployment") != Some(self.deployment) {
            return Err(Unusable::OtherDeployment);
        }
        if message.exchange == self.topology.control() {
            let kind = message.properties.kind().as_ref();
            return headers.control(kind.map_or("", |kind| kind.as_str()));
        }
        let id = message.properties.message_id().as_ref();
        let envelope = headers.envelope(id, Bytes::from(message.data))?;
        Ok(Delivery::Delta(envelope.into()))
    }

    fn by_exchange(&self, users: &[UserId]) -> BTreeMap<u16, ExchangeRecipients> {
        let mut exchanges = BTreeMap::<u16, ExchangeRecipients>::new();
        for user in users {
            let partition = user.partition(self.topology.partitions);
            let exchange = self.topology.exchange_of(partition);
            let recipients = exchanges.entry(exchange).or_default();
            recipients.partitions.push(partition);
            recipients.users.extend_from_slice(user.as_bytes());
        }
        for recipients in exchanges.values_mut() {
            recipients.partitions.sort_unstable();
            recipients.partitions.dedup();
        }
        exchanges
    }

    fn headers(&self) -> FieldTable {
        let mut headers = FieldTable::default();
        headers.insert("v".into(), AMQPValue::LongLongInt(VERSION));
        headers.insert("deployment".into(), text(&self.deployment));
        headers
    }

    fn headers_of(&self, envelope: &Envelope) -> FieldTable {
        let mut headers = self.headers();
        let at = AMQPValue::LongLongInt(envelope.at.as_millis());
        headers.insert("at_ms".into(), at);
        if let Some((stream, seq)) = envelope.position {
            headers.insert("stream".into(), text(&stream));
            headers.insert("seq".into(), number(seq));
        }
        if let Some(TraceContext(trace)) = &envelope.trace {
            headers.insert("traceparent".into(), text(trace));
        }
        headers
    }
}

/// The recipients of an envelope on one exchange. Never empty once a user has been added.
#[derive(Default)]
struct ExchangeRecipients {
    /// Ascending, each once.
    partitions: Vec<u16>,
    /// 16 bytes per user.
    users: Vec<u8>,
}

impl ExchangeRecipients {
    fn first_key(&self) -> ShortString {
        let first = self.partitions.first().map(u16::to_string);
        first.unwrap_or_default().into()
    }

    /// A queue that several keys match gets one copy.
    fn into_headers(self, mut headers: FieldTable) -> FieldTable {
        let others: Vec<AMQPValue> = self.partitions.iter().skip(1).map(text).collect();
        if !others.is_empty() {
            headers.insert("CC".into(), AMQPValue::FieldArray(FieldArray::from(others)));
        }
        let users = ByteArray::from(self.users);
        headers.insert("to".into(), AMQPValue::ByteArray(users));
        headers
    }
}

fn part_name(part: Part) -> &'static str {
    match part {
        Part::All => "all",
        Part::Admins => "admins",
        Part::Others => "others",
    }
}

fn properties(kind: &str, envelope: &Envelope, headers: FieldTable) -> BasicProperties {
    let properties = BasicProperties::default()
        .with_delivery_mode(TRANSIENT)
        .with_type(kind.into())
        .with_timestamp(u64::try_from(envelope.at.as_secs()).unwrap_or_default())
        .with_headers(headers);
    match envelope.id {
        Some(id) => properties.with_message_id(id.to_string().into()),
        None => properties,
    }
}

fn text(value: &(impl ToString + ?Sized)) -> AMQPValue {
    AMQPValue::LongString(LongString::from(value.to_string()))
}

fn number(value: Seq) -> AMQPValue {
    AMQPValue::LongLongInt(i64::try_from(value).unwrap_or(i64::MAX))
}

fn bytes_of(value: &AMQPValue) -> Option<&[u8]> {
    match value {
        AMQPValue::LongString(text) => Some(text.as_bytes()),
        AMQPValue::ByteArray(bytes) => Some(bytes.as_slice()),
        _ => None,
    }
}

/// The headers of a message that somebody else wrote.
struct Headers<'a>(Option<&'a FieldTable>);

impl Headers<'_> {
    fn envelope(&self, id: Option<&ShortString>, body: Bytes) -> Result<Envelope, Unusable> {
        let id = match id {
            Some(id) => {
                let id: Result<EntryId, _> = id.as_str().parse();
                Some(id.map_err(|_| Unusable::Header("message_id"))?)
            }
            None => None,
        };
        let at = self.number("at_ms").ok_or(Unusable::Header("at_ms"))?;
        Ok(Envelope {
            id,
            position: self.position()?,
            at: Timestamp::from_millis(at),
            to: self.recipients()?,
            trace: self
                .text("traceparent")
                .map(|trace| TraceContext(trace.into())),
            body,
        })
    }

    fn control(&self, kind: &str) -> Result<Delivery, Unusable> {
        let control = match kind {
            SESSIONS_ENDED => Control::SessionsEnded,
            GROUP_CHANGED => Control::GroupChanged {
                group: self.parsed("group").ok_or(Unusable::Header("group"))?,
                seq: self.seq("seq")?,
            },
            _ => return Err(Unusable::UnknownType),
        };
        Ok(Delivery::Control(control))
    }

    /// An ephemeral delta has none.
    fn position(&self) -> Result<Option<(StreamId, Seq)>, Unusable> {
        if self.get("stream").is_none() && self.get("seq").is_none() {
            return Ok(None);
        }
        let stream = self.parsed("stream").ok_or(Unusable::Header("stream"))?;
        Ok(Some((stream, self.seq("seq")?)))
    }

    fn recipients(&self) -> Result<Recipients, Unusable> {
        if let Some(user) = self.parsed("watched") {
            return Ok(Recipients::Watchers(user));
        }
        let Some(to) = self.bytes("to") else {
            return Ok(Recipients::Group(self.broadcast()?));
        };
        let (users, rest) = to.as_chunks::<16>();
        if users.is_empty() || !rest.is_empty() {
            return Err(Unusable::Header("to"));
        }
        let users = users.iter().map(|bytes| UserId::from_bytes(*bytes));
        Ok(Recipients::Users(users.collect()))
    }

    /// Whom it is for must be known: what admins see is not for everybody.
    fn broadcast(&self) -> Result<Broadcast, Unusable> {
        let about = match self.get("about") {
            Some(_) => Some(self.parsed("about").ok_or(Unusable::Header("about"))?),
            None => None,
        };
        Ok(Broadcast {
            group: self.parsed("group").ok_or(Unusable::Header("to"))?,
            gv: self.seq("gv")?,
            part: match self.text("part") {
                Some("all") => Part::All,
                Some("admins") => Part::Admins,
                Some("others") => Part::Others,
                _ => return Err(Unusable::Header("part")),
            },
            about,
        })
    }

    fn seq(&self, name: &'static str) -> Result<Seq, Unusable> {
        let number = self.number(name).ok_or(Unusable::Header(name))?;
        Seq::try_from(number).map_err(|_| Unusable::Header(name))
    }

    fn parsed<T: std::str::FromStr>(&self, name: &str) -> Option<T> {
        self.text(name)?.parse().ok()
    }

    fn text(&self, name: &str) -> Option<&str> {
        std::str::from_utf8(self.bytes(name)?).ok()
    }

    fn bytes(&self, name: &str) -> Option<&[u8]> {
        bytes_of(self.get(name)?)
    }

    fn number(&self, name: &str) -> Option<i64> {
        match *self.get(name)? {
            AMQPValue::LongLongInt(number) => Some(number),
            AMQPValue::LongInt(number) => Some(number.into()),
            AMQPValue::LongUInt(number) => Some(number.into()),
            AMQPValue::ShortInt(number) => Some(number.into()),
            AMQPValue::ShortUInt(number) => Some(number.into()),
            AMQPValue::ShortShortInt(number) => Some(number.into()),
            AMQPValue::ShortShortUInt(number) => Some(number.into()),
            _ => None,
        }
    }

    fn get(&self, name: &str) -> Option<&AMQPValue> {
        self.0?.inner().get(name)
    }
}

#[cfg(test)]
pub(super) mod tests;
