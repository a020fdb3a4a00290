//! Nobody does to a group what the role does not allow that he has there: every entry of the
//! group's stream is held against the roles at its place, and pins in its channels against those
//! since the fence before them.

use std::collections::BTreeMap;

use super::log::Stream;
use super::{Case, Finding, Rule};
use crate::replica::Delta;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Role {
    Member,
    Admin,
    Owner,
}

/// User → role.
type Roles = BTreeMap<String, Role>;

pub(super) fn suffice(case: &Case<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (name, stream) in &case.log.streams {
        if name.starts_with("c:") {
            findings.extend(pins(case, name));
        }
        if !name.starts_with("g:") {
            continue;
        }
        let mut roles = Roles::new();
        for (seq, entry) in &stream.entries {
            if let Some((has, needed)) = exceeds(&roles, entry) {
                let actor = entry.actor.as_deref().unwrap_or_default();
                let who = case.history.name(actor);
                let around = case.log.around(name, *seq);
                let what =
                    format!("{name} {seq} by {who}, who was {has:?}, takes {needed:?}; {around}");
                findings.push(Finding::new(Rule::Forbidden, what));
            }
            change(&mut roles, entry);
        }
    }
    findings
}

/// Pins by somebody who was no admin at any position of the group at which the right to pin can
/// have been checked: that of the last fence, or a later one whose fence was still to come.
fn pins(case: &Case<'_>, name: &str) -> Vec<Finding> {
    let (Some(stream), Some(group)) = (
        case.log.streams.get(name).filter(|stream| stream.complete),
        case.log.group_of_stream(name),
    ) else {
        return Vec::new();
    };
    let Some(group) = case.log.streams.get(&format!("g:{group}")) else {
        return Vec::new();
    };
    let mut findings = Vec::new();
    for (seq, entry) in &stream.entries {
        if !matches!(&*entry.kind, "message.pinned" | "message.unpinned") {
            continue;
        }
        let before = stream.fences.iter().filter(|(_, at)| at < seq);
        let from = before.map(|(gv, _)| *gv).max().unwrap_or_default();
        let actor = entry.actor.as_deref().unwrap_or_default();
        if !was_admin(group, actor, from) {
            let who = case.history.name(actor);
            let around = case.log.around(name, *seq);
            let what = format!("{name} {seq} by {who}, no admin from {from} on; {around}");
            findings.push(Finding::new(Rule::Forbidden, what));
        }
    }
    findings
}

/// Whether somebody was an admin or the owner at this position of the group or a later one.
fn was_admin(group: &Stream, user: &str, from: u64) -> bool {
    let mut roles = Roles::new();
    let admin = |roles: &Roles| roles.get(user) >= Some(&Role::Admin);
    for (seq, entry) in &group.entries {
        if *seq > from && admin(&roles) {
            return true;
        }
        change(&mut roles, entry);
    }
    admin(&roles)
}

/// The role that the actor had and the one that it takes, if that is more.
fn exceeds(roles: &Roles, entry: &Delta) -> Option<(Option<Role>, Role)> {
    let actor = entry.actor.as_deref()?;
    let user = entry.data["user"].as_str().unwrap_or_default();
    let has = roles.get(actor).copied();
    let needed = match &*entry.kind {
        "lease.acquired" | "group.updated" | "channel.created" | "channel.updated"
        | "channel.deleted" => Role::Admin,
        "member.added" if given(entry) == Role::Member => Role::Admin,
        // With a key, who has the role already may get it again from an admin.
        "member.updated" if roles.get(user) == Some(&given(entry)) => Role::Admin,
        "member.added" | "member.updated" => Role::Owner,
        "member.removed" if user == actor => return None,
        "member.unbanned" => Role::Admin,
        "member.banned" if !roles.contains_key(user) => Role::Admin,
        "member.removed" | "member.banned" | "member.muted"
            if roles.get(user) == Some(&Role::Member) =>
        {
            Role::Admin
        }
        "member.removed" | "member.banned" | "member.muted" | "owner.changed" => Role::Owner,
        _ => return None,
    };
    (has < Some(needed)).then_some((has, needed))
}

fn change(roles: &mut Roles, entry: &Delta) {
    let user = entry.data["user"].as_str().unwrap_or_default();
    match &*entry.kind {
        "group.created" => {
            let owner = entry.actor.clone().unwrap_or_default();
            roles.insert(owner, Role::Owner);
        }
        "member.added" | "member.updated" => drop(roles.insert(user.to_owned(), given(entry))),
        "member.removed" | "member.banned" => drop(roles.remove(user)),
        "owner.changed" => {
            let previous = entry.data["previous"].as_str().unwrap_or_default();
            roles.insert(previous.to_owned(), Role::Admin);
            roles.insert(user.to_owned(), Role::Owner);
        }
        _ => {}
    }
}

fn given(entry: &Delta) -> Role {
    match entry.data["role"].as_str() {
        Some("owner") => Role::Owner,
        Some("admin") => Role::Admin,
        _ => Role::Member,
    }
}
