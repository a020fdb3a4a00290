//! What reaches devices: in time, by a push, and without beginning again.

use super::story::{CHANNEL, GROUP, Story, at, message, ok, send, taken_up};
use super::{ADA, BOB, breaks, broken, is_good, sent};
use crate::chaos::checker::Rule;
use crate::chaos::history::{Event, Fault, Source};

fn is_seen(event: &Event, stream: &str, number: u64) -> bool {
    matches!(event, Event::Seen { delta, .. } if delta.stream == stream && delta.seq == number)
}

fn is_applied(event: &Event, number: u64) -> bool {
    matches!(event, Event::Applied(delta) if delta.stream == CHANNEL && delta.seq == number)
}

fn pause(began: u64, healed: u64) -> Fault {
    Fault {
        kind: "pause broker".to_owned(),
        target: "broker".to_owned(),
        began: at(began),
        healed: at(healed),
    }
}

/// What was pushed comes by a sync instead.
fn unpush(story: &mut Story, device: usize, stream: &str, seq: u64) {
    let mut found = 0;
    for (_, event) in &mut story.history.devices[device].events {
        if is_seen(event, stream, seq)
            && let Event::Seen { source, .. } = event
        {
            *source = Source::Sync;
            found += 1;
        }
    }
    assert_eq!(found, 1);
}

/// Before the first event of this second or later.
fn insert(story: &mut Story, device: usize, second: u64, event: Event) {
    let events = &mut story.history.devices[device].events;
    let place = events.partition_point(|(moment, _)| *moment < at(second));
    events.insert(place, (at(second), event));
}

#[test]
fn a_delta_that_comes_late_is_found_unless_a_fault_explains_it() {
    let late = |story: &mut Story| {
        for (moment, event) in &mut story.history.devices[ADA].events {
            if is_applied(event, 10) {
                *moment = at(80);
            }
        }
    };
    breaks(Rule::Late, late);
    is_good(|story| {
        late(story);
        story.history.faults.push(pause(35, 66));
    });
    breaks(Rule::Late, |story| {
        late(story);
        story.history.faults.push(pause(35, 64));
    });
    // Whose app was not in front gets it when it is.
    is_good(|story| {
        late(story);
        let place = story.history.devices[ADA].events.len() - 1;
        let events = &mut story.history.devices[ADA].events;
        events.insert(place, (at(79), Event::Back));
        events.insert(place, (at(35), Event::Away));
    });
}

#[test]
fn what_only_a_sync_brought_is_found() {
    // A message, a deletion, a name, a fence, a removal that concerns others.
    for (stream, seq) in [
        (CHANNEL, 9),
        (CHANNEL, 10),
        (GROUP, 4),
        (CHANNEL, 6),
        (GROUP, 5),
    ] {
        breaks(Rule::NotPushed, |story| unpush(story, ADA, stream, seq));
    }
    // He who is removed and added is told himself.
    for seq in [5, 6] {
        breaks(Rule::NotPushed, |story| unpush(story, BOB, GROUP, seq));
    }
}

#[test]
fn what_is_pushed_too_late_is_found() {
    let pushed_at = |second| {
        move |story: &mut Story| {
            for (moment, event) in &mut story.history.devices[ADA].events {
                if is_seen(event, CHANNEL, 10) {
                    *moment = at(second);
                }
            }
        }
    };
    // It was acknowledged at 34.
    is_good(pushed_at(46));
    breaks(Rule::NotPushed, pushed_at(47));
}

#[test]
fn a_push_is_not_awaited_near_a_fault() {
    // Sent from 31 to 32.
    for (began, healed) in [(20, 26), (31, 32), (47, 60)] {
        is_good(|story| {
            unpush(story, ADA, CHANNEL, 9);
            story.history.faults.push(pause(began, healed));
        });
    }
    for (began, healed) in [(20, 25), (48, 60)] {
        breaks(Rule::NotPushed, |story| {
            unpush(story, ADA, CHANNEL, 9);
            story.history.faults.push(pause(began, healed));
        });
    }
}

#[test]
fn a_push_is_awaited_by_those_who_are_connected() {
    let resume = || Event::Resume {
        reason: "overflow".to_owned(),
    };
    for event in [
        Event::Closed { code: None },
        Event::Connected,
        Event::Away,
        resume(),
    ] {
        for second in [30, 31, 40] {
            is_good(|story| {
                insert(story, ADA, second, event.clone());
                unpush(story, ADA, CHANNEL, 9);
                if second > 30 {
                    unpush(story, ADA, CHANNEL, 10);
                }
            });
        }
    }
    breaks(Rule::NotPushed, |story| {
        insert(story, ADA, 30, Event::Live);
        unpush(story, ADA, CHANNEL, 9);
    });
    breaks(Rule::NotPushed, |story| {
        insert(story, ADA, 25, resume());
        insert(story, ADA, 30, Event::Live);
        unpush(story, ADA, CHANNEL, 9);
    });
}

#[test]
fn a_push_is_awaited_by_members_alone() {
    // Eve never was one.
    is_good(|story| {
        story.history.devices[BOB].events.clear();
        story.history.devices[BOB].user = "eve".to_owned();
        story.history.devices[BOB].cursor.clear();
        insert(story, BOB, 8, Event::Live);
    });
    // Bob is removed before it had to be there.
    is_good(|story| unpush(story, BOB, CHANNEL, 3));
}

#[test]
fn how_many_pushes_were_awaited_is_counted() {
    let story = Story::good();
    let (_, delays) = crate::chaos::checker::check(&story.history, &story.truth);
    // Ada: all that were asked for since 10. Bob: his removal, his return and what came then.
    assert_eq!(delays.awaited, 11 + 4);
}

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
