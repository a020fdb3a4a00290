//! Ways into a group for whoever has a code.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use secrecy::SecretString;
use tidings_common::clock::Clock;
use tidings_common::domain::{
    Action, Change, GroupId, Head, IdempotencyKey, Invite, InviteId, InviteUse, Refusal,
    RequestHash, Role, UserId,
};
use tidings_common::log::{Draft, NotValid, Proposal};
use tidings_common::store::{IdWindow, Store};

use super::groups::{SeenGroup, refuse_full, seen_after};
use super::proposal::{decided, permitted, permitting, there};
use super::{Context, Done, IdPage, Listed, Mutation, Put, ServiceError};

pub(crate) struct Invites {
    context: Context,
}

/// An invite to be made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NewInvite {
    pub(crate) max_uses: Option<u32>,
    pub(crate) expires_in: Option<Duration>,
}

/// An invite with what opens it.
#[derive(Debug)]
pub(crate) struct WithCode {
    pub(crate) invite: Invite,
    pub(crate) code: SecretString,
}

/// A group, as somebody sees it who may join.
#[derive(Debug)]
pub(crate) struct Preview {
    pub(crate) invite: Invite,
    pub(crate) name: Option<String>,
    pub(crate) member_count: u64,
    /// The caller is a member already.
    pub(crate) member: bool,
}

impl Invites {
    pub(crate) fn new(context: Context) -> Self {
        Self { context }
    }

    pub(crate) async fn create(
        &self,
        who: UserId,
        group: GroupId,
        new: NewInvite,
        key: Option<&IdempotencyKey>,
    ) -> Result<Done<WithCode>, ServiceError> {
        let route = "POST /v1/groups/{group}/invites";
        let max_uses = new.max_uses.unwrap_or_default().to_be_bytes();
        let expires_in = new.expires_in.unwrap_or_default().as_secs().to_be_bytes();
        let parts: [&[u8]; 3] = [group.as_bytes(), &max_uses, &expires_in];
        let seed = Context::seed(key);
        let invite = InviteId::derived(&[
            self.context.deployment.as_bytes(),
            who.as_bytes(),
            route.as_bytes(),
            group.as_bytes(),
            &seed,
        ]);
        let mutation = Mutation {
            actor: who,
            stream: group.into(),
            key,
            request: Some(RequestHash::of(route, &parts)),
            proposal: CreateInvite {
                store: self.context.store.clone(),
                clock: self.context.clock.clone(),
                who,
                group,
                invite,
                new,
                most: self.context.limits.invites_per_group,
            },
        };
        let committed = self.context.append(mutation).await?;
        let found = self.context.store.invite(invite).await?;
        Ok(Done {
            value: self.with_code(found.ok_or(ServiceError::NotFound)?),
            replayed: committed.replayed,
        })
    }

    pub(crate) async fn list(
        &self,
        who: UserId,
        group: GroupId,
        page: IdPage<InviteId>,
    ) -> Result<Listed<WithCode>, ServiceError> {
        let store = self.context.store.as_ref();
        permitted(store, who, group, Action::ListInvites).await?;
        let items = store.invites(group, page.window, page.limit + 1).await?;
        let listed = Listed::cut(items, &page);
        let items = listed.items.into_iter().map(|one| self.with_code(one));
        Ok(Listed {
            items: items.collect(),
            more: listed.more,
        })
    }

    pub(crate) async fn delete(
        &self,
        who: UserId,
        group: GroupId,
        invite: InviteId,
        key: Option<&IdempotencyKey>,
    ) -> Result<Done<()>, ServiceError> {
        let route = "DELETE /v1/groups/{group}/invites/{invite}";
        let parts: [&[u8]; 2] = [group.as_bytes(), invite.as_bytes()];
        let mutation = Mutation {
            actor: who,
            stream: group.into(),
            key,
            request: Some(RequestHash::of(route, &parts)),
            proposal: DeleteInvite {
                store: self.context.store.clone(),
                who,
                group,
                invite,
            },
        };
        let committed = self.context.append(mutation).await?;
        Ok(committed.into())
    }

    /// What the holder of a code may know of the group, as it is now.
    pub(crate) async fn preview(&self, who: UserId, code: &str) -> Result<Preview, ServiceError> {
        let invite = self.invite_of(code).await?;
        // From the store: what a cache holds may have ended elsewhere.
        let group = self.context.log.groups().fresh(invite.group).await?;
        let group = group.filter(|group| !group.deleted);
        let group = group.ok_or(ServiceError::NotFound)?;
        // Who may look is decided by the store.
        let member = self.context.store.membership(who, invite.group).await?;
        let member = member.is_some();
        let restrictions = self.context.store.restrictions(group.id, who).await?;
        let open = member && !invite.deleted || invite.is_open(self.context.clock.now());
        if !open || restrictions.ban.is_some() {
            return Err(ServiceError::NotFound);
        }
        Ok(Preview {
            name: group.name.clone(),
            member_count: group.size.members,
            member,
            invite,
        })
    }

    /// Makes the caller a member; who is one already stays as they are.
    pub(crate) async fn join(
        &self,
        who: UserId,
        code: &str,
        key: Option<&IdempotencyKey>,
    ) -> Result<Put<SeenGroup>, ServiceError> {
        // An invite stays with its group for ever, also once it is deleted, so this does not
        // decide anything: whether it lets the caller in is decided in the proposal.
        let Invite { id, group, .. } = self.invite_of(code).await?;
        let mutation = Mutation {
            actor: who,
            stream: group.into(),
            key,
            request: Some(RequestHash::of("POST /v1/invites/{code}", &[id.as_bytes()])),
            proposal: Join {
                store: self.context.store.clone(),
                clock: self.context.clock.clone(),
                who,
                group,
                invite: id,
                keyed: key.is_some(),
                most_members: u64::from(self.context.limits.members_per_group),
                most_groups: u64::from(self.context.limits.groups_per_user),
            },
        };
        match self.context.append(mutation).await {
            Ok(committed) => Ok(Put {
                created: matches!(committed.entry.change, Change::MemberAdded { .. }),
                replayed: committed.replayed,
                value: seen_after(&self.context, who, group, &committed).await?,
            }),
            Err(ServiceError::Unchanged) => {
                let membership = self.context.store.membership(who, group).await?;
                let membership = membership.ok_or(ServiceError::NotFound)?;
                Ok(Put {
                    created: false,
                    replayed: false,
                    value: self.context.seen_by(who, membership).await?,
                })
            }
            Err(error) => Err(error),
        }
    }

    async fn invite_of(&self, code: &str) -> Result<Invite, ServiceError> {
        let id = self.context.keys.parse_invite(code);
        let id = id.ok_or(ServiceError::NotFound)?;
        let found = self.context.store.invite(id).await?;
        found.ok_or(ServiceError::NotFound)
    }

    fn with_code(&self, invite: Invite) -> WithCode {
        WithCode {
            code: self.context.keys.invite_code(invite.id),
            invite,
        }
    }
}

struct CreateInvite {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    who: UserId,
    group: GroupId,
    invite: InviteId,
    new: NewInvite,
    most: u32,
}

#[async_trait]
impl Proposal for CreateInvite {
    fn reads_state(&self) -> bool {
        true
    }

    async fn validate(&self, _: Head) -> Result<Draft, NotValid> {
        let store = self.store.as_ref();
        permitting(store, self.group, self.who, &[], Action::CreateInvite).await?;
        let most = usize::try_from(self.most).unwrap_or(usize::MAX);
        let there = self
            .store
            .invites(self.group, IdWindow::First, most)
            .await?;
        if there.len() >= most {
            return Err(Refusal::Conflict("the group has as many invites as it can").into());
        }
        let expires_at = self.new.expires_in.map(|lifetime| {
            let millis = i64::try_from(lifetime.as_millis()).unwrap_or(i64::MAX);
            self.clock.now().plus_millis(millis)
        });
        Ok(decided(Change::InviteCreated {
            invite: self.invite,
            expires_at,
            max_uses: self.new.max_uses,
        }))
    }
}

struct DeleteInvite {
    store: Arc<dyn Store>,
    who: UserId,
    group: GroupId,
    invite: InviteId,
}

#[async_trait]
impl Proposal for DeleteInvite {
    fn reads_state(&self) -> bool {
        true
    }

    async fn validate(&self, _: Head) -> Result<Draft, NotValid> {
        let store = self.store.as_ref();
        permitting(store, self.group, self.who, &[], Action::DeleteInvite).await?;
        let found = self.store.invite(self.invite).await?;
        let of_group = |invite: &Invite| invite.group == self.group && !invite.deleted;
        found.filter(of_group).ok_or(Refusal::NotFound)?;
        let invite = self.invite;
        Ok(decided(Change::InviteDeleted { invite }))
    }
}

struct Join {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    who: UserId,
    group: GroupId,
    invite: InviteId,
    /// A key that stands for something must be in the log: see `members::PutMember`.
    keyed: bool,
    most_members: u64,
    most_groups: u64,
}

#[async_trait]
impl Proposal for Join {
    fn reads_state(&self) -> bool {
        true
    }

    /// The uses are counted in the stream that the entry is appended to, so of several at once
    /// each is validated after the other.
    async fn validate(&self, _: Head) -> Result<Draft, NotValid> {
        let state = there(self.store.as_ref(), self.group, &[self.who]).await?;
        if state.deleted {
            return Err(Refusal::NotFound.into());
        }
        let invite = self.store.invite(self.invite).await?;
        let invite = invite.filter(|invite| !invite.deleted);
        let invite = invite.ok_or(Refusal::NotFound)?;
        if let Some(member) = state.members.get(&self.who) {
            return Ok(decided(self.stay(member.role)?));
        }
        let restrictions = self.store.restrictions(self.group, self.who).await?;
        if restrictions.ban.is_some() || !invite.is_open(self.clock.now()) {
            return Err(Refusal::NotFound.into());
        }
        if state.size.members >= self.most_members {
            return Err(Refusal::Conflict("the group is full").into());
        }
        refuse_full(self.store.as_ref(), &[self.who], self.most_groups).await?;
        Ok(decided(Change::MemberAdded {
            user: self.who,
            role: Role::Member,
            muted_until: restrictions.muted_until,
            invite: Some(InviteUse {
                invite: self.invite,
                uses: invite.uses.saturating_add(1),
            }),
        }))
    }
}

impl Join {
    fn stay(&self, role: Role) -> Result<Change, Refusal> {
        if !self.keyed {
            return Err(Refusal::Unchanged);
        }
        let user = self.who;
        Ok(Change::MemberUpdated { user, role })
    }
}
