//! Codes of invites: the invite's id and an HMAC over it, in base64. Nothing of a code is stored:
//! who reads the database, a backup or a log learns none.

use secrecy::SecretString;

use super::sealed::{self, Key};
use crate::domain::InviteId;

/// 128 bits that nobody guesses.
const MAC_BYTES: usize = 16;

pub(super) fn derive_key(secret: &[u8]) -> Key {
    sealed::derive_key(secret, b"tidings invites")
}

pub(super) fn code(key: &Key, invite: InviteId) -> SecretString {
    sealed::seal(key, invite.as_bytes(), MAC_BYTES)
}

pub(super) fn parse(key: &Key, code: &str) -> Option<InviteId> {
    sealed::open(key, code, MAC_BYTES).map(InviteId::from_bytes)
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use secrecy::ExposeSecret as _;

    use super::*;

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
