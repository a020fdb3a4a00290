//! Parts of a channel's history, cut by position: a client caches them, and compares what it holds
//! by their digests.

use super::ids::digest;
use super::{Message, Seq};

/// Bucket `n` holds the messages among the entries `256 n + 1` to `256 (n + 1)`. Its size is
/// bounded, and it needs no clock; a full one changes only by what happens to its messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bucket(u64);

/// What decides all that is shown of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Version {
    pub seq: Seq,
    /// The last entry that changed it; 0 if none did.
    pub applied: Seq,
    pub reply_to: Option<Seq>,
}

impl Bucket {
    /// Positions in a bucket.
    pub const SIZE: Seq = 256;

    /// None beyond the positions that streams can have, which count in 63 bits.
    #[must_use]
    pub fn new(number: u64) -> Option<Self> {
        let most = i64::MAX.unsigned_abs() / Self::SIZE;
        (number < most).then_some(Self(number))
    }

    #[must_use]
    pub fn number(self) -> u64 {
        self.0
    }

    /// The position before its first.
    #[must_use]
    pub fn after(self) -> Seq {
        self.0 * Self::SIZE
    }

    /// Its last position.
    #[must_use]
    pub fn through(self) -> Seq {
        self.after() + Self::SIZE
    }

    /// Changes with every change of what the bucket shows: of its messages, ascending, each with
    /// the message that it quotes. And with `epoch`: after a backup was restored, positions that
    /// were given already stand for something else.
    #[must_use]
    pub fn digest(
        epoch: u64,
        versions: impl IntoIterator<Item = (Version, Option<Version>)>,
    ) -> String {
        let mut bytes = epoch.to_be_bytes().to_vec();
        for (version, quoted) in versions {
            let quoted = quoted.map_or((0, 0), |quoted| (quoted.seq, quoted.applied));
            for number in [version.seq, version.applied, quoted.0, quoted.1] {
                bytes.extend(number.to_be_bytes());
            }
        }
        let digest = digest("bucket", &[&bytes]);
        let half = digest
            .first_chunk::<16>()
            .map(|half| u128::from_be_bytes(*half));
        format!("{:032x}", half.unwrap_or_default())
    }
}

impl From<&Message> for Version {
    fn from(message: &Message) -> Self {
        Self {
            seq: message.seq,
            applied: message.state.applied,
            reply_to: message.state.reply_to,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_position_is_in_one_bucket() {
        let bounds = |number| {
            let bucket = Bucket::new(number).unwrap();
            (bucket.after(), bucket.through())
        };
        assert_eq!(bounds(0), (0, 256));
        assert_eq!(bounds(1), (256, 512));
        assert!(Bucket::new(u64::MAX).is_none());
        let last = Bucket::new((1 << 55) - 2).unwrap();
        assert!(last.through() < i64::MAX.unsigned_abs());
    }

    #[test]
    fn a_digest_changes_with_every_version() {
        let version = |seq, applied| Version {
            seq,
            applied,
            reply_to: None,
        };
        let digests = [
            Bucket::digest(1, []),
            Bucket::digest(2, []),
            Bucket::digest(1, [(version(1, 0), None)]),
            Bucket::digest(2, [(version(1, 0), None)]),
            Bucket::digest(1, [(version(1, 2), None)]),
            Bucket::digest(1, [(version(1, 0), None), (version(2, 0), None)]),
            Bucket::digest(1, [(version(3, 0), Some(version(1, 0)))]),
            Bucket::digest(1, [(version(3, 0), Some(version(1, 2)))]),
        ];
        for (index, digest) in digests.iter().enumerate() {
            assert_eq!(digest.len(), 32);
            assert!(!digests[..index].contains(digest), "{index}");
        }
    }
}
