//! A delta: one entry of a stream as clients see it.

use bytes::Bytes;
use serde::Serialize;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use crate::domain::{Change, Entry, Ephemeral, Seq, Timestamp, UserId};

/// What changed and how to find it, not the resource again. `(stream, seq)` identifies it;
/// ephemeral deltas have neither.
#[derive(Debug, Clone, Serialize, PartialEq, ToSchema)]
pub struct Delta {
    /// The stream's name, such as `c:0197…`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stream: Option<String>,
    /// Position in the stream; they follow each other without holes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seq: Option<Seq>,
    /// What happened, such as `message.created`.
    pub kind: String,
    /// When, in RFC 3339 with milliseconds.
    pub at: String,
    /// Who did it; null is the system.
    #[schema(value_type = Option<Uuid>)]
    pub actor: Option<UserId>,
    /// Depends on `kind`.
    #[schema(value_type = Object)]
    pub data: Map<String, Value>,
}

impl Delta {
    /// None for entries that are the system's own.
    #[must_use]
    pub fn of_entry(entry: &Entry) -> Option<Self> {
        Some(Self {
            stream: Some(entry.stream.to_string()),
            seq: Some(entry.seq),
            kind: entry.change.kind().as_str().to_owned(),
            at: entry.at.to_string(),
            actor: entry.actor,
            data: object(data_of(entry)?),
        })
    }

    #[must_use]
    pub fn of_ephemeral(at: Timestamp, actor: Option<UserId>, what: &Ephemeral) -> Self {
        let data = match what {
            Ephemeral::UserChanged { user } => json!({ "user": user }),
        };
        Self {
            stream: None,
            seq: None,
            kind: what.kind().to_owned(),
            at: at.to_string(),
            actor,
            data: object(data),
        }
    }

    /// The frame that carries it: the delta object with `"type":"delta"` first.
    #[must_use]
    pub fn to_frame(&self) -> Bytes {
        #[derive(Serialize)]
        struct Frame<'a> {
            r#type: &'static str,
            #[serde(flatten)]
            delta: &'a Delta,
        }
        let frame = Frame {
            r#type: "delta",
            delta: self,
        };
        Bytes::from(serde_json::to_vec(&frame).expect("a delta's keys are strings"))
    }
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

fn data_of(entry: &Entry) -> Option<Value> {
    let data = match &entry.change {
        Change::SessionCreated { session, .. } | Change::SessionRevoked { session } => {
            json!({ "session": session })
        }
        Change::UserUpdated { display_name } => json!({ "display_name": display_name }),
        Change::ReadMoved { channel, seq, .. } => json!({ "channel": channel, "seq": seq }),
        Change::GroupCreated {
            kind,
            name,
            members,
            channels,
        } => json!({
            "kind": kind.as_str(),
            "name": name,
            "member_count": members.len(),
            "channels": channels
                .iter()
                .map(|(id, name)| json!({ "id": id, "name": name }))
                .collect::<Vec<_>>(),
        }),
        Change::GroupUpdated { name } => {
            let mut data = Map::new();
            if let Some(name) = name {
                data.insert("name".to_owned(), json!(name));
            }
            data.insert("version".to_owned(), json!(entry.seq));
            Value::Object(data)
        }
        Change::GroupDeleted => json!({}),
        Change::MemberAdded { user, role } | Change::MemberUpdated { user, role } => {
            json!({ "user": user, "role": role.as_str() })
        }
        Change::MemberRemoved { user } => json!({ "user": user }),
        Change::ChannelCreated { channel, name } | Change::ChannelUpdated { channel, name } => {
            json!({ "id": channel, "name": name })
        }
        Change::ChannelDeleted { channel } => json!({ "id": channel }),
        Change::MembersChanged { gv } => json!({ "gv": gv }),
        Change::MessageCreated(state) => json!({
            "id": entry.id,
            "content": state.content,
            "reply_to": state.reply_to,
            "mentions": state.mentions,
        }),
        Change::MessageEdited {
            message,
            content,
            edited_at,
        } => json!({
            "message": message,
            "content": content,
            "edited_at": edited_at.to_string(),
        }),
        Change::MessageDeleted { message } => json!({ "message": message }),
        Change::ReactionAdded { message, emoji } | Change::ReactionRemoved { message, emoji } => {
            json!({ "message": message, "emoji": emoji })
        }
        Change::SessionEnded { .. } => return None,
    };
    Some(data)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{EntryId, Key, StreamId};

    #[test]
    fn a_delta_reads_as_the_protocol_shows_it() {
        let channel = "01970000-0000-7000-8000-00000000000c";
        let actor = "01970000-0000-7000-8000-00000000000a";
        let entry = Entry {
            id: EntryId::generate(),
            stream: StreamId::Channel(channel.parse().unwrap()),
            seq: 18,
            at: Timestamp::from_millis(1_795_262_400_123),
            actor: Some(actor.parse().unwrap()),
            key: Key::unique(),
            request: None,
            gv: 1,
            ord: 3,
            change: Change::ReactionAdded {
                message: 12,
                emoji: "👍".to_owned(),
            },
        };
        let frame = Delta::of_entry(&entry).unwrap().to_frame();
        let expected = format!(
            r#"{{"type":"delta","stream":"c:{channel}","seq":18,"kind":"reaction.added","at":"2026-11-21T12:00:00.123Z","actor":"{actor}","data":{{"emoji":"👍","message":12}}}}"#
        );
        assert_eq!(std::str::from_utf8(&frame).unwrap(), expected);
    }
}
