//! The API over a real port, on SQLite and the bus of one process.

#![expect(clippy::unwrap_used, reason = "a harness that fails fails its test")]

mod accounts;
mod bad_input;
mod channels;
mod groups;
mod harness;
mod lists;
mod members;
mod messages;
mod moody_store;
mod openapi;
mod reading;
mod sessions;
mod sync;
mod unavailable;
