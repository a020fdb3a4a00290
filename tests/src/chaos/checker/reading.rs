//! ReadMarks of what is read: what was acknowledged stays, nothing moves them that nobody asked for,
//! and HTTP tells what the log says.

use std::collections::BTreeMap;

use super::{Case, Finding, Rule};
use crate::chaos::history::{Change, Moment, Operation, Outcome, Question, Read, Truth};
use crate::view::ReadMarks;

pub(super) fn rise_and_stay(case: &Case<'_>, truth: &Truth) -> Vec<Finding> {
    let logged = logged(case);
    let mut findings = moved_as_asked(case);
    findings.extend(acknowledged(case).filter_map(|asked| lost(case, &logged, &asked)));
    findings.extend(told(case, truth, &logged));
    findings.extend(
        case.history
            .reads
            .iter()
            .filter_map(|read| behind(case, read)),
    );
    findings
}

/// A mark that somebody asked for.
struct Asked<'a> {
    operation: &'a Operation,
    channel: &'a str,
    seq: u64,
}

fn asked<'a>(operation: &'a Operation) -> Option<Asked<'a>> {
    match &operation.change {
        Change::MarkRead { channel, seq } => Some(Asked {
            operation,
            channel,
            seq: *seq,
        }),
        _ => None,
    }
}

fn acknowledged<'a>(case: &'a Case<'_>) -> impl Iterator<Item = Asked<'a>> {
    let operations = case.history.operations.iter();
    operations.filter(|it| it.is_ok()).filter_map(asked)
}

/// The highest position of each mark in the log, by user.
fn logged(case: &Case<'_>) -> BTreeMap<String, ReadMarks> {
    let mut logged: BTreeMap<String, ReadMarks> = BTreeMap::new();
    for (name, stream) in &case.log.streams {
        let Some(user) = name.strip_prefix("u:") else {
            continue;
        };
        let moved = stream.entries.values().filter(|it| it.kind == "read.moved");
        for entry in moved {
            let channel = entry.data["channel"].as_str().unwrap_or_default();
            let seq = entry.data["seq"].as_u64().unwrap_or_default();
            raise(logged.entry(user.to_owned()).or_default(), channel, seq);
        }
    }
    logged
}

fn raise(marks: &mut ReadMarks, channel: &str, seq: u64) {
    let mark = marks.entry(channel.to_owned()).or_default();
    *mark = seq.max(*mark);
}

/// Each entry moves its mark forward, to where its user asked for.
fn moved_as_asked(case: &Case<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (name, stream) in &case.log.streams {
        let mut marks = ReadMarks::new();
        for entry in stream.entries.values() {
            if entry.kind != "read.moved" {
                continue;
            }
            let channel = entry.data["channel"].as_str().unwrap_or_default();
            let seq = entry.data["seq"].as_u64().unwrap_or_default();
            let mut wishes = case.history.operations.iter().filter_map(asked);
            let wanted = wishes.any(|it| {
                it.operation.may_be_done()
                    && it.operation.stream() == *name
                    && (it.channel, it.seq) == (channel, seq)
            });
            let around = || case.log.around(name, entry.seq);
            if !wanted {
                let what = format!("{name}: nobody asked for {entry:?}; {}", around());
                findings.push(Finding::new(Rule::Foreign, what));
            }
            if marks.get(channel).is_some_and(|before| *before >= seq) {
                let what = format!("{name}: not forward: {entry:?}; {}", around());
                findings.push(Finding::new(Rule::Foreign, what));
            }
            raise(&mut marks, channel, seq);
        }
    }
    findings
}

/// Whether a mark was acknowledged and the log has none as far, or the answer tells of none.
fn lost(
    case: &Case<'_>,
    logged: &BTreeMap<String, ReadMarks>,
    asked: &Asked<'_>,
) -> Option<Finding> {
    let marks = logged.get(&asked.operation.actor);
    let at = marks.and_then(|marks| marks.get(asked.channel)).copied();
    let told = match &asked.operation.outcome {
        Outcome::Ok { body, .. } => body["read"].as_u64(),
        _ => None,
    };
    if at >= Some(asked.seq) && told >= Some(asked.seq) {
        return None;
    }
    let described = case.history.describe(asked.operation);
    let what = format!("the log marks {at:?}, the answer {told:?}: {described}");
    Some(Finding::new(Rule::Lost, what))
}

/// What HTTP tells in the end is the mark of the log or the user's last message.
fn told(case: &Case<'_>, truth: &Truth, logged: &BTreeMap<String, ReadMarks>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (user, told) in &truth.read_marks {
        let mut expected = logged.get(user).cloned().unwrap_or_default();
        for (name, stream) in &case.log.streams {
            let own = stream.entries.values().rev().find(|entry| {
                entry.kind == "message.created" && entry.actor.as_ref() == Some(user)
            });
            if let (Some(channel), Some(own)) = (name.strip_prefix("c:"), own) {
                raise(&mut expected, channel, own.seq);
            }
        }
        let wrong = told
            .iter()
            .find(|(channel, seq)| expected.get(*channel).unwrap_or(&0) != *seq);
        if let Some((channel, seq)) = wrong {
            let (who, expected) = (case.history.name(user), expected.get(channel));
            let what = format!("{who} has read c:{channel} through {seq}, not {expected:?}");
            findings.push(Finding::new(Rule::Stale, what));
        }
    }
    findings
}

/// A read of a channel shows at least what its reader's marks had been acknowledged by then.
fn behind(case: &Case<'_>, read: &Read) -> Option<Finding> {
    let Question::Channel { channel } = &read.question else {
        return None;
    };
    let before = |at: Moment| at < read.invoked;
    let least = acknowledged(case)
        .filter(|it| it.operation.actor == read.actor && it.channel == channel)
        .filter(|it| before(it.operation.answered))
        .map(|it| it.seq)
        .max()?;
    let shown = read.body["read"].as_u64();
    (read.status == 200 && shown < Some(least)).then(|| {
        let who = case.history.name(&read.actor);
        let what = format!(
            "read through {shown:?}, though {least} had been acknowledged: {who} read {read:?}"
        );
        Finding::new(Rule::Read, what)
    })
}
