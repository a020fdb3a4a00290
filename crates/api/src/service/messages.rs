//! Messages of a channel.

use std::sync::Arc;

use async_trait::async_trait;
use tidings_common::clock::Clock;
use tidings_common::domain::{
    Action, Change, ChannelId, Content, Entry, Group, Head, IdempotencyKey, Message, MessageState,
    Refusal, RequestHash, Seq, UserId,
};
use tidings_common::log::{Draft, Log, NotValid, Proposal};
use tidings_common::store::{Store, Window};

use super::channels::readable;
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
        Ok(committed.into())
    }

    async fn read(&self, channel: ChannelId, seq: Seq) -> Result<Message, ServiceError> {
        let found = one(self.context.store.as_ref(), channel, seq).await?;
        found.ok_or(ServiceError::NotFound)
    }

    fn rights(&self, who: UserId, channel: ChannelId) -> Rights {
        Rights {
            store: self.context.store.clone(),
            log: self.context.log.clone(),
            clock: self.context.clock.clone(),
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
    clock: Arc<dyn Clock>,
    who: UserId,
    channel: ChannelId,
}

impl Rights {
    /// The group, perhaps from the cache. What that grants holds, for the fence says how old it
    /// may be.
    async fn cached(&self, head: Head) -> Result<Arc<Group>, NotValid> {
        let groups = self.log.groups();
        let cached = groups.of_channel(self.channel, head.gv).await?;
        Ok(cached.ok_or(Refusal::NotFound)?)
    }

    /// The group as it is now: what a cached one refuses may have been granted since.
    async fn fresh(&self, cached: &Group) -> Result<Arc<Group>, NotValid> {
        let fresh = self.log.groups().fresh(cached.id).await?;
        Ok(fresh.ok_or(Refusal::NotFound)?)
    }

    /// May the author write behind `head`, now?
    async fn check_sending(&self, group: &Group, head: Head) -> Result<(), NotValid> {
        let now = self.clock.now();
        let channel = group.channel_for(self.who, self.channel)?;
        group.permit_at(self.who, Action::SendMessage, now)?;
        slow_mode::check(self.store.as_ref(), group, channel, self.who, head, now).await
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
        let mut group = self.rights.cached(head).await?;
        match self.rights.check_sending(&group, head).await {
            Err(NotValid::Refused(_)) => {
                group = self.rights.fresh(&group).await?;
                self.rights.check_sending(&group, head).await?;
            }
            checked => checked?,
        }
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
        let message = one(self.rights.store.as_ref(), self.rights.channel, self.seq).await?;
        let cached = self.rights.cached(head).await?;
        let (change, group) = match self.decide(&cached, message.as_ref()) {
            Ok(change) => (change, cached),
            Err(_) => {
                let fresh = self.rights.fresh(&cached).await?;
                (self.decide(&fresh, message.as_ref())?, fresh)
            }
        };
        Ok(Draft {
            change,
            gv: group.applied,
        })
    }
}

impl<R: MessageRule> ChangeMessage<R> {
    fn decide(&self, group: &Group, message: Option<&Message>) -> Result<Change, Refusal> {
        let Rights { who, channel, .. } = self.rights;
        group.channel_for(who, channel)?;
        // What is deleted cannot be changed or deleted again.
        let message = message.filter(|message| !message.state.deleted);
        self.rule
            .change(group, who, message.ok_or(Refusal::NotFound)?)
    }
}

struct Edit {
    clock: Arc<dyn Clock>,
    content: Content,
}

impl MessageRule for Edit {
    fn change(&self, group: &Group, who: UserId, message: &Message) -> Result<Change, Refusal> {
        let now = self.clock.now();
        let action = if message.author == who {
            Action::EditOwnMessage
        } else {
            Action::EditOthersMessage
        };
        group.permit_at(who, action, now)?;
        Ok(Change::MessageEdited {
            message: message.seq,
            content: Some(self.content.as_str().to_owned()),
            edited_at: now,
        })
    }
}

struct Delete;

impl MessageRule for Delete {
    fn change(&self, group: &Group, who: UserId, message: &Message) -> Result<Change, Refusal> {
        let action = if message.author == who {
            Action::DeleteOwnMessage
        } else {
            Action::DeleteOthersMessage
        };
        group.permit(who, action)?;
        Ok(Change::MessageDeleted {
            message: message.seq,
        })
    }
}
