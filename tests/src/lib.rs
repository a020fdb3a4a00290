//! Black-box tests and what they are made of. Nothing here shares a type with the
//! implementation: what a client knows is what docs/protocol.md promises.
//!
//! - [`server`] starts a built program, kills it and starts it again; [`cluster`] is several of
//!   them behind [`nginx`], on the [`services`] that `tests/services` starts;
//! - [`client`] speaks HTTP for one user, [`socket`] is one realtime connection;
//! - [`device`] is the client algorithm: [`replica`], [`catch_up`] and [`agenda`] decide, `device`
//!   carries it out, and [`view`] is the state that deltas change;
//! - [`otlp`] receives the spans that servers send;
//! - [`check`] says whether what a device received is dense, in order and once.

pub mod agenda;
pub mod broker_link;
pub mod catch_up;
pub mod check;
pub mod client;
pub mod cluster;
pub mod device;
pub mod nginx;
pub mod otlp;
pub mod replica;
pub mod server;
pub mod services;
#[cfg(test)]
mod simulation;
pub mod socket;
pub mod tidy;
pub mod upstream;
pub mod view;
pub mod wait;
