//! No device begins a stream again, or gives it up, without need: in a run nothing is cut off a
//! stream and no epoch begins, so a cursor can always be continued while the stream is the
//! user's.

use std::collections::BTreeMap;

use super::access::certainly_has;
use super::{Case, Finding, Rule};
use crate::chaos::history::{DeviceHistory, Event, Moment, seconds};
use crate::replica::Delta;

pub(super) fn with_reason(case: &Case<'_>) -> Vec<Finding> {
    let devices = case.history.devices.iter();
    devices.flat_map(|device| of_device(case, device)).collect()
}

fn of_device(case: &Case<'_>, device: &DeviceHistory) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut positions: BTreeMap<&str, u64> = BTreeMap::new();
    // A sync that is under way has been asked for since then.
    let mut asked = Moment::ZERO;
    // The delta that has just been applied, and the ends of streams that it caused.
    let mut applied: Option<&Delta> = None;
    for (at, event) in &device.events {
        let before = applied.take();
        let wrong = match event {
            Event::Connected | Event::Live => {
                asked = *at;
                None
            }
            Event::Applied(delta) => {
                applied = Some(delta);
                positions.insert(&delta.stream, delta.seq);
                None
            }
            Event::Reset { stream } => Some((stream, "was reset".to_owned())),
            Event::TakenUp { stream, head } => {
                let held = positions.insert(stream, *head);
                let back = held.filter(|held| held > head);
                back.map(|held| (stream, format!("was taken up at {head}, after {held}")))
            }
            Event::Gone { stream } => {
                positions.remove(&**stream);
                applied = before.filter(|delta| ends(case, delta, &device.user, stream));
                let wrong =
                    applied.is_none() && certainly_has(case, &device.user, stream, asked, *at);
                wrong.then(|| (stream, "was said to be gone, and was not".to_owned()))
            }
            _ => None,
        };
        if let Some((stream, why)) = wrong {
            let (name, at, asked) = (&device.name, seconds(*at), seconds(asked));
            let what = format!("device {name} at {at}, live since {asked}: {stream} {why}");
            findings.push(Finding::new(Rule::Reset, what));
        }
    }
    findings
}

/// Whether a delta tells a user that a stream is no longer his.
fn ends(case: &Case<'_>, delta: &Delta, user: &str, stream: &str) -> bool {
    match &*delta.kind {
        "channel.deleted" => stream.strip_prefix("c:") == delta.data["id"].as_str(),
        "member.removed" => {
            let group = delta.stream.strip_prefix("g:");
            delta.data["user"] == *user && case.log.group_of_stream(stream) == group
        }
        _ => false,
    }
}
