//! Accounts: registration, profiles, finding people.

use std::sync::Arc;

use tidings_common::bus::{Announcement, Audience, Payload};
use tidings_common::domain::{
    Change, DisplayName, Ephemeral, IdempotencyKey, Key, Password, RequestHash, User, UserId,
    Username,
};
use tidings_common::store::{Account, NewUser};

use super::proposal::Always;
use super::{Context, DefaultGroups, Done, Mutation, Passwords, ServiceError};

/// Most people who are told that a profile has changed. Others see it when they next read it.
const ACQUAINTANCES: usize = 10_000;

pub(crate) struct Accounts {
    context: Context,
    passwords: Arc<Passwords>,
    default_groups: DefaultGroups,
}

/// An account to be made.
pub(crate) struct Registration {
    pub(crate) username: Username,
    pub(crate) password: Password,
    pub(crate) display_name: DisplayName,
}

impl Accounts {
    pub(crate) fn new(
        context: Context,
        passwords: Arc<Passwords>,
        default_groups: DefaultGroups,
    ) -> Self {
        Self {
            context,
            passwords,
            default_groups,
        }
    }

    /// Creates an account. A repetition with the same name, key and password gets the first
    /// answer; anybody else who wants the name is told that it is taken. Whoever is answered is
    /// a member of the default groups.
    pub(crate) async fn create(
        &self,
        wanted: Registration,
        key: Option<&IdempotencyKey>,
    ) -> Result<Done<User>, ServiceError> {
        let done = self.account(wanted, key).await?;
        self.default_groups.join(&done.value).await?;
        Ok(done)
    }

    async fn account(
        &self,
        wanted: Registration,
        key: Option<&IdempotencyKey>,
    ) -> Result<Done<User>, ServiceError> {
        let store = &self.context.store;
        let name = wanted.username.as_str();
        let account_key = key.map(|key| account_key(name, key));
        // Before the hash, which is dear; the insert decides.
        if let Some(taken) = store.account(name).await? {
            return self.repeated(taken, &wanted.password, account_key).await;
        }
        let new = NewUser {
            user: User {
                id: self.id_for(name, key),
                username: name.to_owned(),
                display_name: wanted.display_name.into_string(),
                created_at: self.context.clock.now(),
            },
            password_hash: self.passwords.hash(&wanted.password).await?,
            key: account_key.unwrap_or_else(Key::unique),
        };
        let value = new.user.clone();
        match store.create_user(new).await? {
            None => Ok(Done {
                value,
                replayed: false,
            }),
            Some(taken) => self.repeated(taken, &wanted.password, account_key).await,
        }
    }

    fn id_for(&self, name: &str, key: Option<&IdempotencyKey>) -> UserId {
        let deployment = self.context.deployment;
        match key {
            Some(key) => UserId::derived(&[
                deployment.as_bytes(),
                name.as_bytes(),
                key.as_str().as_bytes(),
            ]),
            None => UserId::generate(),
        }
    }

    async fn repeated(
        &self,
        taken: Account,
        password: &Password,
        key: Option<Key>,
    ) -> Result<Done<User>, ServiceError> {
        let phc = Some(taken.password_hash.as_str());
        if key == Some(taken.key) && self.passwords.verify(password, phc).await? {
            return Ok(Done {
                value: taken.user,
                replayed: true,
            });
        }
        Err(ServiceError::UsernameTaken)
    }

    /// Changes the caller's own profile, and lets those who know the caller know.
    pub(crate) async fn update(
        &self,
        who: UserId,
        display_name: DisplayName,
        key: Option<&IdempotencyKey>,
    ) -> Result<Done<User>, ServiceError> {
        let name = display_name.into_string();
        let committed = self
            .context
            .append(Mutation {
                actor: who,
                stream: who.into(),
                key,
                request: Some(RequestHash::of("PATCH /v1/users/me", &[name.as_bytes()])),
                proposal: Always(Change::UserUpdated { display_name: name }),
            })
            .await?;
        if !committed.replayed {
            // The change is committed; that nobody is told of it makes it no failure.
            if let Err(error) = self.tell_acquaintances(who).await {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "a changed profile was not announced"
                );
            }
        }
        Ok(Done {
            value: self.get(who).await?,
            replayed: committed.replayed,
        })
    }

    async fn tell_acquaintances(&self, who: UserId) -> Result<(), ServiceError> {
        let Context {
            store,
            log,
            limits,
            clock,
            ..
        } = &self.context;
        let known = store.acquaintances(who, ACQUAINTANCES).await?;
        let at_once = usize::try_from(limits.fanout_limit).unwrap_or(1).max(1);
        for users in known.chunks(at_once) {
            log.announce_ephemeral(Announcement {
                payload: Payload::Ephemeral {
                    at: clock.now(),
                    actor: Some(who),
                    what: Ephemeral::UserChanged { user: who },
                },
                audience: Audience::Users(users.to_vec()),
                trace: None,
            })
            .await;
        }
        Ok(())
    }

    pub(crate) async fn get(&self, user: UserId) -> Result<User, ServiceError> {
        let found = self.context.store.users(&[user]).await?;
        found.into_iter().next().ok_or(ServiceError::NotFound)
    }

    pub(crate) async fn find(&self, username: &Username) -> Result<Option<User>, ServiceError> {
        let account = self.context.store.account(username.as_str()).await?;
        Ok(account.map(|account| account.user))
    }
}

/// Not of the actor, as other keys are: there is none yet.
fn account_key(username: &str, key: &IdempotencyKey) -> Key {
    let parts = [username.as_bytes(), key.as_str().as_bytes()];
    Key::hash("POST /v1/users", &parts)
}
