//! Read your writes, and those of others: what was acknowledged before a read began, the read
//! shows. And a member is never told that what is there is not.

use std::collections::BTreeMap;

use super::access::certainly_has;
use super::{Case, Finding, Rule};
use crate::chaos::history::{Change, Moment, Operation, Question, Read};

pub(super) fn show_what_was_acknowledged(case: &Case<'_>) -> Vec<Finding> {
    let known = Acknowledged::of(case);
    let mut findings = Vec::new();
    for read in &case.history.reads {
        let wrong = match read.status {
            200 => too_old(case, &known, read)
                .or_else(|| not_contiguous(read))
                .or_else(|| reset(case, &known, read)),
            404 => denied(case, read),
            status => Some(format!("status {status}")),
        };
        if let Some(wrong) = wrong {
            let who = case.history.name(&read.actor);
            let what = format!("{wrong}: {who} read {read:?}");
            findings.push(Finding::new(Rule::Read, what));
        }
    }
    findings
}

/// How far streams had come when: for each the time of an answer, and the highest position
/// answered by then.
#[derive(Default)]
struct Progress(BTreeMap<String, Vec<(Moment, u64)>>);

/// What had been acknowledged when.
#[derive(Default)]
struct Acknowledged<'a> {
    anything: Progress,
    /// Of groups: what moves their version.
    renames: Progress,
    /// By channel's stream and position.
    messages: BTreeMap<String, BTreeMap<u64, &'a Operation>>,
}

impl Progress {
    fn add(&mut self, operation: &Operation, seq: u64) {
        let stream = self.0.entry(operation.stream()).or_default();
        stream.push((operation.answered, seq));
    }

    fn finish(&mut self) {
        for stream in self.0.values_mut() {
            stream.sort_unstable();
            let mut highest = 0;
            for (_, seq) in stream {
                highest = highest.max(*seq);
                *seq = highest;
            }
        }
    }

    fn by(&self, stream: &str, at: Moment) -> u64 {
        let Some(all) = self.0.get(stream) else {
            return 0;
        };
        let before = all.partition_point(|(answered, _)| *answered < at);
        before.checked_sub(1).map_or(0, |last| all[last].1)
    }
}

impl<'a> Acknowledged<'a> {
    fn of(case: &Case<'a>) -> Self {
        let mut known = Self::default();
        for (index, operation) in case.history.operations.iter().enumerate() {
            let Some(seq) = case.matched.position[index].filter(|_| operation.is_ok()) else {
                continue;
            };
            known.anything.add(operation, seq);
            match operation.change {
                Change::RenameGroup { .. } => known.renames.add(operation, seq),
                Change::Send { .. } => {
                    let channel = known.messages.entry(operation.stream()).or_default();
                    channel.insert(seq, operation);
                }
                _ => {}
            }
        }
        known.anything.finish();
        known.renames.finish();
        known
    }
}

fn too_old(case: &Case<'_>, known: &Acknowledged<'_>, read: &Read) -> Option<String> {
    let stream = read.question.stream();
    let least = known.anything.by(&stream, read.invoked);
    let body = &read.body;
    match &read.question {
        Question::Channel { .. } => {
            let head = body["head"].as_u64().unwrap_or_default();
            (head < least).then(|| format!("head {head}, though {least} had been acknowledged"))
        }
        Question::Sync { after, .. } => {
            let last = read.deltas.last().map_or(*after, |delta| delta.seq);
            let ended = body["more"] != true && body["resets"][0].is_null();
            (ended && last < least)
                .then(|| format!("it ends at {last}, though {least} had been acknowledged"))
        }
        Question::Newest { .. } => missing_message(case, known, read, &stream),
        Question::Message { seq, .. } => {
            (body["seq"].as_u64() != Some(*seq)).then(|| "another message".to_owned())
        }
        Question::Group { .. } => {
            let version = body["version"].as_u64().unwrap_or_default();
            let least = known.renames.by(&stream, read.invoked);
            (version < least)
                .then(|| format!("version {version}, though {least} had been acknowledged"))
        }
    }
}

/// The newest page reaches from its first message to the end: one that was acknowledged and
/// belongs there is there.
fn missing_message(
    case: &Case<'_>,
    known: &Acknowledged<'_>,
    read: &Read,
    stream: &str,
) -> Option<String> {
    let items = read.body["items"].as_array()?;
    let seqs: Vec<u64> = items.iter().filter_map(|it| it["seq"].as_u64()).collect();
    let first = match seqs.first() {
        Some(first) if read.body["more"] == true => *first,
        _ => 0,
    };
    let mut sent = known.messages.get(stream)?.range(first..);
    let (seq, operation) =
        sent.find(|(seq, operation)| operation.answered < read.invoked && !seqs.contains(seq))?;
    Some(format!(
        "{seq} is missing, {}",
        case.history.describe(operation)
    ))
}

/// What a sync returns begins right after the position and has no holes.
fn not_contiguous(read: &Read) -> Option<String> {
    let Question::Sync { stream, after } = &read.question else {
        return None;
    };
    let mut expected = after + 1;
    for delta in &read.deltas {
        if delta.stream != *stream || delta.first != expected {
            return Some(format!(
                "{} {} instead of {expected}",
                delta.stream, delta.seq
            ));
        }
        expected = delta.seq + 1;
    }
    None
}

/// Whether a reset was wrong. Nothing is ever cut off a stream in a run, and no epoch begins.
fn reset(case: &Case<'_>, known: &Acknowledged<'_>, read: &Read) -> Option<String> {
    let Question::Sync { stream, after } = &read.question else {
        return None;
    };
    let reset = read.body["resets"].get(0)?;
    match reset["reason"].as_str() {
        Some("gone") => denied(case, read),
        Some("ahead") => {
            let least = known.anything.by(stream, read.invoked);
            (*after <= least).then(|| format!("{after} is ahead, though {least} was acknowledged"))
        }
        _ => Some("a reset without a reason".to_owned()),
    }
}

/// Whether it was wrong to say that there is no such thing: the reader was a member all the
/// time, and the channel and the message were there.
fn denied(case: &Case<'_>, read: &Read) -> Option<String> {
    let stream = read.question.stream();
    if !certainly_has(case, &read.actor, &stream, read.invoked, read.answered) {
        return None;
    }
    if let Question::Message { seq, .. } = &read.question {
        let sent = case.matched.operation(case.history, &stream, *seq)?;
        if sent.answered >= read.invoked {
            return None;
        }
    }
    Some("it was there, and the reader a member".to_owned())
}
