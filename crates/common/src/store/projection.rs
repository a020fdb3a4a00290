//! What an entry does to the state. Pure; the stores only carry it out.

use crate::domain::{
    Change, ChannelId, Entry, GroupId, GroupKind, Place, Role, Seq, Session, SessionId, StreamId,
    Timestamp, UserId,
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
    },
    SetRole {
        group: GroupId,
        user: UserId,
        role: Role,
    },
    /// Leaves a tombstone.
    RemoveMember {
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
    RenameChannel {
        group: GroupId,
        channel: ChannelId,
        name: String,
    },
    /// Leaves a tombstone.
    DeleteChannel {
        group: GroupId,
        channel: ChannelId,
    },
    /// Everything of the entry is applied: the group's `applied` becomes `seq`, its member
    /// count changes by `members`. Always the last change of a `g:` entry.
    GroupApplied {
        group: GroupId,
        members: i64,
    },
    /// The content moves from the entry `seq` of the channel into the message.
    EditMessage {
        channel: ChannelId,
        message: Seq,
        content: Option<String>,
        edited_at: Timestamp,
    },
    /// Content, mentions and reactions go, from the message and from every other copy.
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
}

/// The changes of state that `entry` stands for, in the order in which to apply them.
#[must_use]
pub fn project(entry: &Entry) -> Vec<StateChange> {
    match entry.stream {
        StreamId::User(user) => of_user(user, entry),
        StreamId::Group(group) => of_group(group, entry),
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

fn of_group(group: GroupId, entry: &Entry) -> Vec<StateChange> {
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
                changes.push(add_member(group, *user, *role, entry.at));
                members += 1;
            }
            for (channel, name) in channels {
                changes.push(create_channel(group, *channel, name, entry.at));
            }
        }
        Change::GroupUpdated { name: Some(name) } => changes.push(StateChange::RenameGroup {
            group,
            name: name.clone(),
        }),
        Change::GroupDeleted => changes.push(StateChange::DeleteGroup { group }),
        Change::MemberAdded { user, role } => {
            changes.push(add_member(group, *user, *role, entry.at));
            members = 1;
        }
        Change::MemberUpdated { user, role } => changes.push(StateChange::SetRole {
            group,
            user: *user,
            role: *role,
        }),
        Change::MemberRemoved { user } => {
            changes.push(StateChange::RemoveMember { group, user: *user });
            members = -1;
        }
        Change::ChannelCreated { channel, name } => {
            changes.push(create_channel(group, *channel, name, entry.at));
        }
        Change::ChannelUpdated { channel, name } => changes.push(StateChange::RenameChannel {
            group,
            channel: *channel,
            name: name.clone(),
        }),
        Change::ChannelDeleted { channel } => changes.push(StateChange::DeleteChannel {
            group,
            channel: *channel,
        }),
        _ => {}
    }
    changes.push(StateChange::GroupApplied { group, members });
    changes
}

fn of_channel(channel: ChannelId, entry: &Entry) -> Vec<StateChange> {
    match &entry.change {
        Change::MessageEdited {
            message,
            content,
            edited_at,
        } => vec![StateChange::EditMessage {
            channel,
            message: *message,
            content: content.clone(),
            edited_at: *edited_at,
        }],
        Change::MessageDeleted { message } => vec![StateChange::DeleteMessage {
            channel,
            message: *message,
        }],
        Change::ReactionAdded { message, emoji } => reaction(channel, *message, entry, emoji, true),
        Change::ReactionRemoved { message, emoji } => {
            reaction(channel, *message, entry, emoji, false)
        }
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

fn add_member(group: GroupId, user: UserId, role: Role, joined_at: Timestamp) -> StateChange {
    StateChange::AddMember {
        group,
        user,
        role,
        joined_at,
    }
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
