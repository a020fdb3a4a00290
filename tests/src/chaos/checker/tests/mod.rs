//! Every rule is shown a history that offends against it, and must say so; what is in order it
//! must leave alone.

mod delivery;
mod ephemerals;
mod leases;
mod marks;
mod moderation;
mod reading;
mod story;

use serde_json::{Value, json};

use super::{Rule, check};
use crate::chaos::history::{
    Change, Direct, Event, Fault, Moment, Outcome, Question, Read, Source,
};
use story::{CHANNEL, GROUP, Story, at, delta, edit, message, ok, put, remove, rename, send};

const ADA: usize = 0;
const BOB: usize = 1;

/// The rules that a history offends against after a change of the good one.
fn broken(change: impl FnOnce(&mut Story)) -> Vec<Rule> {
    let mut story = Story::good();
    change(&mut story);
    let (findings, _) = check(&story.history, &story.truth);
    for finding in &findings {
        eprintln!("{finding}");
    }
    super::count(&findings).into_keys().collect()
}

/// Breaks exactly one rule.
#[track_caller]
fn breaks(rule: Rule, change: impl FnOnce(&mut Story)) {
    assert_eq!(broken(change), [rule]);
}

/// Breaks a rule, and perhaps others with it.
#[track_caller]
fn breaks_also(rule: Rule, change: impl FnOnce(&mut Story)) {
    let rules = broken(change);
    assert!(rules.contains(&rule), "{rules:?}");
}

#[track_caller]
fn is_good(change: impl FnOnce(&mut Story)) {
    assert_eq!(broken(change), []);
}

fn refused() -> Outcome {
    Outcome::Refused {
        status: 404,
        code: "not_found".to_owned(),
    }
}

/// The body of a message's 201.
fn sent(seq: u64) -> Value {
    json!({"id": format!("m{seq}"), "seq": seq, "created_at": format!("tc:1{seq}"), "reply_to": null})
}

fn operation(story: &mut Story, text: &str) -> usize {
    let named = |change: &Change| matches!(change, Change::Send { content, .. } if content == text);
    let mut all = story.history.operations.iter();
    all.position(|it| named(&it.change)).expect("it was sent")
}

fn read(actor: &str, question: Question, second: u64, status: u16, body: Value) -> Read {
    Read {
        actor: actor.to_owned(),
        question,
        invoked: at(second),
        answered: at(second),
        status,
        body,
        deltas: Vec::new(),
    }
}

fn channel() -> String {
    CHANNEL.trim_start_matches("c:").to_owned()
}

#[test]
fn a_good_history_is_left_alone() {
    is_good(|_| {});
}

#[test]
fn an_acknowledged_change_that_is_not_in_the_log_is_found() {
    breaks(Rule::Lost, |story| {
        story.operation("ada", send("lost"), 40, ok(sent(11)));
    });
    breaks_also(Rule::Lost, |story| {
        story.operation("ada", edit(7, "lost"), 40, ok(Value::Null));
    });
    breaks(Rule::Lost, |story| {
        story.operation("owner", remove("ada"), 40, ok(Value::Null));
    });
    // It is there once, and two were told so.
    breaks(Rule::Lost, |story| {
        story.operation("ada", send("welcome"), 40, ok(sent(9)));
    });
    // There is one such entry, but from before it was asked for.
    breaks_also(Rule::Lost, |story| {
        story.operation("ada", send("later"), 40, ok(sent(11)));
        story.append(message(11, "ada", "later"), 41);
        let edits = |change: &Change| matches!(change, Change::Edit { .. });
        let edit = story
            .history
            .operations
            .iter_mut()
            .find(|it| edits(&it.change));
        let edit = edit.expect("it was edited");
        (edit.invoked, edit.answered) = (at(50), at(51));
    });
}

#[test]
fn a_stream_that_is_not_there_excuses_nothing() {
    for change in [
        Change::Send {
            channel: "9".to_owned(),
            content: "lost".to_owned(),
            reply_to: None,
        },
        Change::RenameGroup {
            group: "9".to_owned(),
            name: "lost".to_owned(),
            if_match: None,
            token: None,
        },
    ] {
        breaks(Rule::Lost, |story| {
            story.operation("ada", change, 40, ok(sent(1)));
        });
    }
}

#[test]
fn what_is_not_known_may_be_there_or_not() {
    is_good(|story| story.operation("ada", send("perhaps"), 40, Outcome::Unknown));
    is_good(|story| {
        story.operation("ada", send("perhaps"), 40, Outcome::Unknown);
        story.append(message(11, "ada", "perhaps"), 41);
    });
    is_good(|story| {
        story.operation("ada", edit(7, "perhaps"), 40, Outcome::Unknown);
        let data = json!({"message": 7, "content": null, "edited_at": "e"});
        story.append(delta(CHANNEL, 11, "message.edited", "ada", data), 41);
    });
}

#[test]
fn an_entry_that_nobody_asked_for_is_found() {
    breaks(Rule::Foreign, |story| {
        story.append(message(11, "ada", "whose?"), 41)
    });
    // Once too often.
    breaks(Rule::Foreign, |story| {
        story.append(message(11, "ada", "welcome"), 41)
    });
    breaks_also(Rule::Foreign, |story| {
        let data = json!({"message": 4});
        story.append(delta(CHANNEL, 11, "message.deleted", "bob", data), 41);
    });
    breaks(Rule::Foreign, |story| {
        story.operation("ada", send("refused"), 40, refused());
        story.append(message(11, "ada", "refused"), 41);
    });
}

#[test]
fn a_hole_in_a_stream_is_found() {
    breaks_also(Rule::Dense, |story| {
        story
            .truth
            .streams
            .get_mut(CHANNEL)
            .expect("there")
            .remove(6);
    });
    breaks(Rule::Dense, |story| {
        story.truth.heads.insert(CHANNEL.to_owned(), 11);
    });
}

#[test]
fn a_device_that_leaves_something_out_or_swaps_it_is_found() {
    let applied = |event: &Event, seq: u64| matches!(event, Event::Applied(delta) if delta.stream == CHANNEL && delta.seq == seq);
    breaks(Rule::Order, |story| {
        let events = &mut story.history.devices[ADA].events;
        events.retain(|(_, event)| !applied(event, 7));
    });
    breaks(Rule::Order, |story| {
        let events = &mut story.history.devices[ADA].events;
        let place = |seq| events.iter().position(|(_, event)| applied(event, seq));
        let (one, other) = (place(9).expect("there"), place(10).expect("there"));
        events.swap(one, other);
    });
    breaks_also(Rule::Order, |story| story.apply(ADA, 40, CHANNEL, 10));
}

#[test]
fn what_was_seen_and_is_gone_or_other_is_found() {
    breaks(Rule::Gone, |story| {
        let undone = message(11, "ada", "rolled back");
        story.see(ADA, 40, &undone, Source::Push);
    });
    breaks(Rule::Gone, |story| {
        let other = message(9, "ada", "not what she wrote");
        story.see(ADA, 40, &other, Source::Push);
    });
    breaks(Rule::Gone, |story| {
        let other = delta(
            GROUP,
            4,
            "group.updated",
            "ada",
            json!({"name": "x", "version": 4}),
        );
        story.see(ADA, 40, &other, Source::Sync);
    });
}

#[test]
fn a_content_may_be_any_that_the_message_had() {
    is_good(|story| story.see(ADA, 40, &message(3, "ada", "hello"), Source::Push));
    is_good(|story| story.see(ADA, 40, &message(4, "bob", "salve"), Source::Push));
    // Only what was deleted may be empty.
    breaks(Rule::Gone, |story| {
        story.see(ADA, 40, &message(9, "ada", ""), Source::Push)
    });
}

#[test]
fn a_device_that_ends_behind_or_with_other_state_is_found() {
    breaks(Rule::Stale, |story| {
        story.history.devices[ADA]
            .cursor
            .insert(CHANNEL.to_owned(), 9);
    });
    breaks(Rule::Stale, |story| {
        story.history.devices[BOB].cursor.remove(GROUP);
    });
    breaks(Rule::Stale, |story| {
        story.history.devices[ADA].stale = Some("a message differs".to_owned());
    });
}

#[test]
fn state_that_is_not_what_the_log_adds_up_to_is_found() {
    let group = |story: &mut Story, change: fn(&mut crate::view::Group)| {
        change(story.truth.state.groups.get_mut("1").expect("there"));
    };
    breaks(Rule::Stale, |story| {
        group(story, |group| group.name = json!("old"))
    });
    breaks(Rule::Stale, |story| group(story, |group| group.version = 1));
    breaks(Rule::Stale, |story| {
        group(story, |group| drop(group.members.remove("bob")))
    });
    breaks(Rule::Stale, |story| {
        let messages = story.truth.state.channels.get_mut("1").expect("there");
        messages.remove(&9);
    });
}

#[test]
fn a_delta_of_a_time_without_membership_is_found() {
    let secret = || message(7, "ada", "secret");
    // While he was away, and pushed afterwards although it was committed while he was away.
    for second in [24, 40] {
        breaks(Rule::Leaked, |story| {
            story.see(BOB, second, &secret(), Source::Push)
        });
    }
    breaks(Rule::Leaked, |story| {
        story.see(BOB, 24, &secret(), Source::Sync)
    });
    // Members read all history.
    is_good(|story| story.see(BOB, 40, &secret(), Source::Sync));
    // What was committed before the removal may come late.
    is_good(|story| story.see(BOB, 24, &message(4, "bob", "salve"), Source::Push));
    for (stream, seq) in [(CHANNEL, 3), (GROUP, 2)] {
        breaks(Rule::Leaked, |story| {
            let index = usize::try_from(seq).expect("small") - 1;
            let delta = story.truth.streams[stream][index].clone();
            story.history.devices[ADA].user = "eve".to_owned();
            story.history.devices[ADA].events.clear();
            story.see(ADA, 40, &delta, Source::Push);
        });
    }
    breaks_also(Rule::Leaked, |story| {
        let own = delta(
            "u:ada",
            1,
            "session.created",
            "ada",
            json!({"session": "s"}),
        );
        story
            .truth
            .streams
            .insert("u:ada".to_owned(), vec![own.clone()]);
        story.see(BOB, 40, &own, Source::Push);
    });
}

#[test]
fn a_read_or_a_change_without_membership_is_found() {
    let question = || Question::Newest { channel: channel() };
    let page = || json!({"items": [{"seq": 3}, {"seq": 4}], "more": false});
    breaks(Rule::Leaked, |story| {
        story
            .history
            .reads
            .push(read("bob", question(), 24, 200, page()));
    });
    is_good(|story| {
        story
            .history
            .reads
            .push(read("bob", question(), 24, 404, json!({})))
    });
    breaks_also(Rule::Leaked, |story| {
        story.operation("bob", edit(4, "while away"), 23, ok(Value::Null));
        let data = json!({"message": 4, "content": null, "edited_at": "e"});
        story.append(delta(CHANNEL, 11, "message.edited", "bob", data), 41);
    });
}

#[test]
fn a_message_behind_the_fence_of_a_removal_is_found() {
    breaks_also(Rule::Leaked, |story| {
        story.operation("owner", remove("bob"), 40, ok(Value::Null));
        let data = json!({"user": "bob", "role": "member"});
        story.append(delta(GROUP, 7, "member.removed", "owner", data), 41);
        story.append(
            delta(CHANNEL, 11, "members.changed", "owner", json!({"gv": 7})),
            41,
        );
        story.operation("bob", send("still here"), 40, ok(sent(12)));
        story.append(message(12, "bob", "still here"), 41);
    });
}

#[test]
fn a_removal_without_its_fence_is_found() {
    breaks_also(Rule::Leaked, |story| {
        story.operation("owner", remove("bob"), 40, ok(Value::Null));
        let data = json!({"user": "bob", "role": "member"});
        story.append(delta(GROUP, 7, "member.removed", "owner", data), 41);
    });
}

#[test]
fn what_a_role_does_not_allow_is_found() {
    let role = |second: u64, user: &'static str, role: &'static str| {
        move |story: &mut Story| {
            story.operation("owner", put(user, role), second, ok(Value::Null));
            let seq = story.truth.heads[GROUP] + 1;
            let data = json!({"user": user, "role": role});
            story.append(
                delta(GROUP, seq, "member.updated", "owner", data),
                second + 1,
            );
        }
    };
    let does = |actor: &'static str, kind: &'static str, change: Change, data: Value| {
        move |story: &mut Story| {
            story.operation(actor, change, 50, ok(Value::Null));
            let seq = story.truth.heads[GROUP] + 1;
            story.append(delta(GROUP, seq, kind, actor, data), 51);
        }
    };
    let renames = |actor| {
        let data = json!({"name": "newer", "version": 0});
        does(actor, "group.updated", rename("newer", None), data)
    };
    let adds = |actor, user: &'static str, role: &'static str| {
        let data = json!({"user": user, "role": role});
        does(actor, "member.added", put(user, role), data)
    };
    let removes = |actor, user: &'static str| {
        let data = json!({"user": user});
        does(actor, "member.removed", remove(user), data)
    };
    let is_forbidden = |change: &dyn Fn(&mut Story)| broken(change).contains(&Rule::Forbidden);
    assert!(is_forbidden(&|story| renames("bob")(story)));
    assert!(!is_forbidden(&|story| renames("ada")(story)));
    // Demoted before, and promoted again.
    assert!(is_forbidden(&|story| {
        role(40, "ada", "member")(story);
        renames("ada")(story);
    }));
    assert!(!is_forbidden(&|story| {
        role(40, "ada", "member")(story);
        role(44, "ada", "admin")(story);
        renames("ada")(story);
    }));
    assert!(is_forbidden(&|story| adds("bob", "eve", "member")(story)));
    assert!(!is_forbidden(&|story| adds("ada", "eve", "member")(story)));
    assert!(is_forbidden(&|story| adds("ada", "eve", "admin")(story)));
    assert!(!is_forbidden(&|story| removes("ada", "bob")(story)));
    assert!(!is_forbidden(&|story| removes("bob", "bob")(story)));
    assert!(is_forbidden(&|story| removes("bob", "ada")(story)));
    assert!(is_forbidden(&|story| {
        role(40, "bob", "admin")(story);
        removes("ada", "bob")(story);
    }));
}

#[test]
fn a_lost_update_is_found() {
    breaks(Rule::LostUpdate, |story| {
        let renames = |change: &Change| matches!(change, Change::RenameGroup { .. });
        let mut all = story.history.operations.iter_mut();
        let found = all.find(|it| renames(&it.change)).expect("it was renamed");
        found.change = rename("new", Some(3));
    });
    // The second edit was acknowledged, and the first one's content is shown.
    breaks(Rule::LostUpdate, |story| {
        story.operation("ada", edit(3, "hello again"), 40, ok(Value::Null));
        let data = json!({"message": 3, "content": "hello all", "edited_at": "f"});
        story.append(delta(CHANNEL, 11, "message.edited", "ada", data), 41);
    });
}

#[test]
fn of_two_edits_at_once_the_last_in_the_log_stays() {
    let twice = |shown: &'static str| {
        move |story: &mut Story| {
            let answer =
                |content: &str, time: &str| ok(json!({"content": content, "edited_at": time}));
            story.operation("ada", edit(3, "one"), 40, answer("one", "f"));
            story.operation("ada", edit(3, "two"), 40, answer("two", "g"));
            for (seq, time) in [(11, "f"), (12, "g")] {
                let data = json!({"message": 3, "content": shown, "edited_at": time});
                story.append(delta(CHANNEL, seq, "message.edited", "ada", data), 40);
            }
            story.reword(3, shown);
        }
    };
    is_good(twice("two"));
    breaks(Rule::LostUpdate, twice("one"));
}

#[test]
fn a_change_of_a_deleted_message_is_found() {
    breaks(Rule::LostUpdate, |story| {
        story.operation("bob", edit(4, "again"), 40, Outcome::Unknown);
        let data = json!({"message": 4, "content": null, "edited_at": "f"});
        story.append(delta(CHANNEL, 11, "message.edited", "bob", data), 41);
    });
}

#[test]
fn a_refusal_without_a_reason_is_found() {
    let refused = || Outcome::Refused {
        status: 412,
        code: "precondition_failed".to_owned(),
    };
    breaks(Rule::Refused, |story| {
        story.operation("ada", rename("newer", Some(4)), 40, refused());
    });
    is_good(|story| story.operation("ada", rename("newer", Some(1)), 40, refused()));
    // What it lost against had not even been asked for.
    breaks(Rule::Refused, |story| {
        story.operation("ada", rename("newer", Some(1)), 10, refused());
    });
}

#[test]
fn a_change_that_stands_before_an_earlier_one_is_found() {
    breaks(Rule::RealTime, |story| {
        let index = operation(story, "hello");
        let sent = &mut story.history.operations[index];
        (sent.invoked, sent.answered) = (at(15), at(16));
    });
}

#[test]
fn a_read_that_lacks_what_was_acknowledged_is_found() {
    let head = |head: u64| json!({"head": head});
    let question = || Question::Channel { channel: channel() };
    breaks(Rule::Read, |story| {
        story
            .history
            .reads
            .push(read("ada", question(), 40, 200, head(9)));
    });
    is_good(|story| {
        story
            .history
            .reads
            .push(read("ada", question(), 40, 200, head(10)))
    });
    // Acknowledged only at the same moment.
    is_good(|story| {
        story
            .history
            .reads
            .push(read("ada", question(), 34, 200, head(9)))
    });
    breaks(Rule::Read, |story| {
        story
            .history
            .reads
            .push(read("ada", question(), 40, 404, json!({})));
    });
    breaks(Rule::Read, |story| {
        let page = json!({"items": [{"seq": 3}, {"seq": 4}, {"seq": 7}], "more": false});
        let newest = Question::Newest { channel: channel() };
        story.history.reads.push(read("ada", newest, 40, 200, page));
    });
    breaks(Rule::Read, |story| {
        let group = Question::Group {
            group: "1".to_owned(),
        };
        story
            .history
            .reads
            .push(read("ada", group, 40, 200, json!({"version": 1})));
    });
}

#[test]
fn a_sync_with_a_hole_is_found() {
    let sync = |story: &Story, seqs: &[usize]| Read {
        deltas: seqs
            .iter()
            .map(|seq| story.truth.streams[CHANNEL][seq - 1].clone())
            .collect(),
        ..read(
            "ada",
            Question::Sync {
                stream: CHANNEL.to_owned(),
                after: 7,
            },
            40,
            200,
            json!({"more": false, "resets": []}),
        )
    };
    is_good(|story| story.history.reads.push(sync(story, &[8, 9, 10])));
    for seqs in [&[8, 10][..], &[9, 10], &[8, 9]] {
        breaks(Rule::Read, |story| {
            story.history.reads.push(sync(story, seqs))
        });
    }
}

#[test]
fn a_sync_that_resets_a_stream_without_need_is_found() {
    let sync = |actor: &str, second: u64, after: u64, reason: &str| {
        let stream = CHANNEL.to_owned();
        let resets = json!([{"stream": CHANNEL, "head": 10, "reason": reason}]);
        let body = json!({"more": false, "resets": resets});
        read(actor, Question::Sync { stream, after }, second, 200, body)
    };
    for reason in ["expired", "behind", "restored", "gone", "ahead"] {
        breaks(Rule::Read, |story| {
            story.history.reads.push(sync("ada", 40, 7, reason));
        });
    }
    is_good(|story| story.history.reads.push(sync("ada", 40, 11, "ahead")));
    // While he was no member, and while he may have been none.
    for second in [24, 21, 26] {
        is_good(|story| story.history.reads.push(sync("bob", second, 4, "gone")));
    }
    breaks(Rule::Read, |story| {
        story.history.reads.push(sync("bob", 28, 4, "gone"));
    });
}

#[test]
fn a_server_that_does_not_answer_is_found_unless_it_was_struck() {
    let direct = |ended: Moment| Direct {
        target: "api-0".to_owned(),
        what: "GET /v1/groups".to_owned(),
        invoked: at(40),
        ended,
        answered: false,
    };
    let struck = |target: &str| Fault {
        kind: "pause api".to_owned(),
        target: target.to_owned(),
        began: at(39),
        healed: at(60),
    };
    is_good(|story| story.history.directs.push(direct(at(50))));
    breaks(Rule::Unanswered, |story| {
        story.history.directs.push(direct(at(56)))
    });
    breaks(Rule::Unanswered, |story| {
        story.history.directs.push(direct(at(56)));
        story.history.faults.push(struck("api-1"));
    });
    is_good(|story| {
        story.history.directs.push(direct(at(56)));
        story.history.faults.push(struck("api-0"));
    });
}

#[test]
fn an_answer_that_breaks_the_protocol_is_found() {
    breaks(Rule::Protocol, |story| {
        story
            .history
            .violations
            .push((at(40), "an answer without a code".to_owned()));
    });
}

#[test]
fn delays_are_told_apart_by_faults() {
    let mut story = Story::good();
    story.history.faults.push(Fault {
        kind: "kill api".to_owned(),
        target: "api-0".to_owned(),
        began: at(32),
        healed: at(33),
    });
    let (_, delays) = check(&story.history, &story.truth);
    assert!(!delays.quiet.is_empty() && !delays.faulty.is_empty());
    assert!(delays.longest.contains_key("kill api"));
}
