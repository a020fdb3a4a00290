//! Resources as clients see them. Every field is always there; one without a value is null.

use std::collections::BTreeMap;

use serde::Serialize;
use utoipa::ToSchema;

use crate::domain::{
    self, ChannelId, EntryId, GroupId, InviteId, Membership, Reading, Seq, SessionId, UserId,
};

/// Part of a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct List<T> {
    /// Ascending by `seq` (messages) or `id` (everything else).
    pub items: Vec<T>,
    /// There is more in the direction of paging.
    pub more: bool,
}

/// An account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct User {
    #[schema(value_type = Uuid)]
    pub id: UserId,
    #[schema(example = "ada")]
    pub username: String,
    #[schema(example = "Ada")]
    pub display_name: String,
    #[schema(format = DateTime)]
    pub created_at: String,
}

/// One login of one user on one device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Session {
    #[schema(value_type = Uuid)]
    pub id: SessionId,
    pub device_name: String,
    #[schema(format = DateTime)]
    pub created_at: String,
    /// Creation or last refresh.
    #[schema(format = DateTime)]
    pub last_used_at: String,
    /// Whether it is the session that asks.
    pub current: bool,
}

/// The answer to a login or a refresh.
#[derive(Clone, Serialize, ToSchema)]
pub struct Tokens {
    /// For `Authorization: Bearer`.
    pub access_token: String,
    #[schema(example = "Bearer")]
    pub token_type: &'static str,
    /// Seconds until the access token ends.
    pub expires_in: u64,
    /// Good for one exchange at `POST /v1/sessions/refresh`.
    pub refresh_token: String,
    #[schema(value_type = Uuid)]
    pub session: SessionId,
    pub user: User,
}

/// A group as one of its members sees it; direct conversations included.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Group {
    #[schema(value_type = Uuid)]
    pub id: GroupId,
    /// `group` or `direct`.
    #[schema(example = "group")]
    pub kind: &'static str,
    /// Null in direct conversations.
    pub name: Option<String>,
    /// Position of the last change of the settings; also the `ETag`.
    pub version: Seq,
    /// The caller's: `owner`, `admin` or `member`.
    #[schema(example = "owner")]
    pub role: &'static str,
    pub member_count: u64,
    pub channels: Vec<ChannelRef>,
    /// Whose session took the edit lease last, unless it is over by what the log says. It may
    /// have run out: `GET …/edit-lease` tells whether somebody holds it.
    pub lease: Option<LeaseRef>,
    #[schema(format = DateTime)]
    pub created_at: String,
}

/// Who has taken an edit lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct LeaseRef {
    /// Position of the `lease.acquired`.
    pub token: Seq,
    #[schema(value_type = Uuid)]
    pub session: SessionId,
    #[schema(value_type = Uuid)]
    pub user: UserId,
    #[schema(format = DateTime)]
    pub since: String,
}

/// The right of one session to change a group's settings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct EditLease {
    /// Whose session it is.
    #[schema(value_type = Uuid)]
    pub user: UserId,
    pub display_name: String,
    #[schema(value_type = Uuid)]
    pub session: SessionId,
    #[schema(format = DateTime)]
    pub since: String,
    /// When it runs out if it is not renewed. Null, in the answer to a repetition: the session
    /// does not hold it any more.
    #[schema(format = DateTime)]
    pub expires_at: Option<String>,
    /// For the header `Edit-Lease` of changes.
    pub token: Seq,
}

/// A channel inside its group, and how it stands to the caller.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct ChannelRef {
    #[schema(value_type = Uuid)]
    pub id: ChannelId,
    pub name: String,
    /// Position of the last entry of the channel's own stream; 0 if it has none.
    pub head: Seq,
    /// Through where the caller has read: the further of the mark and the own last message.
    pub read: Seq,
    /// Messages after `read` and after the caller became a member, deleted ones included.
    pub unread: u64,
    /// Those of them that mention the caller; 100 stands for 100 or more.
    pub mentions: u64,
}

/// A member of a group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Member {
    #[schema(value_type = Uuid)]
    pub user: UserId,
    #[schema(example = "member")]
    pub role: &'static str,
    #[schema(format = DateTime)]
    pub joined_at: String,
    /// Until when the member may not write. Null, or a time that is over: may write.
    #[schema(format = DateTime)]
    pub muted_until: Option<String>,
}

/// Somebody who is shut out of a group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Ban {
    #[schema(value_type = Uuid)]
    pub user: UserId,
    /// Null is the system.
    #[schema(value_type = Option<Uuid>)]
    pub banned_by: Option<UserId>,
    #[schema(format = DateTime)]
    pub banned_at: String,
}

/// A way into a group, as its admins see it.
#[derive(Clone, Serialize, ToSchema)]
pub struct Invite {
    #[schema(value_type = Uuid)]
    pub id: InviteId,
    #[schema(value_type = Uuid)]
    pub group: GroupId,
    /// Whoever has it may join: for `/v1/invites/{code}`.
    pub code: String,
    /// Null is the system.
    #[schema(value_type = Option<Uuid>)]
    pub created_by: Option<UserId>,
    #[schema(format = DateTime)]
    pub created_at: String,
    /// Null: never.
    #[schema(format = DateTime)]
    pub expires_at: Option<String>,
    /// Null: any number.
    pub max_uses: Option<u32>,
    /// How many have joined by it.
    pub uses: u32,
}

/// What somebody who has an invite's code is shown of the group before joining.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct InvitePreview {
    #[schema(value_type = Uuid)]
    pub group: GroupId,
    pub name: Option<String>,
    pub member_count: u64,
    /// Whether the caller is a member already.
    pub member: bool,
    #[schema(format = DateTime)]
    pub expires_at: Option<String>,
}

/// A conversation inside a group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Channel {
    #[schema(value_type = Uuid)]
    pub id: ChannelId,
    #[schema(value_type = Uuid)]
    pub group: GroupId,
    pub name: String,
    /// Position (in the group's stream) of the last change of the settings; also the `ETag`.
    pub version: Seq,
    /// Seconds that a member must wait between two messages; 0: none.
    pub slow_mode_secs: u32,
    /// Position of the last entry of the channel's own stream; 0 if it has none.
    pub head: Seq,
    /// Through where the caller has read: the further of the mark and the own last message.
    pub read: Seq,
    /// Messages after `read` and after the caller became a member, deleted ones included.
    pub unread: u64,
    /// Those of them that mention the caller; 100 stands for 100 or more.
    pub mentions: u64,
    #[schema(format = DateTime)]
    pub created_at: String,
}

/// A message as it is now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Message {
    #[schema(value_type = Uuid)]
    pub id: EntryId,
    #[schema(value_type = Uuid)]
    pub channel: ChannelId,
    /// Position in the channel's stream, by which messages are ordered and named.
    pub seq: Seq,
    #[schema(value_type = Uuid)]
    pub author: UserId,
    /// Markdown; empty once deleted.
    pub content: String,
    /// The `seq` of a message of the same channel.
    pub reply_to: Option<Seq>,
    /// The message that this one answers, as it is now.
    pub quoted: Option<Quote>,
    /// Members whom the content names (`@ada`), in its order.
    #[schema(value_type = Vec<Uuid>)]
    pub mentions: Vec<UserId>,
    /// The content mentions all members (`@everyone`), and its author might do so.
    pub mentions_everyone: bool,
    pub reactions: Vec<Reaction>,
    #[schema(format = DateTime)]
    pub created_at: String,
    #[schema(format = DateTime)]
    pub edited_at: Option<String>,
    pub deleted: bool,
    pub pinned: bool,
}

/// What a reply shows of the message that it answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Quote {
    pub seq: Seq,
    #[schema(value_type = Uuid)]
    pub author: UserId,
    /// The first 200 Unicode scalar values; empty once deleted.
    pub content: String,
    pub deleted: bool,
}

/// How many users reacted with one emoji, and the first few of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Reaction {
    pub emoji: String,
    pub count: u32,
    /// At most 3, in the order in which they reacted.
    #[schema(value_type = Vec<Uuid>)]
    pub users: Vec<UserId>,
}

/// The messages among 256 positions of a channel's stream, as they are now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Bucket {
    #[schema(value_type = Uuid)]
    pub channel: ChannelId,
    /// `(seq - 1) / 256` of its messages.
    pub bucket: u64,
    /// Changes with everything that changes in it; also the `ETag`.
    pub digest: String,
    /// Ascending by `seq`; deleted ones included.
    pub items: Vec<Message>,
}

/// Which of the buckets that a client holds are different now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct BucketsCompared {
    /// Bucket → its digest now, where it differs from the one in the request.
    pub differ: BTreeMap<u64, String>,
}

/// A user who reacts to a message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Reactor {
    #[schema(value_type = Uuid)]
    pub user: UserId,
}

/// A way to open one realtime connection, good for a few seconds.
#[derive(Clone, Serialize, ToSchema)]
pub struct RealtimeTicket {
    /// For a WebSocket.
    pub url: String,
    /// For an `EventSource`.
    pub events_url: String,
    /// For `POST`s with the access token; it holds no ticket, and is good for all of them.
    pub poll_url: String,
    /// The ticket by itself, as it stands in `url` and `events_url`: good for one of them.
    pub ticket: String,
    /// The user's partition, by which balancers choose a server.
    pub p: u16,
    /// Seconds until the ticket ends.
    pub expires_in: u64,
}

/// Whether somebody is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct UserPresence {
    #[schema(value_type = Uuid)]
    pub user: UserId,
    /// `online`, `away`, `offline`, or `unknown` while nobody can say.
    #[schema(example = "online")]
    pub state: &'static str,
    /// Of somebody offline: when the last connection ended, if that is known.
    #[schema(format = DateTime)]
    pub last_seen: Option<String>,
}

/// Whether these users are there: those of a query with whom the caller shares a group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct PresenceStates {
    /// Ascending by user.
    pub items: Vec<UserPresence>,
}

/// How many of a group's members are there, and who.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct GroupPresence {
    pub members: u64,
    /// Those with a connection, away or not; null while nobody can say. May be 5 seconds old.
    pub online: Option<u64>,
    /// A page of members, ascending by user; null in a large group.
    pub items: Option<Vec<UserPresence>>,
    /// There is more in the direction of paging.
    pub more: bool,
    /// Up to 20 of those with a connection; null in a group that is not large.
    pub sample: Option<Vec<UserPresence>>,
}

impl<T> List<T> {
    /// A list of what `items` become.
    pub fn of<D: Into<T>>(items: impl IntoIterator<Item = D>, more: bool) -> Self {
        Self {
            items: items.into_iter().map(Into::into).collect(),
            more,
        }
    }
}

impl From<domain::User> for User {
    fn from(user: domain::User) -> Self {
        Self {
            id: user.id,
            username: user.username,
            display_name: user.display_name,
            created_at: user.created_at.to_string(),
        }
    }
}

impl Session {
    /// The session as its user sees it from the session `asking`.
    #[must_use]
    pub fn seen_from(asking: SessionId, session: domain::Session) -> Self {
        Self {
            id: session.id,
            device_name: session.device_name,
            created_at: session.created_at.to_string(),
            last_used_at: session.last_used_at.to_string(),
            current: session.id == asking,
        }
    }
}

impl Group {
    /// The group as a member sees it to whom the channels stand like this; nothing is read or
    /// unread of a channel that `readings` lacks.
    #[must_use]
    pub fn shown(membership: Membership, readings: &BTreeMap<ChannelId, Reading>) -> Self {
        let channels = membership.channels.into_iter().map(|channel| {
            let reading = readings.get(&channel.id).copied().unwrap_or_default();
            ChannelRef {
                id: channel.id,
                name: channel.name,
                head: reading.head,
                read: reading.read,
                unread: reading.unread,
                mentions: reading.mentions,
            }
        });
        Self {
            id: membership.group,
            kind: membership.kind.as_str(),
            name: membership.name,
            version: membership.version,
            role: membership.role.as_str(),
            member_count: membership.size.members,
            channels: channels.collect(),
            lease: membership.lease.map(LeaseRef::from),
            created_at: membership.created_at.to_string(),
        }
    }
}

impl From<(UserId, domain::Member)> for Member {
    fn from((user, member): (UserId, domain::Member)) -> Self {
        Self {
            user,
            role: member.role.as_str(),
            joined_at: member.joined_at.to_string(),
            muted_until: member.muted_until.map(|until| until.to_string()),
        }
    }
}

impl From<domain::Lease> for LeaseRef {
    fn from(lease: domain::Lease) -> Self {
        Self {
            token: lease.token,
            session: lease.session,
            user: lease.user,
            since: lease.since.to_string(),
        }
    }
}

impl From<domain::UserPresence> for UserPresence {
    fn from(now: domain::UserPresence) -> Self {
        Self {
            user: now.user,
            state: now.state.as_str(),
            last_seen: now.last_seen.map(|at| at.to_string()),
        }
    }
}

impl From<domain::Ban> for Ban {
    fn from(ban: domain::Ban) -> Self {
        Self {
            user: ban.user,
            banned_by: ban.by,
            banned_at: ban.at.to_string(),
        }
    }
}

impl Invite {
    #[must_use]
    pub fn with_code(invite: domain::Invite, code: String) -> Self {
        Self {
            id: invite.id,
            group: invite.group,
            code,
            created_by: invite.created_by,
            created_at: invite.created_at.to_string(),
            expires_at: invite.expires_at.map(|at| at.to_string()),
            max_uses: invite.max_uses,
            uses: invite.uses,
        }
    }
}

impl From<UserId> for Reactor {
    fn from(user: UserId) -> Self {
        Self { user }
    }
}

impl Channel {
    #[must_use]
    pub fn shown(channel: domain::Channel, reading: Reading) -> Self {
        Self {
            id: channel.id,
            group: channel.group,
            name: channel.name,
            version: channel.version,
            slow_mode_secs: channel.slow_mode_secs,
            head: reading.head,
            read: reading.read,
            unread: reading.unread,
            mentions: reading.mentions,
            created_at: channel.created_at.to_string(),
        }
    }
}

impl From<domain::Quote> for Quote {
    fn from(quote: domain::Quote) -> Self {
        Self {
            seq: quote.seq,
            author: quote.author,
            content: quote.content,
            deleted: quote.deleted,
        }
    }
}

impl From<domain::Quoting> for Message {
    fn from(domain::Quoting { message, quote }: domain::Quoting) -> Self {
        let state = message.state;
        let reactions = state.reactions.into_iter().map(|reaction| Reaction {
            emoji: reaction.emoji,
            count: reaction.count,
            users: reaction.users,
        });
        Self {
            id: message.id,
            channel: message.channel,
            seq: message.seq,
            author: message.author,
            content: state.content,
            reply_to: state.reply_to,
            quoted: quote.map(Quote::from),
            mentions: state.mentions.users,
            mentions_everyone: state.mentions.everyone,
            reactions: reactions.collect(),
            created_at: message.created_at.to_string(),
            edited_at: state.edited_at.map(|at| at.to_string()),
            deleted: state.deleted,
            pinned: state.pinned,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{MessageState, ReactionCount, Timestamp};
    use serde_json::json;

    #[test]
    fn a_message_shows_every_field_and_null_for_what_has_no_value() {
        let id = "01970000-0000-7000-8000-00000000000a";
        let message = domain::Message {
            id: EntryId::from_uuid(id.parse().unwrap()),
            channel: id.parse().unwrap(),
            seq: 17,
            author: id.parse().unwrap(),
            created_at: Timestamp::from_millis(0),
            state: MessageState {
                content: "Hello".to_owned(),
                reactions: vec![ReactionCount {
                    emoji: "👍".to_owned(),
                    count: 1,
                    users: vec![id.parse().unwrap()],
                }],
                ..MessageState::default()
            },
        };
        let shown = |quote| {
            let message = message.clone();
            serde_json::to_value(Message::from(domain::Quoting { message, quote })).unwrap()
        };
        let original = domain::Message {
            seq: 9,
            state: MessageState {
                content: "é".repeat(300),
                ..MessageState::default()
            },
            ..message.clone()
        };
        let quoted = &shown(Some(domain::Quote::of(&original)))["quoted"];
        let content = "é".repeat(200);
        assert_eq!(
            *quoted,
            json!({"seq": 9, "author": id, "content": content, "deleted": false})
        );
        let shown = shown(None);
        assert_eq!(
            shown,
            json!({
                "id": id, "channel": id, "seq": 17, "author": id, "content": "Hello",
                "reply_to": null, "quoted": null, "mentions": [], "mentions_everyone": false,
                "reactions": [{"emoji": "👍", "count": 1, "users": [id]}],
                "created_at": "1970-01-01T00:00:00.000Z", "edited_at": null,
                "deleted": false, "pinned": false,
            })
        );
    }
}
