//! The relay and the trimmer over the embedded bus and, where nothing else is said, the embedded
//! store.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on should say where"
)]

mod backlog;
mod blind;
mod clocks;
mod damaged;
mod failures;
mod harness;
mod janitor;
mod relay;
mod trimmer;
