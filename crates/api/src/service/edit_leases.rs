//! Edit leases: one session at a time changes a group's settings.
//!
//! Presence says which session may go on, and until when; the log says which one took the lease
//! last. A change is validated against the log alone where it names a lease, so that what
//! presence forgets costs a lease and never an update. In detail:
//!
//! - **Two take it at once.** Presence grants it to one, the other is told 423. Then the one's
//!   `lease.acquired` is appended, by a proposal that asks presence again at the head that it
//!   follows. A session that stood still behind its grant until somebody else was granted the
//!   lease, and took it, therefore finds that out, and does not end the other's token.
//! - **A crash between grant and entry.** Nobody has a token. The session is named as the holder
//!   until its grant runs out; if it asks again before, it is granted what it has and appends.
//! - **A crash behind the entry, or presence loses its memory.** The token stands. A repetition
//!   with the key finds the entry; without, the lease is granted anew and appended anew. Others
//!   may be granted it as well, and may change settings without a lease. The entry of either
//!   stands behind the token, which is refused from then on (412).
//! - **It runs out.** Nothing is written. The token stays good until one of these entries comes,
//!   so a holder who is late overwrites nobody.
//! - **It is given back.** The entry comes first. If presence does not hear of it, the session
//!   is named as the holder to those who want the lease until its grant runs out; changes
//!   without a lease go by the log, and are not held up.
//! - **A change without a lease** asks presence only if the log names a lease, at the head that
//!   it follows: if anybody holds one it is refused with 423, if presence does not answer with
//!   503. A grant comes before its entry, so a lease that the log names is one that presence
//!   knows, or that is over.
//! - **One session at the same time** gives back and takes: either may undo the other, and the
//!   token is refused where it did.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tidings_common::auth::Principal;
use tidings_common::clock::Clock;
use tidings_common::domain::{
    Action, Change, Group, GroupId, Head, IdempotencyKey, Key, Lease, LeaseHolder, Refusal,
    RequestHash, Seq, Timestamp, UserId,
};
use tidings_common::log::{Committed, Draft, NotValid, Proposal};
use tidings_common::presence::{Claim, Grant, Holding, Presence, PresenceError};
use tidings_common::store::{Store, StoreError};

use super::proposal::{decided, permitted, permitting, there};
use super::{Context, Done, Mutation, Put, ServiceError};

/// How long a lease runs that is not renewed.
const LIFETIME: Duration = Duration::from_secs(30);

pub(crate) struct EditLeases {
    context: Context,
}

/// A lease as it is shown.
#[derive(Debug)]
pub(crate) struct ShownLease {
    pub(crate) lease: Lease,
    pub(crate) display_name: String,
    /// None: it is over.
    pub(crate) expires_at: Option<Timestamp>,
}

/// Who changes settings.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Editor {
    pub(crate) who: Principal,
    /// Of the lease under which the change is made.
    pub(crate) token: Option<Seq>,
}

/// What the rules of leases need.
#[derive(Clone)]
struct Leasing {
    store: Arc<dyn Store>,
    presence: Arc<dyn Presence>,
    clock: Arc<dyn Clock>,
}

impl EditLeases {
    pub(crate) fn new(context: Context) -> Self {
        Self { context }
    }

    pub(crate) async fn get(
        &self,
        who: UserId,
        group: GroupId,
    ) -> Result<ShownLease, ServiceError> {
        let leasing = self.context.leasing();
        let membership = permitted(&*leasing.store, who, group, Action::Read).await?;
        let lease = membership.lease.ok_or(ServiceError::NotFound)?;
        let running = leasing.running(group, &lease).await?;
        leasing
            .shown(lease, Some(running.ok_or(ServiceError::NotFound)?))
            .await
    }

    /// Takes the lease, or renews it. `created`: it is written that it was taken.
    pub(crate) async fn put(
        &self,
        who: Principal,
        group: GroupId,
        steal: bool,
        key: Option<&IdempotencyKey>,
    ) -> Result<Put<ShownLease>, ServiceError> {
        let route = "PUT /v1/groups/{group}/edit-lease";
        let parts: [&[u8]; 3] = [group.as_bytes(), who.session.as_bytes(), &[u8::from(steal)]];
        let leasing = self.context.leasing();
        let mut proposal = TakeLease {
            leasing: leasing.clone(),
            who,
            group,
            action: if steal {
                Action::StealLease
            } else {
                Action::TakeLease
            },
            is_repetition: self.is_known(who.user, group, key).await?,
            refused: None,
        };
        if !proposal.is_repetition {
            proposal.refused = proposal.ask_presence().await?;
        }
        let mutation = Mutation {
            actor: who.user,
            stream: group.into(),
            key,
            request: Some(RequestHash::of(route, &parts)),
            proposal,
        };
        let committed = match self.context.append(mutation).await {
            Ok(committed) => Some(committed),
            Err(ServiceError::Unchanged) => None,
            Err(error) => return Err(error),
        };
        Ok(Put {
            value: self.taken(&leasing, who, group, committed.as_ref()).await?,
            created: committed.is_some(),
            replayed: committed.is_some_and(|committed| committed.replayed),
        })
    }

    pub(crate) async fn delete(
        &self,
        who: Principal,
        group: GroupId,
        key: Option<&IdempotencyKey>,
    ) -> Result<Done<()>, ServiceError> {
        let route = "DELETE /v1/groups/{group}/edit-lease";
        let parts: [&[u8]; 2] = [group.as_bytes(), who.session.as_bytes()];
        let leasing = self.context.leasing();
        let mutation = Mutation {
            actor: who.user,
            stream: group.into(),
            key,
            request: Some(RequestHash::of(route, &parts)),
            proposal: GiveBackLease {
                leasing: leasing.clone(),
                who,
                group,
            },
        };
        let committed = self.context.append(mutation).await?;
        // A repetition may come when the session has taken it again.
        if !committed.replayed {
            let told = leasing.presence.give_back(group.into(), who.session).await;
            if let Err(error) = told {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "a lease that was given back runs on until its end"
                );
            }
        }
        Ok(committed.into())
    }

    /// Whether the key stands for an entry already: then nothing is claimed.
    async fn is_known(
        &self,
        who: UserId,
        group: GroupId,
        key: Option<&IdempotencyKey>,
    ) -> Result<bool, ServiceError> {
        let Some(key) = key else { return Ok(false) };
        let key = Key::of_client(who, key);
        Ok(self.context.store.find(group.into(), key).await?.is_some())
    }

    /// The caller's lease as it is now; as it was, if it is over or the caller is gone.
    async fn taken(
        &self,
        leasing: &Leasing,
        who: Principal,
        group: GroupId,
        committed: Option<&Committed>,
    ) -> Result<ShownLease, ServiceError> {
        let membership = leasing.store.membership(who.user, group).await?;
        let lease = membership.and_then(|membership| membership.lease);
        if let Some(lease) = lease.filter(|lease| lease.session == who.session) {
            let running = leasing.running(group, &lease).await?;
            return leasing.shown(lease, running).await;
        }
        // What was renewed has been lost within this moment: asking again tells to whom.
        let entry = &committed.ok_or(ServiceError::Unavailable(None))?.entry;
        let lease = Lease {
            token: entry.seq,
            session: who.session,
            user: who.user,
            since: entry.at,
        };
        leasing.shown(lease, None).await
    }
}

impl Context {
    fn leasing(&self) -> Leasing {
        Leasing {
            store: self.store.clone(),
            presence: self.presence.clone(),
            clock: self.clock.clone(),
        }
    }

    /// Commits the change of a group's settings that `rule` decides from the group as it is,
    /// unless an edit lease forbids it.
    pub(super) async fn change_settings<R>(
        &self,
        editor: Editor,
        group: GroupId,
        key: Option<&IdempotencyKey>,
        request: RequestHash,
        rule: R,
    ) -> Result<Committed, ServiceError>
    where
        R: Fn(&Group) -> Result<Change, Refusal> + Send + Sync + 'static,
    {
        let mutation = Mutation {
            actor: editor.who.user,
            stream: group.into(),
            key,
            request: Some(request),
            proposal: SettingsChange {
                leasing: self.leasing(),
                group,
                editor,
                rule,
            },
        };
        self.append(mutation).await
    }
}

impl Leasing {
    /// Who holds a lease, if the log says that anybody may.
    async fn holding(
        &self,
        group: GroupId,
        lease: Option<&Lease>,
    ) -> Result<Option<Holding>, StoreError> {
        if lease.is_none() {
            return Ok(None);
        }
        let holding = self.presence.holding(group.into()).await;
        holding.map_err(not_known)
    }

    /// The lease that the log names, if it runs.
    async fn running(&self, group: GroupId, lease: &Lease) -> Result<Option<Holding>, StoreError> {
        let holding = self.holding(group, Some(lease)).await?;
        Ok(holding.filter(|holding| holding.session == lease.session))
    }

    /// The refusal that names the holder. `lease` is what the log says.
    async fn locked(&self, holding: Holding, lease: Option<&Lease>) -> NotValid {
        let display_name = match self.display_name(holding.user).await {
            Ok(display_name) => display_name,
            Err(error) => return error.into(),
        };
        let named = lease.filter(|lease| lease.session == holding.session);
        Refusal::Locked(Box::new(LeaseHolder {
            user: holding.user,
            display_name,
            session: holding.session,
            since: named.map_or(holding.since, |lease| lease.since),
            expires_at: self.end_of(&holding),
        }))
        .into()
    }

    async fn shown(
        &self,
        lease: Lease,
        running: Option<Holding>,
    ) -> Result<ShownLease, ServiceError> {
        Ok(ShownLease {
            lease,
            display_name: self.display_name(lease.user).await?,
            expires_at: running.map(|holding| self.end_of(&holding)),
        })
    }

    fn end_of(&self, holding: &Holding) -> Timestamp {
        let rest = i64::try_from(holding.rest.as_millis()).unwrap_or(i64::MAX);
        self.clock.now().plus_millis(rest)
    }

    async fn display_name(&self, user: UserId) -> Result<String, StoreError> {
        let found = self.store.users(&[user]).await?;
        let found = found.into_iter().next();
        Ok(found.map(|user| user.display_name).unwrap_or_default())
    }
}

fn not_known(error: PresenceError) -> StoreError {
    StoreError::Unavailable(Box::new(error))
}

struct TakeLease {
    leasing: Leasing,
    who: Principal,
    group: GroupId,
    action: Action,
    /// The key is in the log: its first result is the answer.
    is_repetition: bool,
    /// Who held it when presence was asked for it.
    refused: Option<Holding>,
}

impl TakeLease {
    /// Asks for the lease, if the caller may have it, and returns who has it instead. What
    /// comes of it is said by the proposal, unless the key is found.
    async fn ask_presence(&self) -> Result<Option<Holding>, ServiceError> {
        let store = &*self.leasing.store;
        match permitted(store, self.who.user, self.group, self.action).await {
            Ok(_) => {}
            Err(ServiceError::NotFound | ServiceError::Forbidden(_)) => return Ok(None),
            Err(error) => return Err(error),
        }
        let claim = Claim {
            session: self.who.session,
            user: self.who.user,
            now: self.leasing.clock.now(),
        };
        let steal = self.action == Action::StealLease;
        let presence = &self.leasing.presence;
        let asked = presence.take(self.group.into(), claim, LIFETIME, steal);
        Ok(match asked.await.map_err(not_known)? {
            Grant::Refused(holding) => Some(holding),
            Grant::New | Grant::Renewed => None,
        })
    }
}

#[async_trait]
impl Proposal for TakeLease {
    fn reads_state(&self) -> bool {
        true
    }

    async fn validate(&self, _: Head) -> Result<Draft, NotValid> {
        if self.is_repetition {
            return Err(Refusal::Unchanged.into());
        }
        let Self { leasing, who, .. } = self;
        let store = leasing.store.as_ref();
        let group = permitting(store, self.group, who.user, &[], self.action).await?;
        if let Some(holding) = self.refused {
            return Err(leasing.locked(holding, group.lease.as_ref()).await);
        }
        let holding = leasing.presence.holding(self.group.into()).await;
        // It ran out, or was forgotten, while it was being taken.
        let over = || StoreError::Unavailable("the lease is over already".into());
        let holding = holding.map_err(not_known)?.ok_or_else(over)?;
        if holding.session != who.session {
            return Err(leasing.locked(holding, group.lease.as_ref()).await);
        }
        // What was granted after the entry was written is another lease, and is shown to
        // others as one. (Where clocks disagree, it is written once more than needed.)
        let written = |lease: &Lease| lease.session == who.session && lease.since >= holding.since;
        if group.lease.as_ref().is_some_and(written) {
            return Err(Refusal::Unchanged.into());
        }
        let session = who.session;
        Ok(decided(Change::LeaseAcquired { session }))
    }
}

struct GiveBackLease {
    leasing: Leasing,
    who: Principal,
    group: GroupId,
}

#[async_trait]
impl Proposal for GiveBackLease {
    fn reads_state(&self) -> bool {
        true
    }

    async fn validate(&self, _: Head) -> Result<Draft, NotValid> {
        let who = self.who.user;
        let group = there(&*self.leasing.store, self.group, &[who]).await?;
        group.member(who)?;
        let session = self.who.session;
        let lease = group.lease.as_ref();
        if lease.is_some_and(|lease| lease.session == session) {
            return Ok(decided(Change::LeaseReleased { session }));
        }
        match self.leasing.holding(self.group, lease).await? {
            Some(holding) => Err(self.leasing.locked(holding, lease).await),
            None => Err(Refusal::NotFound.into()),
        }
    }
}

struct SettingsChange<R> {
    leasing: Leasing,
    group: GroupId,
    editor: Editor,
    rule: R,
}

#[async_trait]
impl<R> Proposal for SettingsChange<R>
where
    R: Fn(&Group) -> Result<Change, Refusal> + Send + Sync,
{
    fn reads_state(&self) -> bool {
        true
    }

    async fn validate(&self, _: Head) -> Result<Draft, NotValid> {
        let who = self.editor.who.user;
        let group = there(&*self.leasing.store, self.group, &[who]).await?;
        let change = (self.rule)(&group)?;
        if let Some(token) = self.editor.token {
            group.fence(self.editor.who.session, token)?;
        } else {
            let lease = group.lease.as_ref();
            // Whoever it is: also the session itself, another part of which may be at it, and
            // somebody whose entry is still to come.
            if let Some(holding) = self.leasing.holding(self.group, lease).await? {
                return Err(self.leasing.locked(holding, lease).await);
            }
        }
        Ok(decided(change))
    }
}
