//! Slow mode: a member waits between two messages of a channel.
//!
//! Whether somebody has to wait is read from the channel itself: the author's last message is
//! looked for from its end on, back to the beginning of the time to wait and through at most
//! [`LOOKED_AT`] messages. So it holds across processes without a lock or a counter, channels
//! without slow mode pay nothing, and a message in one that has it costs two reads where it is
//! quiet and eleven where it is busy. Who has that many messages between two of theirs is no
//! flood. The times are those of the processes that took the messages, so it is as exact as
//! their clocks agree.

use tidings_common::domain::{Action, Channel, Group, Head, Refusal, StreamId, Timestamp, UserId};
use tidings_common::log::NotValid;
use tidings_common::store::{Store, Window};

/// Messages that one look-up goes back.
const LOOKED_AT: usize = 10 * PAGE;
const PAGE: usize = 100;

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
    let last = last_message(store, channel, who, since).await?;
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

/// When the author last wrote, if that can be after `since`.
async fn last_message(
    store: &dyn Store,
    channel: &Channel,
    who: UserId,
    since: Timestamp,
) -> Result<Option<Timestamp>, NotValid> {
    let mut window = Window::Newest;
    for _ in 0..LOOKED_AT / PAGE {
        let page = store.messages(channel.id, window, PAGE).await?;
        let own = page.items.iter().rev().find(|one| one.author == who);
        if let Some(own) = own {
            return Ok(Some(own.created_at));
        }
        match page.items.first() {
            Some(first) if page.more && first.created_at > since => {
                window = Window::Before(first.seq);
            }
            _ => break,
        }
    }
    Ok(None)
}
