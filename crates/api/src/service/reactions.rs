//! Who reacts to a message, and with what.

use async_trait::async_trait;
use tidings_common::domain::{
    Action, Change, ChannelId, Emoji, IdempotencyKey, Quoting, Refusal, Seq, UserId,
};
use tidings_common::log::NotValid;

use super::channels::readable;
use super::on_message::{Found, MessageRule, OnMessage, request};
use super::{Context, Done, IdPage, Listed, ServiceError};

pub(crate) struct Reactions {
    context: Context,
}

/// A user's wish to react to a message with an emoji, or no longer.
pub(crate) struct Reaction<'a> {
    pub(crate) who: UserId,
    pub(crate) channel: ChannelId,
    pub(crate) seq: Seq,
    pub(crate) emoji: Emoji,
    pub(crate) key: Option<&'a IdempotencyKey>,
}

impl Reactions {
    pub(crate) fn new(context: Context) -> Self {
        Self { context }
    }

    /// Every member may react who is not muted. Who reacts so already goes on doing so.
    pub(crate) async fn add(&self, asked: Reaction<'_>) -> Result<Done<Quoting>, ServiceError> {
        let (who, channel, seq) = (asked.who, asked.channel, asked.seq);
        let route = "PUT /v1/channels/{channel}/messages/{seq}/reactions/{emoji}";
        let replayed = self.change(route, asked, true).await?;
        self.context
            .message_after(who, channel, seq, replayed)
            .await
    }

    /// Everybody takes back their own, also the muted.
    pub(crate) async fn remove(&self, asked: Reaction<'_>) -> Result<Done<()>, ServiceError> {
        let route = "DELETE /v1/channels/{channel}/messages/{seq}/reactions/{emoji}";
        let replayed = self.change(route, asked, false).await?;
        Ok(Done {
            value: (),
            replayed,
        })
    }

    /// Who reacts with an emoji; nobody to a message that is deleted.
    pub(crate) async fn list(
        &self,
        who: UserId,
        (channel, seq, emoji): (ChannelId, Seq, Emoji),
        page: IdPage<UserId>,
    ) -> Result<Listed<UserId>, ServiceError> {
        let store = self.context.store.as_ref();
        readable(store, who, channel).await?;
        self.context.message(channel, seq).await?;
        let limit = page.limit + 1;
        let reactors = store.reactors(channel, seq, emoji.as_str(), page.window, limit);
        let found = reactors.await?;
        // Who was removed in the meantime must not see what happened since.
        readable(store, who, channel).await?;
        Ok(Listed::cut(found, &page))
    }

    /// Returns whether it is the result of an earlier request.
    async fn change(
        &self,
        route: &str,
        asked: Reaction<'_>,
        reacts: bool,
    ) -> Result<bool, ServiceError> {
        let Reaction {
            who,
            channel,
            seq,
            emoji,
            key,
        } = asked;
        let asked = OnMessage {
            who,
            channel,
            seq,
            key,
            request: request(route, channel, seq, emoji.as_str()),
            rule: React {
                emoji,
                reacts,
                keyed: key.is_some(),
                most: self.context.limits.emoji_per_message,
            },
        };
        self.context.bring_about(asked).await
    }
}

struct React {
    emoji: Emoji,
    reacts: bool,
    /// What a key stands for must be in the log, or its repetition could have an effect later;
    /// so with a key even what changes nothing is committed.
    keyed: bool,
    /// Different emoji that a message can carry.
    most: u32,
}

#[async_trait]
impl MessageRule for React {
    async fn change(&self, found: Found<'_>) -> Result<Change, NotValid> {
        found.permit(if self.reacts {
            Action::React
        } else {
            Action::Unreact
        })?;
        let (state, emoji) = (&found.message.state, self.emoji.as_str());
        let (channel, message) = (found.message.channel, found.message.seq);
        let reacting = found.store.reacting(channel, message, emoji, found.who);
        let reacting = reacting.await?;
        if reacting.already == self.reacts && !self.keyed {
            return Err(Refusal::Unchanged.into());
        }
        let before = state.reaction(emoji);
        let is_new = self.reacts && before.count == 0;
        if is_new && state.reactions.len() >= usize::try_from(self.most).unwrap_or(usize::MAX) {
            let why = "the message has as many different reactions as it can";
            return Err(Refusal::Conflict(why).into());
        }
        let now = before.after(found.who, &reacting, self.reacts);
        Ok(if self.reacts {
            Change::ReactionAdded { message, now }
        } else {
            Change::ReactionRemoved { message, now }
        })
    }
}
