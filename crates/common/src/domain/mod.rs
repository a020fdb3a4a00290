//! The model and its rules: ids, streams, entries, groups, messages, limits, and who may do
//! what. Pure: no async, no I/O, no knowledge of wire or disk formats.

mod ids;
mod time;

pub use ids::{
    ChannelId, ConnectionId, DeploymentId, EntryId, GroupId, ServerId, SessionId, UserId,
};
pub use time::Timestamp;
