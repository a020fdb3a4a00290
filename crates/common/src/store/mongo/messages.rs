//! Pages of messages. A message is its own `message.created` entry, found by a partial index.

use mongodb::bson::{Bson, Document, doc};

use super::field::{signed, stream_name};
use super::reads::{Entries, collect, find};
use super::{Failure, entry, indexes};
use crate::domain::{ChannelId, Message, Seq};
use crate::store::{Page, Window};

pub(super) async fn page(
    entries: &Entries,
    channel: ChannelId,
    window: Window,
    limit: usize,
) -> Result<Page<Message>, Failure> {
    match window {
        Window::Newest => before(entries, channel, Seq::MAX, limit).await,
        Window::Before(seq) => before(entries, channel, seq, limit).await,
        Window::After(seq) => from(entries, channel, seq.saturating_add(1), limit).await,
        Window::Around(seq) => {
            // No message goes and none comes before another, so that the halves fit together
            // though one is read after the other.
            let mut page = before(entries, channel, seq, limit / 2).await?;
            let rest = from(entries, channel, seq, limit - limit / 2).await?;
            page.items.extend(rest.items);
            page.more |= rest.more;
            Ok(page)
        }
    }
}

async fn before(
    entries: &Entries,
    channel: ChannelId,
    seq: Seq,
    limit: usize,
) -> Result<Page<Message>, Failure> {
    let bound = doc! { "$lt": signed(seq) };
    let mut page = select(entries, channel, bound, -1, limit).await?;
    page.items.reverse();
    Ok(page)
}

async fn from(
    entries: &Entries,
    channel: ChannelId,
    seq: Seq,
    limit: usize,
) -> Result<Page<Message>, Failure> {
    let bound = doc! { "$gte": signed(seq) };
    select(entries, channel, bound, 1, limit).await
}

/// Reads one more than asked for, to know whether there is more.
async fn select(
    entries: &Entries,
    channel: ChannelId,
    bound: Document,
    direction: i32,
    limit: usize,
) -> Result<Page<Message>, Failure> {
    let finding = find(entries, filter(channel, bound), indexes::MESSAGES)
        .sort(doc! { "n": direction })
        .projection(entry::message_projection());
    let decode = |stored: &_| entry::decode_message(channel, stored);
    let mut items = collect(finding, limit.saturating_add(1), decode).await?;
    let more = items.len() > limit;
    items.truncate(limit);
    Ok(Page { items, more })
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
        filter(channel, doc! { "$in": seqs }),
        indexes::MESSAGES,
    )
    .sort(doc! { "n": 1 })
    .projection(entry::message_projection());
    collect(finding, usize::MAX, |stored| {
        entry::decode_message(channel, stored)
    })
    .await
}

fn filter(channel: ChannelId, bound: Document) -> Document {
    let mut filter = indexes::messages();
    filter.insert("s", stream_name(channel.into()));
    filter.insert("n", bound);
    filter
}
