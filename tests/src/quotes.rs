//! What replies show of the messages that they answer: a client makes it of what it holds.

use serde_json::{Value, json};

use crate::view::{Message, Messages};

/// Characters of the quoted content.
const CHARACTERS: usize = 200;

/// What a reply to the message at `seq` shows of it; null if it is not held.
#[must_use]
pub fn quote(messages: &Messages, seq: u64) -> Value {
    let show = |original: &Message| {
        let content: String = original.content.chars().take(CHARACTERS).collect();
        json!({
            "seq": seq, "author": original.author, "content": content,
            "deleted": original.deleted,
        })
    };
    messages.get(&seq).map_or(Value::Null, show)
}

/// A message has changed: so do the replies to it.
pub fn requote(messages: &mut Messages, changed: u64) {
    let quoted = quote(messages, changed);
    let replies = messages.values_mut();
    for reply in replies.filter(|message| message.reply_to == changed) {
        reply.quoted.clone_from(&quoted);
    }
}
