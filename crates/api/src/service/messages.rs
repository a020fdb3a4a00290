//! Messages of a channel.

use async_trait::async_trait;
use tidings_common::domain::{
    Action, Change, ChannelId, Content, Entry, Group, Head, IdempotencyKey, Message, MessageState,
    Quoting, Refusal, RequestHash, Seq, UserId,
};
use tidings_common::log::{Draft, NotValid, Proposal};
use tidings_common::store::Window;

use super::channels::readable;
use super::mentions::mentioned;
use super::on_message::{Found, MessageRule, OnMessage, Rights, one, request};
use super::{Context, Done, Listed, Mutation, ServiceError, slow_mode};

pub(crate) struct Messages {
    context: Context,
}

/// A message to be sent.
pub(crate) struct NewMessage {
    pub(crate) content: Content,
    pub(crate) reply_to: Option<Seq>,
}

impl Messages {
    pub(crate) fn new(context: Context) -> Self {
        Self { context }
    }

    pub(crate) async fn send(
        &self,
        who: UserId,
        channel: ChannelId,
        new: NewMessage,
        key: Option<&IdempotencyKey>,
    ) -> Result<Done<Quoting>, ServiceError> {
        let reply_to = new.reply_to.unwrap_or_default().to_be_bytes();
        let parts = [
            channel.as_bytes().as_slice(),
            new.content.as_str().as_bytes(),
            &reply_to,
        ];
        let request = RequestHash::of("POST /v1/channels/{channel}/messages", &parts);
        let proposal = SendMessage {
            rights: Rights::new(&self.context, who, channel),
            new,
        };
        let mutation = Mutation {
            actor: who,
            stream: channel.into(),
            key,
            request: Some(request),
            proposal,
        };
        let committed = self.context.append(mutation).await?;
        let replayed = committed.replayed;
        let message = message_of(channel, who, committed.entry)?;
        let value = self.sent(who, message, replayed).await?;
        Ok(Done { value, replayed })
    }

    /// A message to its author. Who repeats the request and has left since is told no more than
    /// what they wrote.
    async fn sent(
        &self,
        who: UserId,
        message: Message,
        replayed: bool,
    ) -> Result<Quoting, ServiceError> {
        let (store, channel) = (self.context.store.as_ref(), message.channel);
        let quoting = self.context.quoting_one(message).await?;
        if !replayed {
            return Ok(quoting);
        }
        match readable(store, who, channel).await {
            Err(ServiceError::NotFound) => Ok(as_sent(quoting.message)),
            readable => readable.map(|_| quoting),
        }
    }

    pub(crate) async fn list(
        &self,
        who: UserId,
        channel: ChannelId,
        window: Window,
        limit: usize,
    ) -> Result<Listed<Quoting>, ServiceError> {
        let store = &self.context.store;
        readable(store.as_ref(), who, channel).await?;
        let page = store.messages(channel, window, limit).await?;
        let items = self.context.quoting(channel, page.items).await?;
        // Who was removed in the meantime must not see what was written since.
        readable(store.as_ref(), who, channel).await?;
        Ok(Listed {
            items,
            more: page.more,
        })
    }

    pub(crate) async fn get(
        &self,
        who: UserId,
        channel: ChannelId,
        seq: Seq,
    ) -> Result<Quoting, ServiceError> {
        let store = self.context.store.as_ref();
        readable(store, who, channel).await?;
        let message = self.context.message(channel, seq).await?;
        readable(store, who, channel).await?;
        Ok(message)
    }

    /// Changes a message's content; its author may.
    pub(crate) async fn edit(
        &self,
        who: UserId,
        channel: ChannelId,
        seq: Seq,
        content: Content,
        key: Option<&IdempotencyKey>,
    ) -> Result<Done<Quoting>, ServiceError> {
        let route = "PATCH /v1/channels/{channel}/messages/{seq}";
        let asked = OnMessage {
            who,
            channel,
            seq,
            key,
            request: request(route, channel, seq, content.as_str()),
            rule: Edit { content },
        };
        let committed = self.context.change_message(asked).await?;
        self.context
            .message_after(who, channel, seq, committed.replayed)
            .await
    }

    /// Deletes a message; its author may, and in a group admins and the owner.
    pub(crate) async fn delete(
        &self,
        who: UserId,
        channel: ChannelId,
        seq: Seq,
        key: Option<&IdempotencyKey>,
    ) -> Result<Done<()>, ServiceError> {
        let route = "DELETE /v1/channels/{channel}/messages/{seq}";
        let asked = OnMessage {
            who,
            channel,
            seq,
            key,
            request: request(route, channel, seq, ""),
            rule: Delete,
        };
        let committed = self.context.change_message(asked).await?;
        Ok(committed.into())
    }
}

#[derive(Debug, thiserror::Error)]
#[error("entry {0} answers for a message and is none")]
struct NotAMessage(Seq);

fn message_of(channel: ChannelId, author: UserId, entry: Entry) -> Result<Message, ServiceError> {
    let Change::MessageCreated(state) = entry.change else {
        return Err(ServiceError::Internal(Box::new(NotAMessage(entry.seq))));
    };
    Ok(Message {
        id: entry.id,
        channel,
        seq: entry.seq,
        author,
        created_at: entry.at,
        state: *state,
    })
}

fn as_sent(message: Message) -> Quoting {
    let state = MessageState {
        content: message.state.content,
        reply_to: message.state.reply_to,
        mentions: message.state.mentions,
        deleted: message.state.deleted,
        ..MessageState::default()
    };
    Quoting {
        message: Message { state, ..message },
        quote: None,
    }
}

struct SendMessage {
    rights: Rights,
    new: NewMessage,
}

impl SendMessage {
    /// May the author write behind `head`, now?
    async fn check_sending(&self, group: &Group, head: Head) -> Result<(), NotValid> {
        let Rights {
            store,
            who,
            channel,
            ..
        } = &self.rights;
        let now = self.rights.clock.now();
        let channel = group.channel_for(*who, *channel)?;
        group.permit_at(*who, Action::SendMessage, now)?;
        slow_mode::check(store.as_ref(), group, channel, *who, head, now).await
    }
}

#[async_trait]
impl Proposal for SendMessage {
    /// A message depends on nothing in its stream but the fence, so that messages can be
    /// committed together. One that answers a message which is deleted at the same moment is
    /// as good as one that came just before.
    fn reads_state(&self) -> bool {
        false
    }

    async fn validate(&self, head: Head) -> Result<Draft, NotValid> {
        let mut group = self.rights.cached(head).await?;
        match self.check_sending(&group, head).await {
            Err(NotValid::Refused(_)) => {
                group = self.rights.fresh(&group).await?;
                self.check_sending(&group, head).await?;
            }
            checked => checked?,
        }
        let store = self.rights.store.as_ref();
        if let Some(seq) = self.new.reply_to {
            let original = one(store, self.rights.channel, seq).await?;
            if original.is_none_or(|message| message.state.deleted) {
                let detail = "there is no such message in this channel";
                return Err(Refusal::invalid("/reply_to", detail).into());
            }
        }
        let state = MessageState {
            content: self.new.content.as_str().to_owned(),
            reply_to: self.new.reply_to,
            mentions: mentioned(store, &group, self.rights.who, &self.new.content).await?,
            ..MessageState::default()
        };
        Ok(Draft {
            change: Change::MessageCreated(Box::new(state)),
            gv: group.applied,
        })
    }
}

struct Edit {
    content: Content,
}

#[async_trait]
impl MessageRule for Edit {
    async fn change(&self, found: Found<'_>) -> Result<Change, NotValid> {
        let Found {
            store,
            group,
            who,
            now,
            message,
        } = found;
        found.permit(if message.author == who {
            Action::EditOwnMessage
        } else {
            Action::EditOthersMessage
        })?;
        Ok(Change::MessageEdited {
            message: message.seq,
            content: Some(self.content.as_str().to_owned()),
            mentions: mentioned(store, group, who, &self.content).await?,
            edited_at: now,
        })
    }
}

struct Delete;

#[async_trait]
impl MessageRule for Delete {
    async fn change(&self, found: Found<'_>) -> Result<Change, NotValid> {
        let message = found.message;
        found.permit(if message.author == found.who {
            Action::DeleteOwnMessage
        } else {
            Action::DeleteOthersMessage
        })?;
        Ok(Change::MessageDeleted {
            message: message.seq,
        })
    }
}
