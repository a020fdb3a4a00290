//! The muted are silent, and the banned stay out.

use std::collections::BTreeSet;

use super::{Case, Finding, Rule};
use crate::chaos::history::Moment;
use crate::replica::Delta;

/// Nobody comes into a group from which he is banned.
pub(super) fn the_banned_stay_out(case: &Case<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let streams = case.log.streams.iter();
    for (name, stream) in streams.filter(|(name, _)| name.starts_with("g:")) {
        let mut banned = BTreeSet::new();
        for (seq, entry) in &stream.entries {
            let user = entry.data["user"].as_str().unwrap_or_default();
            match &*entry.kind {
                "member.banned" => drop(banned.insert(user)),
                "member.unbanned" => drop(banned.remove(user)),
                "member.added" if banned.contains(user) => {
                    let around = case.log.around(name, *seq);
                    let who = case.history.name(user);
                    let what = format!("{who} was banned and came in: {around}");
                    findings.push(Finding::new(Rule::Forbidden, what));
                }
                _ => {}
            }
        }
    }
    findings
}

/// Behind the fence of a mute its user neither writes nor edits before its end, unless another
/// change of it had been asked for by then.
pub(super) fn the_muted_are_silent(case: &Case<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (id, group) in &case.log.groups {
        let stream = format!("g:{id}");
        let Some(of_group) = case.log.streams.get(&stream) else {
            continue;
        };
        let mutes = of_group.entries.values();
        for mute in mutes.filter(|entry| entry.kind == "member.muted") {
            let Some(until) = mute.data["muted_until"].as_str() else {
                continue;
            };
            let ended = ended(case, &stream, mute);
            for channel in group.channels.keys() {
                let written = written(case, channel, mute, until, ended);
                findings.extend(written.map(|entry| {
                    let who = case
                        .history
                        .name(entry.actor.as_deref().unwrap_or_default());
                    let at = &entry.at;
                    let what = format!(
                        "{who} was muted until {until} by {mute:?}, and at {at}: {entry:?}"
                    );
                    Finding::new(Rule::Forbidden, what)
                }));
            }
        }
    }
    findings
}

/// When the next change of the same mute was asked for.
fn ended(case: &Case<'_>, stream: &str, mute: &Delta) -> Moment {
    let entries = &case.log.streams[stream].entries;
    let mut later = entries.range(mute.seq + 1..);
    let next = later
        .find(|(_, entry)| entry.kind == "member.muted" && entry.data["user"] == mute.data["user"]);
    let Some((seq, _)) = next else {
        return Moment::MAX;
    };
    let operation = case.matched.operation(case.history, stream, *seq);
    operation.map_or(Moment::ZERO, |operation| operation.invoked)
}

fn written<'a>(
    case: &'a Case<'_>,
    channel: &str,
    mute: &'a Delta,
    until: &'a str,
    ended: Moment,
) -> impl Iterator<Item = &'a Delta> {
    let stream = format!("c:{channel}");
    let fence = case.log.fence(channel, mute.seq).unwrap_or(u64::MAX);
    let entries = case.log.streams.get(&stream).into_iter();
    let entries = entries.flat_map(move |entries| entries.entries.range(fence..));
    let entries = entries.map(|(_, entry)| &**entry);
    entries.filter(move |entry| {
        let by_muted = entry.actor.as_deref() == mute.data["user"].as_str();
        let is_said = matches!(&*entry.kind, "message.created" | "message.edited");
        // Both are of one form, so they compare as texts.
        let before_end = *entry.at < *until;
        by_muted && is_said && before_end && {
            let operation = case.matched.operation(case.history, &stream, entry.seq);
            operation.is_some_and(|operation| operation.answered < ended)
        }
    })
}
