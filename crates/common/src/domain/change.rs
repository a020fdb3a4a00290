//! What an entry says has changed: the kinds of deltas.

use std::fmt;
use std::str::FromStr;

use super::{
    ChannelId, GroupKind, InviteId, InviteUse, Mentions, MessageState, ReactionCount, Role, Seq,
    SessionId, Timestamp, UserId, UserPresence,
};

/// A committed change. What stands here is the stored truth; `wire` decides what clients see.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// `u:` A login.
    SessionCreated {
        session: SessionId,
        device_name: String,
    },
    /// `u:` decides; a `SessionEnded` in `x:sessions` is derived from it.
    SessionRevoked { session: SessionId },
    /// `u:` The user's own profile.
    UserUpdated { display_name: String },
    /// `u:` How far the user has read a channel: through `seq`, up to and with which there are
    /// `ord` messages.
    ReadMoved {
        channel: ChannelId,
        seq: Seq,
        ord: u64,
    },

    /// `g:` Always entry 1, with everything the group starts with.
    GroupCreated {
        kind: GroupKind,
        /// None in direct conversations.
        name: Option<String>,
        /// The creator included.
        members: Vec<(UserId, Role)>,
        channels: Vec<(ChannelId, String)>,
    },
    /// `g:` Settings; a field that did not change is None.
    GroupUpdated {
        name: Option<String>,
        /// The token of the edit lease that it was made under. None: nobody held one, and one
        /// that was taken before is over with this.
        lease: Option<Seq>,
    },
    /// `g:` Last entry of the group; it stays readable to nobody.
    GroupDeleted,
    /// `g:`
    MemberAdded {
        user: UserId,
        role: Role,
        /// Somebody who was muted when they left still is.
        muted_until: Option<Timestamp>,
        /// How they came, if by themselves. For admins alone.
        invite: Option<InviteUse>,
    },
    /// `g:`
    MemberUpdated { user: UserId, role: Role },
    /// `g:` `user` becomes the owner, and is not muted; `previous` becomes an admin.
    OwnerChanged { user: UserId, previous: UserId },
    /// `g:` May not write until then; None: may write again.
    MemberMuted {
        user: UserId,
        until: Option<Timestamp>,
    },
    /// `g:` Kicked (`actor` is another) or left.
    MemberRemoved { user: UserId },
    /// `g:` Shut out, and removed if `was_member`. Others than admins learn of a removal alone.
    MemberBanned { user: UserId, was_member: bool },
    /// `g:` For admins alone.
    MemberUnbanned { user: UserId },
    /// `g:`
    ChannelCreated { channel: ChannelId, name: String },
    /// `g:`
    ChannelUpdated {
        channel: ChannelId,
        name: String,
        /// None: as it was.
        slow_mode_secs: Option<u32>,
        /// As in [`Change::GroupUpdated`].
        lease: Option<Seq>,
    },
    /// `g:`
    ChannelDeleted { channel: ChannelId },
    /// `g:` For admins alone.
    InviteCreated {
        invite: InviteId,
        expires_at: Option<Timestamp>,
        max_uses: Option<u32>,
    },
    /// `g:` For admins alone.
    InviteDeleted { invite: InviteId },
    /// `g:` A session of the actor's has taken the edit lease; its position is the token.
    LeaseAcquired { session: SessionId },
    /// `g:` Given back by the session that held it.
    LeaseReleased { session: SessionId },

    /// `c:` A fence: entries after it were checked at group position `gv` or later.
    MembersChanged { gv: Seq },
    /// `c:` The message itself. Read from the store, it holds the *current* state.
    MessageCreated(Box<MessageState>),
    /// `c:` `content` and `mentions` are there from commit to apply; then they stand in the
    /// message alone.
    MessageEdited {
        message: Seq,
        content: Option<String>,
        mentions: Mentions,
        edited_at: Timestamp,
    },
    /// `c:` The content is gone from every copy once this is applied.
    MessageDeleted { message: Seq },
    /// `c:` `now` is what the actor's reaction makes of those with this emoji, so that whoever
    /// holds the message need not count.
    ReactionAdded { message: Seq, now: ReactionCount },
    /// `c:` `now` as in [`Change::ReactionAdded`]; it counts 0 once nobody reacts so.
    ReactionRemoved { message: Seq, now: ReactionCount },

    /// `c:` The message is among those that the channel keeps in view.
    MessagePinned { message: Seq },
    /// `c:`
    MessageUnpinned { message: Seq },

    /// `x:sessions`: the session's tokens are refused and its sockets closed.
    SessionEnded { session: SessionId, user: UserId },
}

/// Something worth telling that is never stored and may be dropped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ephemeral {
    /// The profile of `user` has changed: read it again.
    UserChanged { user: UserId },
    /// Somebody came, went, or turned to something else.
    PresenceChanged(UserPresence),
    /// `user` is about to write into `channel`.
    Typing { channel: ChannelId, user: UserId },
}

macro_rules! kinds {
    ($($variant:ident => $name:literal),* $(,)?) => {
        /// The name of a kind of change.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Kind { $($variant),* }

        impl Kind {
            /// Every kind, for tables and tests.
            pub const ALL: &'static [Kind] = &[$(Kind::$variant),*];

            /// The name on the wire and on disk.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Kind::$variant => $name),* }
            }
        }

        impl FromStr for Kind {
            type Err = UnknownKind;

            fn from_str(text: &str) -> Result<Self, UnknownKind> {
                match text {
                    $($name => Ok(Kind::$variant),)*
                    _ => Err(UnknownKind(text.to_owned())),
                }
            }
        }
    };
}

kinds! {
    SessionCreated => "session.created",
    SessionRevoked => "session.revoked",
    UserUpdated => "user.updated",
    ReadMoved => "read.moved",
    GroupCreated => "group.created",
    GroupUpdated => "group.updated",
    GroupDeleted => "group.deleted",
    MemberAdded => "member.added",
    MemberUpdated => "member.updated",
    OwnerChanged => "owner.changed",
    MemberMuted => "member.muted",
    MemberRemoved => "member.removed",
    MemberBanned => "member.banned",
    MemberUnbanned => "member.unbanned",
    ChannelCreated => "channel.created",
    ChannelUpdated => "channel.updated",
    ChannelDeleted => "channel.deleted",
    InviteCreated => "invite.created",
    InviteDeleted => "invite.deleted",
    LeaseAcquired => "lease.acquired",
    LeaseReleased => "lease.released",
    MembersChanged => "members.changed",
    MessageCreated => "message.created",
    MessageEdited => "message.edited",
    MessageDeleted => "message.deleted",
    ReactionAdded => "reaction.added",
    ReactionRemoved => "reaction.removed",
    MessagePinned => "message.pinned",
    MessageUnpinned => "message.unpinned",
    SessionEnded => "session.ended",
}

/// No kind has this name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no kind of change is called {0:?}")]
pub struct UnknownKind(pub String);

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Kind {
    /// See [`Change::changes_state`].
    #[must_use]
    pub fn changes_state(self) -> bool {
        !matches!(
            self,
            Self::MessageCreated | Self::MembersChanged | Self::SessionEnded
        )
    }
}

impl Ephemeral {
    /// The name on the wire.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::UserChanged { .. } => "user.changed",
            Self::PresenceChanged(_) => "presence.changed",
            Self::Typing { .. } => "typing",
        }
    }
}

impl Change {
    /// Somebody is added who was never muted.
    #[must_use]
    pub fn member_added(user: UserId, role: Role) -> Self {
        Self::MemberAdded {
            user,
            role,
            muted_until: None,
            invite: None,
        }
    }

    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::SessionCreated { .. } => Kind::SessionCreated,
            Self::SessionRevoked { .. } => Kind::SessionRevoked,
            Self::UserUpdated { .. } => Kind::UserUpdated,
            Self::ReadMoved { .. } => Kind::ReadMoved,
            Self::GroupCreated { .. } => Kind::GroupCreated,
            Self::GroupUpdated { .. } => Kind::GroupUpdated,
            Self::GroupDeleted => Kind::GroupDeleted,
            Self::MemberAdded { .. } => Kind::MemberAdded,
            Self::MemberUpdated { .. } => Kind::MemberUpdated,
            Self::OwnerChanged { .. } => Kind::OwnerChanged,
            Self::MemberMuted { .. } => Kind::MemberMuted,
            Self::MemberRemoved { .. } => Kind::MemberRemoved,
            Self::MemberBanned { .. } => Kind::MemberBanned,
            Self::MemberUnbanned { .. } => Kind::MemberUnbanned,
            Self::ChannelCreated { .. } => Kind::ChannelCreated,
            Self::ChannelUpdated { .. } => Kind::ChannelUpdated,
            Self::ChannelDeleted { .. } => Kind::ChannelDeleted,
            Self::InviteCreated { .. } => Kind::InviteCreated,
            Self::InviteDeleted { .. } => Kind::InviteDeleted,
            Self::LeaseAcquired { .. } => Kind::LeaseAcquired,
            Self::LeaseReleased { .. } => Kind::LeaseReleased,
            Self::MembersChanged { .. } => Kind::MembersChanged,
            Self::MessageCreated(_) => Kind::MessageCreated,
            Self::MessageEdited { .. } => Kind::MessageEdited,
            Self::MessageDeleted { .. } => Kind::MessageDeleted,
            Self::ReactionAdded { .. } => Kind::ReactionAdded,
            Self::ReactionRemoved { .. } => Kind::ReactionRemoved,
            Self::MessagePinned { .. } => Kind::MessagePinned,
            Self::MessageUnpinned { .. } => Kind::MessageUnpinned,
            Self::SessionEnded { .. } => Kind::SessionEnded,
        }
    }

    /// Whether state outside the entry itself changes with it. A new message and a fence are
    /// complete the moment they are committed.
    #[must_use]
    pub fn changes_state(&self) -> bool {
        self.kind().changes_state()
    }

    /// Whether a fence must follow in every channel of the group before this `g:` change is
    /// acknowledged: it takes a right to write away or gives it back, or adds a member who must
    /// miss nothing (in a large group that needs none: servers find out themselves).
    #[must_use]
    pub fn needs_fence(&self) -> bool {
        match self {
            Self::MemberAdded { .. }
            | Self::MemberUpdated { .. }
            | Self::OwnerChanged { .. }
            | Self::MemberMuted { .. }
            | Self::MemberRemoved { .. }
            | Self::ChannelDeleted { .. }
            | Self::GroupDeleted => true,
            Self::ChannelUpdated { slow_mode_secs, .. } => slow_mode_secs.is_some(),
            Self::MemberBanned { was_member, .. } => *was_member,
            _ => false,
        }
    }

    /// Who comes or goes with this change. Of a large group that is told to everybody else in
    /// runs.
    #[must_use]
    pub fn coming_or_going(&self) -> Option<UserId> {
        match self {
            Self::MemberAdded { user, .. } => Some(*user),
            _ => self.removes(),
        }
    }

    /// Whom this change removes from the group.
    #[must_use]
    pub fn removes(&self) -> Option<UserId> {
        match self {
            Self::MemberRemoved { user }
            | Self::MemberBanned {
                user,
                was_member: true,
            } => Some(*user),
            _ => None,
        }
    }

    /// Whether members who are no admins learn no more than that there is something.
    #[must_use]
    pub fn is_hidden(&self) -> bool {
        let shown_in_part = self.removes().is_some() || matches!(self, Self::MemberAdded { .. });
        self.is_confidential() && !shown_in_part
    }

    /// Whether admins see more of this change than other members do.
    #[must_use]
    pub fn is_confidential(&self) -> bool {
        matches!(
            self,
            Self::MemberBanned { .. }
                | Self::MemberUnbanned { .. }
                | Self::InviteCreated { .. }
                | Self::InviteDeleted { .. }
                | Self::MemberAdded {
                    invite: Some(_),
                    ..
                }
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_found_by_its_name() {
        for kind in Kind::ALL {
            assert_eq!(kind.as_str().parse(), Ok(*kind));
        }
        assert_eq!(
            "nothing".parse::<Kind>(),
            Err(UnknownKind("nothing".into()))
        );
    }
}
