//! A ws-push server on a real port, with real clients.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on should say where"
)]

mod admission;
mod clients;
mod delivery;
mod endings;
mod failures;
mod flapping;
mod framing;
mod harness;
mod slow;
mod tapped_bus;
