//! Names in a content become the members whom it mentions, as of the moment of its commit.

use tidings_common::domain::{Action, Content, Group, Mentions, Names, UserId};
use tidings_common::store::{Store, StoreError};

/// Whom `content` mentions, written by `author` in a channel of `group`. Costs one read if there
/// is a name in it.
pub(super) async fn mentioned(
    store: &dyn Store,
    group: &Group,
    author: UserId,
    content: &Content,
) -> Result<Mentions, StoreError> {
    let names = Names::in_text(content.as_str());
    let mut mentions = Mentions {
        users: Vec::new(),
        everyone: names.everyone && group.permit(author, Action::MentionEveryone).is_ok(),
    };
    if names.people.is_empty() {
        return Ok(mentions);
    }
    let found = store.users_named(&names.people.concat()).await?;
    for candidates in &names.people {
        let member = candidates.iter().find_map(|name| {
            let user = found.iter().find(|user| user.username == *name)?;
            group.members.contains_key(&user.id).then_some(user.id)
        });
        if let Some(user) = member
            && !mentions.users.contains(&user)
        {
            mentions.users.push(user);
        }
    }
    Ok(mentions)
}
