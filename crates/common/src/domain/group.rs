//! Groups, their members and channels, and who may do what in them.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use super::{ChannelId, GroupId, Lease, Refusal, Seq, Timestamp, UserId};

/// No variant has this name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown name {0:?}")]
pub struct UnknownName(pub String);

macro_rules! names {
    ($type:ident: $($variant:ident => $name:literal),*) => {
        impl $type {
            /// The name on the wire and on disk.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name),* }
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl FromStr for $type {
            type Err = UnknownName;

            fn from_str(text: &str) -> Result<Self, UnknownName> {
                match text {
                    $($name => Ok(Self::$variant),)*
                    _ => Err(UnknownName(text.to_owned())),
                }
            }
        }
    };
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GroupKind {
    Group,
    /// Exactly two members, one channel, no settings.
    Direct,
}

names!(GroupKind: Group => "group", Direct => "direct");

/// What a member may do; later is more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    Member,
    Admin,
    Owner,
}

names!(Role: Member => "member", Admin => "admin", Owner => "owner");

/// A group with its members and channels, as of position `applied` of its stream or later.
#[derive(Debug, Clone, PartialEq)]
pub struct Group {
    pub id: GroupId,
    pub kind: GroupKind,
    /// None in direct conversations.
    pub name: Option<String>,
    pub created_at: Timestamp,
    /// Position of the last change of the settings.
    pub version: Seq,
    /// Position through which the stream is applied to this state.
    pub applied: Seq,
    pub deleted: bool,
    /// The edit lease that was taken last, unless it is over by what the log says.
    pub lease: Option<Lease>,
    pub members: BTreeMap<UserId, Member>,
    /// Deleted ones are absent.
    pub channels: BTreeMap<ChannelId, Channel>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Member {
    pub role: Role,
    /// Position of the entry that made the user a member.
    pub joined: Seq,
    pub joined_at: Timestamp,
    /// May not write until then; a time that is over means nothing.
    pub muted_until: Option<Timestamp>,
}

/// A user's part in a group, without the group's members.
#[derive(Debug, Clone, PartialEq)]
pub struct Membership {
    pub group: GroupId,
    pub kind: GroupKind,
    pub name: Option<String>,
    pub created_at: Timestamp,
    pub version: Seq,
    pub role: Role,
    pub member_count: u64,
    /// As in [`Group`].
    pub lease: Option<Lease>,
    /// Ascending by id; deleted ones are absent.
    pub channels: Vec<Channel>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Channel {
    pub id: ChannelId,
    pub group: GroupId,
    pub name: String,
    /// Position in the group's stream of the channel's last change of settings.
    pub version: Seq,
    /// How long a member waits between two messages; 0: not at all.
    pub slow_mode_secs: u32,
    pub created_at: Timestamp,
}

impl Group {
    /// The caller's membership.
    ///
    /// # Errors
    ///
    /// `NotFound` to anyone who is not a member, so that nobody learns what exists.
    pub fn member(&self, user: UserId) -> Result<&Member, Refusal> {
        if self.deleted {
            return Err(Refusal::NotFound);
        }
        self.members.get(&user).ok_or(Refusal::NotFound)
    }

    /// # Errors
    ///
    /// `NotFound` if the channel is not there or the caller is not a member.
    pub fn channel_for(&self, user: UserId, channel: ChannelId) -> Result<&Channel, Refusal> {
        self.member(user)?;
        self.channels.get(&channel).ok_or(Refusal::NotFound)
    }
}
