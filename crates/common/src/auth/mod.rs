//! Who is asking: signs and verifies the tokens that clients hold. Pure: a token, a key and
//! the time go in, a principal comes out; nothing is stored or looked up.
//!
//! Access tokens and tickets are JWTs (HS256, pinned). Refresh tokens are opaque and derived
//! from the session and a generation, so the same rotation always gives the same token; codes of
//! invites from the invite's id.

mod invite;
mod jwt;
mod refresh;
mod sealed;

use std::fmt;
use std::time::Duration;

use jsonwebtoken::{DecodingKey, EncodingKey};
use secrecy::{ExposeSecret as _, SecretString};
use uuid::Uuid;

use crate::domain::{InviteId, SessionId, Timestamp, UserId};

pub use refresh::RefreshToken;

/// How long a realtime ticket can be used after it was issued.
pub const TICKET_TTL: Duration = Duration::from_secs(30);

/// Who makes a request, and until when that is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Principal {
    pub user: UserId,
    pub session: SessionId,
    /// When the access token ends (also behind a ticket, which ends much earlier itself).
    pub expires_at: Timestamp,
}

/// A verified realtime ticket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticket {
    pub principal: Principal,
    /// Random; whoever admits a ticket sees to it that this is admitted once.
    pub id: Uuid,
    /// When the ticket itself ends: until then `id` must be remembered.
    pub expires_at: Timestamp,
}

/// Whether a session has been revoked, as far as this process has heard. The answer is given
/// from memory, at once; it may lag by the seconds that the design allows for revocations.
pub trait SessionCheck: Send + Sync {
    fn is_revoked(&self, session: SessionId) -> bool;
}

/// A token is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Not a token of ours, not of this kind, or changed by someone.
    #[error("the token is not valid")]
    Invalid,
    /// Valid once; the client gets a new one.
    #[error("the token has expired")]
    Expired,
}

/// Everything that is signed with `auth.secret`.
pub struct Keys {
    encoding: EncodingKey,
    decoding: DecodingKey,
    /// Derived, so that no refresh token can be mistaken for another use of the secret.
    refresh: [u8; 32],
    invite: [u8; 32],
}

impl Keys {
    #[must_use]
    pub fn new(secret: &SecretString) -> Self {
        let secret = secret.expose_secret().as_bytes();
        Self {
            encoding: EncodingKey::from_secret(secret),
            decoding: DecodingKey::from_secret(secret),
            refresh: refresh::derive_key(secret),
            invite: invite::derive_key(secret),
        }
    }

    /// An access token of `session` that ends `ttl` from now, and its end (whole seconds).
    #[must_use]
    pub fn access_token(
        &self,
        user: UserId,
        session: SessionId,
        now: Timestamp,
        ttl: Duration,
    ) -> (SecretString, Timestamp) {
        jwt::access_token(&self.encoding, user, session, now, ttl)
    }

    /// # Errors
    ///
    /// `Expired` if the token was good and its time is over, `Invalid` for anything else.
    pub fn verify_access(&self, token: &str, now: Timestamp) -> Result<Principal, TokenError> {
        jwt::verify_access(&self.decoding, token, now)
    }

    /// A ticket for one realtime connection of `principal`, good for [`TICKET_TTL`].
    #[must_use]
    pub fn ticket(&self, principal: &Principal, now: Timestamp) -> SecretString {
        jwt::ticket(&self.encoding, principal, now)
    }

    /// Does not look whether the ticket was used before: it has no memory.
    ///
    /// # Errors
    ///
    /// `Expired` if the ticket was good and its time, or that of the access token behind it,
    /// is over; `Invalid` for anything else.
    pub fn verify_ticket(&self, ticket: &str, now: Timestamp) -> Result<Ticket, TokenError> {
        jwt::verify_ticket(&self.decoding, ticket, now)
    }

    /// The refresh token of the given generation of a session. The same arguments always give
    /// the same token.
    #[must_use]
    pub fn refresh_token(&self, session: SessionId, generation: u32) -> SecretString {
        refresh::token(&self.refresh, session, generation)
    }

    /// What a refresh token says, if it is one of ours. Whether its generation is the current
    /// one is for the session's owner to know.
    #[must_use]
    pub fn parse_refresh(&self, token: &str) -> Option<RefreshToken> {
        refresh::parse(&self.refresh, token)
    }

    /// The code of an invite, always the same. It is as good as membership: not for logs.
    #[must_use]
    pub fn invite_code(&self, invite: InviteId) -> SecretString {
        invite::code(&self.invite, invite)
    }

    /// The invite that a code is of, if it is one of ours. Whether it can be used is for the
    /// group to know.
    #[must_use]
    pub fn parse_invite(&self, code: &str) -> Option<InviteId> {
        invite::parse(&self.invite, code)
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keys(..)")
    }
}

#[cfg(test)]
mod tests;
