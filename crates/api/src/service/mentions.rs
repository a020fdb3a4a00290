//! Names in a content become the members whom it mentions, as of the moment of its commit.

use std::collections::BTreeSet;

use tidings_common::domain::{Action, Content, Group, Mentions, Names, UserId};
use tidings_common::store::{Store, StoreError};

/// Whom `content` mentions, written by `author` in a channel of `group`. Costs a read if there
/// is a name in it, and another if the group is large.
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
    let ids: Vec<UserId> = found.iter().map(|user| user.id).collect();
    let members: BTreeSet<UserId> = if group.size.large {
        let members = store.members_among(group.id, &ids).await?;
        members.into_iter().map(|(user, _)| user).collect()
    } else {
        let is_member = |user: &UserId| group.members.contains_key(user);
        ids.into_iter().filter(is_member).collect()
    };
    for candidates in &names.people {
        let member = candidates.iter().find_map(|name| {
            let user = found.iter().find(|user| user.username == *name)?;
            members.contains(&user.id).then_some(user.id)
        });
        if let Some(user) = member
            && !mentions.users.contains(&user)
        {
            mentions.users.push(user);
        }
    }
    Ok(mentions)
}
