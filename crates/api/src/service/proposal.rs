//! Proposals that several resources share.

use std::sync::Arc;

use async_trait::async_trait;
use tidings_common::domain::{
    Action, Change, Group, GroupId, Head, IdempotencyKey, Membership, Refusal, RequestHash, UserId,
};
use tidings_common::log::{Committed, Draft, NotValid, Proposal};
use tidings_common::store::Store;

use super::{Context, Mutation, ServiceError};

/// A change of a group that is decided by the group's own state.
struct GroupChange<R> {
    store: Arc<dyn Store>,
    group: GroupId,
    /// Whom the rule looks at.
    users: Vec<UserId>,
    rule: R,
}

#[async_trait]
impl<R> Proposal for GroupChange<R>
where
    R: Fn(&Group) -> Result<Change, Refusal> + Send + Sync,
{
    fn reads_state(&self) -> bool {
        true
    }

    async fn validate(&self, _: Head) -> Result<Draft, NotValid> {
        let group = there(self.store.as_ref(), self.group, &self.users).await?;
        Ok(decided((self.rule)(&group)?))
    }
}

/// A group as it is, for a proposal that reads it, with those of `users` who are members.
pub(super) async fn there(
    store: &dyn Store,
    group: GroupId,
    users: &[UserId],
) -> Result<Group, NotValid> {
    let found = store.group_for(group, users).await?;
    Ok(found.ok_or(Refusal::NotFound)?)
}

/// As [`there`], with the caller and those whom it is done to, if the caller's part in it suffices
/// for an action.
pub(super) async fn permitting(
    store: &dyn Store,
    group: GroupId,
    who: UserId,
    others: &[UserId],
    action: Action,
) -> Result<Group, NotValid> {
    let found = there(store, group, &[&[who], others].concat()).await?;
    found.permit(who, action)?;
    Ok(found)
}

/// The caller's part in a group, if it suffices for an action that changes nothing. By the
/// store, not by a cache.
pub(super) async fn permitted(
    store: &dyn Store,
    who: UserId,
    group: GroupId,
    action: Action,
) -> Result<Membership, ServiceError> {
    let membership = store.membership(who, group).await?;
    let membership = membership.ok_or(ServiceError::NotFound)?;
    let permission = action.permission();
    permission.check(membership.kind, membership.role)?;
    Ok(membership)
}

impl Context {
    /// Commits what `rule` decides from the group as it is, where of its members the caller is
    /// known alone.
    pub(super) async fn change_group<R>(
        &self,
        who: UserId,
        group: GroupId,
        key: Option<&IdempotencyKey>,
        request: RequestHash,
        rule: R,
    ) -> Result<Committed, ServiceError>
    where
        R: Fn(&Group) -> Result<Change, Refusal> + Send + Sync + 'static,
    {
        let asked = (who, who);
        self.change_member(asked, group, key, request, rule).await
    }

    /// Commits what `rule` decides from the group as it is, where of its members the caller and
    /// somebody else are known.
    pub(super) async fn change_member<R>(
        &self,
        (who, other): (UserId, UserId),
        group: GroupId,
        key: Option<&IdempotencyKey>,
        request: RequestHash,
        rule: R,
    ) -> Result<Committed, ServiceError>
    where
        R: Fn(&Group) -> Result<Change, Refusal> + Send + Sync + 'static,
    {
        let mutation = Mutation {
            actor: who,
            stream: group.into(),
            key,
            request: Some(request),
            proposal: GroupChange {
                store: self.store.clone(),
                group,
                users: vec![who, other],
                rule,
            },
        };
        self.append(mutation).await
    }
}

/// A change that nothing can refuse.
pub(super) struct Always(pub(super) Change);

#[async_trait]
impl Proposal for Always {
    fn reads_state(&self) -> bool {
        false
    }

    async fn validate(&self, _: Head) -> Result<Draft, NotValid> {
        Ok(decided(self.0.clone()))
    }
}

/// A draft in a stream other than a channel's, where `gv` means nothing.
pub(super) fn decided(change: Change) -> Draft {
    Draft { change, gv: 0 }
}
