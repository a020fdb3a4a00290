//! Rules about the contents of messages, which several may change at the same time: what was
//! acknowledged is only gone if a later change took its place.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::log::Stream;
use super::{Case, Finding, Rule};
use crate::chaos::history::{Change, Moment, Operation, Outcome};
use crate::replica::Delta;

pub(super) fn no_lost_update(case: &Case<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for ((channel, message), edits) in &case.edits {
        let stream = format!("c:{channel}");
        let Some(entry) = case.log.entry(&stream, *message) else {
            continue;
        };
        let shown = entry.data["content"].as_str().unwrap_or_default();
        let entries = case.log.streams.get(&stream).filter(|all| all.complete);
        let Some(entries) = entries.filter(|_| !shown.is_empty()) else {
            continue; // Deleted: then there is nothing that an edit could have changed.
        };
        let later = asked_for_later(edits, shown);
        let last = last_in_the_log(entries, *message, edits);
        for edit in later.into_iter().chain(last) {
            if content(edit) != Some(shown) {
                let described = case.history.describe(edit);
                let what = format!("{stream} {message} shows {shown:?}; gone is {described}");
                findings.push(Finding::new(Rule::LostUpdate, what));
            }
        }
    }
    findings.extend(nothing_behind_a_deletion(case));
    findings
}

/// An edit that was acknowledged and had been asked for after the one that is shown had been
/// answered.
fn asked_for_later<'a>(edits: &[&'a Operation], shown: &str) -> Option<&'a Operation> {
    let shows = edits.iter().find(|edit| content(edit) == Some(shown));
    let since = shows.map_or(Moment::ZERO, |shows| shows.answered);
    let mut later = edits.iter().copied();
    later.find(|edit| edit.is_ok() && edit.invoked > since)
}

/// The edit that comes last in the log: its answer names the time that its entry has. None where
/// nobody was told, or two have the same time.
fn last_in_the_log<'a>(
    stream: &Stream,
    message: u64,
    edits: &[&'a Operation],
) -> Option<&'a Operation> {
    let is_edit =
        |entry: &&Arc<Delta>| entry.kind == "message.edited" && entry.data["message"] == message;
    let mut back = stream.entries.values().rev().filter(is_edit);
    let time = &back.next()?.data["edited_at"];
    if back.any(|entry| entry.data["edited_at"] == *time) {
        return None;
    }
    edits.iter().copied().find(|edit| match &edit.outcome {
        // An answer shows the message as it is by then, which may be somebody else's edit.
        Outcome::Ok { body, .. } => {
            body["content"].as_str() == content(edit) && body["edited_at"] == *time
        }
        Outcome::Refused { .. } | Outcome::Unknown => false,
    })
}

fn content(edit: &Operation) -> Option<&str> {
    match &edit.change {
        Change::Edit { content, .. } => Some(content),
        _ => None,
    }
}

/// Nothing happens any more to a message that is deleted.
fn nothing_behind_a_deletion(case: &Case<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (name, stream) in &case.log.streams {
        let mut deleted = BTreeSet::new();
        for (seq, entry) in &stream.entries {
            let touched = entry.data["message"].as_u64();
            let Some(message) = touched.filter(|_| entry.kind.starts_with("message.")) else {
                continue;
            };
            if deleted.contains(&message) {
                let what = format!("{name} {seq} changes {message}, which was deleted: {entry:?}");
                findings.push(Finding::new(Rule::LostUpdate, what));
            }
            if entry.kind == "message.deleted" {
                deleted.insert(message);
            }
        }
    }
    findings
}
