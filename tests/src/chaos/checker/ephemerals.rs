//! What is told and not stored: that somebody types is between members. Whether it comes is not
//! judged, since it may be lost.

use crate::chaos::history::{Event, Moment, Typing, seconds};

use super::access::certain_absence;
use super::{Case, Finding, Rule};

/// Nobody types, or hears who does, who is no member all the while.
pub(super) fn typing_stays_among_members(case: &Case<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for device in &case.history.devices {
        for (at, event) in &device.events {
            let Event::Typing { channel, user } = event else {
                continue;
            };
            if let Some(why) = wrongly_told(case, &device.user, channel, user, *at) {
                let (typist, at) = (case.history.name(user), seconds(*at));
                let what = format!(
                    "device {} heard at {at} that {typist} types in c:{channel}: {why}",
                    device.name
                );
                findings.push(Finding::new(Rule::Leaked, what));
            }
        }
    }
    let done = case.history.typings.iter().filter(|it| it.done);
    let wrongly = done.filter(|it| is_absent(case, &it.actor, it));
    findings.extend(wrongly.map(|it| {
        let who = case.history.name(&it.actor);
        Finding::new(Rule::Leaked, format!("{who} was no member: {it:?}"))
    }));
    findings
}

fn wrongly_told(
    case: &Case<'_>,
    hearer: &str,
    channel: &str,
    typist: &str,
    at: Moment,
) -> Option<String> {
    if hearer == typist {
        return Some("it is who types".to_owned());
    }
    let typings = case.history.typings.iter();
    let before = typings.filter(|it| it.actor == typist && it.channel == channel);
    let before: Vec<&Typing> = before.filter(|it| it.invoked <= at).collect();
    if before.is_empty() {
        return Some("nobody asked for that".to_owned());
    }
    let none_by_right = before.iter().all(|it| is_absent(case, hearer, it));
    none_by_right.then(|| format!("{} was no member", case.history.name(hearer)))
}

/// Certainly, and all the time that it may have been published.
fn is_absent(case: &Case<'_>, user: &str, typing: &Typing) -> bool {
    let stream = format!("c:{}", typing.channel);
    certain_absence(case, user, &stream, typing.invoked, typing.answered).is_some()
}
