//! A delta: one entry of a stream as clients see it.

use bytes::Bytes;
use serde::Serialize;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use crate::domain::{Change, Entry, Ephemeral, GroupId, Kind, Seq, StreamId, Timestamp, UserId};

/// The kind of what the recipient may not see.
const HIDDEN: &str = "hidden";

/// What changed and how to find it, not the resource again. `(stream, seq)` identifies it;
/// ephemeral deltas have no `seq`.
#[derive(Debug, Clone, Serialize, PartialEq, ToSchema)]
pub struct Delta {
    /// The stream's name, such as `c:0197…`. Of an ephemeral delta: what it is about, if that is
    /// a stream.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stream: Option<String>,
    /// The first of the run of entries that it stands for, where it stands for more than one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first: Option<Seq>,
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
            first: None,
            seq: Some(entry.seq),
            kind: entry.change.kind().as_str().to_owned(),
            at: entry.at.to_string(),
            actor: entry.actor,
            data: object(data_of(entry)?),
        })
    }

    /// What members see who are no admins: of some changes less, of some only that there is
    /// something (`hidden`, without data). None as [`Delta::of_entry`].
    #[must_use]
    pub fn concealed(entry: &Entry) -> Option<Self> {
        let mut delta = Self::of_entry(entry)?;
        if !entry.change.is_confidential() {
            return Some(delta);
        }
        if entry.change.is_hidden() {
            HIDDEN.clone_into(&mut delta.kind);
            delta.actor = None;
            delta.data = Map::new();
        } else if let Some(user) = entry.change.removes() {
            Kind::MemberRemoved.as_str().clone_into(&mut delta.kind);
            delta.data = object(json!({ "user": user }));
        } else {
            delta.data.remove("invite");
        }
        Some(delta)
    }

    /// Members of a large group came and went, with the entries from `first` to `seq`; it has
    /// `count` of them, as of `seq` or later.
    #[must_use]
    pub fn members_changed(
        group: GroupId,
        (first, seq): (Seq, Seq),
        at: Timestamp,
        count: u64,
    ) -> Self {
        Self {
            stream: Some(StreamId::Group(group).to_string()),
            first: Some(first),
            seq: Some(seq),
            kind: Kind::MembersChanged.as_str().to_owned(),
            at: at.to_string(),
            actor: None,
            data: object(json!({ "count": count })),
        }
    }

    #[must_use]
    pub fn of_ephemeral(at: Timestamp, actor: Option<UserId>, what: &Ephemeral) -> Self {
        let (stream, data) = match what {
            Ephemeral::UserChanged { user } => (None, json!({ "user": user })),
            Ephemeral::PresenceChanged(now) => {
                let data = json!({
                    "user": now.user,
                    "state": now.state.as_str(),
                    "last_seen": time(now.last_seen),
                });
                (None, data)
            }
            Ephemeral::Typing { channel, user } => {
                let stream = StreamId::Channel(*channel).to_string();
                (Some(stream), json!({ "user": user }))
            }
        };
        Self {
            stream,
            first: None,
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
        Change::SessionCreated { session, .. }
        | Change::SessionRevoked { session }
        | Change::LeaseAcquired { session }
        | Change::LeaseReleased { session } => json!({ "session": session }),
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
        Change::GroupUpdated { name, lease } => {
            let mut data = json!({ "version": entry.seq, "lease": lease });
            if let Some(name) = name {
                data["name"] = json!(name);
            }
            data
        }
        Change::GroupDeleted => json!({}),
        Change::MemberAdded {
            user,
            role,
            muted_until,
            invite,
        } => {
            let mut data = json!({
                "user": user,
                "role": role.as_str(),
                "muted_until": time(*muted_until),
            });
            if let Some(used) = invite {
                data["invite"] = json!({ "id": used.invite, "uses": used.uses });
            }
            data
        }
        Change::MemberUpdated { user, role } => json!({ "user": user, "role": role.as_str() }),
        Change::OwnerChanged { user, previous } => json!({ "user": user, "previous": previous }),
        Change::MemberMuted { user, until } => json!({ "user": user, "muted_until": time(*until) }),
        Change::MemberRemoved { user }
        | Change::MemberBanned { user, .. }
        | Change::MemberUnbanned { user } => json!({ "user": user }),
        Change::ChannelCreated { channel, name } => json!({ "id": channel, "name": name }),
        Change::ChannelUpdated {
            channel,
            name,
            slow_mode_secs,
            lease,
        } => {
            let mut data = json!({ "id": channel, "name": name, "lease": lease });
            if let Some(secs) = slow_mode_secs {
                data["slow_mode_secs"] = json!(secs);
            }
            data
        }
        Change::InviteCreated {
            invite,
            expires_at,
            max_uses,
        } => json!({ "id": invite, "expires_at": time(*expires_at), "max_uses": max_uses }),
        Change::InviteDeleted { invite } => json!({ "id": invite }),
        Change::ChannelDeleted { channel } => json!({ "id": channel }),
        Change::MembersChanged { gv } => json!({ "gv": gv }),
        Change::MessageCreated(state) => json!({
            "id": entry.id,
            "content": state.content,
            "reply_to": state.reply_to,
            "mentions": state.mentions.users,
            "mentions_everyone": state.mentions.everyone,
        }),
        Change::MessageEdited {
            message,
            content,
            mentions,
            edited_at,
        } => json!({
            "message": message,
            "content": content,
            "mentions": mentions.users,
            "mentions_everyone": mentions.everyone,
            "edited_at": edited_at.to_string(),
        }),
        Change::MessageDeleted { message }
        | Change::MessagePinned { message }
        | Change::MessageUnpinned { message } => json!({ "message": message }),
        Change::ReactionAdded { message, now } | Change::ReactionRemoved { message, now } => {
            json!({
                "message": message,
                "emoji": now.emoji,
                "count": now.count,
                "users": now.users,
            })
        }
        Change::SessionEnded { .. } => return None,
    };
    Some(data)
}

fn time(at: Option<Timestamp>) -> Option<String> {
    at.map(|at| at.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{
        EntryId, InviteId, InviteUse, Key, PresenceState, ReactionCount, Role, UserPresence,
    };

    #[test]
    fn members_see_removals_and_additions_and_nothing_else_of_what_is_for_admins() {
        let user = UserId::generate();
        let invite = InviteId::generate();
        let check = |change: Change, kind: &str, data: Value| {
            let entry = Entry {
                id: EntryId::generate(),
                stream: StreamId::Group(crate::domain::GroupId::generate()),
                seq: 5,
                at: Timestamp::from_millis(0),
                actor: Some(UserId::generate()),
                key: Key::unique(),
                request: None,
                gv: 0,
                ord: 0,
                change,
            };
            let shown = Delta::concealed(&entry).unwrap();
            assert_eq!((&*shown.kind, &shown.data), (kind, &object(data)));
            assert_eq!(shown.actor.is_none(), kind == HIDDEN);
            assert_eq!(shown.seq, Some(5));
            let whole = Delta::of_entry(&entry).unwrap();
            assert_eq!(whole != shown, entry.change.is_confidential());
        };
        let banned = |was_member| Change::MemberBanned { user, was_member };
        check(banned(true), "member.removed", json!({ "user": user }));
        check(banned(false), "hidden", json!({}));
        check(Change::MemberUnbanned { user }, "hidden", json!({}));
        check(Change::InviteDeleted { invite }, "hidden", json!({}));
        let created = Change::InviteCreated {
            invite,
            expires_at: None,
            max_uses: Some(1),
        };
        check(created, "hidden", json!({}));
        let joined = |invite| Change::MemberAdded {
            user,
            role: Role::Member,
            muted_until: None,
            invite,
        };
        let data = json!({"user": user, "role": "member", "muted_until": null});
        let used = InviteUse { invite, uses: 1 };
        check(joined(Some(used)), "member.added", data.clone());
        check(joined(None), "member.added", data);
        let removed = Change::MemberRemoved { user };
        check(removed, "member.removed", json!({ "user": user }));
    }

    #[test]
    fn ephemeral_deltas_read_as_the_protocol_shows_them() {
        let user: UserId = "01970000-0000-7000-8000-00000000000a".parse().unwrap();
        let at = Timestamp::from_millis(1_795_262_400_123);
        let check = |actor, what: Ephemeral, expected: &str| {
            let frame = Delta::of_ephemeral(at, actor, &what).to_frame();
            assert_eq!(std::str::from_utf8(&frame).unwrap(), expected);
        };
        let channel = "01970000-0000-7000-8000-00000000000c".parse().unwrap();
        check(
            Some(user),
            Ephemeral::Typing { channel, user },
            r#"{"type":"delta","stream":"c:01970000-0000-7000-8000-00000000000c","kind":"typing","at":"2026-11-21T12:00:00.123Z","actor":"01970000-0000-7000-8000-00000000000a","data":{"user":"01970000-0000-7000-8000-00000000000a"}}"#,
        );
        let now = |state, last_seen| {
            Ephemeral::PresenceChanged(UserPresence {
                user,
                state,
                last_seen,
                at,
            })
        };
        check(
            None,
            now(PresenceState::Offline, Some(at)),
            r#"{"type":"delta","kind":"presence.changed","at":"2026-11-21T12:00:00.123Z","actor":null,"data":{"last_seen":"2026-11-21T12:00:00.123Z","state":"offline","user":"01970000-0000-7000-8000-00000000000a"}}"#,
        );
        check(
            None,
            now(PresenceState::Away, None),
            r#"{"type":"delta","kind":"presence.changed","at":"2026-11-21T12:00:00.123Z","actor":null,"data":{"last_seen":null,"state":"away","user":"01970000-0000-7000-8000-00000000000a"}}"#,
        );
    }

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
                now: ReactionCount {
                    emoji: "👍".to_owned(),
                    count: 1,
                    users: vec![actor.parse().unwrap()],
                },
            },
        };
        let frame = Delta::of_entry(&entry).unwrap().to_frame();
        let expected = format!(
            r#"{{"type":"delta","stream":"c:{channel}","seq":18,"kind":"reaction.added","at":"2026-11-21T12:00:00.123Z","actor":"{actor}","data":{{"count":1,"emoji":"👍","message":12,"users":["{actor}"]}}}}"#
        );
        assert_eq!(std::str::from_utf8(&frame).unwrap(), expected);
    }
}
