//! Who may do what in a group: the one table that the rules go by, and that the documentation
//! shows (docs/permissions.md, which a test compares with it).

use super::{Group, GroupKind, Member, Refusal, Role, Timestamp, UserId};

/// Something that can be done in a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    Read,
    SendMessage,
    /// Tell others that one is about to write.
    Type,
    /// Again before the channel's slow mode lets members.
    SendAtOnce,
    /// In a message or an edit that is allowed.
    MentionEveryone,
    EditOwnMessage,
    EditOthersMessage,
    DeleteOwnMessage,
    DeleteOthersMessage,
    React,
    Unreact,
    Pin,
    Unpin,
    UpdateGroup,
    TakeLease,
    StealLease,
    DeleteGroup,
    CreateChannel,
    UpdateChannel,
    DeleteChannel,
    AddMember,
    SetRole,
    TransferOwnership,
    RemoveMember,
    Leave,
    ListBans,
    Ban,
    Unban,
    Mute,
    Unmute,
    ListInvites,
    CreateInvite,
    DeleteInvite,
    PreviewInvite,
    Join,
}

/// What somebody is to a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    Owner,
    Admin,
    Member,
    /// A member who may not write for a time. An admin can be muted as well: then everything
    /// that muting takes from a member is taken from the admin.
    Muted,
    Banned,
    Stranger,
}

/// What somebody is told who asks for an action.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Yes,
    Forbidden,
    /// As if there were no such group.
    NotFound,
    Conflict,
    Limited,
    /// This part of the request has no effect; the rest of it is done.
    Ignored,
}

impl Standing {
    /// All of them, in the order of the table's columns.
    pub const ALL: [Self; 6] = [
        Self::Owner,
        Self::Admin,
        Self::Member,
        Self::Muted,
        Self::Banned,
        Self::Stranger,
    ];

    /// The name in the documentation.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Owner => "owner",
            Self::Admin => "admin",
            Self::Member => "member",
            Self::Muted => "muted",
            Self::Banned => "banned",
            Self::Stranger => "stranger",
        }
    }
}

impl From<Role> for Standing {
    fn from(role: Role) -> Self {
        match role {
            Role::Owner => Self::Owner,
            Role::Admin => Self::Admin,
            Role::Member => Self::Member,
        }
    }
}

impl Verdict {
    /// What the documentation shows.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Yes => "yes",
            Self::Forbidden => "403",
            Self::NotFound => "404",
            Self::Conflict => "409",
            Self::Limited => "429",
            Self::Ignored => "ignored",
        }
    }
}

/// One action: its name in the documentation, how it is asked for, and what everybody is told.
pub struct Permission {
    pub action: Action,
    pub name: &'static str,
    pub request: &'static str,
    /// In the order of [`Standing::ALL`].
    group: [Verdict; 6],
    /// In a direct conversation, where everybody is a member or a stranger.
    direct: [Verdict; 2],
}

const Y: Verdict = Verdict::Yes;
const F: Verdict = Verdict::Forbidden;
const N: Verdict = Verdict::NotFound;
const C: Verdict = Verdict::Conflict;
const L: Verdict = Verdict::Limited;
const I: Verdict = Verdict::Ignored;

const EVERY_MEMBER: [Verdict; 6] = [Y, Y, Y, Y, N, N];
const NOT_THE_MUTED: [Verdict; 6] = [Y, Y, Y, F, N, N];
const ADMINS: [Verdict; 6] = [Y, Y, F, F, N, N];
const OWNER: [Verdict; 6] = [Y, F, F, F, N, N];
const NOBODY: [Verdict; 6] = [F, F, F, F, N, N];
const ALL_BUT_THE_BANNED: [Verdict; 6] = [Y, Y, Y, Y, N, Y];

macro_rules! permissions {
    ($($action:ident $name:literal $request:literal $group:expr, $direct:expr;)*) => {
        /// Every action, in the order of the documentation.
        pub const PERMISSIONS: &[Permission] = &[$(Permission {
            action: Action::$action,
            name: $name,
            request: $request,
            group: $group,
            direct: $direct,
        }),*];

        impl Action {
            /// The row of the table.
            #[must_use]
            pub fn permission(self) -> &'static Permission {
                // The rows stand in the order of the variants: a test goes through them.
                &PERMISSIONS[self as usize]
            }
        }
    };
}

permissions! {
    Read "read" "`GET` group, members, edit lease, channel, messages, reactions, pins, buckets, presence; sync"
        EVERY_MEMBER, [Y, N];
    SendMessage "send a message" "`POST …/messages`" NOT_THE_MUTED, [Y, N];
    Type "show that one is typing" "`POST …/typing`" NOT_THE_MUTED, [Y, N];
    SendAtOnce "send in spite of slow mode" "`POST …/messages`" [Y, Y, L, F, N, N], [Y, N];
    MentionEveryone "mention everyone" "`POST …/messages`, `PATCH …/messages/{seq}`"
        [Y, Y, I, F, N, N], [I, N];
    EditOwnMessage "edit one's message" "`PATCH …/messages/{seq}`" NOT_THE_MUTED, [Y, N];
    EditOthersMessage "edit another's message" "`PATCH …/messages/{seq}`" NOBODY, [F, N];
    DeleteOwnMessage "delete one's message" "`DELETE …/messages/{seq}`" EVERY_MEMBER, [Y, N];
    DeleteOthersMessage "delete another's message" "`DELETE …/messages/{seq}`" ADMINS, [F, N];
    React "react" "`PUT …/messages/{seq}/reactions/{emoji}`" NOT_THE_MUTED, [Y, N];
    Unreact "take a reaction back" "`DELETE …/messages/{seq}/reactions/{emoji}`"
        EVERY_MEMBER, [Y, N];
    Pin "pin" "`PUT …/messages/{seq}/pin`" ADMINS, [Y, N];
    Unpin "unpin" "`DELETE …/messages/{seq}/pin`" ADMINS, [Y, N];
    UpdateGroup "change the group" "`PATCH /v1/groups/{group}`" ADMINS, [F, N];
    TakeLease "take the edit lease" "`PUT …/edit-lease`" ADMINS, [F, N];
    StealLease "take it from its holder" "`PUT …/edit-lease?steal=true`" OWNER, [F, N];
    DeleteGroup "delete the group" "`DELETE /v1/groups/{group}`" OWNER, [F, N];
    CreateChannel "create a channel" "`POST …/channels`" ADMINS, [F, N];
    UpdateChannel "change a channel" "`PATCH /v1/channels/{channel}`" ADMINS, [F, N];
    DeleteChannel "delete a channel" "`DELETE /v1/channels/{channel}`" ADMINS, [F, N];
    AddMember "add a member" "`PUT …/members/{user}`" ADMINS, [F, N];
    SetRole "give a role" "`PATCH …/members/{user}` or `PUT`" OWNER, [F, N];
    TransferOwnership "pass on ownership" "`PATCH …/members/{user}` `owner`" OWNER, [F, N];
    RemoveMember "remove a member" "`DELETE …/members/{user}`" ADMINS, [F, N];
    Leave "leave" "`DELETE …/members/{oneself}`" [C, Y, Y, Y, N, N], [F, N];
    ListBans "see who is banned" "`GET …/bans`, `GET …/bans/{user}`" ADMINS, [F, N];
    Ban "ban" "`PUT …/bans/{user}`" ADMINS, [F, N];
    Unban "take a ban back" "`DELETE …/bans/{user}`" ADMINS, [F, N];
    Mute "mute" "`PUT …/members/{user}/mute`" ADMINS, [F, N];
    Unmute "let speak again" "`DELETE …/members/{user}/mute`" ADMINS, [F, N];
    ListInvites "see the invites" "`GET …/invites`" ADMINS, [F, N];
    CreateInvite "make an invite" "`POST …/invites`" ADMINS, [F, N];
    DeleteInvite "withdraw an invite" "`DELETE …/invites/{invite}`" ADMINS, [F, N];
    PreviewInvite "look at an invite" "`GET /v1/invites/{code}`" ALL_BUT_THE_BANNED, [N, N];
    Join "join by an invite" "`POST /v1/invites/{code}`" ALL_BUT_THE_BANNED, [N, N];
}

impl Permission {
    /// What somebody of this standing is told in a group; None where there is no such standing.
    #[must_use]
    pub fn verdict(&self, kind: GroupKind, standing: Standing) -> Option<Verdict> {
        match (kind, standing) {
            (GroupKind::Group, standing) => Some(self.group[standing as usize]),
            (GroupKind::Direct, Standing::Member) => Some(self.direct[0]),
            (GroupKind::Direct, Standing::Stranger) => Some(self.direct[1]),
            (GroupKind::Direct, _) => None,
        }
    }

    /// Whether muting takes it away.
    #[must_use]
    pub fn is_silenced(&self) -> bool {
        self.group[Standing::Muted as usize] != self.group[Standing::Member as usize]
    }

    /// Whether a member of this role may, who is not muted.
    ///
    /// # Errors
    ///
    /// What the table says.
    pub fn check(&self, kind: GroupKind, role: Role) -> Result<(), Refusal> {
        match self.of_member(kind, role) {
            Verdict::Yes => Ok(()),
            verdict => Err(self.refusal(kind, verdict)),
        }
    }

    /// What a member is told who is not muted.
    fn of_member(&self, kind: GroupKind, role: Role) -> Verdict {
        match kind {
            GroupKind::Group => self.group[Standing::from(role) as usize],
            GroupKind::Direct => self.direct[0],
        }
    }

    /// Why members may not.
    fn refusal(&self, kind: GroupKind, verdict: Verdict) -> Refusal {
        let admins = self.group[Standing::Admin as usize] == Verdict::Yes;
        let owner = self.group[Standing::Owner as usize] == Verdict::Yes;
        match (verdict, kind) {
            (Verdict::NotFound, _) => Refusal::NotFound,
            (Verdict::Limited, _) => Refusal::TooSoon { millis: 0 },
            (Verdict::Ignored, _) => Refusal::Unchanged,
            (Verdict::Conflict, _) => Refusal::Conflict("the owner cannot leave the group"),
            _ if self.action == Action::EditOthersMessage => {
                Refusal::Forbidden("only its author may edit a message")
            }
            _ if self.action == Action::DeleteOthersMessage => {
                Refusal::Forbidden("only its author, admins and the owner may delete a message")
            }
            (_, GroupKind::Direct) => Refusal::Forbidden("a direct conversation cannot be changed"),
            _ if admins => Refusal::Forbidden("only admins and owners may do this"),
            _ if owner => Refusal::Forbidden("only the owner may do this"),
            _ => Refusal::Forbidden("nobody may do this"),
        }
    }
}

impl Group {
    /// The membership of `user`, if that suffices for an action; muting is not looked at.
    ///
    /// # Errors
    ///
    /// What the table says: `NotFound` to strangers, `Forbidden` or `Conflict` to members.
    pub fn permit(&self, user: UserId, action: Action) -> Result<&Member, Refusal> {
        let member = self.member(user)?;
        action.permission().check(self.kind, member.role)?;
        Ok(member)
    }

    /// As [`Group::permit`], of what the muted may not do.
    ///
    /// # Errors
    ///
    /// As there; `Muted` to those who are at the time `now`.
    pub fn permit_at(
        &self,
        user: UserId,
        action: Action,
        now: Timestamp,
    ) -> Result<&Member, Refusal> {
        let muted = self.member(user)?.muted_until.filter(|until| *until > now);
        match muted {
            Some(until) if action.permission().is_silenced() => Err(Refusal::Muted { until }),
            _ => self.permit(user, action),
        }
    }

    /// As [`Group::permit`], of an action on a member who must have a lower role.
    ///
    /// # Errors
    ///
    /// As there; `NotFound` if `other` is no member, `Forbidden` if the role is not lower.
    pub fn permit_on(
        &self,
        user: UserId,
        action: Action,
        other: UserId,
    ) -> Result<&Member, Refusal> {
        let role = self.permit(user, action)?.role;
        let other = self.members.get(&other).ok_or(Refusal::NotFound)?;
        if other.role >= role {
            return Err(Refusal::Forbidden("this member's role is not below yours"));
        }
        Ok(other)
    }
}

#[cfg(test)]
mod tests;
