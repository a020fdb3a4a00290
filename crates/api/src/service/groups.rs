//! Groups and direct conversations.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use tidings_common::domain::{
    Action, Change, Channel, ChannelId, Entry, Group, GroupId, GroupKind, Head, IdempotencyKey,
    Membership, Name, Refusal, RequestHash, Role, Seq, Size, UserId, Violation,
};
use tidings_common::log::{Committed, Draft, NotValid, Proposal};
use tidings_common::store::Store;

use super::proposal::decided;
use super::reading::Readings;
use super::{Context, Done, Editor, IdPage, Listed, Mutation, Precondition, Put, ServiceError};

/// The channel that every group starts with.
const FIRST_CHANNEL: &str = "general";

pub(crate) struct Groups {
    context: Context,
}

/// A group to be made.
pub(crate) struct NewGroup {
    pub(crate) name: Name,
    /// Besides the creator, each once.
    pub(crate) members: Vec<Invited>,
}

/// A group as one of its members sees it.
pub(crate) struct SeenGroup {
    pub(crate) membership: Membership,
    /// At least of its channels.
    pub(crate) readings: Arc<Readings>,
}

/// Somebody whom a request names.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Invited {
    pub(crate) user: UserId,
    /// Where in the request's list.
    pub(crate) index: usize,
}

impl Groups {
    pub(crate) fn new(context: Context) -> Self {
        Self { context }
    }

    pub(crate) async fn create(
        &self,
        who: UserId,
        new: NewGroup,
        key: Option<&IdempotencyKey>,
    ) -> Result<Done<SeenGroup>, ServiceError> {
        let route = "POST /v1/groups";
        let mut parts: Vec<&[u8]> = vec![new.name.as_str().as_bytes()];
        parts.extend(new.members.iter().map(|one| one.user.as_bytes().as_slice()));
        let request = RequestHash::of(route, &parts);
        let deployment = self.context.deployment;
        let seed = Context::seed(key);
        let group = GroupId::derived(&[
            deployment.as_bytes(),
            who.as_bytes(),
            route.as_bytes(),
            &seed,
        ]);
        let mutation = Mutation {
            actor: who,
            stream: group.into(),
            key,
            request: Some(request),
            proposal: CreateGroup {
                store: self.context.store.clone(),
                creator: who,
                group,
                name: new.name.into_string(),
                members: new.members,
                most_members: u64::from(self.context.limits.members_per_group),
                most_groups: u64::from(self.context.limits.groups_per_user),
            },
        };
        let committed = self.context.append(mutation).await?;
        self.done(who, group, &committed).await
    }

    /// The direct conversation of two people, which is made if there is none. Its id is
    /// derived from both, so they get the same one whoever asks, also at once.
    pub(crate) async fn put_direct(
        &self,
        who: UserId,
        other: UserId,
        key: Option<&IdempotencyKey>,
    ) -> Result<Put<SeenGroup>, ServiceError> {
        if who == other {
            return Err(ServiceError::invalid(
                "",
                "a direct conversation needs somebody else",
            ));
        }
        let deployment = self.context.deployment;
        let (first, second) = (who.min(other), who.max(other));
        let group = GroupId::derived(&[
            deployment.as_bytes(),
            b"direct",
            first.as_bytes(),
            second.as_bytes(),
        ]);
        let request = RequestHash::of("PUT /v1/direct/{user}", &[other.as_bytes()]);
        let mutation = Mutation {
            actor: who,
            stream: group.into(),
            key,
            request: Some(request),
            proposal: CreateDirect {
                store: self.context.store.clone(),
                who,
                other,
                group,
                most_groups: u64::from(self.context.limits.groups_per_user),
            },
        };
        let (created, replayed) = match self.context.append(mutation).await {
            Ok(committed) => (true, committed.replayed),
            Err(ServiceError::Unchanged) => (false, false),
            Err(error) => return Err(error),
        };
        Ok(Put {
            value: self.get(who, group).await?,
            created,
            replayed,
        })
    }

    pub(crate) async fn get(&self, who: UserId, group: GroupId) -> Result<SeenGroup, ServiceError> {
        let membership = self.context.store.membership(who, group).await?;
        let membership = membership.ok_or(ServiceError::NotFound)?;
        self.context.seen_by(who, membership).await
    }

    pub(crate) async fn list(
        &self,
        who: UserId,
        page: IdPage<GroupId>,
    ) -> Result<Listed<SeenGroup>, ServiceError> {
        let store = &self.context.store;
        let items = store.memberships(who, page.window, page.limit + 1).await?;
        let Listed { items, more } = Listed::cut(items, &page);
        let items = self.context.all_seen_by(who, items).await?;
        Ok(Listed { items, more })
    }

    pub(crate) async fn rename(
        &self,
        editor: Editor,
        group: GroupId,
        name: Name,
        precondition: Precondition,
        key: Option<&IdempotencyKey>,
    ) -> Result<Done<SeenGroup>, ServiceError> {
        let name = name.into_string();
        let parts = [group.as_bytes().as_slice(), name.as_bytes()];
        let request = RequestHash::of("PATCH /v1/groups/{group}", &parts);
        let who = editor.who.user;
        let rule = move |state: &Group| {
            state.permit(who, Action::UpdateGroup)?;
            precondition.check(state.version)?;
            Ok(Change::GroupUpdated {
                name: Some(name.clone()),
                lease: editor.token,
            })
        };
        let committed = self
            .context
            .change_settings(editor, group, key, request, rule)
            .await?;
        self.done(who, group, &committed).await
    }

    pub(crate) async fn delete(
        &self,
        who: UserId,
        group: GroupId,
        precondition: Precondition,
        key: Option<&IdempotencyKey>,
    ) -> Result<Done<()>, ServiceError> {
        let request = RequestHash::of("DELETE /v1/groups/{group}", &[group.as_bytes()]);
        let rule = move |state: &Group| {
            state.permit(who, Action::DeleteGroup)?;
            precondition.check(state.version)?;
            Ok(Change::GroupDeleted)
        };
        let committed = self
            .context
            .change_group(who, group, key, request, rule)
            .await?;
        Ok(committed.into())
    }

    async fn done(
        &self,
        who: UserId,
        group: GroupId,
        committed: &Committed,
    ) -> Result<Done<SeenGroup>, ServiceError> {
        Ok(Done {
            value: seen_after(&self.context, who, group, committed).await?,
            replayed: committed.replayed,
        })
    }
}

/// The group as the caller may see it after a change of theirs.
pub(super) async fn seen_after(
    context: &Context,
    who: UserId,
    group: GroupId,
    committed: &Committed,
) -> Result<SeenGroup, ServiceError> {
    if let Some(membership) = context.store.membership(who, group).await? {
        return context.seen_by(who, membership).await;
    }
    // The caller has left, or the group is gone, since the first answer.
    let state = context.store.group(group).await?;
    let state = state.ok_or(ServiceError::NotFound)?;
    Ok(SeenGroup {
        membership: as_of(&committed.entry, state),
        readings: Arc::default(),
    })
}

impl Context {
    /// A membership of `who`, with how its channels stand.
    pub(super) async fn seen_by(
        &self,
        who: UserId,
        membership: Membership,
    ) -> Result<SeenGroup, ServiceError> {
        let mut seen = self.all_seen_by(who, vec![membership]).await?;
        Ok(seen.remove(0))
    }

    async fn all_seen_by(
        &self,
        who: UserId,
        memberships: Vec<Membership>,
    ) -> Result<Vec<SeenGroup>, ServiceError> {
        let groups: Vec<GroupId> = memberships.iter().map(|one| one.group).collect();
        let channels = memberships.iter().flat_map(|one| &one.channels);
        let channels: Vec<ChannelId> = channels.map(|channel| channel.id).collect();
        let readings = Arc::new(self.readings(who, &groups, &channels).await?);
        let seen = memberships.into_iter().map(|membership| SeenGroup {
            membership,
            readings: readings.clone(),
        });
        Ok(seen.collect())
    }
}

/// What the author of `entry` saw of the group then, as far as it is still known, and nothing
/// that came later: history is for members.
fn as_of(entry: &Entry, state: Group) -> Membership {
    let name = match &entry.change {
        Change::GroupCreated { name, .. } | Change::GroupUpdated { name, .. } => name.clone(),
        _ => None,
    };
    let role = match &entry.change {
        Change::GroupCreated { .. } => Role::Owner,
        Change::MemberAdded { role, .. } | Change::MemberUpdated { role, .. } => *role,
        _ => Role::Admin,
    };
    let seen = |position: Seq| position <= entry.seq;
    let members = state.members.values();
    let members = members.filter(|one| seen(one.joined)).count() as u64;
    let size = Size {
        // Those of a large group are not counted again: that is how many it has now.
        members: if state.size.large {
            state.size.members
        } else {
            members
        },
        ..state.size
    };
    Membership {
        group: state.id,
        kind: state.kind,
        name,
        created_at: state.created_at,
        version: entry.seq,
        role,
        size,
        lease: None,
        channels: state
            .channels
            .into_values()
            .filter(|channel: &Channel| seen(channel.version))
            .collect(),
    }
}

struct CreateGroup {
    store: Arc<dyn Store>,
    creator: UserId,
    group: GroupId,
    name: String,
    members: Vec<Invited>,
    most_members: u64,
    most_groups: u64,
}

#[async_trait]
impl Proposal for CreateGroup {
    /// So that it is validated at a committed head: beyond it, the entry that this one repeats
    /// might stand in the same batch, where its key is not found yet.
    fn reads_state(&self) -> bool {
        true
    }

    async fn validate(&self, head: Head) -> Result<Draft, NotValid> {
        if head.seq > 0 {
            // Only the same key leads here, so the first result is the answer.
            return Err(Refusal::Conflict("the group exists already").into());
        }
        let everyone = self.members.len() as u64 + 1;
        if everyone > self.most_members {
            let detail = format!("at most {} with the creator", self.most_members);
            return Err(Refusal::invalid("/members", detail).into());
        }
        let ids: Vec<UserId> = self.members.iter().map(|one| one.user).collect();
        self.refuse_unknown(&ids).await?;
        let with_creator = [&[self.creator], ids.as_slice()].concat();
        refuse_full(self.store.as_ref(), &with_creator, self.most_groups).await?;
        let owner = (self.creator, Role::Owner);
        let members = ids.iter().map(|user| (*user, Role::Member));
        Ok(decided(Change::GroupCreated {
            kind: GroupKind::Group,
            name: Some(self.name.clone()),
            members: std::iter::once(owner).chain(members).collect(),
            channels: vec![first_channel(self.group)],
        }))
    }
}

impl CreateGroup {
    async fn refuse_unknown(&self, ids: &[UserId]) -> Result<(), NotValid> {
        let known = self.store.users(ids).await?;
        let known: BTreeSet<UserId> = known.into_iter().map(|user| user.id).collect();
        let unknown = self.members.iter().filter(|one| !known.contains(&one.user));
        let violations: Vec<Violation> = unknown
            .map(|one| Violation {
                pointer: format!("/members/{}", one.index),
                detail: "there is no such user".to_owned(),
            })
            .collect();
        if violations.is_empty() {
            Ok(())
        } else {
            Err(Refusal::Invalid(violations).into())
        }
    }
}

struct CreateDirect {
    store: Arc<dyn Store>,
    who: UserId,
    other: UserId,
    group: GroupId,
    most_groups: u64,
}

#[async_trait]
impl Proposal for CreateDirect {
    /// As for [`CreateGroup`].
    fn reads_state(&self) -> bool {
        true
    }

    async fn validate(&self, head: Head) -> Result<Draft, NotValid> {
        if head.seq > 0 {
            return Err(Refusal::Unchanged.into());
        }
        if self.store.users(&[self.other]).await?.is_empty() {
            return Err(Refusal::NotFound.into());
        }
        let both = [self.who, self.other];
        refuse_full(self.store.as_ref(), &both, self.most_groups).await?;
        Ok(decided(Change::GroupCreated {
            kind: GroupKind::Direct,
            name: None,
            members: both.map(|user| (user, Role::Member)).to_vec(),
            channels: vec![first_channel(self.group)],
        }))
    }
}

/// The count is of other streams than the one that is appended to, so at once somebody can
/// come into a group or two more than the limit says. Nothing depends on it being exact.
pub(super) async fn refuse_full(
    store: &dyn Store,
    users: &[UserId],
    most_groups: u64,
) -> Result<(), NotValid> {
    let counts = store.group_counts(users).await?;
    if counts.into_iter().any(|count| count >= most_groups) {
        let why = "somebody is in as many groups as one can be";
        return Err(Refusal::Conflict(why).into());
    }
    Ok(())
}

pub(super) fn first_channel(group: GroupId) -> (ChannelId, String) {
    let id = ChannelId::derived(&[group.as_bytes(), FIRST_CHANNEL.as_bytes()]);
    (id, FIRST_CHANNEL.to_owned())
}
