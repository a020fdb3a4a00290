//! Black-box tests and what they are made of. Nothing here shares a type with the
//! implementation: what a client knows is what docs/protocol.md promises.
//!
//! - [`server`] starts the built program, kills it and starts it again;
//! - [`client`] speaks HTTP for one user, [`socket`] is one realtime connection;
//! - [`device`] is the client algorithm: [`replica`] decides, `device` carries it out, and
//!   [`view`] is the state that deltas change;
//! - [`otlp`] receives the spans that servers send;
//! - [`check`] says whether what a device received is dense, in order and once.

pub mod check;
pub mod client;
pub mod device;
pub mod otlp;
pub mod replica;
pub mod server;
pub mod socket;
pub mod tidy;
pub mod view;
pub mod wait;
