//! A message's state and its reactions, as they are stored.

use serde::{Deserialize, Serialize};

use crate::domain::{self, Seq, Timestamp, UserId};

/// Stands among those whom a message mentions for all members, so that one index finds both. No
/// account has this id.
pub(in crate::store) const EVERYONE: UserId = UserId::from_bytes([0; 16]);

/// Fields that are empty are left out: most messages are nothing but their content.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::store) struct MessageState {
    content: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reply_to: Option<Seq>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    mentions: Vec<UserId>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    reactions: Vec<ReactionCount>,
    /// Milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    edited_at: Option<i64>,
    #[serde(default, skip_serializing_if = "is_false")]
    deleted: bool,
    #[serde(default, skip_serializing_if = "is_false")]
    pinned: bool,
    #[serde(default, skip_serializing_if = "is_zero")]
    applied: Seq,
}

#[derive(Debug, Serialize, Deserialize)]
struct ReactionCount {
    emoji: String,
    count: u32,
    users: Vec<UserId>,
}

/// What of a message's state decides how it is shown.
#[derive(Debug, Deserialize)]
pub(in crate::store) struct Version {
    #[serde(default)]
    reply_to: Option<Seq>,
    #[serde(default)]
    applied: Seq,
}

impl Version {
    pub(in crate::store) fn at(self, seq: Seq) -> domain::Version {
        domain::Version {
            seq,
            applied: self.applied,
            reply_to: self.reply_to,
        }
    }
}

/// The change of a reaction, and what it makes of those with its emoji.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::store) struct Reaction {
    pub(super) message: Seq,
    emoji: String,
    #[serde(default)]
    count: u32,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    users: Vec<UserId>,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
pub(super) fn is_false(value: &bool) -> bool {
    !value
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
fn is_zero(value: &Seq) -> bool {
    *value == 0
}

fn mentioned(mentions: &domain::Mentions) -> Vec<UserId> {
    let everyone = mentions.everyone.then_some(EVERYONE);
    mentions.users.iter().copied().chain(everyone).collect()
}

fn whom(mut mentioned: Vec<UserId>) -> domain::Mentions {
    let everyone = mentioned.contains(&EVERYONE);
    mentioned.retain(|user| *user != EVERYONE);
    domain::Mentions {
        users: mentioned,
        everyone,
    }
}

impl From<&domain::MessageState> for MessageState {
    fn from(state: &domain::MessageState) -> Self {
        Self {
            content: state.content.clone(),
            reply_to: state.reply_to,
            mentions: mentioned(&state.mentions),
            reactions: state.reactions.iter().map(ReactionCount::from).collect(),
            edited_at: state.edited_at.map(Timestamp::as_millis),
            deleted: state.deleted,
            pinned: state.pinned,
            applied: state.applied,
        }
    }
}

impl From<MessageState> for domain::MessageState {
    fn from(state: MessageState) -> Self {
        Self {
            content: state.content,
            reply_to: state.reply_to,
            mentions: whom(state.mentions),
            reactions: state.reactions.into_iter().map(Into::into).collect(),
            edited_at: state.edited_at.map(Timestamp::from_millis),
            deleted: state.deleted,
            pinned: state.pinned,
            applied: state.applied,
        }
    }
}

impl From<&domain::ReactionCount> for ReactionCount {
    fn from(reaction: &domain::ReactionCount) -> Self {
        Self {
            emoji: reaction.emoji.clone(),
            count: reaction.count,
            users: reaction.users.clone(),
        }
    }
}

impl From<ReactionCount> for domain::ReactionCount {
    fn from(reaction: ReactionCount) -> Self {
        Self {
            emoji: reaction.emoji,
            count: reaction.count,
            users: reaction.users,
        }
    }
}

impl From<(Seq, domain::ReactionCount)> for Reaction {
    fn from((message, now): (Seq, domain::ReactionCount)) -> Self {
        Self {
            message,
            emoji: now.emoji,
            count: now.count,
            users: now.users,
        }
    }
}

impl From<Reaction> for domain::ReactionCount {
    fn from(reaction: Reaction) -> Self {
        Self {
            emoji: reaction.emoji,
            count: reaction.count,
            users: reaction.users,
        }
    }
}
