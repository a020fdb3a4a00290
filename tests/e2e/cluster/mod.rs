//! Two processes of each server on MongoDB, RabbitMQ and Redis, behind nginx.

use tidings_tests::cluster::Cluster as System;

mod attendance;
mod caches;
mod chaos;
mod delivery;
mod fences;
mod keys;
mod read_marks;
mod relay;
mod revocation;
mod rights;

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
