//! What replies quote is read when they are: no copy of it stands anywhere.

use std::collections::BTreeMap;

use tidings_common::domain::{ChannelId, Message, Quote, Quoting, Seq};
use tidings_common::store::StoreError;

use super::{Context, ServiceError};

impl Context {
    /// Messages of a channel with what they quote. Costs one read if any of them answers a
    /// message that is not among them.
    pub(super) async fn quoting(
        &self,
        channel: ChannelId,
        messages: Vec<Message>,
    ) -> Result<Vec<Quoting>, StoreError> {
        let quotes = messages.iter().map(|message| (message.seq, message));
        let mut quotes: BTreeMap<Seq, Quote> = quotes
            .map(|(seq, message)| (seq, Quote::of(message)))
            .collect();
        let answered = messages.iter().filter_map(|message| message.state.reply_to);
        let mut missing: Vec<Seq> = answered.filter(|seq| !quotes.contains_key(seq)).collect();
        missing.sort_unstable();
        missing.dedup();
        if !missing.is_empty() {
            let found = self.store.messages_at(channel, &missing).await?;
            quotes.extend(
                found
                    .iter()
                    .map(|message| (message.seq, Quote::of(message))),
            );
        }
        let quoting = messages.into_iter().map(|message| {
            let quote = message.state.reply_to;
            let quote = quote.and_then(|seq| quotes.get(&seq)).cloned();
            Quoting { message, quote }
        });
        Ok(quoting.collect())
    }

    /// One message with what it quotes.
    pub(super) async fn quoting_one(&self, message: Message) -> Result<Quoting, ServiceError> {
        let quoting = self.quoting(message.channel, vec![message]).await?;
        quoting.into_iter().next().ok_or(ServiceError::NotFound)
    }
}
