//! Exchanging a refresh token for a new pair. Each works once; what comes back a second time
//! was stolen, or its thief was faster, so the session ends. The one exception is a client
//! that repeats the exchange because it missed the answer, and says so by the same key.

use tidings_common::auth::RefreshToken;
use tidings_common::domain::{IdempotencyKey, Key, Session, Timestamp};

use super::{Done, Login, ServiceError, Sessions};

/// How long after an exchange its repetition (with the same key) gets the same answer.
const REPEAT_WITHIN_MS: u64 = 60_000;

const REFUSED: ServiceError = ServiceError::Unauthenticated("the refresh token is not valid");

/// What to do about a refresh token.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// It is the valid one: make the next generation.
    Rotate,
    /// The exchange happened at this time, and this is its repetition.
    Repeat(Timestamp),
    /// It was exchanged before: end the session.
    Reused,
    Refuse,
}

impl Sessions {
    pub(crate) async fn refresh(
        &self,
        token: &str,
        key: Option<&IdempotencyKey>,
    ) -> Result<Done<Login>, ServiceError> {
        let token = self.context.keys.parse_refresh(token).ok_or(REFUSED)?;
        let key = key.map(|key| rotation_key(&token, key));
        // Twice: another exchange of the same token may come between reading and swapping.
        for _ in 0..2 {
            let session = self.context.store.session(token.session).await?;
            let session = session.ok_or(REFUSED)?;
            let now = self.context.clock.now();
            match self.judge(&session, &token, key, now) {
                Verdict::Refuse => return Err(REFUSED),
                Verdict::Reused => return Err(self.end_family(&session).await),
                Verdict::Repeat(at) => return self.renewed(session, token, at, true).await,
                Verdict::Rotate => {
                    let store = &self.context.store;
                    let generation = token.generation;
                    if store
                        .rotate_session(session.id, generation, now, key)
                        .await?
                    {
                        return self.renewed(session, token, now, false).await;
                    }
                }
            }
        }
        // Swapped twice under our hands, each time to the same generation: cannot be.
        Err(ServiceError::Unavailable(None))
    }

    fn judge(
        &self,
        session: &Session,
        token: &RefreshToken,
        key: Option<Key>,
        now: Timestamp,
    ) -> Verdict {
        let lifetime = self.context.auth.refresh_ttl.as_millis();
        let unused = u128::from(now.millis_since(session.last_used_at));
        if session.revoked || unused > lifetime {
            return Verdict::Refuse;
        }
        judge_generation(session, token.generation, key, now)
    }

    async fn renewed(
        &self,
        session: Session,
        token: RefreshToken,
        at: Timestamp,
        replayed: bool,
    ) -> Result<Done<Login>, ServiceError> {
        let found = self.context.store.users(&[session.user]).await?;
        let user = found.into_iter().next().ok_or(REFUSED)?;
        let value = self.login(user, session.id, token.generation.saturating_add(1), at);
        Ok(Done { value, replayed })
    }

    async fn end_family(&self, session: &Session) -> ServiceError {
        tracing::info!(
            user.id = %session.user,
            session.id = %session.id,
            "a refresh token was used again; its session is ended"
        );
        match self.end(session.user, session.id).await {
            Ok(()) | Err(ServiceError::NotFound) => REFUSED,
            Err(error) => error,
        }
    }
}

fn judge_generation(
    session: &Session,
    generation: u32,
    key: Option<Key>,
    now: Timestamp,
) -> Verdict {
    if generation == session.generation {
        return Verdict::Rotate;
    }
    if generation > session.generation {
        // From before a restored backup. It may well be the client's own.
        return Verdict::Refuse;
    }
    match session.rotation {
        Some(rotation)
            if generation.saturating_add(1) == session.generation
                && key.is_some()
                && rotation.key == key
                && now.millis_since(rotation.at) <= REPEAT_WITHIN_MS =>
        {
            Verdict::Repeat(rotation.at)
        }
        _ => Verdict::Reused,
    }
}

fn rotation_key(token: &RefreshToken, key: &IdempotencyKey) -> Key {
    let parts = [token.session.as_bytes().as_slice(), key.as_str().as_bytes()];
    Key::hash("POST /v1/sessions/refresh", &parts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidings_common::domain::{Rotation, SessionId, UserId};

    #[test]
    fn only_a_prompt_repetition_with_the_same_key_is_forgiven() {
        let start = Timestamp::from_millis(1_000_000);
        let (mine, other) = (Some(Key::unique()), Some(Key::unique()));
        let session = |key| Session {
            id: SessionId::generate(),
            user: UserId::generate(),
            device_name: String::new(),
            created_at: start,
            last_used_at: start,
            generation: 3,
            rotation: Some(Rotation { at: start, key }),
            revoked: false,
        };
        let check = |generation, rotated_with, key, after_ms, expected| {
            let now = start.plus_millis(after_ms);
            let verdict = judge_generation(&session(rotated_with), generation, key, now);
            assert_eq!(verdict, expected, "{generation} after {after_ms} ms");
        };
        check(3, mine, None, 0, Verdict::Rotate);
        check(4, mine, mine, 0, Verdict::Refuse);
        check(2, mine, mine, 60_000, Verdict::Repeat(start));
        check(2, mine, mine, 60_001, Verdict::Reused);
        check(2, mine, other, 1, Verdict::Reused);
        check(2, mine, None, 1, Verdict::Reused);
        check(2, None, None, 1, Verdict::Reused);
        check(1, mine, mine, 1, Verdict::Reused);
    }
}
