//! What a change makes of a message's state. Pure; the stores keep it, and who reacted.

use crate::domain::{ChannelId, Mentions, MessageState, ReactionCount, Seq, Timestamp, UserId};

/// Which message an entry changes.
#[derive(Clone, Copy)]
pub(super) struct At {
    pub(super) channel: ChannelId,
    pub(super) message: Seq,
    /// Of the entry.
    pub(super) seq: Seq,
}

impl At {
    pub(super) fn new(channel: ChannelId, message: Seq, seq: Seq) -> Self {
        Self {
            channel,
            message,
            seq,
        }
    }
}

/// Puts the new content in place. An edit that has none, or of a deleted message, changes
/// nothing.
pub(super) fn edit(
    state: &mut MessageState,
    content: Option<&str>,
    mentions: &Mentions,
    edited_at: Timestamp,
) {
    if let Some(content) = content
        && !state.deleted
    {
        content.clone_into(&mut state.content);
        state.mentions.clone_from(mentions);
        state.edited_at = Some(edited_at);
    }
}

/// Leaves the tombstone.
pub(super) fn delete(state: &mut MessageState) {
    state.content.clear();
    state.mentions = Mentions::default();
    state.reactions.clear();
    state.pinned = false;
    state.deleted = true;
}

/// Takes the message into those that are kept in view, or out. A deleted one stays out.
pub(super) fn pin(state: &mut MessageState, pinned: bool) {
    state.pinned = pinned && !state.deleted;
}

/// Those who react with one emoji now.
pub(super) struct Reactors {
    pub(super) count: u32,
    /// The first few, in the order in which they reacted.
    pub(super) first: Vec<UserId>,
}

/// Brings the count of one emoji up to date. An emoji keeps its place while it is used.
pub(super) fn count(state: &mut MessageState, emoji: &str, reactors: Reactors) {
    let Reactors { count, mut first } = reactors;
    first.truncate(ReactionCount::SAMPLE);
    let reactions = &mut state.reactions;
    let place = reactions.iter().position(|known| known.emoji == emoji);
    match (place, count) {
        (Some(place), 0) => {
            reactions.remove(place);
        }
        (Some(place), _) => {
            reactions[place].count = count;
            reactions[place].users = first;
        }
        (None, 0) => {}
        (None, _) => reactions.push(ReactionCount {
            emoji: emoji.to_owned(),
            count,
            users: first,
        }),
    }
}
