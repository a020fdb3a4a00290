//! What people put on messages follows from the log: who reacts, in which order, what each delta
//! said of it, and which messages are pinned. Counted here from nothing but who did what.

use std::collections::BTreeMap;

use super::log::Stream;
use super::{Case, Finding, Rule};
use crate::chaos::history::Truth;
use crate::marks::Reaction;
use crate::replica::Delta;

/// Users named in a count.
const NAMED: usize = 3;

/// Emoji by the time of their first use, each with those who react so in their order.
type Reactions = Vec<(String, Vec<String>)>;

/// What stands on one message.
#[derive(Default)]
struct Marks {
    reactions: Reactions,
    pinned: bool,
}

pub(super) fn follow_from_the_log(case: &Case<'_>, truth: &Truth) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (name, stream) in &case.log.streams {
        let Some(id) = name.strip_prefix("c:").filter(|_| stream.complete) else {
            continue;
        };
        let (marked, wrong) = read(name, stream);
        findings.extend(wrong);
        let Some(messages) = truth.state.channels.get(id) else {
            continue;
        };
        for (seq, message) in messages {
            let marks = marked.get(seq);
            let expected = marks.map(|marks| counts(&marks.reactions));
            let expected = (
                expected.unwrap_or_default(),
                marks.is_some_and(|marks| marks.pinned),
            );
            if (&message.reactions, message.pinned) != (&expected.0, expected.1) {
                let shown = (&message.reactions, message.pinned);
                let what = format!("{name} {seq} shows {shown:?}; the log says {expected:?}");
                findings.push(Finding::new(Rule::Stale, what));
            }
        }
    }
    findings
}

/// Messages with what stands on them in the end.
fn read(name: &str, stream: &Stream) -> (BTreeMap<u64, Marks>, Vec<Finding>) {
    let mut marked: BTreeMap<u64, Marks> = BTreeMap::new();
    let mut findings = Vec::new();
    for (seq, entry) in &stream.entries {
        let message = entry.data["message"].as_u64().unwrap_or_default();
        match &*entry.kind {
            "reaction.added" | "reaction.removed" => {
                let reactions = &mut marked.entry(message).or_default().reactions;
                react(reactions, entry);
                let told = Reaction::parse(&entry.data).ok();
                let counted = count_of(reactions, entry);
                if told.as_ref() != Some(&counted) {
                    let what = format!("{name} {seq} says {told:?}, where there are {counted:?}");
                    findings.push(Finding::new(Rule::Stale, what));
                }
            }
            "message.pinned" | "message.unpinned" => {
                marked.entry(message).or_default().pinned = entry.kind == "message.pinned";
            }
            "message.deleted" => drop(marked.remove(&message)),
            _ => {}
        }
    }
    (marked, findings)
}

fn react(reactions: &mut Reactions, entry: &Delta) {
    let emoji = entry.data["emoji"].as_str().unwrap_or_default();
    let actor = entry.actor.clone().unwrap_or_default();
    let place = reactions.iter().position(|(known, _)| known == emoji);
    match (&*entry.kind, place) {
        ("reaction.added", None) => reactions.push((emoji.to_owned(), vec![actor])),
        ("reaction.added", Some(place)) => {
            let users = &mut reactions[place].1;
            if !users.contains(&actor) {
                users.push(actor);
            }
        }
        (_, Some(place)) => {
            reactions[place].1.retain(|user| *user != actor);
            reactions.retain(|(_, users)| !users.is_empty());
        }
        (_, None) => {}
    }
}

fn count_of(reactions: &Reactions, entry: &Delta) -> Reaction {
    let emoji = entry.data["emoji"].as_str().unwrap_or_default();
    let known = counts(reactions).into_iter().find(|it| it.emoji == emoji);
    known.unwrap_or_else(|| Reaction {
        emoji: emoji.to_owned(),
        count: 0,
        users: Vec::new(),
    })
}

fn counts(reactions: &Reactions) -> Vec<Reaction> {
    let count = |(emoji, users): &(String, Vec<String>)| Reaction {
        emoji: emoji.clone(),
        count: users.len() as u64,
        users: users.iter().take(NAMED).cloned().collect(),
    };
    reactions.iter().map(count).collect()
}
