//! Every change is pushed to everybody whom it concerns, by whichever process. A sync that was
//! faster, or made up for it, does not count: it would hide that nobody announces.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::access::certain_member;
use super::time::story;
use super::{Case, Finding, Rule};
use crate::chaos::history::{DeviceHistory, Event, Moment, Operation, Source, seconds};
use crate::replica::Delta;

/// What was committed is announced within 10 s, by another process if its own cannot; the rest
/// is for a busy machine.
const PUSHED: Duration = Duration::from_secs(12);
/// No fault may be near: neither so long before a change was asked for ...
const BEFORE: Duration = Duration::from_secs(5);
/// ... nor so long after it was acknowledged.
const AFTER: Duration = Duration::from_secs(15);

/// An entry that was committed while there was no fault.
struct Due<'a> {
    entry: &'a Arc<Delta>,
    invoked: Moment,
    acknowledged: Moment,
}

impl Due<'_> {
    fn by(&self) -> Moment {
        self.acknowledged + PUSHED
    }
}

/// What was not pushed in time, and how many pushes were looked for.
pub(super) fn in_time(case: &Case<'_>) -> (Vec<Finding>, usize) {
    let due = due(case);
    let (mut findings, mut awaited) = (Vec::new(), 0);
    for device in &case.history.devices {
        let (connected, pushed) = (connected(device), pushed(device));
        for due in &due {
            let there = connected
                .iter()
                .any(|(from, to)| *from < due.invoked && *to > due.by());
            if !there || !is_for(case, &device.user, due) {
                continue;
            }
            awaited += 1;
            let at = pushed.get(&(&*due.entry.stream, due.entry.seq)).copied();
            if at.is_none_or(|at| at > due.by()) {
                findings.push(missed(device, due, at));
            }
        }
    }
    (findings, awaited)
}

fn missed(device: &DeviceHistory, due: &Due<'_>, at: Option<Moment>) -> Finding {
    let (stream, seq, kind) = (&due.entry.stream, due.entry.seq, &due.entry.kind);
    let what = format!(
        "{stream} {seq} {kind}, asked for {} and acknowledged {}, was pushed to device {} {}; its device:{}",
        seconds(due.invoked),
        seconds(due.acknowledged),
        device.name,
        at.map_or("never".to_owned(), seconds),
        story(device, due.invoked, due.by())
    );
    Finding::new(Rule::NotPushed, what)
}

/// The acknowledged entries near which there was no fault.
fn due<'a>(case: &'a Case<'_>) -> Vec<Due<'a>> {
    let complete = case.log.streams.values().filter(|stream| stream.complete);
    let entries = complete.flat_map(|stream| stream.entries.values());
    let due = entries.filter_map(|entry| {
        let operation = cause(case, entry).filter(|it| it.is_ok())?;
        let from = operation.invoked.saturating_sub(BEFORE);
        let mut faults = case.history.faults_during(from, operation.answered + AFTER);
        faults.next().is_none().then_some(Due {
            entry,
            invoked: operation.invoked,
            acknowledged: operation.answered,
        })
    });
    due.collect()
}

/// The operation that an entry was committed for, before the answer. Of a fence it is the
/// change that had to wait for it.
fn cause<'a>(case: &'a Case<'_>, entry: &Delta) -> Option<&'a Operation> {
    if entry.kind != "members.changed" {
        return case
            .matched
            .operation(case.history, &entry.stream, entry.seq);
    }
    let change = entry.data["gv"].as_u64()?;
    let channel = entry.stream.strip_prefix("c:")?;
    let group = case.log.group_of_stream(&entry.stream)?;
    if case.log.fence(channel, change) != Some(entry.seq) {
        return None;
    }
    case.matched
        .operation(case.history, &format!("g:{group}"), change)
}

/// Whether an entry is certainly for somebody: who came before it was asked for and did not go
/// until it had to be there, and whom it is about.
fn is_for(case: &Case<'_>, user: &str, due: &Due<'_>) -> bool {
    let entry = due.entry;
    if let Some(owner) = entry.stream.strip_prefix("u:") {
        return owner == user;
    }
    let Some(group) = case.log.group_of_stream(&entry.stream) else {
        return false;
    };
    let about = entry.data["user"] == *user;
    let since = match &*entry.kind {
        "member.removed" if about => return true,
        // Who was no member is not told.
        "member.banned" if about => return false,
        "member.added" if about => due.acknowledged + Duration::from_nanos(1),
        _ => due.invoked,
    };
    certain_member(case, user, group, since, due.by())
}

/// The times in which a device was connected, and had caught up, without being told to sync.
fn connected(device: &DeviceHistory) -> Vec<(Moment, Moment)> {
    let mut spans = Vec::new();
    let mut since: Option<Moment> = None;
    for (at, event) in &device.events {
        match event {
            Event::Live => since = since.or(Some(*at)),
            Event::Connected
            | Event::Resume { .. }
            | Event::Closed { .. }
            | Event::Lost { .. }
            | Event::Away
            | Event::Back => spans.extend(since.take().map(|since| (since, *at))),
            Event::Seen { .. }
            | Event::Applied(_)
            | Event::TakenUp { .. }
            | Event::Reset { .. }
            | Event::Gone { .. }
            | Event::Typing { .. } => {}
        }
    }
    spans.extend(since.map(|since| (since, Moment::MAX)));
    spans
}

/// When each entry was pushed to a device for the first time.
fn pushed(device: &DeviceHistory) -> HashMap<(&str, u64), Moment> {
    let mut pushed = HashMap::new();
    for (at, event) in &device.events {
        if let Event::Seen {
            delta,
            source: Source::Push,
        } = event
        {
            for seq in delta.first..=delta.seq {
                pushed.entry((&*delta.stream, seq)).or_insert(*at);
            }
        }
    }
    pushed
}
