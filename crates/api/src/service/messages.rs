//! Messages of a channel.

use std::sync::Arc;

use async_trait::async_trait;
use tidings_common::clock::Clock;
use tidings_common::domain::{
    Change, ChannelId, Content, Entry, Group, Head, IdempotencyKey, Message, MessageState, Refusal,
    RequestHash, Role, Seq, UserId,
};
use tidings_common::log::{Draft, Log, NotValid, Proposal};
use tidings_common::store::{Store, Window};

use super::channels::readable;
use super::{Context, Done, Listed, Mutation, ServiceError};

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
    ) -> Result<Done<Message>, ServiceError> {
        let reply_to = new.reply_to.unwrap_or_default().to_be_bytes();
        let parts = [
            channel.as_bytes().as_slice(),
            new.content.as_str().as_bytes(),
            &reply_to,
        ];
        let request = RequestHash::of("POST /v1/channels/{channel}/messages", &parts);
        let proposal = SendMessage {
            rights: self.rights(who, channel),
            new,
        };
        let mutation = mutation(who, channel, key, request, proposal);
        let committed = self.context.append(mutation).await?;
        Ok(Done {
            value: message_of(channel, who, committed.entry)?,
            replayed: committed.replayed,
        })
    }

    pub(crate) async fn list(
        &self,
        who: UserId,
        channel: ChannelId,
        window: Window,
        limit: usize,
    ) -> Result<Listed<Message>, ServiceError> {
        let store = &self.context.store;
        readable(store.as_ref(), who, channel).await?;
        let page = store.messages(channel, window, limit).await?;
        // Who was removed in the meantime must not see what was written since.
        readable(store.as_ref(), who, channel).await?;
        Ok(Listed {
            items: page.items,
            more: page.more,
        })
    }

    pub(crate) async fn get(
        &self,
        who: UserId,
        channel: ChannelId,
        seq: Seq,
    ) -> Result<Message, ServiceError> {
        let store = self.context.store.as_ref();
        readable(store, who, channel).await?;
        let message = self.read(channel, seq).await?;
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
    ) -> Result<Done<Message>, ServiceError> {
        let route = "PATCH /v1/channels/{channel}/messages/{seq}";
        let position = seq.to_be_bytes();
        let parts = [
            channel.as_bytes().as_slice(),
            &position,
            content.as_str().as_bytes(),
        ];
        let request = RequestHash::of(route, &parts);
        let clock = self.context.clock.clone();
        let rule = Edit { clock, content };
        let proposal = self.change_message(who, channel, seq, rule);
        let mutation = mutation(who, channel, key, request, proposal);
        let committed = self.context.append(mutation).await?;
        Ok(Done {
            value: self.read(channel, seq).await?,
            replayed: committed.replayed,
        })
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
        let position = seq.to_be_bytes();
        let request = RequestHash::of(route, &[channel.as_bytes().as_slice(), &position]);
        let proposal = self.change_message(who, channel, seq, Delete);
        let mutation = mutation(who, channel, key, request, proposal);
        let committed = self.context.append(mutation).await?;
        Ok(Done {
            value: (),
            replayed: committed.replayed,
        })
    }

    async fn read(&self, channel: ChannelId, seq: Seq) -> Result<Message, ServiceError> {
        let found = one(self.context.store.as_ref(), channel, seq).await?;
        found.ok_or(ServiceError::NotFound)
    }

    fn rights(&self, who: UserId, channel: ChannelId) -> Rights {
        Rights {
            store: self.context.store.clone(),
            log: self.context.log.clone(),
            who,
            channel,
        }
    }

    fn change_message<R>(
        &self,
        who: UserId,
        channel: ChannelId,
        seq: Seq,
        rule: R,
    ) -> ChangeMessage<R> {
        ChangeMessage {
            rights: self.rights(who, channel),
            seq,
            rule,
        }
    }
}

fn mutation<P>(
    actor: UserId,
    channel: ChannelId,
    key: Option<&IdempotencyKey>,
    request: RequestHash,
    proposal: P,
) -> Mutation<'_, P> {
    Mutation {
        actor,
        stream: channel.into(),
        key,
        request: Some(request),
        proposal,
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

async fn one(
    store: &dyn Store,
    channel: ChannelId,
    seq: Seq,
) -> Result<Option<Message>, tidings_common::store::StoreError> {
    let found = store.messages_at(channel, &[seq]).await?;
    Ok(found.into_iter().next())
}

/// The author's rights, checked at the fence that the channel's head demands.
struct Rights {
    store: Arc<dyn Store>,
    log: Log,
    who: UserId,
    channel: ChannelId,
}

impl Rights {
    /// The group, in which the author may write. What a cached group grants holds, for the fence
    /// says how old it may be; what it refuses may have been granted since.
    async fn group(&self, head: Head) -> Result<Arc<Group>, NotValid> {
        let groups = self.log.groups();
        let cached = groups.of_channel(self.channel, head.gv).await?;
        let cached = cached.ok_or(Refusal::NotFound)?;
        if cached.may_send(self.who, self.channel).is_ok() {
            return Ok(cached);
        }
        let fresh = groups.fresh(cached.id).await?.ok_or(Refusal::NotFound)?;
        fresh.may_send(self.who, self.channel)?;
        Ok(fresh)
    }
}

struct SendMessage {
    rights: Rights,
    new: NewMessage,
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
        let group = self.rights.group(head).await?;
        if let Some(seq) = self.new.reply_to {
            let original = one(self.rights.store.as_ref(), self.rights.channel, seq).await?;
            if original.is_none_or(|message| message.state.deleted) {
                let detail = "there is no such message in this channel";
                return Err(Refusal::invalid("/reply_to", detail).into());
            }
        }
        let state = MessageState {
            content: self.new.content.as_str().to_owned(),
            reply_to: self.new.reply_to,
            ..MessageState::default()
        };
        Ok(Draft {
            change: Change::MessageCreated(Box::new(state)),
            gv: group.applied,
        })
    }
}

/// What happens to a message that is there, and who may do it.
trait MessageRule: Send + Sync {
    fn change(&self, group: &Group, who: UserId, message: &Message) -> Result<Change, Refusal>;
}

struct ChangeMessage<R> {
    rights: Rights,
    seq: Seq,
    rule: R,
}

#[async_trait]
impl<R: MessageRule> Proposal for ChangeMessage<R> {
    fn reads_state(&self) -> bool {
        true
    }

    async fn validate(&self, head: Head) -> Result<Draft, NotValid> {
        let group = self.rights.group(head).await?;
        let message = one(self.rights.store.as_ref(), self.rights.channel, self.seq).await?;
        // What is deleted cannot be changed or deleted again.
        let message = message
            .filter(|message| !message.state.deleted)
            .ok_or(Refusal::NotFound)?;
        Ok(Draft {
            change: self.rule.change(&group, self.rights.who, &message)?,
            gv: group.applied,
        })
    }
}

struct Edit {
    clock: Arc<dyn Clock>,
    content: Content,
}

impl MessageRule for Edit {
    fn change(&self, _: &Group, who: UserId, message: &Message) -> Result<Change, Refusal> {
        if message.author != who {
            return Err(Refusal::Forbidden("only its author may edit a message"));
        }
        Ok(Change::MessageEdited {
            message: message.seq,
            content: Some(self.content.as_str().to_owned()),
            edited_at: self.clock.now(),
        })
    }
}

struct Delete;

impl MessageRule for Delete {
    fn change(&self, group: &Group, who: UserId, message: &Message) -> Result<Change, Refusal> {
        if message.author != who && group.member(who)?.role < Role::Admin {
            return Err(Refusal::Forbidden(
                "only its author, admins and the owner may delete a message",
            ));
        }
        Ok(Change::MessageDeleted {
            message: message.seq,
        })
    }
}
