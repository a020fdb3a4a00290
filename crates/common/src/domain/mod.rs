//! The model and its rules: ids, streams, entries, groups, messages, limits, and who may do
//! what. Pure: no async, no I/O, no knowledge of wire or disk formats.

mod bucket;
mod change;
mod emoji;
mod entry;
mod group;
mod ids;
mod invite;
mod lease;
mod mention;
mod message;
mod permission;
mod presence;
mod reading;
mod refusal;
mod restriction;
mod stream;
mod text;
mod time;
mod user;

pub use bucket::{Bucket, Version};
pub use change::{Change, Ephemeral, Kind, UnknownKind};
pub use entry::{Cursor, Entry, Head, Key, RequestHash, Seq};
pub use group::{Channel, Group, GroupKind, Member, Membership, Role, Size, UnknownName};
pub use ids::{
    ChannelId, ConnectionId, DeploymentId, EntryId, GroupId, InviteId, ServerId, SessionId, UserId,
};
pub use invite::{Invite, InviteUse};
pub use lease::{Lease, LeaseHolder};
pub use mention::Names;
pub use message::{Mentions, Message, MessageState, Quote, Quoting, Reacting, ReactionCount};
pub use permission::{Action, PERMISSIONS, Permission, Standing, Verdict};
pub use presence::{Activity, PresenceState, UserPresence};
pub use reading::{Place, ReadMark, Reading};
pub use refusal::{Refusal, Violation};
pub use restriction::{Ban, Restrictions};
pub use stream::{BadStream, StreamId};
pub use text::{
    Content, DeviceName, DisplayName, Emoji, IdempotencyKey, Name, Password, TextError, Username,
};
pub use time::{NotATime, Timestamp};
pub use user::{Rotation, Session, User};
