//! Identifiers: newtypes over UUIDs, so that one kind cannot stand in for another.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use uuid::Uuid;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// A new id (UUIDv7: ids made later sort later, to the millisecond).
            #[must_use]
            pub fn generate() -> Self {
                Self(Uuid::now_v7())
            }

            #[must_use]
            pub const fn from_uuid(uuid: Uuid) -> Self {
                Self(uuid)
            }

            #[must_use]
            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(Uuid::from_bytes(bytes))
            }

            #[must_use]
            pub const fn as_uuid(&self) -> &Uuid {
                &self.0
            }

            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; 16] {
                self.0.as_bytes()
            }

            /// An id that everyone who knows `parts` computes alike (UUIDv8 over SHA-256).
            #[must_use]
            pub fn derived(parts: &[&[u8]]) -> Self {
                Self(derived_uuid(stringify!($name), parts))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;

            /// Accepts the hyphenated form only, so that an id has one spelling but for case.
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                uuid::fmt::Hyphenated::from_str(text).map(|id| Self(id.into_uuid()))
            }
        }
    };
}

id!(/** An account. */ UserId);
id!(/** One login of one user on one device. */ SessionId);
id!(/** A group, direct conversations included. */ GroupId);
id!(/** A conversation inside a group. */ ChannelId);
id!(/** A way into a group. */ InviteId);
id!(/** An entry of the log; a message's id is its entry's. */ EntryId);
id!(/** One installation, whatever the number of its processes. */ DeploymentId);
id!(/** One run of one process. */ ServerId);
id!(/** One client connection. */ ConnectionId);

impl UserId {
    /// The partition of the user's deltas: the last 8 bytes of the id as a big-endian number,
    /// modulo `partitions`.
    #[must_use]
    pub fn partition(&self, partitions: std::num::NonZeroU16) -> u16 {
        let mut tail = [0; 8];
        tail.copy_from_slice(&self.as_bytes()[8..]);
        let partition = u64::from_be_bytes(tail) % u64::from(partitions.get());
        u16::try_from(partition).unwrap_or_default()
    }
}

fn derived_uuid(kind: &str, parts: &[&[u8]]) -> Uuid {
    let digest = digest(kind, parts);
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest[..16]);
    Uuid::new_v8(bytes)
}

/// SHA-256 over `label` and `parts`, each preceded by its length, so that no two different
/// lists of parts give the same input.
pub(crate) fn digest(label: &str, parts: &[&[u8]]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in std::iter::once(label.as_bytes()).chain(parts.iter().copied()) {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_partition_is_the_tail_of_the_id_modulo_the_count() {
        let partitions = std::num::NonZeroU16::new(1024).unwrap();
        let user = UserId::from_uuid(Uuid::from_u128(0xffff_ffff_ffff_ffff_0000_0000_0000_0403));
        assert_eq!(user.partition(partitions), 3);
        assert_eq!(user.partition(std::num::NonZeroU16::MIN), 0);
    }

    #[test]
    fn derived_ids_depend_on_the_kind_and_on_where_parts_end() {
        let a = UserId::derived(&[b"ab", b"c"]);
        assert_eq!(a, UserId::derived(&[b"ab", b"c"]));
        assert_ne!(a, UserId::derived(&[b"a", b"bc"]));
        assert_ne!(a.as_uuid(), GroupId::derived(&[b"ab", b"c"]).as_uuid());
        assert_eq!(a.as_uuid().get_version_num(), 8);
    }

    #[test]
    fn an_id_has_one_spelling() {
        let id = UserId::generate();
        assert_eq!(id.to_string().parse::<UserId>().ok(), Some(id));
        assert!(id.as_uuid().simple().to_string().parse::<UserId>().is_err());
        assert!(format!("{{{id}}}").parse::<UserId>().is_err());
    }
}
