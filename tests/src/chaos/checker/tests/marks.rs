//! Broken histories of what people put on messages.

use std::sync::Arc;

use serde_json::{Value, json};

use super::super::Rule;
use super::story::{CHANNEL, GROUP, Story, delta, ok, put};
use super::{breaks, is_good};
use crate::chaos::history::Change;
use crate::marks::Reaction;
use crate::replica::Delta;

fn react(message: u64, reacts: bool) -> Change {
    Change::React {
        channel: "1".to_owned(),
        message,
        emoji: "👍".to_owned(),
        reacts,
    }
}

fn told(seq: u64, kind: &str, actor: &str, users: &[&str]) -> Arc<Delta> {
    let count = users.len();
    let data = json!({"message": 9, "emoji": "👍", "count": count, "users": users});
    delta(CHANNEL, seq, kind, actor, data)
}

fn shows(story: &mut Story, users: &[&str]) {
    let messages = story.truth.state.channels.get_mut("1");
    let message = messages.and_then(|messages| messages.get_mut(&9));
    message.expect("there is such a message").reactions = match users {
        [] => Vec::new(),
        users => vec![Reaction {
            emoji: "👍".to_owned(),
            count: users.len() as u64,
            users: users.iter().map(|user| (*user).to_owned()).collect(),
        }],
    };
}

/// Ada and Bob react, and Ada takes it back.
fn reacted(story: &mut Story) {
    story.operation("ada", react(9, true), 40, ok(Value::Null));
    story.append(told(11, "reaction.added", "ada", &["ada"]), 41);
    story.operation("bob", react(9, true), 42, ok(Value::Null));
    story.append(told(12, "reaction.added", "bob", &["ada", "bob"]), 43);
    story.operation("ada", react(9, false), 44, ok(Value::Null));
    story.append(told(13, "reaction.removed", "ada", &["bob"]), 45);
    shows(story, &["bob"]);
}

#[test]
fn a_message_that_shows_other_reactions_than_the_log_is_found() {
    is_good(reacted);
    for users in [&[][..], &["ada", "bob"], &["ada"]] {
        breaks(Rule::Stale, |story| {
            reacted(story);
            shows(story, users);
        });
    }
}

#[test]
fn a_delta_that_counts_wrongly_is_found() {
    let again = |users: &'static [&'static str]| {
        move |story: &mut Story| {
            reacted(story);
            story.operation("bob", react(9, true), 46, ok(Value::Null));
            story.append(told(14, "reaction.added", "bob", users), 47);
        }
    };
    is_good(again(&["bob"]));
    for users in [&["bob", "bob"][..], &[], &["ada"]] {
        breaks(Rule::Stale, again(users));
    }
}

#[test]
fn a_reaction_that_is_not_in_the_log_or_nobodys_is_found() {
    breaks(Rule::Lost, |story| {
        story.operation("bob", react(9, true), 40, ok(Value::Null));
    });
    breaks(Rule::Foreign, |story| {
        story.append(told(11, "reaction.added", "ada", &["ada"]), 41);
        shows(story, &["ada"]);
    });
}

fn pin(pinned: bool) -> Change {
    Change::Pin {
        channel: "1".to_owned(),
        message: 9,
        pinned,
    }
}

fn pinned_by(actor: &str, pinned: bool) -> impl Fn(&mut Story) {
    move |story| {
        story.operation(actor, pin(pinned), 40, ok(Value::Null));
        let kind = if pinned {
            "message.pinned"
        } else {
            "message.unpinned"
        };
        story.append(delta(CHANNEL, 11, kind, actor, json!({"message": 9})), 41);
        let messages = story.truth.state.channels.get_mut("1");
        let message = messages.and_then(|messages| messages.get_mut(&9));
        message.expect("there is such a message").pinned = pinned;
    }
}

#[test]
fn a_pin_that_is_not_shown_or_not_in_the_log_is_found() {
    for pinned in [true, false] {
        is_good(pinned_by("ada", pinned));
        breaks(Rule::Stale, |story| {
            pinned_by("ada", pinned)(story);
            let messages = story.truth.state.channels.get_mut("1");
            let message = messages.and_then(|messages| messages.get_mut(&9));
            message.expect("there is such a message").pinned = !pinned;
        });
    }
    breaks(Rule::Lost, |story| {
        story.operation("ada", pin(true), 40, ok(Value::Null));
    });
}

#[test]
fn a_pin_by_somebody_who_is_no_admin_is_found() {
    is_good(pinned_by("owner", true));
    for pinned in [true, false] {
        breaks(Rule::Forbidden, pinned_by("bob", pinned));
    }
    // Before the fence of his promotion he may have been seen as an admin.
    let role = |role: &'static str| {
        move |story: &mut Story| {
            story.operation("owner", put("bob", role), 35, ok(Value::Null));
            let data = json!({"user": "bob", "role": role});
            story.append(delta(GROUP, 7, "member.updated", "owner", data), 36);
            let group = story.truth.state.groups.get_mut("1").expect("a group");
            group.members.insert("bob".to_owned(), role.to_owned());
        }
    };
    is_good(|story| {
        role("admin")(story);
        pinned_by("bob", true)(story);
        let fence = delta(CHANNEL, 12, "members.changed", "owner", json!({"gv": 7}));
        story.append(fence, 42);
    });
}
