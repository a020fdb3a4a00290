//! Texts that nobody else can make: some bytes and an HMAC over them, in base64. Nothing of them is
//! stored.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use secrecy::SecretString;
use sha2::Sha256;

pub(super) type Key = [u8; 32];

/// A key for one kind of text, which `label` names.
pub(super) fn derive_key(secret: &[u8], label: &[u8]) -> Key {
    let mac = keyed(secret).chain_update(label).finalize();
    mac.into_bytes().into()
}

/// What `said` says, with the first `mac_bytes` of its HMAC.
pub(super) fn seal(key: &Key, said: &[u8], mac_bytes: usize) -> SecretString {
    let mac = keyed(key).chain_update(said).finalize().into_bytes();
    SecretString::from(URL_SAFE_NO_PAD.encode([said, &mac[..mac_bytes]].concat()))
}

/// What a text says that was sealed with so many bytes of HMAC; None if it was not.
pub(super) fn open<const SAID: usize>(
    key: &Key,
    text: &str,
    mac_bytes: usize,
) -> Option<[u8; SAID]> {
    let mut bytes = vec![0; SAID + mac_bytes];
    // A longer text does not decode: the buffer is exact.
    let length = URL_SAFE_NO_PAD.decode_slice(text, &mut bytes).ok()?;
    if length != bytes.len() {
        return None;
    }
    let (said, mac) = bytes.split_first_chunk()?;
    // Takes the same time wherever the difference is.
    let checked = keyed(key).chain_update(said).verify_truncated_left(mac);
    checked.ok().map(|()| *said)
}

fn keyed(key: &[u8]) -> Hmac<Sha256> {
    Hmac::new_from_slice(key).expect("HMAC takes a key of any length")
}
