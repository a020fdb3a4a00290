//! Refresh tokens: session, generation and an HMAC over both, in base64.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use secrecy::SecretString;
use sha2::Sha256;

use crate::domain::SessionId;

const SESSION_BYTES: usize = 16;
const GENERATION_BYTES: usize = 4;
const SAID_BYTES: usize = SESSION_BYTES + GENERATION_BYTES;
const MAC_BYTES: usize = 32;

/// What a refresh token says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RefreshToken {
    /// The family: every token that one login led to.
    pub session: SessionId,
    /// Counts the rotations.
    pub generation: u32,
}

pub(super) fn derive_key(secret: &[u8]) -> [u8; 32] {
    keyed(secret)
        .chain_update(b"tidings refresh tokens")
        .finalize()
        .into_bytes()
        .into()
}

pub(super) fn token(key: &[u8; 32], session: SessionId, generation: u32) -> SecretString {
    let mut bytes = Vec::with_capacity(SAID_BYTES + MAC_BYTES);
    bytes.extend_from_slice(session.as_bytes());
    bytes.extend_from_slice(&generation.to_be_bytes());
    let mac = keyed(key).chain_update(&bytes).finalize().into_bytes();
    bytes.extend_from_slice(&mac);
    SecretString::from(URL_SAFE_NO_PAD.encode(bytes))
}

pub(super) fn parse(key: &[u8; 32], token: &str) -> Option<RefreshToken> {
    let mut bytes = [0; SAID_BYTES + MAC_BYTES];
    // A token of another length does not decode: the buffer is exact.
    let length = URL_SAFE_NO_PAD.decode_slice(token, &mut bytes).ok()?;
    if length != bytes.len() {
        return None;
    }
    let (said, mac) = bytes.split_at(SAID_BYTES);
    // Takes the same time wherever the difference is.
    keyed(key).chain_update(said).verify_slice(mac).ok()?;
    let (session, generation) = said.split_at(SESSION_BYTES);
    Some(RefreshToken {
        session: SessionId::from_bytes(session.try_into().ok()?),
        generation: u32::from_be_bytes(generation.try_into().ok()?),
    })
}

fn keyed(key: &[u8]) -> Hmac<Sha256> {
    Hmac::new_from_slice(key).expect("HMAC takes a key of any length")
}
