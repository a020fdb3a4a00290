//! Rules about state: devices end with what HTTP says, the log adds up to it, and no change
//! overwrote another unseen.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};

use super::log::Stream;
use super::{Case, Finding, Rule};
use crate::chaos::history::{Change, Operation, Outcome, Truth};
use crate::replica::Delta;
use crate::view::{Group, Messages, Moderation};

/// In the end every device is at the heads of all that its user has, and holds what a new
/// device reads.
pub(super) fn devices_end_fresh(case: &Case<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for device in &case.history.devices {
        if let Some(how) = &device.stale {
            let what = format!("device {} differs from fresh state: {how}", device.name);
            findings.push(Finding::new(Rule::Stale, what));
        }
        for (stream, end) in ends_of(case, &device.user) {
            let at = device.cursor.get(&stream).copied();
            if at != Some(end) {
                let around = case.log.around(&stream, at.unwrap_or_default() + 1);
                let what = format!(
                    "device {} is at {at:?} of {stream}, which ends at {end}; {around}",
                    device.name
                );
                findings.push(Finding::new(Rule::Stale, what));
            }
        }
    }
    findings
}

/// The streams of groups in which somebody is in the end.
fn ends_of(case: &Case<'_>, user: &str) -> BTreeMap<String, u64> {
    let mut ends = BTreeMap::new();
    for (id, group) in &case.log.groups {
        let absences = group.absences.get(user);
        let absent = absences.is_some_and(|all| all.last().is_some_and(|last| last.to.is_none()));
        if absent {
            continue;
        }
        let there = group
            .channels
            .iter()
            .filter(|(_, channel)| channel.deleted.is_none());
        let channels = there.map(|(id, _)| format!("c:{id}"));
        for stream in channels.chain([format!("g:{id}")]) {
            let entries = case.log.streams.get(&stream).map(|stream| &stream.entries);
            let end = entries.and_then(|entries| entries.keys().next_back().copied());
            ends.insert(stream, end.unwrap_or_default());
        }
    }
    ends
}

/// A change with `If-Match` follows exactly that version.
pub(super) fn no_lost_update(case: &Case<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (index, operation) in case.history.operations.iter().enumerate() {
        let (Some(seq), Some(wanted)) = (case.matched.position[index], operation.change.if_match())
        else {
            continue;
        };
        let found = version_before(case, operation, seq);
        if operation.is_ok() && found != Some(wanted) {
            let described = case.history.describe(operation);
            let around = case.log.around(&operation.stream(), seq);
            let what = format!(
                "version {wanted} was wanted, {found:?} overwritten: {described}; {around}"
            );
            findings.push(Finding::new(Rule::LostUpdate, what));
        }
    }
    findings
}

/// The version that a rename at `seq` replaced.
fn version_before(case: &Case<'_>, operation: &Operation, seq: u64) -> Option<u64> {
    let stream = case.log.streams.get(&operation.stream())?;
    let mut before = stream.entries.range(..seq).rev();
    let found = before.find(|(_, entry)| moves_version(&operation.change, entry));
    found.map(|(seq, _)| *seq)
}

/// Whether an entry moves the version of what a change is about.
fn moves_version(change: &Change, entry: &Delta) -> bool {
    match change {
        Change::RenameChannel { channel, .. } => {
            let own = entry.kind.starts_with("channel.") && entry.data["id"] == **channel;
            own || entry.kind == "group.created"
        }
        _ => matches!(&*entry.kind, "group.created" | "group.updated"),
    }
}

/// Who is answered 412 wanted a version that another change had taken the place of, one that
/// had been asked for by then.
pub(super) fn refused_for_a_reason(case: &Case<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for operation in &case.history.operations {
        let stream = operation.stream();
        let (Some(wanted), Outcome::Refused { status: 412, .. }, Some(entries)) = (
            operation.change.if_match(),
            &operation.outcome,
            case.log.streams.get(&stream),
        ) else {
            continue;
        };
        let mut later = entries.entries.range(wanted + 1..);
        let taken = later.any(|(seq, entry)| {
            let by = case.matched.operation(case.history, &stream, *seq);
            moves_version(&operation.change, entry)
                && by.is_none_or(|by| by.invoked < operation.answered)
        });
        if !taken {
            let around = case.log.around(&stream, wanted);
            let what = format!("{}; {around}", case.history.describe(operation));
            findings.push(Finding::new(Rule::Refused, what));
        }
    }
    findings
}

/// Applying a group's or channel's log from its beginning gives the state that HTTP returns.
pub(super) fn log_is_state(case: &Case<'_>, truth: &Truth) -> Vec<Finding> {
    let nothing = Stream::default();
    let of = |stream: String| case.log.streams.get(&stream).unwrap_or(&nothing);
    let groups = truth.state.groups.iter();
    let groups = groups.flat_map(|(id, group)| group_differs(id, group, of(format!("g:{id}"))));
    let channels = truth.state.channels.iter();
    let channels =
        channels.flat_map(|(id, shown)| messages_differ(id, shown, of(format!("c:{id}"))));
    let differing = groups.chain(channels);
    differing
        .map(|what| Finding::new(Rule::Stale, what))
        .collect()
}

fn group_differs(id: &str, group: &Group, stream: &Stream) -> Vec<String> {
    let mut differing = Vec::new();
    let last = last_of(stream, &["group.created", "group.updated"]);
    let (version, name) = last.map_or((0, None), |it| (it.seq, Some(&it.data["name"])));
    if group.version != version || Some(&group.name) != name {
        let (shown, at) = (&group.name, group.version);
        differing.push(format!(
            "g:{id} is {shown} at {at}; the log says {name:?} at {version}"
        ));
    }
    let said = added_up(stream);
    for (what, shown, said) in [
        ("members", json!(group.members), json!(said.members)),
        ("edit lease", group.lease.clone(), said.lease.clone()),
        ("mutes", json!(group.muted), json!(said.muted)),
        ("bans", bans(group), bans(&said)),
    ] {
        if shown != said {
            differing.push(format!(
                "g:{id} has the {what} {shown}; the log says {said}"
            ));
        }
    }
    differing
}

fn messages_differ(id: &str, messages: &Messages, stream: &Stream) -> Vec<String> {
    let mut differing = Vec::new();
    let is_message = |entry: &&Arc<Delta>| entry.kind == "message.created";
    for entry in stream.entries.values().filter(is_message) {
        let content = entry.data["content"].as_str().unwrap_or_default();
        let message = messages.get(&entry.seq);
        if message.is_none_or(|message| message.content != content) {
            differing.push(format!("c:{id}: {entry:?}, but the message is {message:?}"));
        }
    }
    for (seq, message) in messages {
        if stream.entries.get(seq).filter(is_message).is_none() {
            differing.push(format!(
                "c:{id} {seq} is a message without an entry: {message:?}"
            ));
        }
    }
    differing
}

fn last_of<'a>(stream: &'a Stream, kinds: &[&str]) -> Option<&'a Arc<Delta>> {
    let mut back = stream.entries.values().rev();
    back.find(|entry| kinds.contains(&&*entry.kind))
}

/// What the entries of a group's stream come to. One that lacks what its kind promises changes
/// nothing, and so differs from the state.
fn added_up(stream: &Stream) -> Group {
    let mut group = Group {
        moderation: Some(Moderation::default()),
        ..Group::default()
    };
    for entry in stream.entries.values() {
        if entry.kind == "group.created" {
            let owner = entry.actor.clone().unwrap_or_default();
            group.members.insert(owner, "owner".to_owned());
        }
        group.apply(entry).ok();
    }
    group
}

fn bans(group: &Group) -> Value {
    json!(group.moderation.as_ref().map(|all| &all.bans))
}
