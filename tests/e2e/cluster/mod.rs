//! Two processes of each server on MongoDB, RabbitMQ and Redis, behind nginx.

use tidings_tests::cluster::Cluster as System;

mod caches;
mod chaos;
mod delivery;
mod fences;
mod keys;
mod marks;
mod relay;
mod revocation;

#[path = "../shared/access.rs"]
mod access;
#[path = "../shared/bad_input/mod.rs"]
mod bad_input;
#[path = "../shared/bad_upgrades.rs"]
mod bad_upgrades;
#[path = "../shared/chat.rs"]
mod chat;
#[path = "../shared/crash.rs"]
mod crash;
#[path = "../shared/idempotency.rs"]
mod idempotency;
#[path = "../shared/lifecycle.rs"]
mod lifecycle;
#[path = "../shared/members.rs"]
mod members;
#[path = "../shared/reading.rs"]
mod reading;
#[path = "../shared/slow.rs"]
mod slow;
#[path = "../shared/state.rs"]
mod state;
