//! A message and what has happened to it.

use super::{ChannelId, EntryId, Seq, Timestamp, UserId, Version};

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
    pub mentions: Mentions,
    /// In the order in which each emoji was first used.
    pub reactions: Vec<ReactionCount>,
    pub edited_at: Option<Timestamp>,
    pub deleted: bool,
    pub pinned: bool,
    /// The last entry of the stream that changed this state; 0 if none did.
    pub applied: Seq,
}

/// Whom a content mentions, as far as they were members and its author might.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Mentions {
    /// In the order in which they are named, each once.
    pub users: Vec<UserId>,
    /// All members.
    pub everyone: bool,
}

impl Mentions {
    /// Whether a member is mentioned.
    #[must_use]
    pub fn include(&self, member: UserId) -> bool {
        self.everyone || self.users.contains(&member)
    }
}

impl From<Vec<UserId>> for Mentions {
    fn from(users: Vec<UserId>) -> Self {
        Self {
            users,
            everyone: false,
        }
    }
}

/// What a reply shows of the message that it answers, as that is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quote {
    pub seq: Seq,
    pub author: UserId,
    /// Its first [`Quote::CHARACTERS`]; empty once deleted.
    pub content: String,
    pub deleted: bool,
    pub version: Version,
}

impl Quote {
    /// Most Unicode scalar values of the quoted content.
    pub const CHARACTERS: usize = 200;

    #[must_use]
    pub fn of(original: &Message) -> Self {
        let content = original.state.content.chars();
        Self {
            seq: original.seq,
            author: original.author,
            content: content.take(Self::CHARACTERS).collect(),
            deleted: original.state.deleted,
            version: Version::from(original),
        }
    }
}

/// A message with what it quotes; None unless it is a reply.
#[derive(Debug, Clone, PartialEq)]
pub struct Quoting {
    pub message: Message,
    pub quote: Option<Quote>,
}

/// How many users reacted with one emoji, and the first few of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReactionCount {
    pub emoji: String,
    pub count: u32,
    /// At most 3, in the order in which they reacted.
    pub users: Vec<UserId>,
}

/// What a user is to a message's reactions with one emoji.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reacting {
    /// Whether the user reacts so.
    pub already: bool,
    /// The first who do, in the order in which they reacted: all of them, or one more than
    /// [`ReactionCount::SAMPLE`].
    pub first: Vec<UserId>,
}

impl MessageState {
    /// The reactions with one emoji; nobody's if there are none.
    #[must_use]
    pub fn reaction(&self, emoji: &str) -> ReactionCount {
        let mut known = self.reactions.iter();
        let known = known.find(|known| known.emoji == emoji);
        known
            .cloned()
            .unwrap_or_else(|| ReactionCount::nobody(emoji))
    }
}

impl ReactionCount {
    /// Most users named in `users`.
    pub const SAMPLE: usize = 3;

    #[must_use]
    pub fn nobody(emoji: &str) -> Self {
        Self {
            emoji: emoji.to_owned(),
            count: 0,
            users: Vec::new(),
        }
    }

    /// What comes of these reactions once `user`, who is `reacting` to them so, reacts or does
    /// not.
    #[must_use]
    pub fn after(mut self, user: UserId, reacting: &Reacting, reacts: bool) -> Self {
        if reacts == reacting.already {
            return self;
        }
        self.users.clone_from(&reacting.first);
        if reacts {
            self.count = self.count.saturating_add(1);
            self.users.push(user);
        } else {
            self.count = self.count.saturating_sub(1);
            self.users.retain(|one| *one != user);
        }
        self.users.truncate(Self::SAMPLE);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reaction_counts_once_and_the_first_three_are_named() {
        let users: Vec<UserId> = (0..5).map(|_| UserId::generate()).collect();
        let mut standing: Vec<UserId> = Vec::new();
        let mut count = ReactionCount::nobody("👍");
        let changes = [
            (0, true),
            (1, true),
            (1, true),
            (2, true),
            (3, true),
            (4, true),
            (0, false),
            (0, false),
            (3, false),
            (0, true),
            (1, false),
            (2, false),
            (4, false),
            (0, false),
        ];
        for (index, reacts) in changes {
            let user = users[index];
            let reacting = Reacting {
                already: standing.contains(&user),
                first: standing.iter().copied().take(4).collect(),
            };
            count = count.after(user, &reacting, reacts);
            if reacts && !reacting.already {
                standing.push(user);
            } else if !reacts {
                standing.retain(|one| *one != user);
            }
            assert_eq!(usize::try_from(count.count), Ok(standing.len()));
            assert_eq!(count.users, standing[..standing.len().min(3)]);
        }
        assert_eq!(count, ReactionCount::nobody("👍"));
    }
}
