//! Refresh tokens: session, generation and an HMAC over both, in base64.

use secrecy::SecretString;

use super::sealed::{self, Key};
use crate::domain::SessionId;

const SESSION_BYTES: usize = 16;
const GENERATION_BYTES: usize = 4;
const MAC_BYTES: usize = 32;

/// What a refresh token says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RefreshToken {
    /// The family: every token that one login led to.
    pub session: SessionId,
    /// Counts the rotations.
    pub generation: u32,
}

pub(super) fn derive_key(secret: &[u8]) -> Key {
    sealed::derive_key(secret, b"tidings refresh tokens")
}

pub(super) fn token(key: &Key, session: SessionId, generation: u32) -> SecretString {
    let mut said = session.as_bytes().to_vec();
    said.extend_from_slice(&generation.to_be_bytes());
    sealed::seal(key, &said, MAC_BYTES)
}

pub(super) fn parse(key: &Key, token: &str) -> Option<RefreshToken> {
    let said: [u8; SESSION_BYTES + GENERATION_BYTES] = sealed::open(key, token, MAC_BYTES)?;
    let (session, generation) = said.split_at(SESSION_BYTES);
    Some(RefreshToken {
        session: SessionId::from_bytes(session.try_into().ok()?),
        generation: u32::from_be_bytes(generation.try_into().ok()?),
    })
}
