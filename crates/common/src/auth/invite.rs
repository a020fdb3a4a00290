//! Codes of invites: the invite's id and an HMAC over it, in base64. Nothing of a code is stored:
//! who reads the database, a backup or a log learns none.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use secrecy::SecretString;
use sha2::Sha256;

use crate::domain::InviteId;

const ID_BYTES: usize = 16;
/// 128 bits that nobody guesses.
const MAC_BYTES: usize = 16;

pub(super) fn derive_key(secret: &[u8]) -> [u8; 32] {
    keyed(secret)
        .chain_update(b"tidings invites")
        .finalize()
        .into_bytes()
        .into()
}

pub(super) fn code(key: &[u8; 32], invite: InviteId) -> SecretString {
    let mac = keyed(key).chain_update(invite.as_bytes()).finalize();
    let mut bytes = invite.as_bytes().to_vec();
    bytes.extend_from_slice(&mac.into_bytes()[..MAC_BYTES]);
    SecretString::from(URL_SAFE_NO_PAD.encode(bytes))
}

pub(super) fn parse(key: &[u8; 32], code: &str) -> Option<InviteId> {
    let mut bytes = [0; ID_BYTES + MAC_BYTES];
    // A code of another length does not decode: the buffer is exact.
    let length = URL_SAFE_NO_PAD.decode_slice(code, &mut bytes).ok()?;
    if length != bytes.len() {
        return None;
    }
    let (id, mac) = bytes.split_at(ID_BYTES);
    // Takes the same time wherever the difference is.
    keyed(key)
        .chain_update(id)
        .verify_truncated_left(mac)
        .ok()?;
    Some(InviteId::from_bytes(id.try_into().ok()?))
}

fn keyed(key: &[u8]) -> Hmac<Sha256> {
    Hmac::new_from_slice(key).expect("HMAC takes a key of any length")
}

#[cfg(test)]
mod tests {
    use super::*;
    use secrecy::ExposeSecret as _;

    #[test]
    fn a_code_says_its_invite_and_no_other_text_does() {
        let (key, other) = (derive_key(b"one"), derive_key(b"two"));
        let invite = InviteId::generate();
        let code = code(&key, invite);
        let text = code.expose_secret();
        assert_eq!(text.len(), 43);
        assert_eq!(parse(&key, text), Some(invite));
        assert_eq!(parse(&other, text), None);
        assert_eq!(parse(&key, ""), None);
        assert_eq!(parse(&key, &text[..42]), None);
        assert_eq!(parse(&key, &format!("{text}A")), None);
        let id_alone = URL_SAFE_NO_PAD.encode([invite.as_bytes().as_slice(), &[0; 16]].concat());
        assert_eq!(parse(&key, &id_alone), None);
        for at in 0..text.len() {
            let mut changed = text.as_bytes().to_vec();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).unwrap();
            assert_eq!(parse(&key, &changed), None, "{at}");
        }
    }
}
