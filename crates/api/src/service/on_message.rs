//! What changes of a message have in common: who asks is a member, the message is there, and the
//! rule sees both as they are at the head that the change follows.

use std::sync::Arc;

use async_trait::async_trait;
use tidings_common::clock::Clock;
use tidings_common::domain::{
    Action, Change, ChannelId, Group, Head, IdempotencyKey, Message, Quoting, Refusal, RequestHash,
    Seq, Timestamp, UserId,
};
use tidings_common::log::{Committed, Draft, Log, NotValid, Proposal};
use tidings_common::store::{Store, StoreError};

use super::channels::readable;
use super::{Context, Done, Mutation, ServiceError};

/// The author's rights, checked at the fence that the channel's head demands.
pub(super) struct Rights {
    pub(super) store: Arc<dyn Store>,
    pub(super) log: Log,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) who: UserId,
    pub(super) channel: ChannelId,
}

impl Rights {
    pub(super) fn new(context: &Context, who: UserId, channel: ChannelId) -> Self {
        Self {
            store: context.store.clone(),
            log: context.log.clone(),
            clock: context.clock.clone(),
            who,
            channel,
        }
    }

    /// The group with the author, perhaps from the cache. What that grants holds, for the fence
    /// says how old it may be.
    pub(super) async fn cached(&self, head: Head) -> Result<Arc<Group>, NotValid> {
        let groups = self.log.groups();
        let cached = groups.of_channel(self.channel, head.gv).await?;
        let cached = cached.ok_or(Refusal::NotFound)?;
        Ok(groups.with(cached, &[self.who]).await?)
    }

    /// The group as it is now: what a cached one refuses may have been granted since.
    pub(super) async fn fresh(&self, cached: &Group) -> Result<Arc<Group>, NotValid> {
        let groups = self.log.groups();
        let fresh = groups.fresh(cached.id).await?;
        let fresh = fresh.ok_or(Refusal::NotFound)?;
        Ok(groups.with(fresh, &[self.who]).await?)
    }
}

/// A message that is not deleted, and who wants to change it.
pub(super) struct Found<'a> {
    pub(super) store: &'a dyn Store,
    pub(super) group: &'a Group,
    pub(super) who: UserId,
    pub(super) now: Timestamp,
    pub(super) message: &'a Message,
}

impl Found<'_> {
    /// May who asks do this, now?
    pub(super) fn permit(&self, action: Action) -> Result<(), Refusal> {
        self.group.permit_at(self.who, action, self.now).map(|_| ())
    }
}

/// What happens to a message that is there, and who may do it.
#[async_trait]
pub(super) trait MessageRule: Send + Sync {
    async fn change(&self, found: Found<'_>) -> Result<Change, NotValid>;
}

/// A request to change a message.
pub(super) struct OnMessage<'a, R> {
    pub(super) who: UserId,
    pub(super) channel: ChannelId,
    pub(super) seq: Seq,
    pub(super) key: Option<&'a IdempotencyKey>,
    pub(super) request: RequestHash,
    pub(super) rule: R,
}

impl Context {
    /// Commits what the rule decides from the message as it is.
    pub(super) async fn change_message<R: MessageRule + 'static>(
        &self,
        asked: OnMessage<'_, R>,
    ) -> Result<Committed, ServiceError> {
        let mutation = Mutation {
            actor: asked.who,
            stream: asked.channel.into(),
            key: asked.key,
            request: Some(asked.request),
            proposal: ChangeMessage {
                rights: Rights::new(self, asked.who, asked.channel),
                seq: asked.seq,
                rule: asked.rule,
            },
        };
        self.append(mutation).await
    }

    /// As [`Context::change_message`], where it may be so already. Returns whether it is the
    /// result of an earlier request.
    pub(super) async fn bring_about<R: MessageRule + 'static>(
        &self,
        asked: OnMessage<'_, R>,
    ) -> Result<bool, ServiceError> {
        match self.change_message(asked).await {
            Ok(committed) => Ok(committed.replayed),
            Err(ServiceError::Unchanged) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// A message as the caller may see it after a change of theirs: who repeats the request may
    /// have left since, and history is for members.
    pub(super) async fn message_after(
        &self,
        who: UserId,
        channel: ChannelId,
        seq: Seq,
        replayed: bool,
    ) -> Result<Done<Quoting>, ServiceError> {
        let value = self.message(channel, seq).await?;
        if replayed {
            readable(self.store.as_ref(), who, channel).await?;
        }
        Ok(Done { value, replayed })
    }

    pub(super) async fn message(
        &self,
        channel: ChannelId,
        seq: Seq,
    ) -> Result<Quoting, ServiceError> {
        let found = one(self.store.as_ref(), channel, seq).await?;
        self.quoting_one(found.ok_or(ServiceError::NotFound)?).await
    }
}

pub(super) async fn one(
    store: &dyn Store,
    channel: ChannelId,
    seq: Seq,
) -> Result<Option<Message>, StoreError> {
    let found = store.messages_at(channel, &[seq]).await?;
    Ok(found.into_iter().next())
}

/// The digest of a request about a message.
pub(super) fn request(route: &str, channel: ChannelId, seq: Seq, rest: &str) -> RequestHash {
    let position = seq.to_be_bytes();
    RequestHash::of(
        route,
        &[channel.as_bytes().as_slice(), &position, rest.as_bytes()],
    )
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
        let (change, group) = match self.decide(&cached, message.as_ref()).await {
            Err(NotValid::Refused(_)) => {
                let fresh = self.rights.fresh(&cached).await?;
                (self.decide(&fresh, message.as_ref()).await?, fresh)
            }
            decided => (decided?, cached),
        };
        Ok(Draft {
            change,
            gv: group.applied,
        })
    }
}

impl<R: MessageRule> ChangeMessage<R> {
    async fn decide(&self, group: &Group, message: Option<&Message>) -> Result<Change, NotValid> {
        let Rights { who, channel, .. } = self.rights;
        group.channel_for(who, channel)?;
        // What is deleted cannot be changed or deleted again.
        let message = message.filter(|message| !message.state.deleted);
        let found = Found {
            store: self.rights.store.as_ref(),
            group,
            who,
            now: self.rights.clock.now(),
            message: message.ok_or(Refusal::NotFound)?,
        };
        self.rule.change(found).await
    }
}
