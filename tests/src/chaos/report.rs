//! What a run comes to, for people and for programs.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use serde_json::{Value, json};

use super::checker::{self, Delays, Finding, Rule};
use super::history::{Event, History, Outcome, Source, Truth, seconds};

/// Findings that the text shows; the others are in the file.
const SHOWN: usize = 12;

/// See the module's documentation.
#[derive(Debug)]
pub struct Report {
    pub seed: u64,
    pub length: Duration,
    pub findings: Vec<Finding>,
    /// Kind → how many.
    pub faults: BTreeMap<String, usize>,
    /// Kind → outcome → how many.
    pub operations: BTreeMap<String, BTreeMap<&'static str, usize>>,
    pub attempts: u64,
    pub replayed: usize,
    pub reads: usize,
    pub entries: usize,
    pub pushed: usize,
    pub synced: usize,
    pub applied: usize,
    pub duplicates: usize,
    pub connections: usize,
    /// Reason → how many.
    pub resumes: BTreeMap<String, usize>,
    /// How connections ended → how many.
    pub ends: BTreeMap<String, usize>,
    pub delays: Delays,
}

impl Report {
    /// Judges a run and counts what happened.
    #[must_use]
    pub fn of(seed: u64, length: Duration, history: &History, truth: &Truth) -> Self {
        let (findings, delays) = checker::check(history, truth);
        let mut report = Self {
            seed,
            length,
            findings,
            faults: BTreeMap::new(),
            operations: BTreeMap::new(),
            attempts: 0,
            replayed: 0,
            reads: history.reads.len(),
            entries: truth.streams.values().map(Vec::len).sum(),
            pushed: 0,
            synced: 0,
            applied: 0,
            duplicates: history.devices.iter().map(|device| device.duplicates).sum(),
            connections: 0,
            resumes: BTreeMap::new(),
            ends: BTreeMap::new(),
            delays,
        };
        for fault in &history.faults {
            *report.faults.entry(fault.kind.clone()).or_default() += 1;
        }
        report.count_operations(history);
        report.count_events(history);
        report
    }

    fn count_operations(&mut self, history: &History) {
        for operation in &history.operations {
            let outcome = match &operation.outcome {
                Outcome::Ok { replayed, .. } => {
                    self.replayed += usize::from(*replayed);
                    "ok"
                }
                Outcome::Refused { .. } => "refused",
                Outcome::Unknown => "unknown",
            };
            self.attempts += u64::from(operation.attempts);
            let kind = self.operations.entry(operation.change.kind().to_owned());
            *kind.or_default().entry(outcome).or_default() += 1;
        }
    }

    fn count_events(&mut self, history: &History) {
        for (_, event) in history.devices.iter().flat_map(|device| &device.events) {
            match event {
                Event::Seen { source, .. } => match source {
                    Source::Push => self.pushed += 1,
                    Source::Sync => self.synced += 1,
                },
                Event::Applied(_) => self.applied += 1,
                Event::Connected => self.connections += 1,
                Event::Resume { reason } => *self.resumes.entry(reason.clone()).or_default() += 1,
                Event::Closed { code } => {
                    let end = code.map_or("broken".to_owned(), |code| code.to_string());
                    *self.ends.entry(end).or_default() += 1;
                }
                Event::Lost { .. } => *self.ends.entry("failed".to_owned()).or_default() += 1,
                _ => {}
            }
        }
    }

    /// How many operations had this outcome.
    #[must_use]
    pub fn total(&self, outcome: &str) -> usize {
        let kinds = self.operations.values();
        kinds.filter_map(|kind| kind.get(outcome)).sum()
    }

    /// The longest that a device in front waited for what had been acknowledged.
    fn longest_silence(&self) -> Duration {
        let longest = self.delays.quiet.last().max(self.delays.faulty.last());
        longest.copied().unwrap_or_default()
    }

    /// For programs.
    #[must_use]
    pub fn json(&self) -> Value {
        let findings: Vec<Value> = self
            .findings
            .iter()
            .map(|it| json!({"rule": format!("{:?}", it.rule), "what": it.what}))
            .collect();
        let longest: BTreeMap<&String, f64> = self
            .delays
            .longest
            .iter()
            .map(|(kind, delay)| (kind, delay.as_secs_f64()))
            .collect();
        json!({
            "seed": self.seed,
            "seconds": self.length.as_secs_f64(),
            "faults": self.faults,
            "operations": self.operations,
            "acknowledged": self.total("ok"),
            "attempts": self.attempts,
            "replayed": self.replayed,
            "reads": self.reads,
            "entries": self.entries,
            "deltas": {
                "pushed": self.pushed,
                "synced": self.synced,
                "applied": self.applied,
                "duplicates": self.duplicates,
            },
            "connections": self.connections,
            "resumes": self.resumes,
            "ends": self.ends,
            "delay_seconds": {
                "quiet": spread(&self.delays.quiet),
                "with_faults": spread(&self.delays.faulty),
                "longest_by_fault": longest,
                "longest_beyond_faults": self.delays.beyond_faults.as_secs_f64(),
            },
            "pushes_awaited": self.delays.awaited,
            "longest_silence_seconds": self.longest_silence().as_secs_f64(),
            "findings_by_rule": self.by_rule(),
            "findings": findings,
        })
    }

    fn by_rule(&self) -> BTreeMap<String, usize> {
        let counts = checker::count(&self.findings).into_iter();
        counts
            .map(|(rule, count)| (format!("{rule:?}"), count))
            .collect()
    }

    /// For people.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        let faults: usize = self.faults.values().sum();
        let (ok, refused, unknown) = (
            self.total("ok"),
            self.total("refused"),
            self.total("unknown"),
        );
        let mut line = |line: String| {
            text += &line;
            text.push('\n');
        };
        line(format!("seed {}, {}", self.seed, seconds(self.length)));
        line(format!(
            "faults: {faults} of {} kinds: {:?}",
            self.faults.len(),
            self.faults
        ));
        line(format!(
            "operations: {ok} acknowledged ({} of them replayed), {refused} refused, {unknown} unknown, in {} attempts; {} reads",
            self.replayed, self.attempts, self.reads
        ));
        for (kind, outcomes) in &self.operations {
            line(format!("    {kind:<24} {outcomes:?}"));
        }
        line(format!("log: {} entries", self.entries));
        line(format!(
            "deltas: {} pushed, {} by sync, {} applied, {} duplicates dropped",
            self.pushed, self.synced, self.applied, self.duplicates
        ));
        line(format!(
            "pushes that had to come in time, no fault being near: {}",
            self.delays.awaited
        ));
        line(format!(
            "connections: {}, resumes {:?}, ends {:?}",
            self.connections, self.resumes, self.ends
        ));
        line(format!(
            "acknowledged to applied, quiet: {}",
            spread(&self.delays.quiet)
        ));
        line(format!(
            "acknowledged to applied, with faults: {}",
            spread(&self.delays.faulty)
        ));
        let mut longest: Vec<_> = self.delays.longest.iter().collect();
        longest.sort_by_key(|(_, delay)| std::cmp::Reverse(**delay));
        for (kind, delay) in longest {
            line(format!("    longest with {kind:<32} {}", seconds(*delay)));
        }
        line(format!(
            "    longest time of a delay without any fault: {}",
            seconds(self.delays.beyond_faults)
        ));
        for slow in &self.delays.slowest {
            line(format!("    {} {}", seconds(slow.delay), slow.what));
        }
        let count = |rule| self.findings.iter().filter(|it| it.rule == rule).count();
        line(format!(
            "lost {}, out of order {}, leaked {}; longest silence {}",
            count(Rule::Lost) + count(Rule::Stale) + count(Rule::Gone),
            count(Rule::Order) + count(Rule::Dense) + count(Rule::RealTime),
            count(Rule::Leaked),
            seconds(self.longest_silence())
        ));
        line(format!(
            "findings: {} {:?}",
            self.findings.len(),
            self.by_rule()
        ));
        for finding in self.findings.iter().take(SHOWN) {
            line(format!("- {finding}"));
        }
        text
    }
}

/// Count, median, and the far end, in seconds.
fn spread(ascending: &[Duration]) -> Value {
    let Some(last) = ascending.last() else {
        return json!({"count": 0});
    };
    let at = |part: usize| ascending[(ascending.len() - 1) * part / 1000].as_secs_f64();
    json!({
        "count": ascending.len(),
        "p50": at(500),
        "p99": at(990),
        "p99.9": at(999),
        "longest": last.as_secs_f64(),
    })
}

/// Everything that was recorded, one line each in order of time, for those who look for the
/// cause of a finding.
#[must_use]
pub fn chronicle(history: &History) -> String {
    let mut lines: Vec<(Duration, String)> = Vec::new();
    for operation in &history.operations {
        let described = history.describe(operation);
        lines.push((
            operation.invoked,
            format!("{} {described}", operation.stream()),
        ));
    }
    for fault in &history.faults {
        let until = seconds(fault.healed);
        lines.push((
            fault.began,
            format!("FAULT {} {} until {until}", fault.kind, fault.target),
        ));
    }
    for read in &history.reads {
        let what = format!(
            "read by {}: {:?}: {} until {}",
            history.name(&read.actor),
            read.question,
            read.status,
            seconds(read.answered)
        );
        lines.push((read.invoked, what));
    }
    for device in &history.devices {
        for (at, event) in &device.events {
            let event = match event {
                Event::Seen { delta, source } => {
                    format!(
                        "saw {} {} {} by {source:?}",
                        delta.stream, delta.seq, delta.kind
                    )
                }
                Event::Applied(delta) => format!("applied {} {}", delta.stream, delta.seq),
                other => format!("{other:?}"),
            };
            lines.push((*at, format!("device {}: {event}", device.name)));
        }
    }
    lines.sort();
    let mut text = String::new();
    for (at, line) in lines {
        writeln!(text, "{} {line}", seconds(at)).ok(); // Writing to a text cannot fail.
    }
    text
}
