//! A secret that is told in every way there is and then deleted. What a store still holds of it
//! is looked for by each implementation's own tests, past the store.

use super::fixture::{channel, channel_id, commit, edit, fill, text};
use crate::domain::{Change, Mentions, MessageState, ReactionCount, UserId};
use crate::store::{Store, Window};

/// What every content below holds.
pub(in crate::store) const SECRET: &str = "the moon is made of cheese";
/// What those hold that are not deleted.
pub(in crate::store) const KEPT: &str = "grass is green";

pub(in crate::store) async fn tell_and_delete(store: &dyn Store) {
    let stream = channel();
    let user = UserId::generate();
    let long = format!("{} {SECRET}", "so ".repeat(1200));
    let message = Change::MessageCreated(Box::new(MessageState {
        content: format!("1 {SECRET}"),
        mentions: Mentions {
            users: vec![user],
            everyone: true,
        },
        ..MessageState::default()
    }));
    let reply = Change::MessageCreated(Box::new(MessageState {
        content: KEPT.to_owned(),
        reply_to: Some(1),
        ..MessageState::default()
    }));
    fill(store, stream, [message, text(&long), reply]).await;
    for message in [1, 2] {
        let now = ReactionCount::nobody("👍");
        for change in [
            edit(message, &format!("{SECRET}, really")),
            Change::ReactionAdded { message, now },
            Change::MessagePinned { message },
            edit(message, &format!("{long}, really")),
        ] {
            commit(store, stream, user, change).await;
        }
        // One edit is never applied.
        fill(store, stream, [edit(message, &format!("no, {SECRET}"))]).await;
    }
    for message in [1, 2] {
        commit(store, stream, user, Change::MessageDeleted { message }).await;
    }
    let page = store.messages(channel_id(stream), Window::Newest, 9).await;
    assert!(!format!("{page:?}").contains(SECRET));
    // Nor can it be guessed from what requests are told apart by.
    for entry in store.entries(stream, 0, u64::MAX, 99).await.unwrap() {
        let told = match &entry.change {
            Change::MessageCreated(state) => state.deleted,
            change => matches!(change, Change::MessageEdited { .. }),
        };
        assert_eq!(entry.request.is_none(), told, "{entry:?}");
    }
}
