//! What an entry does to the state. Pure; the stores only carry it out.

use crate::domain::{
    Ban, Change, ChannelId, Entry, GroupId, GroupKind, Invite, InviteId, Lease, Mentions, Place,
    Role, Seq, Session, SessionId, StreamId, Timestamp, UserId,
};

/// One change of state, guarded by the position last applied to what it changes
/// (see [`super::StateStore::apply`]; `seq` below is that of the entry).
#[derive(Debug, Clone, PartialEq)]
pub enum StateChange {
    CreateSession(Session),
    RevokeSession {
        session: SessionId,
    },
    RenameUser {
        user: UserId,
        display_name: String,
    },
    /// The mark rises to `place`, unless it is as high already: marks need no other guard.
    MoveMark {
        user: UserId,
        channel: ChannelId,
        place: Place,
        at: Timestamp,
    },
    /// Its `version` is `seq`.
    CreateGroup {
        group: GroupId,
        kind: GroupKind,
        name: Option<String>,
        created_at: Timestamp,
    },
    /// Its `version` becomes `seq`.
    RenameGroup {
        group: GroupId,
        name: String,
    },
    /// Which edit lease was taken last; None: it is over.
    SetLease {
        group: GroupId,
        lease: Option<Lease>,
    },
    /// Members and channels stay as they are; no list shows them any more.
    DeleteGroup {
        group: GroupId,
    },
    /// Becomes a member, with `joined` = `seq`.
    AddMember {
        group: GroupId,
        user: UserId,
        role: Role,
        joined_at: Timestamp,
        muted_until: Option<Timestamp>,
    },
    /// An owner is not muted.
    SetRole {
        group: GroupId,
        user: UserId,
        role: Role,
    },
    MuteMember {
        group: GroupId,
        user: UserId,
        until: Option<Timestamp>,
    },
    /// Leaves a tombstone, which says whether and until when the user was muted.
    RemoveMember {
        group: GroupId,
        user: UserId,
    },
    /// Removes a member as well; who was none gets a tombstone that says it.
    BanMember {
        group: GroupId,
        ban: Ban,
    },
    UnbanMember {
        group: GroupId,
        user: UserId,
    },
    /// Its `version` is `seq`.
    CreateChannel {
        group: GroupId,
        channel: ChannelId,
        name: String,
        created_at: Timestamp,
    },
    /// Its `version` becomes `seq`.
    UpdateChannel {
        group: GroupId,
        channel: ChannelId,
        name: String,
        /// None: as it was.
        slow_mode_secs: Option<u32>,
    },
    /// Leaves a tombstone.
    DeleteChannel {
        group: GroupId,
        channel: ChannelId,
    },
    CreateInvite(Invite),
    UseInvite {
        group: GroupId,
        invite: InviteId,
        uses: u32,
    },
    /// Leaves a tombstone.
    DeleteInvite {
        group: GroupId,
        invite: InviteId,
    },
    /// Everything of the entry is applied: the group's `applied` becomes `seq`, its size what
    /// [`Size::after`](crate::domain::Size::after) says. Always the last change of a `g:` entry.
    GroupApplied {
        group: GroupId,
        members: i64,
        fanout_limit: u64,
    },
    /// Content and mentions move from the entry `seq` of the channel into the message.
    EditMessage {
        channel: ChannelId,
        message: Seq,
        content: Option<String>,
        mentions: Mentions,
        edited_at: Timestamp,
    },
    /// Content, mentions, reactions and the pin go, from the message and from every other copy.
    DeleteMessage {
        channel: ChannelId,
        message: Seq,
    },
    /// The message's counts follow from who reacts. An emoji keeps its place while anybody
    /// uses it; a user who reacts again after retracting comes last. A deleted message takes
    /// none.
    SetReaction {
        channel: ChannelId,
        message: Seq,
        user: UserId,
        emoji: String,
        present: bool,
    },
    /// A deleted message takes no pin.
    SetPinned {
        channel: ChannelId,
        message: Seq,
        pinned: bool,
    },
}

/// The changes of state that `entry` stands for, in the order in which to apply them.
/// `fanout_limit` decides whether a group turns large or small with it: by what the first said
/// who applied it, should processes differ.
#[must_use]
pub fn project(entry: &Entry, fanout_limit: u64) -> Vec<StateChange> {
    match entry.stream {
        StreamId::User(user) => of_user(user, entry),
        StreamId::Group(group) => of_group(group, entry, fanout_limit),
        StreamId::Channel(channel) => of_channel(channel, entry),
        StreamId::Sessions => Vec::new(),
    }
}

fn of_user(user: UserId, entry: &Entry) -> Vec<StateChange> {
    match &entry.change {
        Change::SessionCreated {
            session,
            device_name,
        } => vec![StateChange::CreateSession(Session {
            id: *session,
            user,
            device_name: device_name.clone(),
            created_at: entry.at,
            last_used_at: entry.at,
            generation: 1,
            rotation: None,
            revoked: false,
        })],
        Change::SessionRevoked { session } => {
            vec![StateChange::RevokeSession { session: *session }]
        }
        Change::UserUpdated { display_name } => vec![StateChange::RenameUser {
            user,
            display_name: display_name.clone(),
        }],
        Change::ReadMoved { channel, seq, ord } => vec![StateChange::MoveMark {
            user,
            channel: *channel,
            place: Place {
                seq: *seq,
                ord: *ord,
            },
            at: entry.at,
        }],
        _ => Vec::new(),
    }
}

fn of_group(group: GroupId, entry: &Entry, fanout_limit: u64) -> Vec<StateChange> {
    let mut changes = Vec::new();
    let mut members = 0;
    match &entry.change {
        Change::GroupCreated {
            kind,
            name,
            members: initial,
            channels,
        } => {
            changes.push(StateChange::CreateGroup {
                group,
                kind: *kind,
                name: name.clone(),
                created_at: entry.at,
            });
            for (user, role) in initial {
                changes.push(add_member(group, *user, *role, entry.at, None));
                members += 1;
            }
            for (channel, name) in channels {
                changes.push(create_channel(group, *channel, name, entry.at));
            }
        }
        Change::GroupUpdated { name, lease } => {
            changes.extend(
                name.clone()
                    .map(|name| StateChange::RenameGroup { group, name }),
            );
            changes.extend(outside(group, *lease));
        }
        Change::GroupDeleted => changes.push(StateChange::DeleteGroup { group }),
        Change::MemberAdded {
            user,
            role,
            muted_until,
            invite,
        } => {
            changes.push(add_member(group, *user, *role, entry.at, *muted_until));
            changes.extend(invite.map(|used| StateChange::UseInvite {
                group,
                invite: used.invite,
                uses: used.uses,
            }));
            members = 1;
        }
        Change::MemberUpdated { user, role } => changes.push(set_role(group, *user, *role)),
        Change::OwnerChanged { user, previous } => {
            changes.push(set_role(group, *user, Role::Owner));
            changes.push(set_role(group, *previous, Role::Admin));
        }
        Change::MemberMuted { user, until } => changes.push(StateChange::MuteMember {
            group,
            user: *user,
            until: *until,
        }),
        Change::MemberRemoved { user } => {
            changes.push(StateChange::RemoveMember { group, user: *user });
            members = -1;
        }
        Change::MemberBanned { user, was_member } => {
            let ban = Ban {
                user: *user,
                by: entry.actor,
                at: entry.at,
            };
            changes.push(StateChange::BanMember { group, ban });
            members = -i64::from(*was_member);
        }
        Change::MemberUnbanned { user } => {
            changes.push(StateChange::UnbanMember { group, user: *user });
        }
        Change::ChannelCreated { channel, name } => {
            changes.push(create_channel(group, *channel, name, entry.at));
        }
        Change::ChannelUpdated {
            channel,
            name,
            slow_mode_secs,
            lease,
        } => {
            changes.push(StateChange::UpdateChannel {
                group,
                channel: *channel,
                name: name.clone(),
                slow_mode_secs: *slow_mode_secs,
            });
            changes.extend(outside(group, *lease));
        }
        Change::ChannelDeleted { channel } => changes.push(StateChange::DeleteChannel {
            group,
            channel: *channel,
        }),
        Change::InviteCreated {
            invite,
            expires_at,
            max_uses,
        } => changes.push(StateChange::CreateInvite(Invite {
            id: *invite,
            group,
            created_by: entry.actor,
            created_at: entry.at,
            expires_at: *expires_at,
            max_uses: *max_uses,
            uses: 0,
            deleted: false,
        })),
        Change::InviteDeleted { invite } => changes.push(StateChange::DeleteInvite {
            group,
            invite: *invite,
        }),
        Change::LeaseAcquired { session } => {
            let lease = entry.actor.map(|user| Lease {
                token: entry.seq,
                session: *session,
                user,
                since: entry.at,
            });
            changes.push(StateChange::SetLease { group, lease });
        }
        Change::LeaseReleased { .. } => {
            changes.push(StateChange::SetLease { group, lease: None });
        }
        _ => {}
    }
    changes.push(StateChange::GroupApplied {
        group,
        members,
        fanout_limit,
    });
    changes
}

/// A change of settings without a lease ends the one that had run out.
fn outside(group: GroupId, lease: Option<Seq>) -> Option<StateChange> {
    lease
        .is_none()
        .then_some(StateChange::SetLease { group, lease: None })
}

fn of_channel(channel: ChannelId, entry: &Entry) -> Vec<StateChange> {
    match &entry.change {
        Change::MessageEdited {
            message,
            content,
            mentions,
            edited_at,
        } => vec![StateChange::EditMessage {
            channel,
            message: *message,
            content: content.clone(),
            mentions: mentions.clone(),
            edited_at: *edited_at,
        }],
        Change::MessageDeleted { message } => vec![StateChange::DeleteMessage {
            channel,
            message: *message,
        }],
        Change::ReactionAdded { message, now } => {
            reaction(channel, *message, entry, &now.emoji, true)
        }
        Change::ReactionRemoved { message, now } => {
            reaction(channel, *message, entry, &now.emoji, false)
        }
        Change::MessagePinned { message } => vec![pin(channel, *message, true)],
        Change::MessageUnpinned { message } => vec![pin(channel, *message, false)],
        _ => Vec::new(),
    }
}

fn reaction(
    channel: ChannelId,
    message: Seq,
    entry: &Entry,
    emoji: &str,
    present: bool,
) -> Vec<StateChange> {
    let change = entry.actor.map(|user| StateChange::SetReaction {
        channel,
        message,
        user,
        emoji: emoji.to_owned(),
        present,
    });
    change.into_iter().collect()
}

fn pin(channel: ChannelId, message: Seq, pinned: bool) -> StateChange {
    StateChange::SetPinned {
        channel,
        message,
        pinned,
    }
}

fn add_member(
    group: GroupId,
    user: UserId,
    role: Role,
    joined_at: Timestamp,
    muted_until: Option<Timestamp>,
) -> StateChange {
    StateChange::AddMember {
        group,
        user,
        role,
        joined_at,
        muted_until,
    }
}

fn set_role(group: GroupId, user: UserId, role: Role) -> StateChange {
    StateChange::SetRole { group, user, role }
}

fn create_channel(
    group: GroupId,
    channel: ChannelId,
    name: &str,
    created_at: Timestamp,
) -> StateChange {
    StateChange::CreateChannel {
        group,
        channel,
        name: name.to_owned(),
        created_at,
    }
}
