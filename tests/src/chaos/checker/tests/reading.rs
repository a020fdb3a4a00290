//! Marks of what is read.

use serde_json::json;

use super::story::{BOBS, mark, moved, ok};
use super::{Rule, breaks, breaks_also, channel, is_good, read};
use crate::chaos::history::{Outcome, Question};

#[test]
fn an_acknowledged_mark_that_the_log_does_not_reach_is_found() {
    breaks(Rule::Lost, |story| {
        story.operation("bob", mark(9), 40, ok(json!({"read": 9})));
    });
    breaks(Rule::Lost, |story| {
        story.operation("ada", mark(3), 40, ok(json!({"read": 3})));
    });
    // It is there, and the answer said otherwise.
    breaks(Rule::Lost, |story| {
        story.operation("bob", mark(4), 40, ok(json!({"read": 3})));
    });
    is_good(|story| story.operation("bob", mark(9), 40, Outcome::Unknown));
}

#[test]
fn a_mark_that_nobody_asked_for_is_found() {
    breaks_also(Rule::Foreign, |story| {
        story.append(moved(3, 8), 41);
    });
    // What was refused must not be there.
    breaks_also(Rule::Foreign, |story| {
        let refused = Outcome::Refused {
            status: 422,
            code: "invalid_request".to_owned(),
        };
        story.operation("bob", mark(8), 40, refused);
        story.append(moved(3, 8), 41);
    });
}

#[test]
fn a_mark_that_falls_is_found() {
    breaks(Rule::Foreign, |story| {
        let own = story.truth.streams.get_mut(BOBS).expect("he has one");
        own.push(moved(3, 4));
        story.truth.heads.insert(BOBS.to_owned(), 3);
    });
}

#[test]
fn marks_that_http_tells_otherwise_are_found() {
    for (user, told) in [("bob", 6), ("bob", 9), ("ada", 7), ("eve", 1)] {
        breaks(Rule::Stale, |story| {
            let marks = [(channel(), told)].into();
            story.truth.read_marks.insert(user.to_owned(), marks);
        });
    }
}

#[test]
fn a_read_that_lacks_an_acknowledged_mark_is_found() {
    let question = || Question::Channel { channel: channel() };
    breaks(Rule::Read, |story| {
        let body = json!({"head": 10, "read": 3});
        let old = read("bob", question(), 40, 200, body);
        story.history.reads.push(old);
    });
    is_good(|story| {
        let body = json!({"head": 10, "read": 7});
        let new = read("bob", question(), 40, 200, body);
        story.history.reads.push(new);
    });
}

#[test]
fn a_mark_by_somebody_who_was_no_member_is_found() {
    breaks_also(Rule::Leaked, |story| {
        story.operation("eve", mark(3), 40, ok(json!({"read": 3})));
    });
}
