//! The API over a real port, on SQLite and the bus of one process.

#![expect(clippy::unwrap_used, reason = "a harness that fails fails its test")]

mod accounts;
mod bad_input;
mod buckets;
mod channels;
mod edit_leases;
mod groups;
mod harness;
mod lists;
mod members;
mod mentions;
mod messages;
mod moody_presence;
mod moody_store;
mod openapi;
mod pins;
mod presence;
mod quotes;
mod reactions;
mod reading;
mod sessions;
mod stale_caches;
mod sync;
mod typing;
mod unavailable;
