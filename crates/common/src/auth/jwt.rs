//! The JWTs: access tokens and realtime tickets, told apart by the claim `typ`.

use std::time::Duration;

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use secrecy::SecretString;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Principal, TICKET_TTL, Ticket, TokenError};
use crate::domain::{SessionId, Timestamp, UserId};

const ISSUER: &str = "tidings";

/// Longer than any token of ours: nothing longer is worth decoding.
const MAX_TOKEN_BYTES: usize = 2048;

/// How far the clock of the server that issued a token may be ahead of ours. This lengthens
/// no token's life: `exp` has no leeway.
const ISSUER_AHEAD_MS: i64 = 30_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Type {
    Access,
    Ticket,
}

/// What every token of ours carries. Times are in seconds since 1970.
#[derive(Serialize, Deserialize)]
struct Claims {
    iss: String,
    typ: Type,
    sub: UserId,
    sid: SessionId,
    iat: i64,
    exp: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    nbf: Option<i64>,
}

#[derive(Serialize, Deserialize)]
struct TicketClaims {
    #[serde(flatten)]
    claims: Claims,
    /// The end of the access token that the ticket was got with.
    tex: i64,
    jti: Uuid,
}

pub(super) fn access_token(
    key: &EncodingKey,
    user: UserId,
    session: SessionId,
    now: Timestamp,
    ttl: Duration,
) -> (SecretString, Timestamp) {
    let claims = Claims::new(Type::Access, user, session, now, ttl);
    let ends = from_secs(claims.exp);
    (sign(key, &claims), ends)
}

pub(super) fn ticket(key: &EncodingKey, principal: &Principal, now: Timestamp) -> SecretString {
    let claims = TicketClaims {
        claims: Claims::new(
            Type::Ticket,
            principal.user,
            principal.session,
            now,
            TICKET_TTL,
        ),
        tex: principal.expires_at.as_secs(),
        jti: Uuid::new_v4(),
    };
    sign(key, &claims)
}

pub(super) fn verify_access(
    key: &DecodingKey,
    token: &str,
    now: Timestamp,
) -> Result<Principal, TokenError> {
    let claims: Claims = decode(key, token)?;
    claims.check(Type::Access, now)?;
    Ok(claims.principal(claims.exp))
}

pub(super) fn verify_ticket(
    key: &DecodingKey,
    token: &str,
    now: Timestamp,
) -> Result<Ticket, TokenError> {
    let TicketClaims { claims, tex, jti } = decode(key, token)?;
    claims.check(Type::Ticket, now)?;
    let ticket = Ticket {
        principal: claims.principal(tex),
        id: jti,
        expires_at: from_secs(claims.exp),
    };
    if now >= ticket.principal.expires_at {
        return Err(TokenError::Expired);
    }
    Ok(ticket)
}

impl Claims {
    fn new(typ: Type, user: UserId, session: SessionId, now: Timestamp, ttl: Duration) -> Self {
        let iat = now.as_secs();
        let ttl_secs = i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX);
        Self {
            iss: ISSUER.to_owned(),
            typ,
            sub: user,
            sid: session,
            iat,
            exp: iat.saturating_add(ttl_secs),
            nbf: None,
        }
    }

    fn check(&self, typ: Type, now: Timestamp) -> Result<(), TokenError> {
        let soon = now.plus_millis(ISSUER_AHEAD_MS);
        let starts = self.nbf.map_or(self.iat, |nbf| nbf.max(self.iat));
        if self.typ != typ || self.iss != ISSUER || from_secs(starts) > soon {
            return Err(TokenError::Invalid);
        }
        if now >= from_secs(self.exp) {
            return Err(TokenError::Expired);
        }
        Ok(())
    }

    fn principal(&self, token_ends: i64) -> Principal {
        Principal {
            user: self.sub,
            session: self.sid,
            expires_at: from_secs(token_ends),
        }
    }
}

fn from_secs(secs: i64) -> Timestamp {
    Timestamp::from_millis(secs.saturating_mul(1000))
}

fn sign<T: Serialize>(key: &EncodingKey, claims: &T) -> SecretString {
    let header = Header::new(Algorithm::HS256);
    jsonwebtoken::encode(&header, claims, key)
        .expect("plain claims serialise and an HMAC key fits HS256")
        .into()
}

/// Checks the signature and that the claims are there. What they say is compared with our
/// own clock afterwards: the library would read the system's.
fn decode<T: DeserializeOwned>(key: &DecodingKey, token: &str) -> Result<T, TokenError> {
    if token.len() > MAX_TOKEN_BYTES {
        return Err(TokenError::Invalid);
    }
    let mut validation = Validation::new(Algorithm::HS256);
    validation.validate_exp = false;
    validation.set_required_spec_claims(&["exp", "iss", "sub"]);
    validation.set_issuer(&[ISSUER]);
    jsonwebtoken::decode(token, key, &validation)
        .map(|data| data.claims)
        .map_err(|_| TokenError::Invalid)
}
