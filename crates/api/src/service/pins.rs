//! Messages that a channel keeps in view.

use async_trait::async_trait;
use tidings_common::domain::{
    Action, Change, ChannelId, IdempotencyKey, Quoting, Refusal, Seq, UserId,
};
use tidings_common::log::NotValid;
use tidings_common::store::Window;

use super::channels::readable;
use super::on_message::{Found, MessageRule, OnMessage, request};
use super::{Context, Done, Listed, ServiceError};

pub(crate) struct Pins {
    context: Context,
}

impl Pins {
    pub(crate) fn new(context: Context) -> Self {
        Self { context }
    }

    /// In a group admins and the owner may, in a direct conversation both.
    pub(crate) async fn add(
        &self,
        who: UserId,
        channel: ChannelId,
        seq: Seq,
        key: Option<&IdempotencyKey>,
    ) -> Result<Done<Quoting>, ServiceError> {
        let route = "PUT /v1/channels/{channel}/messages/{seq}/pin";
        let replayed = self.change((route, true), who, channel, seq, key).await?;
        self.context
            .message_after(who, channel, seq, replayed)
            .await
    }

    /// Who may pin may unpin, whoever pinned.
    pub(crate) async fn remove(
        &self,
        who: UserId,
        channel: ChannelId,
        seq: Seq,
        key: Option<&IdempotencyKey>,
    ) -> Result<Done<()>, ServiceError> {
        let route = "DELETE /v1/channels/{channel}/messages/{seq}/pin";
        let replayed = self.change((route, false), who, channel, seq, key).await?;
        Ok(Done {
            value: (),
            replayed,
        })
    }

    pub(crate) async fn list(
        &self,
        who: UserId,
        channel: ChannelId,
        window: Window,
        limit: usize,
    ) -> Result<Listed<Quoting>, ServiceError> {
        let store = self.context.store.as_ref();
        readable(store, who, channel).await?;
        let page = store.pinned(channel, window, limit).await?;
        let items = self.context.quoting(channel, page.items).await?;
        // Who was removed in the meantime must not see what was written since.
        readable(store, who, channel).await?;
        Ok(Listed {
            items,
            more: page.more,
        })
    }

    /// Returns whether it is the result of an earlier request.
    async fn change(
        &self,
        (route, pinned): (&str, bool),
        who: UserId,
        channel: ChannelId,
        seq: Seq,
        key: Option<&IdempotencyKey>,
    ) -> Result<bool, ServiceError> {
        let most = usize::try_from(self.context.limits.pins_per_channel).unwrap_or(usize::MAX);
        let asked = OnMessage {
            who,
            channel,
            seq,
            key,
            request: request(route, channel, seq, ""),
            rule: Pin {
                pinned,
                keyed: key.is_some(),
                most,
            },
        };
        self.context.bring_about(asked).await
    }
}

struct Pin {
    pinned: bool,
    /// With a key even what changes nothing is committed, as for reactions.
    keyed: bool,
    /// Pinned messages of a channel.
    most: usize,
}

#[async_trait]
impl MessageRule for Pin {
    async fn change(&self, found: Found<'_>) -> Result<Change, NotValid> {
        let (channel, message) = (found.message.channel, found.message.seq);
        found.permit(if self.pinned {
            Action::Pin
        } else {
            Action::Unpin
        })?;
        let already = found.message.state.pinned;
        if already == self.pinned && !self.keyed {
            return Err(Refusal::Unchanged.into());
        }
        if !self.pinned {
            return Ok(Change::MessageUnpinned { message });
        }
        if !already {
            let others = found.store.pinned(channel, Window::Newest, self.most);
            if others.await?.items.len() >= self.most {
                let why = "the channel has as many pinned messages as it can";
                return Err(Refusal::Conflict(why).into());
            }
        }
        Ok(Change::MessagePinned { message })
    }
}
