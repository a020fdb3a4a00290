//! A message and what has happened to it.

use super::{ChannelId, EntryId, Seq, Timestamp, UserId};

/// A message as it is now.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    pub id: EntryId,
    pub channel: ChannelId,
    pub seq: Seq,
    pub author: UserId,
    pub created_at: Timestamp,
    pub state: MessageState,
}

/// What stands inside a message's own entry.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct MessageState {
    /// Markdown; empty once deleted.
    pub content: String,
    /// A message of the same channel.
    pub reply_to: Option<Seq>,
    pub mentions: Vec<UserId>,
    /// In the order in which each emoji was first used.
    pub reactions: Vec<ReactionCount>,
    pub edited_at: Option<Timestamp>,
    pub deleted: bool,
    pub pinned: bool,
    /// The last entry of the stream that changed this state; 0 if none did.
    pub applied: Seq,
}

/// How many users reacted with one emoji, and the first few of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReactionCount {
    pub emoji: String,
    pub count: u32,
    /// At most 3, in the order in which they reacted.
    pub users: Vec<UserId>,
}

impl ReactionCount {
    /// Most users named in `users`.
    pub const SAMPLE: usize = 3;
}
