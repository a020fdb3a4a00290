//! Only members see and do. The bounds come from the log: where a removal is in the group's
//! stream, and where its fence is in each channel's. Around somebody's return time decides, so
//! that what was on its way is not held against anybody.

use crate::chaos::history::{Change, Event, Moment, Operation, Question, Read, Source, seconds};
use crate::replica::Delta;

use super::log::Absence;
use super::{Case, Finding, Rule};

/// Nobody saw a delta of a time when he was no member, read anything then, or did anything.
pub(super) fn only_members(case: &Case<'_>) -> Vec<Finding> {
    let mut findings = missing_fences(case);
    for device in &case.history.devices {
        for (at, event) in &device.events {
            let Event::Seen { delta, source } = event else {
                continue;
            };
            if let Some(why) = leaks(case, &device.user, delta, *source, *at) {
                let (name, at) = (&device.name, seconds(*at));
                let around = case.log.around(&delta.stream, delta.seq);
                let what =
                    format!("device {name} at {at} by {source:?}: {delta:?}: {why}; {around}");
                findings.push(Finding::new(Rule::Leaked, what));
            }
        }
    }
    findings.extend(
        case.history
            .reads
            .iter()
            .filter_map(|read| read_leaks(case, read)),
    );
    let operations = case.history.operations.iter().enumerate();
    findings.extend(operations.filter_map(|(index, operation)| acted(case, index, operation)));
    findings
}

fn leaks(case: &Case<'_>, user: &str, delta: &Delta, source: Source, at: Moment) -> Option<String> {
    if let Some(owner) = delta.stream.strip_prefix("u:") {
        return (owner != user).then(|| format!("it concerns only {owner}"));
    }
    let group = case.log.group_of_stream(&delta.stream)?;
    let absences = case.log.groups.get(group)?.absences.get(user)?;
    let found = absences.iter().find(|absence| {
        let behind = bound(case, &delta.stream, absence).is_some_and(|bound| delta.seq >= bound);
        behind && is_within(case, group, absence, delta, source, at)
    })?;
    Some(format!(
        "{} was no member: {found:?} in g:{group}",
        case.history.name(user)
    ))
}

/// The first position of a stream that belongs to the absence.
fn bound(case: &Case<'_>, stream: &str, absence: &Absence) -> Option<u64> {
    match stream.strip_prefix("c:") {
        Some(channel) => case.log.fence(channel, absence.from),
        None => Some(absence.from + 1),
    }
}

/// Whether what was seen behind the bound cannot have been seen by right: before the return was
/// even asked for; or pushed, although it was committed before that.
fn is_within(
    case: &Case<'_>,
    group: &str,
    absence: &Absence,
    delta: &Delta,
    source: Source,
    at: Moment,
) -> bool {
    let Some(to) = absence.to else {
        return true;
    };
    let Some(addition) = case
        .matched
        .operation(case.history, &format!("g:{group}"), to)
    else {
        return false; // Nobody's: found elsewhere.
    };
    let delta = case
        .matched
        .operation(case.history, &delta.stream, delta.seq);
    let committed = delta.is_some_and(|delta| delta.answered < addition.invoked);
    at < addition.invoked || (source == Source::Push && committed)
}

fn read_leaks(case: &Case<'_>, read: &Read) -> Option<Finding> {
    let stream = read.question.stream();
    if read.status != 200 {
        return None;
    }
    let reset = read.body["resets"].get(0);
    if matches!(read.question, Question::Sync { .. }) && reset.is_some() {
        return None; // It says that the stream is gone.
    }
    let absence = certain_absence(case, &read.actor, &stream, read.invoked, read.answered)?;
    let who = case.history.name(&read.actor);
    let what = format!("{who} was no member ({absence:?}) and read {read:?}");
    Some(Finding::new(Rule::Leaked, what))
}

/// An absence that lasted all the time between two moments, whatever was on its way.
pub(super) fn certain_absence<'a>(
    case: &'a Case<'_>,
    user: &str,
    stream: &str,
    from: Moment,
    to: Moment,
) -> Option<&'a Absence> {
    let group = case.log.group_of_stream(stream)?;
    let group_stream = format!("g:{group}");
    let absences = case.log.groups.get(group)?.absences.get(user)?;
    absences.iter().find(|absence| {
        let of = |seq: u64| case.matched.operation(case.history, &group_stream, seq);
        let gone = absence.from == 0 || of(absence.from).is_some_and(|it| it.answered < from);
        let back = absence.to.map(|seq| of(seq).map(|it| it.invoked));
        gone && back.is_none_or(|back| back.is_some_and(|back| back > to))
    })
}

/// Whether a stream was somebody's all the time between two moments, whatever was on its way:
/// he was a member, and the channel was there.
pub(super) fn certainly_has(
    case: &Case<'_>,
    user: &str,
    stream: &str,
    from: Moment,
    to: Moment,
) -> bool {
    if let Some(owner) = stream.strip_prefix("u:") {
        return owner == user;
    }
    let Some(id) = case.log.group_of_stream(stream) else {
        return false;
    };
    let Some(channel) = stream.strip_prefix("c:") else {
        return certain_member(case, user, id, from, to);
    };
    let changes = |seq| {
        case.matched
            .operation(case.history, &format!("g:{id}"), seq)
    };
    let channels = case.log.groups.get(id).map(|group| &group.channels);
    channels
        .and_then(|channels| channels.get(channel))
        .is_some_and(|there| {
            let came = there.created == 1 || was_before(changes(there.created), from);
            let stayed = there.deleted.is_none_or(|seq| was_after(changes(seq), to));
            came && stayed && certain_member(case, user, id, from, to)
        })
}

/// Whether somebody was a member of a group all the time, whatever was on its way.
pub(super) fn certain_member(
    case: &Case<'_>,
    user: &str,
    group: &str,
    from: Moment,
    to: Moment,
) -> bool {
    let stream = format!("g:{group}");
    let changes = |seq| case.matched.operation(case.history, &stream, seq);
    let Some(group) = case.log.groups.get(group) else {
        return false;
    };
    let Some(absences) = group.absences.get(user) else {
        return true; // The owner.
    };
    let following = absences.iter().skip(1).map(Some).chain([None]);
    absences.iter().zip(following).any(|(absence, next)| {
        let came = absence.to.is_some_and(|seq| was_before(changes(seq), from));
        came && next.is_none_or(|next| was_after(changes(next.from), to))
    })
}

fn was_before(change: Option<&Operation>, at: Moment) -> bool {
    change.is_some_and(|change| change.answered < at)
}

fn was_after(change: Option<&Operation>, at: Moment) -> bool {
    change.is_some_and(|change| change.invoked > at)
}

/// A change that was acknowledged to somebody who was no member at any time of it.
fn acted(case: &Case<'_>, index: usize, operation: &Operation) -> Option<Finding> {
    let stream = match &operation.change {
        Change::MarkRead { channel, .. } => format!("c:{channel}"),
        _ => operation.stream(),
    };
    if !operation.is_ok() {
        return None;
    }
    let absence = certain_absence(
        case,
        &operation.actor,
        &stream,
        operation.invoked,
        operation.answered,
    );
    let why = match absence {
        Some(absence) => format!("was no member ({absence:?})"),
        None => behind_the_fence(case, index, operation, &stream)?,
    };
    let who = case.history.name(&operation.actor);
    let what = format!("{who} {why}: {}", case.history.describe(operation));
    Some(Finding::new(Rule::Leaked, what))
}

/// A message or an edit of somebody who never came back, behind the fence of the removal.
fn behind_the_fence(
    case: &Case<'_>,
    index: usize,
    operation: &Operation,
    stream: &str,
) -> Option<String> {
    let (Change::Send { .. }
    | Change::Edit { .. }
    | Change::Delete { .. }
    | Change::React { .. }
    | Change::Pin { .. }) = operation.change
    else {
        return None;
    };
    let seq = case.matched.position[index]?;
    let group = case.log.group_of_stream(stream)?;
    let last = case
        .log
        .groups
        .get(group)?
        .absences
        .get(&operation.actor)?
        .last()?;
    let fence = bound(case, stream, last)?;
    (last.to.is_none() && seq >= fence)
        .then(|| format!("wrote at {seq}, behind the fence at {fence} of {last:?}"))
}

/// Every removal has its fence in every channel that was there.
fn missing_fences(case: &Case<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (id, group) in &case.log.groups {
        let removals = group.absences.values().flatten().filter(|it| it.from > 0);
        for removal in removals {
            for (channel, there) in &group.channels {
                let deleted = there.deleted.is_some();
                if !deleted && case.log.fence(channel, removal.from).is_none() {
                    let around = case.log.around(&format!("g:{id}"), removal.from);
                    let what = format!(
                        "c:{channel} has no fence for g:{id} {}: {around}",
                        removal.from
                    );
                    findings.push(Finding::new(Rule::Leaked, what));
                }
            }
        }
    }
    findings
}
