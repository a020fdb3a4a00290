//! Edit leases: a change under one overwrites nobody who came since, and while one is held
//! nobody changes settings without it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::{Case, Finding, Rule};
use crate::chaos::history::{Change, Operation};
use crate::replica::Delta;

/// A lease lasts 30 s from some time after it was asked for.
const LIFETIME: Duration = Duration::from_secs(30);

type Entries = BTreeMap<u64, Arc<Delta>>;

/// Whatever was changed under a lease, in the log's words or in those of who asked: from the
/// entry by which the same user took it up to the change, nobody took one, gave one back or
/// changed settings under another one or none.
pub(super) fn fence_changes(case: &Case<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (name, stream) in &case.log.streams {
        for (seq, entry) in &stream.entries {
            let said = entry.data["lease"].as_u64();
            let operation = case.matched.operation(case.history, name, *seq);
            let operation = operation.filter(|_| entry.kind == "group.updated");
            let meant = operation.map_or(said, |operation| operation.change.token());
            let is_under = said.is_none_or(|token| is_under(&stream.entries, token, entry));
            if said != meant || !is_under {
                let around = case.log.around(name, *seq);
                let what =
                    format!("{name} {seq} was made under {meant:?}, says {said:?}; {around}");
                findings.push(Finding::new(Rule::LostUpdate, what));
            }
        }
    }
    findings
}

fn is_under(entries: &Entries, token: u64, change: &Delta) -> bool {
    let taken = entries.get(&token);
    let taken = taken.is_some_and(|it| it.kind == "lease.acquired" && it.actor == change.actor);
    let mut between = entries.range(token + 1..change.seq.max(token + 1));
    token < change.seq && taken && !between.any(|(_, entry)| ends(entry, token))
}

/// Whether behind this entry nobody changes anything under the lease any more.
fn ends(entry: &Delta, token: u64) -> bool {
    match &*entry.kind {
        "lease.acquired" | "lease.released" => true,
        "group.updated" | "channel.updated" => entry.data["lease"].as_u64() != Some(token),
        _ => false,
    }
}

/// A rename without a lease, asked for after somebody had been told that he has one, and answered
/// before that can have run out: it was made when nobody had it any more. Only where nothing
/// was broken meanwhile, for what Redis forgets is free.
pub(super) fn hold_others_up(case: &Case<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (index, rename) in case.history.operations.iter().enumerate() {
        let (Change::RenameGroup { token: None, .. }, Some(seq)) =
            (&rename.change, case.matched.position[index])
        else {
            continue;
        };
        let stream = rename.stream();
        let Some((token, taken)) = taken_before(case, &stream, seq) else {
            continue;
        };
        let held = rename.invoked > taken.answered && rename.answered < taken.invoked + LIFETIME;
        if given_back_meanwhile(case, taken, rename) {
            continue;
        }
        let mut faults = case.history.faults_during(taken.invoked, rename.answered);
        if held && faults.next().is_none() {
            let around = case.log.around(&stream, seq);
            let described = case.history.describe(rename);
            let what = format!("the lease {token} was held: {described}; {around}");
            findings.push(Finding::new(Rule::LostUpdate, what));
        }
    }
    findings
}

/// Whether the session gave a lease back at the same time: of what it asks for at once, the one
/// may undo the other.
fn given_back_meanwhile(case: &Case<'_>, taken: &Operation, rename: &Operation) -> bool {
    let Change::TakeLease { group, session, .. } = &taken.change else {
        return false;
    };
    let back = Change::GiveBackLease {
        group: group.clone(),
        session: session.clone(),
    };
    let mut others = case.history.operations.iter();
    others.any(|other| {
        other.change == back && other.invoked < rename.answered && other.answered > taken.invoked
    })
}

/// The lease that nothing had ended before this position, and who asked for it.
fn taken_before<'a>(case: &'a Case<'_>, stream: &str, seq: u64) -> Option<(u64, &'a Operation)> {
    let entries = &case.log.streams.get(stream)?.entries;
    let mut back = entries.range(..seq).rev();
    let taken = back.find(|(_, entry)| entry.kind == "lease.acquired");
    let token = *taken?.0;
    let mut between = entries.range(token + 1..seq);
    if between.any(|(_, entry)| ends(entry, token)) {
        return None;
    }
    let operation = case.matched.operation(case.history, stream, token)?;
    Some((token, operation))
}
