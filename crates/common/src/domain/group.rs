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

/// A group with its channels and some of its members, as of position `applied` of its stream or
/// later.
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
    pub size: Size,
    /// Those that whoever read the group asked for: of a large one never all.
    pub members: BTreeMap<UserId, Member>,
    /// Deleted ones are absent.
    pub channels: BTreeMap<ChannelId, Channel>,
}

/// How many members a group has, and what follows from it for how it is told of things.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Size {
    pub members: u64,
    /// Its recipients are too many to be named one by one. A group turns large above
    /// `fanout_limit` members and small again below 80 % of that, so that one at the limit does
    /// not turn with everybody who comes or goes.
    pub large: bool,
    /// Position of the entry with which it last turned; 0: it has always been small.
    pub turned: Seq,
}

impl Size {
    /// The size after entry `seq`, with which `change` members came (or went, if negative).
    #[must_use]
    pub fn after(self, seq: Seq, change: i64, fanout_limit: u64) -> Self {
        let members = self.members.saturating_add_signed(change);
        let large = if self.large {
            !turns_small(members, fanout_limit)
        } else {
            members > fanout_limit
        };
        Self {
            members,
            large,
            turned: if large == self.large {
                self.turned
            } else {
                seq
            },
        }
    }

    /// Whether a delta that was committed as of position `as_of` goes to everybody by name. What
    /// was committed before the group turned small is told as large groups are: who had joined
    /// without a fence must not be left out.
    #[must_use]
    pub fn is_named_at(&self, as_of: Seq) -> bool {
        !self.large && as_of >= self.turned
    }
}

fn turns_small(members: u64, fanout_limit: u64) -> bool {
    members.saturating_mul(10) < fanout_limit.saturating_mul(8)
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
    pub size: Size,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_turns_large_above_the_limit_and_small_below_four_fifths_of_it() {
        let mut size = Size::default();
        for (seq, change, expected) in [
            (1, 10, (10, false, 0)),
            (2, 1, (11, true, 2)),
            (3, -1, (10, true, 2)),
            (4, -2, (8, true, 2)),
            (5, -1, (7, false, 5)),
            (6, 3, (10, false, 5)),
            (7, 1, (11, true, 7)),
        ] {
            size = size.after(seq, change, 10);
            assert_eq!((size.members, size.large, size.turned), expected);
        }
    }

    #[test]
    fn what_is_older_than_the_turn_to_small_is_not_told_by_name() {
        let size = |large, turned| Size {
            members: 5,
            large,
            turned,
        };
        assert!(size(false, 0).is_named_at(0));
        assert!(!size(true, 3).is_named_at(9));
        assert!(!size(false, 7).is_named_at(6));
        assert!(size(false, 7).is_named_at(7));
    }
}
