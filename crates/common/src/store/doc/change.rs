//! The kinds of change, as they are stored.

use serde::{Deserialize, Serialize};

use super::message::is_false;
use super::{MessageState, Reaction};
use crate::domain::{self, ChannelId, InviteId, Seq, SessionId, Timestamp, UserId};

/// Tagged by the names of [`domain::Kind`]; times are milliseconds since 1970.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "kind", content = "data")]
pub(in crate::store) enum Change {
    #[serde(rename = "session.created")]
    SessionCreated {
        session: SessionId,
        device_name: String,
    },
    #[serde(rename = "session.revoked")]
    SessionRevoked { session: SessionId },
    #[serde(rename = "user.updated")]
    UserUpdated { display_name: String },
    #[serde(rename = "read.moved")]
    ReadMoved {
        channel: ChannelId,
        seq: Seq,
        ord: u64,
    },
    #[serde(rename = "group.created")]
    GroupCreated {
        kind: GroupKind,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<String>,
        members: Vec<Member>,
        channels: Vec<Channel>,
    },
    #[serde(rename = "group.updated")]
    GroupUpdated {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<String>,
    },
    #[serde(rename = "group.deleted")]
    GroupDeleted {},
    #[serde(rename = "member.added")]
    MemberAdded {
        user: UserId,
        role: Role,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        muted_until: Option<i64>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        invite: Option<InviteUse>,
    },
    #[serde(rename = "member.updated")]
    MemberUpdated(Member),
    #[serde(rename = "owner.changed")]
    OwnerChanged { user: UserId, previous: UserId },
    #[serde(rename = "member.muted")]
    MemberMuted {
        user: UserId,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        until: Option<i64>,
    },
    #[serde(rename = "member.removed")]
    MemberRemoved { user: UserId },
    #[serde(rename = "member.banned")]
    MemberBanned { user: UserId, was_member: bool },
    #[serde(rename = "member.unbanned")]
    MemberUnbanned { user: UserId },
    #[serde(rename = "channel.created")]
    ChannelCreated(Channel),
    #[serde(rename = "channel.updated")]
    ChannelUpdated {
        channel: ChannelId,
        name: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        slow_mode_secs: Option<u32>,
    },
    #[serde(rename = "channel.deleted")]
    ChannelDeleted { channel: ChannelId },
    #[serde(rename = "invite.created")]
    InviteCreated {
        invite: InviteId,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        expires_at: Option<i64>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        max_uses: Option<u32>,
    },
    #[serde(rename = "invite.deleted")]
    InviteDeleted { invite: InviteId },
    #[serde(rename = "members.changed")]
    MembersChanged { gv: Seq },
    #[serde(rename = "message.created")]
    MessageCreated(MessageState),
    #[serde(rename = "message.edited")]
    MessageEdited {
        message: Seq,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        content: Option<String>,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        mentions: Vec<UserId>,
        #[serde(default, skip_serializing_if = "is_false")]
        everyone: bool,
        edited_at: i64,
    },
    #[serde(rename = "message.deleted")]
    MessageDeleted { message: Seq },
    #[serde(rename = "reaction.added")]
    ReactionAdded(Reaction),
    #[serde(rename = "reaction.removed")]
    ReactionRemoved(Reaction),
    #[serde(rename = "message.pinned")]
    MessagePinned { message: Seq },
    #[serde(rename = "message.unpinned")]
    MessageUnpinned { message: Seq },
    #[serde(rename = "session.ended")]
    SessionEnded { session: SessionId, user: UserId },
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(in crate::store) enum GroupKind {
    Group,
    Direct,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(in crate::store) enum Role {
    Member,
    Admin,
    Owner,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(in crate::store) struct Member {
    user: UserId,
    role: Role,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(in crate::store) struct InviteUse {
    invite: InviteId,
    uses: u32,
}

#[derive(Debug, Serialize, Deserialize)]
pub(in crate::store) struct Channel {
    channel: ChannelId,
    name: String,
}

impl From<&domain::Change> for Change {
    fn from(change: &domain::Change) -> Self {
        match change.clone() {
            domain::Change::SessionCreated {
                session,
                device_name,
            } => Self::SessionCreated {
                session,
                device_name,
            },
            domain::Change::SessionRevoked { session } => Self::SessionRevoked { session },
            domain::Change::UserUpdated { display_name } => Self::UserUpdated { display_name },
            domain::Change::ReadMoved { channel, seq, ord } => {
                Self::ReadMoved { channel, seq, ord }
            }
            domain::Change::GroupCreated {
                kind,
                name,
                members,
                channels,
            } => Self::GroupCreated {
                kind: kind.into(),
                name,
                members: members.into_iter().map(Member::from).collect(),
                channels: channels.into_iter().map(Channel::from).collect(),
            },
            domain::Change::GroupUpdated { name } => Self::GroupUpdated { name },
            domain::Change::GroupDeleted => Self::GroupDeleted {},
            domain::Change::MemberAdded {
                user,
                role,
                muted_until,
                invite,
            } => Self::MemberAdded {
                user,
                role: role.into(),
                muted_until: muted_until.map(Timestamp::as_millis),
                invite: invite.map(InviteUse::from),
            },
            domain::Change::MemberUpdated { user, role } => {
                Self::MemberUpdated((user, role).into())
            }
            domain::Change::OwnerChanged { user, previous } => {
                Self::OwnerChanged { user, previous }
            }
            domain::Change::MemberMuted { user, until } => Self::MemberMuted {
                user,
                until: until.map(Timestamp::as_millis),
            },
            domain::Change::MemberRemoved { user } => Self::MemberRemoved { user },
            domain::Change::MemberBanned { user, was_member } => {
                Self::MemberBanned { user, was_member }
            }
            domain::Change::MemberUnbanned { user } => Self::MemberUnbanned { user },
            domain::Change::ChannelCreated { channel, name } => {
                Self::ChannelCreated((channel, name).into())
            }
            domain::Change::ChannelUpdated {
                channel,
                name,
                slow_mode_secs,
            } => Self::ChannelUpdated {
                channel,
                name,
                slow_mode_secs,
            },
            domain::Change::ChannelDeleted { channel } => Self::ChannelDeleted { channel },
            domain::Change::InviteCreated {
                invite,
                expires_at,
                max_uses,
            } => Self::InviteCreated {
                invite,
                expires_at: expires_at.map(Timestamp::as_millis),
                max_uses,
            },
            domain::Change::InviteDeleted { invite } => Self::InviteDeleted { invite },
            domain::Change::MembersChanged { gv } => Self::MembersChanged { gv },
            domain::Change::MessageCreated(state) => Self::MessageCreated((&*state).into()),
            domain::Change::MessageEdited {
                message,
                content,
                mentions,
                edited_at,
            } => Self::MessageEdited {
                message,
                content,
                mentions: mentions.users,
                everyone: mentions.everyone,
                edited_at: edited_at.as_millis(),
            },
            domain::Change::MessageDeleted { message } => Self::MessageDeleted { message },
            domain::Change::ReactionAdded { message, now } => {
                Self::ReactionAdded((message, now).into())
            }
            domain::Change::ReactionRemoved { message, now } => {
                Self::ReactionRemoved((message, now).into())
            }
            domain::Change::MessagePinned { message } => Self::MessagePinned { message },
            domain::Change::MessageUnpinned { message } => Self::MessageUnpinned { message },
            domain::Change::SessionEnded { session, user } => Self::SessionEnded { session, user },
        }
    }
}

impl From<Change> for domain::Change {
    fn from(change: Change) -> Self {
        match change {
            Change::SessionCreated {
                session,
                device_name,
            } => Self::SessionCreated {
                session,
                device_name,
            },
            Change::SessionRevoked { session } => Self::SessionRevoked { session },
            Change::UserUpdated { display_name } => Self::UserUpdated { display_name },
            Change::ReadMoved { channel, seq, ord } => Self::ReadMoved { channel, seq, ord },
            Change::GroupCreated {
                kind,
                name,
                members,
                channels,
            } => Self::GroupCreated {
                kind: kind.into(),
                name,
                members: members.into_iter().map(Into::into).collect(),
                channels: channels.into_iter().map(Into::into).collect(),
            },
            Change::GroupUpdated { name } => Self::GroupUpdated { name },
            Change::GroupDeleted {} => Self::GroupDeleted,
            Change::MemberAdded {
                user,
                role,
                muted_until,
                invite,
            } => Self::MemberAdded {
                user,
                role: role.into(),
                muted_until: muted_until.map(Timestamp::from_millis),
                invite: invite.map(Into::into),
            },
            Change::MemberUpdated(Member { user, role }) => Self::MemberUpdated {
                user,
                role: role.into(),
            },
            Change::OwnerChanged { user, previous } => Self::OwnerChanged { user, previous },
            Change::MemberMuted { user, until } => Self::MemberMuted {
                user,
                until: until.map(Timestamp::from_millis),
            },
            Change::MemberRemoved { user } => Self::MemberRemoved { user },
            Change::MemberBanned { user, was_member } => Self::MemberBanned { user, was_member },
            Change::MemberUnbanned { user } => Self::MemberUnbanned { user },
            Change::ChannelCreated(Channel { channel, name }) => {
                Self::ChannelCreated { channel, name }
            }
            Change::ChannelUpdated {
                channel,
                name,
                slow_mode_secs,
            } => Self::ChannelUpdated {
                channel,
                name,
                slow_mode_secs,
            },
            Change::ChannelDeleted { channel } => Self::ChannelDeleted { channel },
            Change::InviteCreated {
                invite,
                expires_at,
                max_uses,
            } => Self::InviteCreated {
                invite,
                expires_at: expires_at.map(Timestamp::from_millis),
                max_uses,
            },
            Change::InviteDeleted { invite } => Self::InviteDeleted { invite },
            Change::MembersChanged { gv } => Self::MembersChanged { gv },
            Change::MessageCreated(state) => Self::MessageCreated(Box::new(state.into())),
            Change::MessageEdited {
                message,
                content,
                mentions,
                everyone,
                edited_at,
            } => Self::MessageEdited {
                message,
                content,
                mentions: domain::Mentions {
                    users: mentions,
                    everyone,
                },
                edited_at: Timestamp::from_millis(edited_at),
            },
            Change::MessageDeleted { message } => Self::MessageDeleted { message },
            Change::ReactionAdded(reaction) => Self::ReactionAdded {
                message: reaction.message,
                now: reaction.into(),
            },
            Change::ReactionRemoved(reaction) => Self::ReactionRemoved {
                message: reaction.message,
                now: reaction.into(),
            },
            Change::MessagePinned { message } => Self::MessagePinned { message },
            Change::MessageUnpinned { message } => Self::MessageUnpinned { message },
            Change::SessionEnded { session, user } => Self::SessionEnded { session, user },
        }
    }
}

impl From<(UserId, domain::Role)> for Member {
    fn from((user, role): (UserId, domain::Role)) -> Self {
        Self {
            user,
            role: role.into(),
        }
    }
}

impl From<Member> for (UserId, domain::Role) {
    fn from(member: Member) -> Self {
        (member.user, member.role.into())
    }
}

impl From<domain::InviteUse> for InviteUse {
    fn from(used: domain::InviteUse) -> Self {
        Self {
            invite: used.invite,
            uses: used.uses,
        }
    }
}

impl From<InviteUse> for domain::InviteUse {
    fn from(used: InviteUse) -> Self {
        Self {
            invite: used.invite,
            uses: used.uses,
        }
    }
}

impl From<(ChannelId, String)> for Channel {
    fn from((channel, name): (ChannelId, String)) -> Self {
        Self { channel, name }
    }
}

impl From<Channel> for (ChannelId, String) {
    fn from(channel: Channel) -> Self {
        (channel.channel, channel.name)
    }
}

macro_rules! same_variants {
    ($stored:ident = $model:path: $($variant:ident),*) => {
        impl From<$model> for $stored {
            fn from(value: $model) -> Self {
                match value { $(<$model>::$variant => Self::$variant),* }
            }
        }

        impl From<$stored> for $model {
            fn from(value: $stored) -> Self {
                match value { $($stored::$variant => Self::$variant),* }
            }
        }
    };
}

same_variants!(GroupKind = domain::GroupKind: Group, Direct);
same_variants!(Role = domain::Role: Member, Admin, Owner);
