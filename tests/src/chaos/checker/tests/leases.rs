//! Histories in which edit leases do not protect.

use serde_json::{Value, json};

use super::story::{GROUP, Story, delta, ok, rename};
use super::{Rule, broken};
use crate::chaos::history::{Change, Outcome};

fn append(story: &mut Story, second: u64, actor: &str, kind: &str, data: Value) -> u64 {
    let seq = story.truth.heads[GROUP] + 1;
    let entry = delta(GROUP, seq, kind, actor, data);
    let group = story.truth.state.groups.get_mut("1").expect("the group");
    group.apply(&entry).expect("a whole delta");
    story.append(entry, second);
    seq
}

fn acquires(story: &mut Story, actor: &str, second: u64) -> u64 {
    let session = format!("{actor}'s");
    let take = Change::TakeLease {
        group: "1".to_owned(),
        session: session.clone(),
        steal: false,
    };
    let taken = Outcome::Ok {
        status: 201,
        replayed: false,
        body: Value::Null,
    };
    story.operation(actor, take, second, taken);
    let data = json!({ "session": session });
    append(story, second + 1, actor, "lease.acquired", data)
}

fn gives_back(story: &mut Story, actor: &str, second: u64) {
    let session = format!("{actor}'s");
    let back = Change::GiveBackLease {
        group: "1".to_owned(),
        session: session.clone(),
    };
    story.operation(actor, back, second, ok(Value::Null));
    let data = json!({ "session": session });
    append(story, second + 1, actor, "lease.released", data);
}

/// The log says that it was made under `said`.
fn renames(story: &mut Story, actor: &str, second: u64, token: Option<u64>, said: Option<u64>) {
    let name = format!("by {actor} at {second}");
    let mut change = rename(&name, None);
    if let Change::RenameGroup { token: under, .. } = &mut change {
        *under = token;
    }
    story.operation(actor, change, second, ok(Value::Null));
    let version = story.truth.heads[GROUP] + 1;
    let data = json!({"name": name, "version": version, "lease": said});
    append(story, second + 1, actor, "group.updated", data);
}

#[test]
fn changes_under_a_lease_that_is_the_last_are_left_alone() {
    let good = broken(|story| {
        let token = Some(acquires(story, "ada", 40));
        renames(story, "ada", 42, token, token);
        renames(story, "ada", 44, token, token);
        gives_back(story, "ada", 46);
        renames(story, "owner", 48, None, None);
        acquires(story, "ada", 50);
        // It has run out.
        renames(story, "owner", 82, None, None);
    });
    assert_eq!(good, []);
}

#[test]
fn changes_under_a_lease_that_was_lost_are_found() {
    let after = |between: fn(&mut Story)| {
        broken(move |story| {
            let token = Some(acquires(story, "ada", 40));
            between(story);
            renames(story, "ada", 90, token, token);
        })
    };
    assert_eq!(after(|_| {}), []);
    let others: [fn(&mut Story); 3] = [
        |story| {
            acquires(story, "owner", 82);
        },
        |story| gives_back(story, "ada", 82),
        |story| renames(story, "owner", 82, None, None),
    ];
    for between in others {
        assert_eq!(after(between), [Rule::LostUpdate]);
    }
    // Of somebody else, of nobody, and one that the log says otherwise of.
    let by_other = broken(|story| {
        let token = Some(acquires(story, "ada", 40));
        renames(story, "owner", 42, token, token);
    });
    assert_eq!(by_other, [Rule::LostUpdate]);
    let of_none = broken(|story| renames(story, "ada", 42, Some(3), Some(3)));
    assert_eq!(of_none, [Rule::LostUpdate]);
    let hidden = broken(|story| {
        let token = Some(acquires(story, "ada", 40));
        renames(story, "ada", 90, token, None);
    });
    assert_eq!(hidden, [Rule::LostUpdate]);
}

#[test]
fn changes_without_a_lease_while_one_is_held_are_found() {
    let at = |second: u64| {
        broken(move |story| {
            acquires(story, "ada", 40);
            renames(story, "owner", second, None, None);
        })
    };
    assert_eq!(at(42), [Rule::LostUpdate]);
    assert_eq!(at(68), [Rule::LostUpdate]);
    // Asked for, or answered, when it may not have been held.
    assert_eq!(at(41), []);
    assert_eq!(at(70), []);
}
