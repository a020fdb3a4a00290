//! Names of streams.

use std::fmt;
use std::str::FromStr;

use uuid::Uuid;

use super::{ChannelId, GroupId, UserId};

/// An append-only log of entries with dense sequence numbers from 1.
///
/// The order of the variants is the order in which sync answers them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StreamId {
    /// `u:<user>`: what concerns this user alone.
    User(UserId),
    /// `g:<group>`: settings, members, channels.
    Group(GroupId),
    /// `c:<channel>`: messages and what happens to them.
    Channel(ChannelId),
    /// `x:sessions`: revocations, read by every process. No client has it.
    Sessions,
}

/// The name was not that of a stream.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not the name of a stream")]
pub struct BadStream;

/// What stands in the place of a UUID in `x:sessions`: the name, padded with zeros.
const SESSIONS: [u8; 16] = *b"sessions\0\0\0\0\0\0\0\0";

impl StreamId {
    /// The stored form: the kind's letter, then the UUID (or the name, padded with zeros).
    #[must_use]
    pub fn to_bytes(self) -> [u8; 17] {
        let (letter, id) = match &self {
            Self::User(id) => (b'u', id.as_bytes()),
            Self::Group(id) => (b'g', id.as_bytes()),
            Self::Channel(id) => (b'c', id.as_bytes()),
            Self::Sessions => (b'x', &SESSIONS),
        };
        let mut bytes = [letter; 17];
        bytes[1..].copy_from_slice(id);
        bytes
    }

    /// # Errors
    ///
    /// [`BadStream`] for anything that [`StreamId::to_bytes`] does not make.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, BadStream> {
        let (letter, id) = bytes.split_first().ok_or(BadStream)?;
        let id: [u8; 16] = id.try_into().map_err(|_| BadStream)?;
        match letter {
            b'u' => Ok(Self::User(UserId::from_bytes(id))),
            b'g' => Ok(Self::Group(GroupId::from_bytes(id))),
            b'c' => Ok(Self::Channel(ChannelId::from_bytes(id))),
            b'x' if id == SESSIONS => Ok(Self::Sessions),
            _ => Err(BadStream),
        }
    }
}

impl From<UserId> for StreamId {
    fn from(id: UserId) -> Self {
        Self::User(id)
    }
}

impl From<GroupId> for StreamId {
    fn from(id: GroupId) -> Self {
        Self::Group(id)
    }
}

impl From<ChannelId> for StreamId {
    fn from(id: ChannelId) -> Self {
        Self::Channel(id)
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(id) => write!(f, "u:{id}"),
            Self::Group(id) => write!(f, "g:{id}"),
            Self::Channel(id) => write!(f, "c:{id}"),
            Self::Sessions => f.write_str("x:sessions"),
        }
    }
}

impl FromStr for StreamId {
    type Err = BadStream;

    fn from_str(text: &str) -> Result<Self, BadStream> {
        if text == "x:sessions" {
            return Ok(Self::Sessions);
        }
        let (letter, id) = text.split_once(':').ok_or(BadStream)?;
        let id: Uuid = uuid::fmt::Hyphenated::from_str(id)
            .map_err(|_| BadStream)?
            .into_uuid();
        match letter {
            "u" => Ok(Self::User(UserId::from_uuid(id))),
            "g" => Ok(Self::Group(GroupId::from_uuid(id))),
            "c" => Ok(Self::Channel(ChannelId::from_uuid(id))),
            _ => Err(BadStream),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_survives_both_of_its_forms() {
        for stream in [
            StreamId::User(UserId::generate()),
            StreamId::Group(GroupId::generate()),
            StreamId::Channel(ChannelId::generate()),
            StreamId::Sessions,
        ] {
            assert_eq!(stream.to_string().parse(), Ok(stream));
            assert_eq!(StreamId::from_bytes(&stream.to_bytes()), Ok(stream));
        }
    }

    #[test]
    fn what_is_not_a_stream_is_refused() {
        for text in [
            "",
            "c",
            "c:",
            "c:1",
            "q:00000000-0000-7000-8000-000000000000",
            "x:other",
        ] {
            assert_eq!(text.parse::<StreamId>(), Err(BadStream), "{text}");
        }
        assert_eq!(StreamId::from_bytes(b"c"), Err(BadStream));
        assert_eq!(StreamId::from_bytes(&[b'x'; 17]), Err(BadStream));
    }
}
