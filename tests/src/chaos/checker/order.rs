//! Rules about order: streams without holes, devices that follow them, and a log from which
//! nothing disappears.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::Value;

use super::{Case, Finding, Rule};
use crate::chaos::history::{Change, DeviceHistory, Event, Truth, seconds};
use crate::replica::Delta;

/// Every stream is numbered 1, 2, 3, … up to the head that the servers name.
pub(super) fn dense(case: &Case<'_>, truth: &Truth) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (name, entries) in &truth.streams {
        let mut expected = 0;
        for entry in entries {
            expected += 1;
            if entry.seq != expected || entry.first != expected {
                let around = case.log.around(name, entry.seq);
                let what = format!("{name}: {} instead of {expected}; {around}", entry.seq);
                findings.push(Finding::new(Rule::Dense, what));
                expected = entry.seq;
            }
        }
        let head = truth.heads.get(name).copied();
        if head.is_some_and(|head| head != expected) {
            let what = format!("{name} ends at {expected}, but its head is said to be {head:?}");
            findings.push(Finding::new(Rule::Dense, what));
        }
    }
    findings
}

/// Each device applied each stream from where it took it up, one after the other, as far as the
/// log goes.
pub(super) fn devices_follow_the_log(case: &Case<'_>) -> Vec<Finding> {
    let devices = case.history.devices.iter();
    devices.flat_map(|device| follows(case, device)).collect()
}

fn follows(case: &Case<'_>, device: &DeviceHistory) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut positions: BTreeMap<&str, u64> = BTreeMap::new();
    for (at, event) in &device.events {
        let wrong = match event {
            Event::TakenUp { stream, head } => {
                positions.insert(stream, *head);
                let end = case
                    .log
                    .streams
                    .get(stream)
                    .filter(|stream| stream.complete);
                let end = end.map(|stream| stream.entries.keys().next_back().copied().unwrap_or(0));
                end.filter(|end| head > end).map(|end| {
                    (
                        stream,
                        *head,
                        format!("taken up at {head}, but it ends at {end}"),
                    )
                })
            }
            Event::Gone { stream } => {
                positions.remove(&**stream);
                None
            }
            Event::Applied(delta) => {
                let before = positions.insert(&delta.stream, delta.seq);
                // A run may begin with what is held.
                let follows = |before| delta.first <= before + 1 && before < delta.seq;
                let wrong = !before.is_some_and(follows);
                wrong.then(|| {
                    (
                        &delta.stream,
                        delta.seq,
                        format!("applied after {before:?}"),
                    )
                })
            }
            _ => None,
        };
        if let Some((stream, seq, why)) = wrong {
            let (name, at) = (&device.name, seconds(*at));
            let around = case.log.around(stream, seq);
            let what = format!("device {name} at {at}: {stream} {seq} {why}; {around}");
            findings.push(Finding::new(Rule::Order, what));
        }
    }
    findings
}

/// What anybody ever saw is in the log in the end, and says the same there.
pub(super) fn what_was_seen_stays(case: &Case<'_>) -> Vec<Finding> {
    let mut looked_at = BTreeSet::new();
    let mut findings = Vec::new();
    for delta in super::log::seen(case.history) {
        if !looked_at.insert(Arc::as_ptr(delta)) {
            continue;
        }
        let why = match case.log.entry(&delta.stream, delta.seq) {
            Some(entry) if is_same(case, entry, delta) => continue,
            Some(entry) if is_concealed(case, entry, delta) => continue,
            Some(_) if is_run(case, delta) => continue,
            Some(entry) => format!("the log has {entry:?}"),
            None if !case.log.streams.contains_key(&delta.stream) => {
                "nobody can read such a stream".to_owned()
            }
            None => "the log has no such entry".to_owned(),
        };
        let what = format!("{delta:?} was seen {}, but {why}", by_whom(case, delta));
        findings.push(Finding::new(Rule::Gone, what));
    }
    findings
}

/// A run of comings and goings, as everybody is told of it in a large group.
fn is_run(case: &Case<'_>, seen: &Delta) -> bool {
    let told = seen.kind == "members.changed" && seen.stream.starts_with("g:");
    let moves = |seq: u64| {
        let entry = case.log.entry(&seen.stream, seq);
        entry.is_some_and(|entry| {
            matches!(
                &*entry.kind,
                "member.added" | "member.removed" | "member.banned"
            )
        })
    };
    told && seen.first < seen.seq
        && seen.actor.is_none()
        && seen.data["count"].is_u64()
        && (seen.first..=seen.seq).all(moves)
}

/// An entry as those see it who are no admins: of a ban the removal or nothing, of the rest
/// nothing.
fn is_concealed(case: &Case<'_>, entry: &Delta, seen: &Delta) -> bool {
    let mut shown = entry.clone();
    match (&*entry.kind, &*seen.kind) {
        ("member.banned", "member.removed") => shown.kind.clone_from(&seen.kind),
        ("member.banned" | "member.unbanned", "hidden") => {
            shown.kind.clone_from(&seen.kind);
            shown.actor = None;
            shown.data = Value::Object(serde_json::Map::new());
            // It may stand for some before it.
            shown.first = seen.first;
        }
        _ => return false,
    }
    is_same(case, &shown, seen)
}

/// The same entry. A content, with whom it mentions, is filled in when a delta is encoded: it may
/// be any that the message ever had.
fn is_same(case: &Case<'_>, entry: &Delta, seen: &Delta) -> bool {
    let without = |delta: &Delta| {
        let mut data = delta.data.clone();
        if let Some(fields) = data.as_object_mut() {
            for filled_in in ["content", "mentions", "mentions_everyone"] {
                fields.remove(filled_in);
            }
        }
        data
    };
    let head = |delta: &Delta| {
        (
            delta.first,
            delta.kind.clone(),
            delta.at.clone(),
            delta.actor.clone(),
        )
    };
    head(entry) == head(seen)
        && without(entry) == without(seen)
        && (entry.data["content"] == seen.data["content"] || had_content(case, seen))
}

fn had_content(case: &Case<'_>, seen: &Delta) -> bool {
    let message = match &*seen.kind {
        "message.created" => seen.seq,
        _ => seen.data["message"].as_u64().unwrap_or_default(),
    };
    let content = match &seen.data["content"] {
        Value::String(text) if !text.is_empty() => text,
        _ => return is_deleted(case, &seen.stream, message),
    };
    let channel = seen.stream.trim_start_matches("c:");
    let sent = case.matched.operation(case.history, &seen.stream, message);
    let sent = sent.is_some_and(
        |sent| matches!(&sent.change, Change::Send { content: first, .. } if first == content),
    );
    let edits = case.edits.get(&(channel, message)).into_iter().flatten();
    let mut contents = edits.filter_map(|edit| match &edit.change {
        Change::Edit { content, .. } => Some(content),
        _ => None,
    });
    sent || contents.any(|new| new == content)
}

fn is_deleted(case: &Case<'_>, stream: &str, message: u64) -> bool {
    let Some(stream) = case.log.streams.get(stream) else {
        return false;
    };
    let by = |entry: &Arc<Delta>| {
        entry.kind == "message.deleted" && entry.data["message"].as_u64() == Some(message)
    };
    // In a channel that was deleted the entry may never have been seen.
    !stream.complete || stream.entries.values().any(by)
}

fn by_whom(case: &Case<'_>, delta: &Arc<Delta>) -> String {
    for device in &case.history.devices {
        for (at, event) in &device.events {
            if let Event::Seen {
                delta: seen,
                source,
            } = event
                && Arc::ptr_eq(seen, delta)
            {
                return format!(
                    "by device {} at {} by {source:?}",
                    device.name,
                    seconds(*at)
                );
            }
        }
    }
    "in a read".to_owned()
}

/// Who was answered before another asked stands before them.
pub(super) fn real_time(case: &Case<'_>) -> Vec<Finding> {
    let mut placed: BTreeMap<(String, u64), usize> = BTreeMap::new();
    for (index, operation) in case.history.operations.iter().enumerate() {
        if let Some(seq) = case.matched.position[index] {
            placed.insert((operation.stream(), seq), index);
        }
    }
    let mut findings = Vec::new();
    // Of those that stand further back in the same stream, the one that was answered first.
    let mut behind: Option<(&str, u64, usize)> = None;
    for ((stream, seq), index) in placed.iter().rev() {
        let operation = &case.history.operations[*index];
        if let Some((of, other_seq, other)) = behind
            && of == stream
            && case.history.operations[other].answered < operation.invoked
        {
            let (first, second) = (
                case.history.describe(&case.history.operations[other]),
                case.history.describe(operation),
            );
            let what = format!(
                "{stream}: {first}\n    stands at {other_seq}, behind {seq}, which was asked for later: {second}"
            );
            findings.push(Finding::new(Rule::RealTime, what));
        }
        let earlier = behind.filter(|(of, _, other)| {
            of == stream && case.history.operations[*other].answered <= operation.answered
        });
        behind = earlier.or(Some((stream, *seq, *index)));
    }
    findings
}
