//! Who is told that somebody types.

use super::*;
use crate::chaos::history::Typing;

/// Asked for at this second, done a second later.
fn typing(story: &mut Story, actor: &str, second: u64) {
    story.history.typings.push(Typing {
        actor: actor.to_owned(),
        channel: channel(),
        invoked: at(second),
        answered: at(second + 1),
        done: true,
    });
}

fn hears(story: &mut Story, device: usize, user: &str, second: u64) {
    let (channel, user) = (channel(), user.to_owned());
    story.event(device, second, Event::Typing { channel, user });
}

#[test]
fn who_types_is_heard_by_members_alone() {
    // Bob is away from 20 to 26.
    is_good(|story| {
        typing(story, "ada", 10);
        hears(story, BOB, "ada", 11);
        // Late, but from before he was removed.
        hears(story, BOB, "ada", 40);
    });
    is_good(|story| {
        typing(story, "ada", 20);
        hears(story, BOB, "ada", 24);
    });
    breaks(Rule::Leaked, |story| {
        typing(story, "ada", 23);
        hears(story, BOB, "ada", 24);
    });
    breaks(Rule::Leaked, |story| {
        typing(story, "ada", 23);
        typing(story, "ada", 40);
        hears(story, BOB, "ada", 30);
    });
    breaks(Rule::Leaked, |story| {
        typing(story, "ada", 10);
        hears(story, ADA, "ada", 11);
    });
    breaks(Rule::Leaked, |story| hears(story, BOB, "ada", 11));
}

#[test]
fn who_is_no_member_does_not_type() {
    is_good(|story| typing(story, "bob", 14));
    is_good(|story| {
        typing(story, "bob", 23);
        story.history.typings[0].done = false;
    });
    breaks(Rule::Leaked, |story| typing(story, "bob", 23));
}
