//! The model and its rules: ids, streams, entries, groups, messages, limits, and who may do
//! what. Pure: no async, no I/O, no knowledge of wire or disk formats.

mod change;
mod entry;
mod group;
mod ids;
mod message;
mod reading;
mod refusal;
mod stream;
mod text;
mod time;
mod user;

pub use change::{Change, Ephemeral, Kind, UnknownKind};
pub use entry::{Cursor, Entry, Head, Key, RequestHash, Seq};
pub use group::{Channel, Group, GroupKind, Member, Membership, Role, UnknownName};
pub use ids::{
    ChannelId, ConnectionId, DeploymentId, EntryId, GroupId, ServerId, SessionId, UserId,
};
pub use message::{Message, MessageState, ReactionCount};
pub use reading::{Place, ReadMark, Reading};
pub use refusal::{Refusal, Violation};
pub use stream::{BadStream, StreamId};
pub use text::{
    Content, DeviceName, DisplayName, Emoji, IdempotencyKey, Name, Password, TextError, Username,
};
pub use time::Timestamp;
pub use user::{Rotation, Session, User};
