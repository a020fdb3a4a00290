//! Everything in one process, on SQLite.

use tidings_tests::server::Server as System;

mod alone;
mod metrics;
mod retention;

#[path = "../shared/access.rs"]
mod access;
#[path = "../shared/bad_input/mod.rs"]
mod bad_input;
#[path = "../shared/bad_upgrades.rs"]
mod bad_upgrades;
#[path = "../shared/buckets.rs"]
mod buckets;
#[path = "../shared/chat.rs"]
mod chat;
#[path = "../shared/crash.rs"]
mod crash;
#[path = "../shared/default_groups.rs"]
mod default_groups;
#[path = "../shared/edit_leases.rs"]
mod edit_leases;
#[path = "../shared/event_streams.rs"]
mod event_streams;
#[path = "../shared/hopping.rs"]
mod hopping;
#[path = "../shared/idempotency.rs"]
mod idempotency;
#[path = "../shared/large.rs"]
mod large;
#[path = "../shared/lifecycle.rs"]
mod lifecycle;
#[path = "../shared/marks.rs"]
mod marks;
#[path = "../shared/members.rs"]
mod members;
#[path = "../shared/moderation.rs"]
mod moderation;
#[path = "../shared/permissions.rs"]
mod permissions;
#[path = "../shared/polls.rs"]
mod polls;
#[path = "../shared/presence.rs"]
mod presence;
#[path = "../shared/reading.rs"]
mod reading;
#[path = "../shared/slow.rs"]
mod slow;
#[path = "../shared/state.rs"]
mod state;
