//! Who is shut out of a group.

use std::sync::Arc;

use async_trait::async_trait;
use tidings_common::domain::{
    Action, Ban, Change, Group, GroupId, Head, IdempotencyKey, Refusal, RequestHash, UserId,
};
use tidings_common::log::{Draft, NotValid, Proposal};
use tidings_common::store::{IdWindow, Store};

use super::proposal::{decided, permitted, permitting};
use super::{Context, Done, IdPage, Listed, Mutation, Put, ServiceError};

pub(crate) struct Bans {
    context: Context,
}

impl Bans {
    pub(crate) fn new(context: Context) -> Self {
        Self { context }
    }

    pub(crate) async fn list(
        &self,
        who: UserId,
        group: GroupId,
        page: IdPage<UserId>,
    ) -> Result<Listed<Ban>, ServiceError> {
        let store = self.context.store.as_ref();
        permitted(store, who, group, Action::ListBans).await?;
        let items = store.bans(group, page.window, page.limit + 1).await?;
        Ok(Listed::cut(items, &page))
    }

    pub(crate) async fn get(
        &self,
        who: UserId,
        group: GroupId,
        user: UserId,
    ) -> Result<Ban, ServiceError> {
        let store = self.context.store.as_ref();
        permitted(store, who, group, Action::ListBans).await?;
        let found = store.restrictions(group, user).await?;
        found.ban.ok_or(ServiceError::NotFound)
    }

    /// Shuts somebody out, and removes a member, in one entry.
    pub(crate) async fn put(
        &self,
        who: UserId,
        group: GroupId,
        user: UserId,
        key: Option<&IdempotencyKey>,
    ) -> Result<Put<Ban>, ServiceError> {
        let route = "PUT /v1/groups/{group}/bans/{user}";
        let parts: [&[u8]; 2] = [group.as_bytes(), user.as_bytes()];
        let mutation = Mutation {
            actor: who,
            stream: group.into(),
            key,
            request: Some(RequestHash::of(route, &parts)),
            proposal: PutBan {
                store: self.context.store.clone(),
                who,
                group,
                user,
                keyed: key.is_some(),
                most: self.context.limits.bans_per_group,
            },
        };
        let (committed, replayed) = match self.context.append(mutation).await {
            Ok(committed) => (Some(committed.entry), committed.replayed),
            Err(ServiceError::Unchanged) => (None, false),
            Err(error) => return Err(error),
        };
        let found = self.context.store.restrictions(group, user).await?.ban;
        // Of a replay for somebody whose ban has been taken back since, as it was.
        let before = committed.as_ref().map(|entry| Ban {
            user,
            by: entry.actor,
            at: entry.at,
        });
        Ok(Put {
            value: found.or(before).ok_or(ServiceError::NotFound)?,
            created: committed.is_some(),
            replayed,
        })
    }

    pub(crate) async fn delete(
        &self,
        who: UserId,
        group: GroupId,
        user: UserId,
        key: Option<&IdempotencyKey>,
    ) -> Result<Done<()>, ServiceError> {
        let route = "DELETE /v1/groups/{group}/bans/{user}";
        let parts: [&[u8]; 2] = [group.as_bytes(), user.as_bytes()];
        let mutation = Mutation {
            actor: who,
            stream: group.into(),
            key,
            request: Some(RequestHash::of(route, &parts)),
            proposal: DeleteBan {
                store: self.context.store.clone(),
                who,
                group,
                user,
            },
        };
        let committed = self.context.append(mutation).await?;
        Ok(committed.into())
    }
}

struct PutBan {
    store: Arc<dyn Store>,
    who: UserId,
    group: GroupId,
    user: UserId,
    /// A key that stands for something must be in the log: see `members::PutMember`.
    keyed: bool,
    most: u32,
}

#[async_trait]
impl Proposal for PutBan {
    fn reads_state(&self) -> bool {
        true
    }

    async fn validate(&self, _: Head) -> Result<Draft, NotValid> {
        let store = self.store.as_ref();
        let state = permitting(store, self.group, self.who, &[self.user], Action::Ban).await?;
        if self.who == self.user {
            return Err(Refusal::Conflict("nobody bans oneself").into());
        }
        let restrictions = self.store.restrictions(self.group, self.user).await?;
        if restrictions.ban.is_none() {
            self.check_new(&state).await?;
        } else if !self.keyed {
            return Err(Refusal::Unchanged.into());
        }
        Ok(decided(Change::MemberBanned {
            user: self.user,
            was_member: state.members.contains_key(&self.user),
        }))
    }
}

impl PutBan {
    async fn check_new(&self, state: &Group) -> Result<(), NotValid> {
        if state.members.contains_key(&self.user) {
            state.permit_on(self.who, Action::Ban, self.user)?;
        } else if self.store.users(&[self.user]).await?.is_empty() {
            return Err(Refusal::NotFound.into());
        }
        let most = usize::try_from(self.most).unwrap_or(usize::MAX);
        let bans = self.store.bans(self.group, IdWindow::First, most).await?;
        if bans.len() >= most {
            return Err(Refusal::Conflict("as many are banned as can be").into());
        }
        Ok(())
    }
}

struct DeleteBan {
    store: Arc<dyn Store>,
    who: UserId,
    group: GroupId,
    user: UserId,
}

#[async_trait]
impl Proposal for DeleteBan {
    fn reads_state(&self) -> bool {
        true
    }

    async fn validate(&self, _: Head) -> Result<Draft, NotValid> {
        let store = self.store.as_ref();
        permitting(store, self.group, self.who, &[self.user], Action::Unban).await?;
        let restrictions = self.store.restrictions(self.group, self.user).await?;
        restrictions.ban.ok_or(Refusal::NotFound)?;
        Ok(decided(Change::MemberUnbanned { user: self.user }))
    }
}
