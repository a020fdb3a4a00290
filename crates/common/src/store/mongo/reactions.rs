//! Who reacts to a message.

use futures_util::try_join;
use mongodb::Database;
use mongodb::bson::{Document, RawDocument, RawDocumentBuf, doc};

use super::field::{self, signed, uuid};
use super::find::{self, Direction};
use super::message_changes::REACTIONS;
use super::reads::hint;
use super::{Failure, PATIENCE, indexes};
use crate::domain::{ChannelId, Reacting, ReactionCount, Seq, UserId};
use crate::store::IdWindow;

/// Those who react with one emoji.
fn of_emoji((channel, message, emoji): (ChannelId, Seq, &str)) -> Document {
    doc! {
        "channel": uuid(channel.as_bytes()),
        "message": signed(message),
        "emoji": emoji,
        "present": true,
    }
}

pub(super) async fn reactors(
    database: &Database,
    to: (ChannelId, Seq, &str),
    window: IdWindow<UserId>,
    limit: usize,
) -> Result<Vec<UserId>, Failure> {
    if limit == 0 {
        return Ok(Vec::new());
    }
    let mut filter = of_emoji(to);
    let direction = Direction::bound(&mut filter, "user", &window, UserId::as_bytes);
    let found = database
        .collection::<RawDocumentBuf>(REACTIONS)
        .find(filter)
        .hint(hint(indexes::OF_MESSAGE))
        .sort(direction.sort("user"))
        .projection(doc! { "_id": 0, "user": 1 })
        .limit(field::limit(limit))
        .max_time(PATIENCE)
        .await?;
    Ok(direction.ascending(find::all(found, user).await?))
}

pub(super) async fn reacting(
    database: &Database,
    to: (ChannelId, Seq, &str),
    who: UserId,
) -> Result<Reacting, Failure> {
    let reactions = database.collection::<RawDocumentBuf>(REACTIONS);
    let own = async {
        let mut filter = of_emoji(to);
        filter.insert("user", uuid(who.as_bytes()));
        let own = reactions
            .find_one(filter)
            .hint(hint(indexes::OF_MESSAGE))
            .projection(doc! { "_id": 1 });
        let found = own.max_time(PATIENCE).await?;
        Ok::<_, Failure>(found.is_some())
    };
    let first = async {
        let first = reactions
            .find(of_emoji(to))
            .sort(doc! { "since": 1 })
            .limit(field::limit(ReactionCount::SAMPLE + 1))
            .max_time(PATIENCE)
            .await?;
        find::all(first, user).await
    };
    let (already, first) = try_join!(own, first)?;
    Ok(Reacting { already, first })
}

pub(super) fn user(stored: &RawDocument) -> Result<UserId, Failure> {
    Ok(UserId::from_bytes(field::bytes(stored, "user")?))
}
