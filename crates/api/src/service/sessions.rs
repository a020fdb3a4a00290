//! Logging in, listing and ending sessions. (Exchanging refresh tokens: `refresh`.)

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use secrecy::SecretString;
use tidings_common::domain::{
    Change, DeviceName, Head, IdempotencyKey, Key, Password, Refusal, RequestHash, Session,
    SessionId, StreamId, Timestamp, User, UserId, Username,
};
use tidings_common::log::{Append, Draft, NotValid, Proposal};
use tidings_common::store::{Account, Store};

use super::proposal::{Always, decided};
use super::{
    Context, DefaultGroups, Done, IdPage, IdWindow, Listed, Mutation, Passwords, ServiceError,
};

pub(crate) struct Sessions {
    pub(super) context: Context,
    passwords: Arc<Passwords>,
    default_groups: DefaultGroups,
}

/// What a client needs to act for a user.
pub(crate) struct Login {
    pub(crate) access_token: SecretString,
    pub(crate) expires_in: Duration,
    pub(crate) refresh_token: SecretString,
    pub(crate) session: SessionId,
    pub(crate) user: User,
}

impl Sessions {
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

    /// Logs in. What cannot be a name or a password is one that nobody has, and is answered
    /// like every other mistake, after the same time.
    pub(crate) async fn create(
        &self,
        username: String,
        password: String,
        device_name: DeviceName,
    ) -> Result<Login, ServiceError> {
        let account = self.authenticate(username, password).await?;
        let user = account.user;
        self.default_groups.join(&user).await?;
        let session = SessionId::generate();
        let committed = self
            .context
            .append(Mutation {
                actor: user.id,
                stream: user.id.into(),
                key: None,
                request: None,
                proposal: Always(Change::SessionCreated {
                    session,
                    device_name: device_name.into_string(),
                }),
            })
            .await?;
        self.end_surplus(user.id, session).await?;
        Ok(self.login(user, session, 1, committed.entry.at))
    }

    async fn authenticate(
        &self,
        username: String,
        password: String,
    ) -> Result<Account, ServiceError> {
        let account = match Username::parse(username) {
            Ok(name) => self.context.store.account(name.as_str()).await?,
            Err(_) => None,
        };
        let phc = account
            .as_ref()
            .map(|account| account.password_hash.as_str());
        let known = match Password::parse(password) {
            Ok(password) => self.passwords.verify(&password, phc).await?,
            Err(_) => {
                let placeholder = Password::parse("not a password")
                    .map_err(|error| ServiceError::Internal(Box::new(error)))?;
                self.passwords.verify(&placeholder, None).await?
            }
        };
        match account {
            Some(account) if known => Ok(account),
            _ => Err(ServiceError::Unauthenticated(
                "the username or the password is wrong",
            )),
        }
    }

    /// The tokens of a generation, as of the time when it became valid: the same arguments
    /// give the same tokens.
    pub(super) fn login(
        &self,
        user: User,
        session: SessionId,
        generation: u32,
        since: Timestamp,
    ) -> Login {
        let Context {
            keys, auth, clock, ..
        } = &self.context;
        let (access_token, ends) = keys.access_token(user.id, session, since, auth.access_ttl);
        // In whole seconds, as the token itself counts.
        let seconds = u64::try_from(ends.as_secs() - clock.now().as_secs()).unwrap_or(0);
        Login {
            access_token,
            expires_in: Duration::from_secs(seconds),
            refresh_token: keys.refresh_token(session, generation),
            session,
            user,
        }
    }

    /// Ends the least recently used sessions beyond `limits.sessions_per_user`, never `newest`.
    async fn end_surplus(&self, user: UserId, newest: SessionId) -> Result<(), ServiceError> {
        let allowed = usize::try_from(self.context.limits.sessions_per_user).unwrap_or(usize::MAX);
        let mut sessions = self.all(user).await?;
        let surplus = sessions.len().saturating_sub(allowed.max(1));
        sessions.retain(|session| session.id != newest);
        sessions.sort_by_key(|session| (session.last_used_at, session.id));
        for session in sessions.into_iter().take(surplus) {
            match self.end(user, session.id).await {
                // Another login was faster.
                Ok(()) | Err(ServiceError::NotFound) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// All of a user's sessions: some more than the limit while logins race.
    async fn all(&self, user: UserId) -> Result<Vec<Session>, ServiceError> {
        const PAGE: usize = 100;
        const PAGES: usize = 10;
        let mut all: Vec<Session> = Vec::new();
        for _ in 0..PAGES {
            let window = IdWindow::following(all.last().map(|session| session.id));
            let page = self.context.store.sessions(user, window, PAGE).await?;
            let last = page.len() < PAGE;
            all.extend(page);
            if last {
                break;
            }
        }
        Ok(all)
    }

    /// Ends a session for a reason of ours, once.
    pub(super) async fn end(&self, user: UserId, session: SessionId) -> Result<(), ServiceError> {
        let append = Append {
            stream: user.into(),
            actor: Some(user),
            key: Key::hash("end session", &[session.as_bytes()]),
            request: None,
            proposal: Arc::new(EndSession {
                store: self.context.store.clone(),
                user,
                session,
            }),
        };
        self.context.log.append(append).await?;
        self.note_ended(session);
        Ok(())
    }

    /// Others hear of it through the log.
    fn note_ended(&self, session: SessionId) {
        let Context {
            revocations, clock, ..
        } = &self.context;
        revocations.note_ended(session, clock.now());
    }

    pub(crate) async fn list(
        &self,
        user: UserId,
        page: IdPage<SessionId>,
    ) -> Result<Listed<Session>, ServiceError> {
        let store = &self.context.store;
        let items = store.sessions(user, page.window, page.limit + 1).await?;
        Ok(Listed::cut(items, &page))
    }

    /// Ends one of the caller's sessions, perhaps the one that asks.
    pub(crate) async fn delete(
        &self,
        who: UserId,
        session: SessionId,
        key: Option<&IdempotencyKey>,
    ) -> Result<Done<()>, ServiceError> {
        let request = RequestHash::of("DELETE /v1/sessions/{session}", &[session.as_bytes()]);
        let proposal = EndSession {
            store: self.context.store.clone(),
            user: who,
            session,
        };
        let committed = self
            .context
            .append(Mutation {
                actor: who,
                stream: StreamId::User(who),
                key,
                request: Some(request),
                proposal,
            })
            .await?;
        self.note_ended(session);
        Ok(committed.into())
    }
}

struct EndSession {
    store: Arc<dyn Store>,
    user: UserId,
    session: SessionId,
}

#[async_trait]
impl Proposal for EndSession {
    fn reads_state(&self) -> bool {
        true
    }

    async fn validate(&self, _: Head) -> Result<Draft, NotValid> {
        let session = self.store.session(self.session).await?;
        let is_there = |session: &Session| session.user == self.user && !session.revoked;
        if !session.as_ref().is_some_and(is_there) {
            return Err(Refusal::NotFound.into());
        }
        Ok(decided(Change::SessionRevoked {
            session: self.session,
        }))
    }
}
