//! What reaches devices: without beginning again.

use super::story::{CHANNEL, GROUP, Story, at, message, ok, send, taken_up};
use super::{ADA, BOB, breaks, broken, is_good, sent};
use crate::chaos::checker::Rule;
use crate::chaos::history::Event;

#[test]
fn a_device_that_begins_again_without_need_is_found() {
    let reset = || Event::Reset {
        stream: CHANNEL.to_owned(),
    };
    breaks(Rule::Reset, |story| {
        story.event(ADA, 40, reset());
        story.event(ADA, 40, taken_up(CHANNEL, 10));
    });
    breaks(Rule::Reset, |story| {
        story.event(ADA, 40, taken_up(CHANNEL, 9));
        story.apply(ADA, 41, CHANNEL, 10);
    });
    is_good(|story| {
        story.operation("ada", send("more"), 40, ok(sent(11)));
        story.append(message(11, "ada", "more"), 41);
        story.event(ADA, 42, taken_up(CHANNEL, 11));
    });
}

#[test]
fn a_stream_that_is_given_up_without_need_is_found() {
    let gone = |stream: &str| Event::Gone {
        stream: stream.to_owned(),
    };
    for (stream, head) in [(CHANNEL, 10), (GROUP, 6), ("u:ada", 0)] {
        breaks(Rule::Reset, |story| {
            story.event(ADA, 40, gone(stream));
            story.event(ADA, 40, taken_up(stream, head));
        });
    }
    // A removal told him, though he is back by now.
    is_good(|story| {
        let removal = story.truth.streams[GROUP][4].clone();
        let events = &mut story.history.devices[BOB].events;
        events.retain(|(moment, event)| *moment != at(21) || matches!(event, Event::Seen { .. }));
        let place = events.partition_point(|(moment, _)| *moment < at(28));
        let late = [
            Event::Live,
            Event::Applied(removal),
            gone(CHANNEL),
            gone(GROUP),
        ];
        for event in late.into_iter().rev() {
            events.insert(place, (at(28), event));
        }
    });
    // A sync that began while he was away, and one that did not.
    let said = |began: u64| {
        move |story: &mut Story| {
            let events = &mut story.history.devices[BOB].events;
            events.push((at(began), Event::Live));
            for (stream, head) in [(CHANNEL, 10), (GROUP, 6)] {
                events.push((at(40), gone(stream)));
                events.push((at(40), taken_up(stream, head)));
            }
        }
    };
    is_good(said(26));
    assert_eq!(broken(said(28)), [Rule::Reset]);
}
