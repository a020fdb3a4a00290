//! Histories in which the banned come in and the muted write.

use serde_json::{Value, json};

use super::story::{GROUP, Story, at, delta, edit, fence, message, ok, put, send};
use super::{Rule, broken, sent};
use crate::chaos::history::{Change, Event, Source};

fn change(story: &mut Story, second: u64, change: Change, kind: &str, data: Value) -> u64 {
    let seq = story.truth.heads[GROUP] + 1;
    story.operation("owner", change, second, ok(Value::Null));
    story.append(delta(GROUP, seq, kind, "owner", data), second + 1);
    seq
}

fn ban(story: &mut Story, user: &str) {
    let (group, user) = ("1".to_owned(), user.to_owned());
    let data = json!({ "user": user });
    let banned = change(
        story,
        40,
        Change::Ban { group, user },
        "member.banned",
        data,
    );
    // What HTTP says of it.
    let group = story.truth.state.groups.get_mut("1").expect("the group");
    let moderation = group.moderation.as_mut().expect("what admins see");
    let ban = ("owner".to_owned(), format!("t{GROUP}{banned}"));
    moderation.bans.insert("eve".to_owned(), ban);
}

/// Bob may not write until then; "t…" is when entries are, and comes before "u".
fn mute(story: &mut Story, until: &str) {
    let mute = Change::Mute {
        group: "1".to_owned(),
        user: "bob".to_owned(),
        until: until.to_owned(),
    };
    let data = json!({"user": "bob", "muted_until": until});
    let gv = change(story, 40, mute, "member.muted", data);
    story.append(fence(11, gv), 41);
    let group = story.truth.state.groups.get_mut("1").expect("the group");
    group.muted.insert("bob".to_owned(), until.to_owned());
}

fn writes(story: &mut Story, actor: &str) {
    story.operation(actor, send("after"), 50, ok(sent(12)));
    story.append(message(12, actor, "after"), 51);
}

#[test]
fn the_banned_who_come_in_are_found() {
    let comes_in = |story: &mut Story| {
        let data = json!({"user": "eve", "role": "member"});
        change(story, 50, put("eve", "member"), "member.added", data);
        let group = story.truth.state.groups.get_mut("1").expect("the group");
        group.members.insert("eve".to_owned(), "member".to_owned());
        story.append(fence(11, 8), 51);
    };
    assert_eq!(broken(|story| ban(story, "eve")), []);
    let both = broken(|story| {
        ban(story, "eve");
        comes_in(story);
    });
    assert_eq!(both, [Rule::Forbidden]);
}

#[test]
fn the_muted_who_write_are_found() {
    assert_eq!(broken(|story| mute(story, "u")), []);
    let after = |until: &'static str, actor: &'static str| {
        broken(move |story| {
            mute(story, until);
            writes(story, actor);
        })
    };
    assert_eq!(after("u", "bob"), [Rule::Forbidden]);
    assert_eq!(after("u", "ada"), []);
    // Their time was over.
    assert_eq!(after("s", "bob"), []);
    // Let speak again before.
    let unmuted = broken(|story| {
        mute(story, "u");
        let (group, user) = ("1".to_owned(), "bob".to_owned());
        let data = json!({"user": "bob", "muted_until": null});
        change(
            story,
            44,
            Change::Unmute { group, user },
            "member.muted",
            data,
        );
        let group = story.truth.state.groups.get_mut("1").expect("the group");
        group.muted.clear();
        writes(story, "bob");
    });
    assert_eq!(unmuted, []);
    let edits = broken(|story| {
        mute(story, "u");
        story.operation("bob", edit(4, "after"), 50, ok(Value::Null));
        let data = json!({"message": 4, "content": null, "edited_at": "e"});
        story.append(delta("c:1", 12, "message.edited", "bob", data), 51);
    });
    assert!(edits.contains(&Rule::Forbidden), "{edits:?}");
}

/// Who is no admin sees of a ban that there is something, or a removal, and never a name.
#[test]
fn what_is_concealed_is_what_was_there() {
    let seen = |kind: &'static str, actor: Option<&str>, data: Value| {
        let actor = actor.map(str::to_owned);
        broken(move |story| {
            ban(story, "eve");
            let entry = story.truth.streams[GROUP].last().expect("the ban");
            let mut shown = (**entry).clone();
            (shown.kind, shown.actor, shown.data) = (kind.to_owned(), actor, data);
            let delta = std::sync::Arc::new(shown);
            let source = Source::Push;
            story.history.devices[1]
                .events
                .push((at(42), Event::Seen { delta, source }));
        })
    };
    assert_eq!(seen("hidden", None, json!({})), []);
    assert_eq!(
        seen("member.removed", Some("owner"), json!({"user": "eve"})),
        []
    );
    assert_eq!(seen("hidden", Some("owner"), json!({})), [Rule::Gone]);
    assert_eq!(seen("hidden", None, json!({"user": "eve"})), [Rule::Gone]);
}
