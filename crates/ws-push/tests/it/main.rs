//! A ws-push server on a real port, with real clients.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on should say where"
)]

mod admission;
mod clients;
mod delivery;
mod endings;
mod events;
mod failures;
mod flapping;
mod framing;
mod harness;
mod polls;
mod presence;
mod slow;
mod stream;
mod tapped_bus;
