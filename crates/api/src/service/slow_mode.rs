//! Slow mode: a member waits between two messages of a channel.
//!
//! Whether somebody has to wait is read from the author's last message in the channel. So it holds
//! across processes without a lock or a counter, and channels without slow mode pay nothing. The
//! times are those of the processes that took the messages, so it is as exact as their clocks
//! agree.

use tidings_common::domain::{
    Action, Channel, ChannelId, Group, Head, Refusal, StreamId, Timestamp, UserId,
};
use tidings_common::log::NotValid;
use tidings_common::store::Store;

use super::on_message::one;

/// May `who` write behind `head`, as far as the channel's slow mode goes?
pub(super) async fn check(
    store: &dyn Store,
    group: &Group,
    channel: &Channel,
    who: UserId,
    head: Head,
    now: Timestamp,
) -> Result<(), NotValid> {
    let wait = i64::from(channel.slow_mode_secs) * 1000;
    if wait == 0 || group.permit(who, Action::SendAtOnce).is_ok() {
        return Ok(());
    }
    let since = now.plus_millis(-wait);
    let last = last_message(store, channel.id, who).await?;
    if let Some(last) = last.filter(|last| *last > since) {
        let millis = last.plus_millis(wait).millis_since(now).max(1);
        return Err(Refusal::TooSoon { millis }.into());
    }
    // What was read is what is committed. Before `head` something may stand that is not yet,
    // perhaps of the same author: then this is refused, for now, and what is refused behind
    // such is validated again once that is in.
    let committed = store.head(StreamId::Channel(channel.id)).await?;
    if committed.seq < head.seq {
        return Err(Refusal::TooSoon { millis: 1 }.into());
    }
    Ok(())
}

/// When the author last wrote; also what is deleted by now was written.
async fn last_message(
    store: &dyn Store,
    channel: ChannelId,
    who: UserId,
) -> Result<Option<Timestamp>, NotValid> {
    let last = store.last_sent_by(who, &[channel]).await?;
    let Some((_, place)) = last.first() else {
        return Ok(None);
    };
    let message = one(store, channel, place.seq).await?;
    Ok(message.map(|message| message.created_at))
}
