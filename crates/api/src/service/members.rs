//! Who is in a group, and as what.

use std::sync::Arc;

use async_trait::async_trait;
use tidings_common::domain::{
    Action, Change, Group, GroupId, Head, IdempotencyKey, Member, Refusal, RequestHash, Role,
    UserId,
};
use tidings_common::log::{Committed, Draft, NotValid, Proposal};
use tidings_common::store::Store;

use super::groups::refuse_full;
use super::proposal::{decided, permitting};
use super::{Context, Done, IdPage, Listed, Mutation, Put, ServiceError};

pub(crate) struct Members {
    context: Context,
}

impl Members {
    pub(crate) fn new(context: Context) -> Self {
        Self { context }
    }

    pub(crate) async fn list(
        &self,
        who: UserId,
        group: GroupId,
        page: IdPage<UserId>,
    ) -> Result<Listed<(UserId, Member)>, ServiceError> {
        let store = &self.context.store;
        let membership = store.membership(who, group).await?;
        membership.ok_or(ServiceError::NotFound)?;
        let items = store.members(group, page.window, page.limit + 1).await?;
        Ok(Listed::cut(items, &page))
    }

    /// Makes `user` a member, or gives a member the role.
    pub(crate) async fn put(
        &self,
        who: UserId,
        group: GroupId,
        user: UserId,
        role: Option<Role>,
        key: Option<&IdempotencyKey>,
    ) -> Result<Put<(UserId, Member)>, ServiceError> {
        let role_name = role.map_or("", Role::as_str);
        let parts = [group.as_bytes(), user.as_bytes(), role_name.as_bytes()];
        let mutation = Mutation {
            actor: who,
            stream: group.into(),
            key,
            request: Some(RequestHash::of(
                "PUT /v1/groups/{group}/members/{user}",
                &parts,
            )),
            proposal: PutMember {
                store: self.context.store.clone(),
                who,
                group,
                user,
                role,
                keyed: key.is_some(),
                most_members: u64::from(self.context.limits.members_per_group),
                most_groups: u64::from(self.context.limits.groups_per_user),
            },
        };
        match self.context.append(mutation).await {
            Ok(committed) => Ok(Put {
                created: matches!(committed.entry.change, Change::MemberAdded { .. }),
                replayed: committed.replayed,
                value: after(self.context.store.as_ref(), group, user, &committed).await?,
            }),
            Err(ServiceError::Unchanged) => Ok(Put {
                created: false,
                replayed: false,
                value: get(self.context.store.as_ref(), group, user)
                    .await?
                    .ok_or(ServiceError::NotFound)?,
            }),
            Err(error) => Err(error),
        }
    }

    /// Changes a member's role; the owner may. Who makes somebody else the owner becomes an
    /// admin with it.
    pub(crate) async fn update(
        &self,
        who: UserId,
        group: GroupId,
        user: UserId,
        role: Role,
        key: Option<&IdempotencyKey>,
    ) -> Result<Done<(UserId, Member)>, ServiceError> {
        let route = "PATCH /v1/groups/{group}/members/{user}";
        let parts = [group.as_bytes(), user.as_bytes(), role.as_str().as_bytes()];
        let rule = move |state: &Group| match role {
            Role::Owner => transfer(state, who, user),
            Role::Admin | Role::Member => set_role(state, who, user, role),
        };
        let request = RequestHash::of(route, &parts);
        let committed = self
            .context
            .change_member((who, user), group, key, request, rule)
            .await?;
        Ok(Done {
            replayed: committed.replayed,
            value: after(self.context.store.as_ref(), group, user, &committed).await?,
        })
    }

    /// Removes somebody, or leaves.
    pub(crate) async fn remove(
        &self,
        who: UserId,
        group: GroupId,
        user: UserId,
        key: Option<&IdempotencyKey>,
    ) -> Result<Done<()>, ServiceError> {
        let route = "DELETE /v1/groups/{group}/members/{user}";
        let parts: [&[u8]; 2] = [group.as_bytes(), user.as_bytes()];
        let rule = move |state: &Group| {
            if who == user {
                state.permit(who, Action::Leave)?;
            } else {
                state.permit_on(who, Action::RemoveMember, user)?;
            }
            Ok(Change::MemberRemoved { user })
        };
        let request = RequestHash::of(route, &parts);
        let committed = self
            .context
            .change_member((who, user), group, key, request, rule)
            .await?;
        Ok(committed.into())
    }
}

async fn get(
    store: &dyn Store,
    group: GroupId,
    user: UserId,
) -> Result<Option<(UserId, Member)>, ServiceError> {
    let found = store.members_among(group, &[user]).await?;
    Ok(found.into_iter().next())
}

/// The member as it is now; of a replay for somebody who has gone since, as it was.
pub(super) async fn after(
    store: &dyn Store,
    group: GroupId,
    user: UserId,
    committed: &Committed,
) -> Result<(UserId, Member), ServiceError> {
    let entry = &committed.entry;
    // Who repeats a request may have left since, and learns nothing that came later.
    let gone = match entry.actor.filter(|_| committed.replayed) {
        Some(actor) => store.membership(actor, group).await?.is_none(),
        None => false,
    };
    if !gone && let Some(member) = get(store, group, user).await? {
        return Ok(member);
    }
    let (role, muted_until) = match &entry.change {
        Change::MemberAdded {
            role, muted_until, ..
        } => (*role, *muted_until),
        Change::MemberUpdated { role, .. } => (*role, None),
        Change::OwnerChanged { .. } => (Role::Owner, None),
        Change::MemberMuted { until, .. } => (Role::Member, *until),
        _ => (Role::Member, None),
    };
    let member = Member {
        role,
        joined: entry.seq,
        joined_at: entry.at,
        muted_until,
    };
    Ok((user, member))
}

/// Both roles change in one entry, so the group never has two owners or none.
fn transfer(state: &Group, who: UserId, user: UserId) -> Result<Change, Refusal> {
    state.permit(who, Action::TransferOwnership)?;
    if user == who {
        return Err(Refusal::Conflict("you are the owner already"));
    }
    state.members.get(&user).ok_or(Refusal::NotFound)?;
    let previous = who;
    Ok(Change::OwnerChanged { user, previous })
}

fn set_role(state: &Group, who: UserId, user: UserId, role: Role) -> Result<Change, Refusal> {
    state.permit(who, Action::SetRole)?;
    let member = state.members.get(&user).ok_or(Refusal::NotFound)?;
    if member.role == Role::Owner {
        return Err(Refusal::Conflict("a group cannot be without an owner"));
    }
    Ok(Change::MemberUpdated { user, role })
}

struct PutMember {
    store: Arc<dyn Store>,
    who: UserId,
    group: GroupId,
    user: UserId,
    role: Option<Role>,
    /// What a key stands for must be in the log, or its repetition could have an effect later;
    /// so with a key even a change to the same role is committed.
    keyed: bool,
    most_members: u64,
    most_groups: u64,
}

#[async_trait]
impl Proposal for PutMember {
    fn reads_state(&self) -> bool {
        true
    }

    async fn validate(&self, _: Head) -> Result<Draft, NotValid> {
        let store = self.store.as_ref();
        let other = [self.user];
        let state = permitting(store, self.group, self.who, &other, Action::AddMember).await?;
        match state.members.get(&self.user) {
            Some(member) => Ok(decided(self.keep(&state, *member)?)),
            None => self.add(&state).await,
        }
    }
}

impl PutMember {
    fn keep(&self, state: &Group, member: Member) -> Result<Change, Refusal> {
        let role = self.role.unwrap_or(member.role);
        if role != member.role {
            return set_role(state, self.who, self.user, role);
        }
        if !self.keyed {
            return Err(Refusal::Unchanged);
        }
        Ok(Change::MemberUpdated {
            user: self.user,
            role,
        })
    }

    async fn add(&self, state: &Group) -> Result<Draft, NotValid> {
        let role = self.role.unwrap_or(Role::Member);
        if role > Role::Member {
            state.permit(self.who, Action::SetRole)?;
        }
        if self.store.users(&[self.user]).await?.is_empty() {
            return Err(Refusal::NotFound.into());
        }
        let restrictions = self.store.restrictions(self.group, self.user).await?;
        if restrictions.ban.is_some() {
            return Err(Refusal::Conflict("this user is banned from the group").into());
        }
        if state.size.members >= self.most_members {
            return Err(Refusal::Conflict("the group is full").into());
        }
        refuse_full(self.store.as_ref(), &[self.user], self.most_groups).await?;
        Ok(decided(Change::MemberAdded {
            user: self.user,
            role,
            muted_until: restrictions.muted_until,
            invite: None,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use tidings_common::domain::{GroupKind, Size, Timestamp};

    #[test]
    fn only_the_owner_gives_roles_and_never_loses_theirs_so() {
        let [owner, admin, member, stranger] = std::array::from_fn(|_| UserId::generate());
        let as_role = |role| Member {
            role,
            joined: 1,
            joined_at: Timestamp::default(),
            muted_until: None,
        };
        let state = Group {
            id: GroupId::generate(),
            kind: GroupKind::Group,
            name: None,
            created_at: Timestamp::default(),
            version: 1,
            applied: 1,
            deleted: false,
            lease: None,
            size: Size::default(),
            members: BTreeMap::from([
                (owner, as_role(Role::Owner)),
                (admin, as_role(Role::Admin)),
                (member, as_role(Role::Member)),
            ]),
            channels: BTreeMap::new(),
        };
        let check = |who, user, expected: fn(&Refusal) -> bool| {
            let refusal = set_role(&state, who, user, Role::Admin).unwrap_err();
            assert!(expected(&refusal), "{refusal:?}");
        };
        assert!(set_role(&state, owner, member, Role::Admin).is_ok());
        check(owner, owner, |no| matches!(no, Refusal::Conflict(_)));
        check(owner, stranger, |no| matches!(no, Refusal::NotFound));
        check(admin, member, |no| matches!(no, Refusal::Forbidden(_)));
        check(stranger, member, |no| matches!(no, Refusal::NotFound));
        let passed_on = |who, user| transfer(&state, who, user);
        let (user, previous) = (member, owner);
        let changed = Change::OwnerChanged { user, previous };
        assert_eq!(passed_on(owner, member), Ok(changed));
        for (who, user) in [(admin, admin), (admin, member), (member, admin)] {
            let no = passed_on(who, user).unwrap_err();
            assert!(matches!(no, Refusal::Forbidden(_)), "{no:?}");
        }
        assert!(matches!(passed_on(owner, owner), Err(Refusal::Conflict(_))));
        assert_eq!(passed_on(owner, stranger), Err(Refusal::NotFound));
        assert_eq!(passed_on(stranger, member), Err(Refusal::NotFound));
    }
}
