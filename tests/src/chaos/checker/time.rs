//! Rules about time, and the times that a report shows. They are the only rules that a slow
//! machine could break, so their limits are far from what is usual.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Case, Finding, Rule};
use crate::chaos::history::{DeviceHistory, Event, Fault, History, Moment, seconds};

/// How much time without any fault may pass before a device that is in front has a delta.
const LATE: Duration = Duration::from_secs(15);
/// An API process answers within 10 s; the rest is for a busy machine.
const ANSWER: Duration = Duration::from_secs(15);
/// For so long after a fault what happens is put down to it.
const AFTERMATH: Duration = Duration::from_secs(5);
/// Slow deltas that a report shows.
const SLOWEST: usize = 8;

/// From the acknowledgement of a change to its delta being applied, for all devices that were in
/// front all that time.
#[derive(Debug, Clone, Default)]
pub struct Delays {
    /// Where no fault was near, in ascending order.
    pub quiet: Vec<Duration>,
    /// With a fault, in ascending order.
    pub faulty: Vec<Duration>,
    /// The longest by kind of fault; where there were several, under each.
    pub longest: BTreeMap<String, Duration>,
    /// The longest part of a delay in which there was no fault any more, or none yet.
    pub beyond_faults: Duration,
    /// The longest delays, each of another delta, the longest first.
    pub slowest: Vec<Slow>,
    /// Pushes to single devices that had to come in time, because no fault was near.
    pub awaited: usize,
}

/// A delta that took long, and the device that had it last.
#[derive(Debug, Clone)]
pub struct Slow {
    pub delay: Duration,
    pub what: String,
}

/// One delta that reached one device.
struct Arrival<'a> {
    device: &'a DeviceHistory,
    stream: &'a str,
    seq: u64,
    acknowledged: Moment,
    applied: Moment,
}

impl Arrival<'_> {
    fn delay(&self) -> Duration {
        self.applied.saturating_sub(self.acknowledged)
    }
}

/// A delta reaches everybody who is there, at the latest when there was no fault for 15 s in
/// all.
pub(super) fn in_time(case: &Case<'_>) -> Vec<Finding> {
    let quiet = Quiet::of(&case.history.faults);
    let late = arrivals(case)
        .into_iter()
        .filter(|arrival| quiet.between(arrival.acknowledged, arrival.applied) > LATE);
    late.map(|arrival| {
        let (from, to) = (seconds(arrival.acknowledged), seconds(arrival.applied));
        let faults: Vec<&Fault> = case
            .history
            .faults_during(arrival.acknowledged, arrival.applied)
            .collect();
        let what = format!(
            "{} {} acknowledged at {from} reached device {} at {to}; faults in between: {faults:?}; its device:{}",
            arrival.stream,
            arrival.seq,
            arrival.device.name,
            story(arrival.device, arrival.acknowledged, arrival.applied)
        );
        Finding::new(Rule::Late, what)
    })
    .collect()
}

/// What happened to a device's connection in a span of time.
pub(super) fn story(device: &DeviceHistory, from: Moment, to: Moment) -> String {
    let mut text = String::new();
    for (at, event) in &device.events {
        let dull = matches!(event, Event::Seen { .. } | Event::Applied(_));
        if *at >= from && *at <= to && !dull {
            text += &format!("\n    {} {event:?}", seconds(*at));
        }
    }
    text
}

/// The delays of a run.
pub(super) fn delays(case: &Case<'_>) -> Delays {
    let mut delays = Delays::default();
    let quiet = Quiet::of(&case.history.faults);
    let arrivals = arrivals(case);
    delays.slowest = slowest(case, &arrivals);
    for arrival in arrivals {
        let delay = arrival.delay();
        let beyond = quiet.between(arrival.acknowledged, arrival.applied);
        delays.beyond_faults = delays.beyond_faults.max(beyond);
        let from = arrival.acknowledged.saturating_sub(AFTERMATH);
        let faults: Vec<&Fault> = case.history.faults_during(from, arrival.applied).collect();
        if faults.is_empty() {
            delays.quiet.push(delay);
            continue;
        }
        delays.faulty.push(delay);
        for fault in faults {
            let longest = delays.longest.entry(fault.kind.clone()).or_default();
            *longest = delay.max(*longest);
        }
    }
    delays.quiet.sort_unstable();
    delays.faulty.sort_unstable();
    delays
}

fn slowest(case: &Case<'_>, arrivals: &[Arrival<'_>]) -> Vec<Slow> {
    let mut by_delta: BTreeMap<(&str, u64), &Arrival<'_>> = BTreeMap::new();
    for arrival in arrivals {
        let last = by_delta
            .entry((arrival.stream, arrival.seq))
            .or_insert(arrival);
        if arrival.delay() > last.delay() {
            *last = arrival;
        }
    }
    let mut slowest: Vec<_> = by_delta.into_values().collect();
    slowest.sort_by_key(|arrival| std::cmp::Reverse(arrival.delay()));
    slowest.truncate(SLOWEST);
    let describe = |arrival: &Arrival<'_>| {
        let (from, to) = (arrival.acknowledged, arrival.applied);
        let operation = case
            .matched
            .operation(case.history, arrival.stream, arrival.seq);
        let kind = operation.map_or("?", |operation| operation.change.kind());
        let faults: Vec<String> = case
            .history
            .faults_during(from.saturating_sub(AFTERMATH), to)
            .map(|fault| {
                let (began, healed) = (seconds(fault.began), seconds(fault.healed));
                format!("{} {} {began} to {healed}", fault.kind, fault.target)
            })
            .collect();
        format!(
            "{kind} {} {} from {} to {} at {}; {}",
            arrival.stream,
            arrival.seq,
            seconds(from),
            seconds(to),
            arrival.device.name,
            faults.join(", ")
        )
    };
    let slow = slowest.into_iter().map(|arrival| Slow {
        delay: arrival.delay(),
        what: describe(arrival),
    });
    slow.collect()
}

fn arrivals<'a>(case: &'a Case<'_>) -> Vec<Arrival<'a>> {
    let mut found = Vec::new();
    for device in &case.history.devices {
        let mut front: Option<Moment> = None;
        for (at, event) in &device.events {
            match event {
                Event::Back => front = Some(*at),
                Event::Away => front = None,
                Event::Applied(delta) => {
                    let operation = case
                        .matched
                        .operation(case.history, &delta.stream, delta.seq);
                    let acknowledged = operation.filter(|it| it.is_ok()).map(|it| it.answered);
                    if let (Some(since), Some(acknowledged)) = (front, acknowledged)
                        && since <= acknowledged
                    {
                        found.push(Arrival {
                            device,
                            stream: &delta.stream,
                            seq: delta.seq,
                            acknowledged,
                            applied: *at,
                        });
                    }
                }
                _ => {}
            }
        }
    }
    found
}

/// The times without any fault.
struct Quiet {
    /// Spans with faults, apart from each other, in order.
    faulty: Vec<(Moment, Moment)>,
}

impl Quiet {
    fn of(faults: &[Fault]) -> Self {
        let mut spans: Vec<_> = faults.iter().map(|it| (it.began, it.healed)).collect();
        spans.sort_unstable();
        let mut faulty: Vec<(Moment, Moment)> = Vec::new();
        for (began, healed) in spans {
            match faulty.last_mut() {
                Some(last) if began <= last.1 => last.1 = last.1.max(healed),
                _ => faulty.push((began, healed)),
            }
        }
        Self { faulty }
    }

    fn between(&self, from: Moment, to: Moment) -> Duration {
        let mut quiet = to.saturating_sub(from);
        for (began, healed) in &self.faulty {
            let (began, healed) = ((*began).max(from), (*healed).min(to));
            quiet = quiet.saturating_sub(healed.saturating_sub(began));
        }
        quiet
    }
}

/// An API process that runs answers every request in time.
pub(super) fn answered(history: &History) -> Vec<Finding> {
    let mut findings = Vec::new();
    for direct in &history.directs {
        let mut faults =
            history.faults_during(direct.invoked.saturating_sub(AFTERMATH), direct.ended);
        let excused = faults.any(|fault| fault.target == direct.target);
        if !excused && direct.ended.saturating_sub(direct.invoked) > ANSWER {
            let what = format!("{direct:?}");
            findings.push(Finding::new(Rule::Unanswered, what));
        }
    }
    findings
}
