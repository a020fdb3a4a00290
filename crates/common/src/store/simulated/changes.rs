//! Carries out changes of state, each guarded by the position last applied to what it changes.

use super::state::{ChannelRow, GroupRow, InviteRow, MemberRow, ReactionRow, State};
use crate::domain::{
    Change, Channel, GroupId, Mentions, MessageState, Restrictions, Role, Seq, Size, Timestamp,
    UserId,
};
use crate::store::StateChange;
use crate::store::revision::{self, At, Reactors};

impl State {
    /// One change of the entry at `seq`.
    pub(crate) fn change(&mut self, seq: Seq, change: &StateChange) {
        match change {
            StateChange::CreateSession(session) => {
                let row = (session.clone(), seq);
                self.sessions.entry(session.id).or_insert(row);
            }
            StateChange::RevokeSession { session } => {
                if let Some((row, applied)) = self.sessions.get_mut(session)
                    && *applied < seq
                {
                    (row.revoked, *applied) = (true, seq);
                }
            }
            StateChange::RenameUser { user, display_name } => {
                if let Some(row) = self.users.get_mut(user)
                    && row.applied < seq
                {
                    row.user.display_name.clone_from(display_name);
                    row.applied = seq;
                }
            }
            StateChange::MoveMark {
                user,
                channel,
                place,
                at,
            } => self.move_mark((*user, *channel), *place, *at),
            StateChange::CreateGroup { .. }
            | StateChange::RenameGroup { .. }
            | StateChange::SetLease { .. }
            | StateChange::DeleteGroup { .. }
            | StateChange::GroupApplied { .. } => self.change_group(seq, change),
            StateChange::AddMember { .. }
            | StateChange::SetRole { .. }
            | StateChange::MuteMember { .. }
            | StateChange::RemoveMember { .. }
            | StateChange::BanMember { .. }
            | StateChange::UnbanMember { .. } => self.change_member(seq, change),
            StateChange::CreateChannel { .. }
            | StateChange::UpdateChannel { .. }
            | StateChange::DeleteChannel { .. } => self.change_channel(seq, change),
            StateChange::CreateInvite(_)
            | StateChange::UseInvite { .. }
            | StateChange::DeleteInvite { .. } => self.change_invite(seq, change),
            StateChange::EditMessage { .. }
            | StateChange::DeleteMessage { .. }
            | StateChange::SetReaction { .. }
            | StateChange::SetPinned { .. } => self.change_message(seq, change),
        }
    }

    fn change_group(&mut self, seq: Seq, change: &StateChange) {
        match change {
            StateChange::CreateGroup {
                group,
                kind,
                name,
                created_at,
            } => {
                let row = GroupRow {
                    kind: *kind,
                    name: name.clone(),
                    created_at: *created_at,
                    version: seq,
                    size: Size::default(),
                    deleted: false,
                    lease: None,
                    settings_applied: seq,
                    applied: 0,
                };
                self.groups.entry(*group).or_insert(row);
            }
            StateChange::RenameGroup { group, name } => {
                if let Some(row) = self.older_settings(*group, seq) {
                    row.name = Some(name.clone());
                    row.version = seq;
                }
            }
            StateChange::SetLease { group, lease } => {
                if let Some(row) = self.groups.get_mut(group)
                    && row.applied < seq
                {
                    row.lease = *lease;
                }
            }
            StateChange::DeleteGroup { group } => {
                if let Some(row) = self.older_settings(*group, seq) {
                    row.deleted = true;
                }
            }
            StateChange::GroupApplied {
                group,
                members,
                fanout_limit,
            } => {
                if let Some(row) = self.groups.get_mut(group)
                    && row.applied < seq
                {
                    row.applied = seq;
                    row.size = row.size.after(seq, *members, *fanout_limit);
                }
            }
            _ => {}
        }
    }

    /// The group's row if its settings are older than `seq`; they are of `seq` from now on.
    fn older_settings(&mut self, group: GroupId, seq: Seq) -> Option<&mut GroupRow> {
        let row = self.groups.get_mut(&group)?;
        if row.settings_applied >= seq {
            return None;
        }
        row.settings_applied = seq;
        Some(row)
    }

    fn change_member(&mut self, seq: Seq, change: &StateChange) {
        match change {
            StateChange::AddMember {
                group,
                user,
                role,
                joined_at,
                muted_until,
            } => {
                let known = self.members.get(&(*group, *user));
                if known.is_none_or(|row| row.applied < seq) {
                    let row = MemberRow {
                        role: *role,
                        joined: seq,
                        joined_at: *joined_at,
                        removed: false,
                        restrictions: Restrictions {
                            known: true,
                            ban: known.and_then(|row| row.restrictions.ban),
                            muted_until: *muted_until,
                        },
                        applied: seq,
                    };
                    self.members.insert((*group, *user), row);
                }
            }
            StateChange::SetRole { group, user, role } => {
                if let Some(row) = self.older_member(*group, *user, seq) {
                    row.role = *role;
                    if *role == Role::Owner {
                        row.restrictions.muted_until = None;
                    }
                }
            }
            StateChange::MuteMember { group, user, until } => {
                if let Some(row) = self.older_member(*group, *user, seq) {
                    row.restrictions.muted_until = *until;
                }
            }
            StateChange::BanMember { group, ban } => {
                // Somebody who never was a member leaves what a removed one does.
                let nobody = MemberRow {
                    role: Role::Member,
                    joined: 0,
                    joined_at: Timestamp::default(),
                    removed: true,
                    restrictions: Restrictions {
                        known: true,
                        ..Restrictions::default()
                    },
                    applied: 0,
                };
                self.members.entry((*group, ban.user)).or_insert(nobody);
                if let Some(row) = self.older_member(*group, ban.user, seq) {
                    row.removed = true;
                    row.restrictions.ban = Some(*ban);
                }
            }
            StateChange::UnbanMember { group, user } => {
                if let Some(row) = self.older_member(*group, *user, seq) {
                    row.restrictions.ban = None;
                }
            }
            StateChange::RemoveMember { group, user } => {
                if let Some(row) = self.older_member(*group, *user, seq) {
                    row.removed = true;
                }
            }
            _ => {}
        }
    }

    fn change_invite(&mut self, seq: Seq, change: &StateChange) {
        let id = match change {
            StateChange::CreateInvite(invite) => {
                let row = InviteRow {
                    invite: invite.clone(),
                    applied: seq,
                };
                self.invites.entry(invite.id).or_insert(row);
                return;
            }
            StateChange::UseInvite { invite, .. } | StateChange::DeleteInvite { invite, .. } => {
                invite
            }
            _ => return,
        };
        let Some(row) = self.invites.get_mut(id).filter(|row| row.applied < seq) else {
            return;
        };
        row.applied = seq;
        match change {
            StateChange::UseInvite { uses, .. } => row.invite.uses = *uses,
            _ => row.invite.deleted = true,
        }
    }

    fn older_member(&mut self, group: GroupId, user: UserId, seq: Seq) -> Option<&mut MemberRow> {
        let row = self.members.get_mut(&(group, user))?;
        if row.applied >= seq {
            return None;
        }
        row.applied = seq;
        Some(row)
    }

    fn change_channel(&mut self, seq: Seq, change: &StateChange) {
        let (StateChange::CreateChannel { channel, .. }
        | StateChange::UpdateChannel { channel, .. }
        | StateChange::DeleteChannel { channel, .. }) = change
        else {
            return;
        };
        if let StateChange::CreateChannel {
            group,
            channel,
            name,
            created_at,
        } = change
        {
            let row = ChannelRow {
                channel: Channel {
                    id: *channel,
                    group: *group,
                    name: name.clone(),
                    version: seq,
                    slow_mode_secs: 0,
                    created_at: *created_at,
                },
                deleted: false,
                applied: seq,
            };
            self.channels.entry(*channel).or_insert(row);
        }
        let Some(row) = self.channels.get_mut(channel) else {
            return;
        };
        if row.applied >= seq {
            return;
        }
        row.applied = seq;
        match change {
            StateChange::UpdateChannel {
                name,
                slow_mode_secs,
                ..
            } => {
                row.channel.name.clone_from(name);
                row.channel.slow_mode_secs = slow_mode_secs.unwrap_or(row.channel.slow_mode_secs);
                row.channel.version = seq;
            }
            _ => row.deleted = true,
        }
    }

    fn change_message(&mut self, seq: Seq, change: &StateChange) {
        match change {
            StateChange::EditMessage {
                channel,
                message,
                content,
                mentions,
                edited_at,
            } => {
                let at = At::new(*channel, *message, seq);
                if let Some(state) = self.older_message(at) {
                    revision::edit(state, content.as_deref(), mentions, *edited_at);
                    state.applied = seq;
                }
                self.remove_copies(at, |copy| copy == seq);
            }
            StateChange::DeleteMessage { channel, message } => {
                let at = At::new(*channel, *message, seq);
                let Some(state) = self.older_message(at) else {
                    return;
                };
                revision::delete(state);
                state.applied = seq;
                if let Some(entry) = self.entry_mut((*channel).into(), *message) {
                    entry.request = None;
                }
                for (_, reaction) in self.reactions_to(*channel, *message) {
                    if reaction.applied < seq {
                        (reaction.present, reaction.applied) = (false, seq);
                    }
                }
                self.remove_copies(at, |_| true);
            }
            StateChange::SetReaction {
                channel,
                message,
                user,
                emoji,
                present,
            } => self.react(At::new(*channel, *message, seq), *user, emoji, *present),
            StateChange::SetPinned {
                channel,
                message,
                pinned,
            } => {
                if let Some(state) = self.older_message(At::new(*channel, *message, seq)) {
                    revision::pin(state, *pinned);
                    state.applied = seq;
                }
            }
            _ => {}
        }
    }

    fn react(&mut self, at: At, user: UserId, emoji: &str, present: bool) {
        let Some(state) = self.older_message(at) else {
            return;
        };
        if state.deleted {
            state.applied = at.seq;
            return;
        }
        let key = (at.channel, at.message, emoji.to_owned(), user);
        let fresh = ReactionRow {
            present: false,
            since: at.seq,
            applied: 0,
        };
        let row = self.reactions.entry(key).or_insert(fresh);
        if row.applied < at.seq {
            if !row.present {
                row.since = at.seq;
            }
            (row.present, row.applied) = (present, at.seq);
        }
        let mut reacting: Vec<(Seq, UserId)> = self
            .reactions_to(at.channel, at.message)
            .filter(|((_, _, with, _), row)| with == emoji && row.present)
            .map(|((_, _, _, user), row)| (row.since, *user))
            .collect();
        reacting.sort_unstable();
        let reactors = Reactors {
            count: u32::try_from(reacting.len()).unwrap_or(u32::MAX),
            first: reacting.into_iter().map(|(_, user)| user).collect(),
        };
        if let Some(state) = self.older_message(at) {
            revision::count(state, emoji, reactors);
            state.applied = at.seq;
        }
    }

    /// The message's state if it is older than the entry.
    fn older_message(&mut self, at: At) -> Option<&mut MessageState> {
        match &mut self.entry_mut(at.channel.into(), at.message)?.change {
            Change::MessageCreated(state) if state.applied < at.seq => Some(state),
            _ => None,
        }
    }

    /// Removes the message's content from entries of edits.
    fn remove_copies(&mut self, at: At, which: impl Fn(Seq) -> bool) {
        for entry in self.copies_of(at.channel, at.message) {
            if which(entry.seq)
                && let Change::MessageEdited {
                    content, mentions, ..
                } = &mut entry.change
            {
                (*content, *mentions) = (None, Mentions::default());
                entry.request = None;
            }
        }
    }
}
