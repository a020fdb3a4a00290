//! Pages of messages. A message is its own `message.created` entry, found by a partial index.

use mongodb::bson::{Bson, Document, doc};

use super::field::{signed, stream_name};
use super::reads::{Entries, collect, find};
use super::{Failure, entry, indexes};
use crate::domain::{ChannelId, Message, Seq, Version};
use crate::store::{Page, Window};

/// Which messages of a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Which {
    All,
    Pinned,
}

impl Which {
    fn index(self) -> &'static str {
        match self {
            Self::All => indexes::MESSAGES,
            Self::Pinned => indexes::PINNED,
        }
    }

    fn filter(self, channel: ChannelId, bound: Document) -> Document {
        let mut filter = match self {
            Self::All => indexes::messages(),
            Self::Pinned => indexes::pinned(),
        };
        filter.insert("s", stream_name(channel.into()));
        filter.insert("n", bound);
        filter
    }
}

pub(super) async fn page(
    entries: &Entries,
    which: Which,
    channel: ChannelId,
    window: Window,
    limit: usize,
) -> Result<Page<Message>, Failure> {
    match window {
        Window::Newest => before(entries, which, channel, Seq::MAX, limit).await,
        Window::Before(seq) => before(entries, which, channel, seq, limit).await,
        Window::After(seq) => from(entries, which, channel, seq.saturating_add(1), limit).await,
        Window::Around(seq) => {
            // No message goes and none comes before another, so that the halves fit together
            // though one is read after the other.
            let mut page = before(entries, which, channel, seq, limit / 2).await?;
            let rest = from(entries, which, channel, seq, limit - limit / 2).await?;
            page.items.extend(rest.items);
            page.more |= rest.more;
            Ok(page)
        }
    }
}

async fn before(
    entries: &Entries,
    which: Which,
    channel: ChannelId,
    seq: Seq,
    limit: usize,
) -> Result<Page<Message>, Failure> {
    let bound = doc! { "$lt": signed(seq) };
    let filter = which.filter(channel, bound);
    let mut page = select(entries, which, channel, filter, -1, limit).await?;
    page.items.reverse();
    Ok(page)
}

async fn from(
    entries: &Entries,
    which: Which,
    channel: ChannelId,
    seq: Seq,
    limit: usize,
) -> Result<Page<Message>, Failure> {
    let bound = doc! { "$gte": signed(seq) };
    let filter = which.filter(channel, bound);
    select(entries, which, channel, filter, 1, limit).await
}

/// Reads one more than asked for, to know whether there is more.
async fn select(
    entries: &Entries,
    which: Which,
    channel: ChannelId,
    filter: Document,
    direction: i32,
    limit: usize,
) -> Result<Page<Message>, Failure> {
    let finding = find(entries, filter, which.index())
        .sort(doc! { "n": direction })
        .projection(entry::message_projection());
    let decode = |stored: &_| entry::decode_message(channel, stored);
    let mut items = collect(finding, limit.saturating_add(1), decode).await?;
    let more = items.len() > limit;
    items.truncate(limit);
    Ok(Page { items, more })
}

pub(super) async fn versions(
    entries: &Entries,
    channel: ChannelId,
    (after, through): (Seq, Seq),
) -> Result<Vec<Version>, Failure> {
    let bound = doc! { "$gt": signed(after), "$lte": signed(through) };
    versions_of(entries, channel, bound).await
}

/// `seqs` in any order.
pub(super) async fn versions_at(
    entries: &Entries,
    channel: ChannelId,
    seqs: &[Seq],
) -> Result<Vec<Version>, Failure> {
    let seqs: Vec<Bson> = seqs.iter().map(|seq| signed(*seq).into()).collect();
    versions_of(entries, channel, doc! { "$in": seqs }).await
}

async fn versions_of(
    entries: &Entries,
    channel: ChannelId,
    bound: Document,
) -> Result<Vec<Version>, Failure> {
    let filter = Which::All.filter(channel, bound);
    let finding = find(entries, filter, indexes::MESSAGES)
        .sort(doc! { "n": 1 })
        .projection(doc! { "_id": 0, "n": 1, "data.applied": 1, "data.reply_to": 1 });
    collect(finding, usize::MAX, entry::decode_version).await
}

/// `seqs` in any order.
pub(super) async fn at(
    entries: &Entries,
    channel: ChannelId,
    seqs: &[Seq],
) -> Result<Vec<Message>, Failure> {
    let seqs: Vec<Bson> = seqs.iter().map(|seq| signed(*seq).into()).collect();
    let finding = find(
        entries,
        Which::All.filter(channel, doc! { "$in": seqs }),
        indexes::MESSAGES,
    )
    .sort(doc! { "n": 1 })
    .projection(entry::message_projection());
    collect(finding, usize::MAX, |stored| {
        entry::decode_message(channel, stored)
    })
    .await
}
