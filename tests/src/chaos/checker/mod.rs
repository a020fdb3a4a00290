//! Judges a [`History`] against the [`Truth`]. Each rule is a function of its own that returns
//! what it finds; docs/reliability.md says what they are. What a rule finds is a defect, of the
//! servers or of the checker: nothing is tolerated, and nothing depends on how fast a machine is
//! but the two limits in `time` and the one in `pushes`.

mod access;
mod contents;
mod ephemerals;
mod leases;
mod log;
mod marks;
mod matching;
mod moderation;
mod order;
mod pushes;
mod reading;
mod reads;
mod resets;
mod roles;
mod state;
#[cfg(test)]
mod tests;
mod time;
mod windows;

use std::collections::BTreeMap;

pub use log::Log;
pub use time::Delays;

use super::history::{Change, History, Operation, Truth, seconds};
use matching::Matched;

/// Something that must not be, explained so that one can act upon it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    pub rule: Rule,
    pub what: String,
}

/// What a finding offends against.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// An acknowledged change is not in the log.
    Lost,
    /// The log holds what nobody asked for, was refused, or is there twice.
    Foreign,
    /// A stream's numbers are not 1, 2, 3, ….
    Dense,
    /// A device applied a stream in another order than the log's, or left something out.
    Order,
    /// What a device saw is not in the log, or is something else there.
    Gone,
    /// A device ends with other state than a new one reads.
    Stale,
    /// Somebody saw, or did, what only members may.
    Leaked,
    /// Somebody did to a group what his role does not allow.
    Forbidden,
    /// A change overwrote another one unseen.
    LostUpdate,
    /// A change was refused although what it asked for was so.
    Refused,
    /// A change that began after another had been acknowledged stands before it.
    RealTime,
    /// A read does not show what had been acknowledged before it began.
    Read,
    /// A delta took too long to reach a device that was there.
    Late,
    /// A delta was not pushed in time to a device that was connected all the while, whatever else
    /// brought it there.
    NotPushed,
    /// A device had to begin a stream again, or to give it up, without need.
    Reset,
    /// A server did not answer in time.
    Unanswered,
    /// An answer or a frame breaks the protocol.
    Protocol,
}

impl Finding {
    fn new(rule: Rule, what: impl Into<String>) -> Self {
        let what = what.into();
        Self { rule, what }
    }
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}: {}", self.rule, self.what)
    }
}

/// What the rules share.
struct Case<'a> {
    history: &'a History,
    log: Log,
    matched: Matched,
    /// The contents that somebody gave a message of a channel, besides its first.
    edits: BTreeMap<(&'a str, u64), Vec<&'a Operation>>,
}

impl<'a> Case<'a> {
    fn new(history: &'a History, truth: &Truth) -> (Self, Vec<Finding>) {
        let log = Log::of(history, truth);
        let (matched, findings) = matching::match_operations(history, &log);
        let mut edits: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for operation in history.operations.iter().filter(|it| it.may_be_done()) {
            if let Change::Edit {
                channel, message, ..
            } = &operation.change
            {
                let of = edits.entry((&**channel, *message)).or_default();
                of.push(operation);
            }
        }
        let case = Self {
            history,
            log,
            matched,
            edits,
        };
        (case, findings)
    }
}

/// Applies every rule, and measures how long deltas took.
#[must_use]
pub fn check(history: &History, truth: &Truth) -> (Vec<Finding>, Delays) {
    let (case, mut findings) = Case::new(history, truth);
    findings.extend(order::dense(&case, truth));
    findings.extend(order::devices_follow_the_log(&case));
    findings.extend(order::what_was_seen_stays(&case));
    findings.extend(order::real_time(&case));
    findings.extend(state::devices_end_fresh(&case));
    findings.extend(state::no_lost_update(&case));
    findings.extend(contents::no_lost_update(&case));
    findings.extend(leases::fence_changes(&case));
    findings.extend(leases::hold_others_up(&case));
    findings.extend(state::refused_for_a_reason(&case));
    findings.extend(state::log_is_state(&case, truth));
    findings.extend(marks::follow_from_the_log(&case, truth));
    findings.extend(access::only_members(&case));
    findings.extend(ephemerals::typing_stays_among_members(&case));
    findings.extend(roles::suffice(&case));
    findings.extend(moderation::the_banned_stay_out(&case));
    findings.extend(moderation::the_muted_are_silent(&case));
    findings.extend(reads::show_what_was_acknowledged(&case));
    findings.extend(reading::rise_and_stay(&case, truth));
    findings.extend(resets::with_reason(&case));
    let (not_pushed, awaited) = pushes::in_time(&case);
    findings.extend(not_pushed);
    findings.extend(time::in_time(&case));
    findings.extend(time::answered(history));
    for (at, what) in &history.violations {
        findings.push(Finding::new(
            Rule::Protocol,
            format!("{}: {what}", seconds(*at)),
        ));
    }
    let delays = Delays {
        awaited,
        ..time::delays(&case)
    };
    (findings, delays)
}

/// How often each rule was offended.
#[must_use]
pub fn count(findings: &[Finding]) -> BTreeMap<Rule, usize> {
    let mut counts = BTreeMap::new();
    for finding in findings {
        *counts.entry(finding.rule).or_default() += 1;
    }
    counts
}
