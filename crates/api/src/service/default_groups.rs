//! Groups that every user joins, as the settings say.
//!
//! An account is made by one insert; its user is in the groups before that is acknowledged. If
//! something fails in between, whoever repeats the request completes it, and else the first
//! login does, as it does for users who are older than the setting. The ids are derived from the
//! names, so any number of processes make one group, and its entries have keys that anybody
//! derives, so nobody joins twice.

use std::sync::Arc;

use async_trait::async_trait;
use tidings_common::config::DefaultGroups as Setting;
use tidings_common::domain::{
    Change, Group, GroupId, GroupKind, Head, Key, Member, Name, Refusal, Role, User, UserId,
};
use tidings_common::log::{Append, Committed, Draft, NotValid, Proposal};
use tidings_common::store::{IdWindow, Store};

use super::groups::{first_channel, refuse_full};
use super::proposal::{decided, there};
use super::{Context, ServiceError};

/// Members read at once, when an owner is looked for.
const PAGE: usize = 1_000;

/// Makes users members.
#[derive(Clone)]
pub(crate) struct DefaultGroups {
    context: Context,
    setting: Arc<Setting>,
}

impl DefaultGroups {
    pub(crate) fn new(context: Context, setting: Setting) -> Self {
        Self {
            context,
            setting: Arc::new(setting),
        }
    }

    /// Makes the user a member of each group that does not know the user, and the configured
    /// owner the owner of each that has none. Who has left a group, or is banned, stays out; so
    /// does who is in as many groups as one can be.
    pub(crate) async fn join(&self, user: &User) -> Result<(), ServiceError> {
        for name in &self.setting.names {
            let group = self.id_of(name);
            let known = self.context.store.restrictions(group, user.id).await?.known;
            if !known || self.is_owner(user) {
                self.join_one(user, group, name).await?;
            }
        }
        Ok(())
    }

    fn id_of(&self, name: &Name) -> GroupId {
        let deployment = self.context.deployment;
        GroupId::derived(&[
            deployment.as_bytes(),
            b"default group",
            name.as_str().as_bytes(),
        ])
    }

    fn is_owner(&self, user: &User) -> bool {
        let owner = self.setting.owner.as_ref();
        owner.is_some_and(|owner| owner.as_str() == user.username)
    }

    async fn join_one(&self, user: &User, group: GroupId, name: &Name) -> Result<(), ServiceError> {
        let role = if self.is_owner(user) {
            Role::Owner
        } else {
            Role::Member
        };
        let limits = &self.context.limits;
        let joining = Arc::new(Join {
            store: self.context.store.clone(),
            user: user.id,
            group,
            role,
            most_members: u64::from(limits.members_per_group),
            most_groups: u64::from(limits.groups_per_user),
        });
        let parts = [user.id.as_bytes(), role.as_str().as_bytes()];
        let key = Key::hash("join default group", &parts);
        let joined = match self.append(group, key, joining.clone()).await {
            // Nobody has joined it yet.
            Err(ServiceError::NotFound) => {
                self.create(group, name).await?;
                self.append(group, key, joining).await
            }
            joined => joined,
        };
        done(joined)
    }

    async fn create(&self, group: GroupId, name: &Name) -> Result<(), ServiceError> {
        let name = name.as_str().to_owned();
        let key = Key::hash("create default group", &[name.as_bytes()]);
        let creating = Arc::new(Create { group, name });
        done(self.append(group, key, creating).await)
    }

    /// By the system.
    async fn append(
        &self,
        group: GroupId,
        key: Key,
        proposal: Arc<dyn Proposal>,
    ) -> Result<Committed, ServiceError> {
        let append = Append {
            stream: group.into(),
            actor: None,
            key,
            request: None,
            proposal,
        };
        Ok(self.context.log.append(append).await?)
    }
}

/// That there was nothing to do is as good.
fn done(outcome: Result<Committed, ServiceError>) -> Result<(), ServiceError> {
    match outcome {
        Ok(_) | Err(ServiceError::Unchanged) => Ok(()),
        Err(error) => Err(error),
    }
}

struct Create {
    group: GroupId,
    name: String,
}

#[async_trait]
impl Proposal for Create {
    fn reads_state(&self) -> bool {
        true
    }

    async fn validate(&self, head: Head) -> Result<Draft, NotValid> {
        if head.seq > 0 {
            return Err(Refusal::Unchanged.into());
        }
        Ok(decided(Change::GroupCreated {
            kind: GroupKind::Group,
            name: Some(self.name.clone()),
            members: Vec::new(),
            channels: vec![first_channel(self.group)],
        }))
    }
}

struct Join {
    store: Arc<dyn Store>,
    user: UserId,
    group: GroupId,
    role: Role,
    most_members: u64,
    most_groups: u64,
}

#[async_trait]
impl Proposal for Join {
    fn reads_state(&self) -> bool {
        true
    }

    async fn validate(&self, _: Head) -> Result<Draft, NotValid> {
        let state = there(self.store.as_ref(), self.group, &[self.user]).await?;
        if state.deleted {
            return Err(Refusal::Unchanged.into());
        }
        match state.members.get(&self.user) {
            Some(member) => self.promote(member).await,
            None => self.add(&state).await,
        }
    }
}

impl Join {
    async fn promote(&self, member: &Member) -> Result<Draft, NotValid> {
        let (user, role) = (self.user, self.role);
        if role <= member.role || self.has_owner().await? {
            return Err(Refusal::Unchanged.into());
        }
        Ok(decided(Change::MemberUpdated { user, role }))
    }

    async fn add(&self, state: &Group) -> Result<Draft, NotValid> {
        let known = self.store.restrictions(self.group, self.user).await?.known;
        if known || state.size.members >= self.most_members {
            return Err(Refusal::Unchanged.into());
        }
        match refuse_full(self.store.as_ref(), &[self.user], self.most_groups).await {
            Err(NotValid::Refused(_)) => return Err(Refusal::Unchanged.into()),
            checked => checked?,
        }
        let role = if self.role == Role::Owner && self.has_owner().await? {
            Role::Member
        } else {
            self.role
        };
        Ok(decided(Change::member_added(self.user, role)))
    }

    /// Looks at every member, but that is asked when the one comes who may own the group.
    async fn has_owner(&self) -> Result<bool, NotValid> {
        let mut last = None;
        loop {
            let window = IdWindow::following(last);
            let page = self.store.members(self.group, window, PAGE).await?;
            if page.iter().any(|(_, member)| member.role == Role::Owner) {
                return Ok(true);
            }
            if page.len() < PAGE {
                return Ok(false);
            }
            last = page.last().map(|(user, _)| *user);
        }
    }
}
