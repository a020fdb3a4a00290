//! Black-box tests and what they are made of. Nothing here shares a type with the
//! implementation: what a client knows is what docs/protocol.md promises.
//!
//! - [`server`] starts a built program, kills it and starts it again; [`cluster`] is several of
//!   them behind [`nginx`], on the [`services`] that `tests/services` starts;
//! - [`stack`] is services of a test's own, to break them, and the proxies on the way to them;
//! - [`client`] speaks HTTP for one user, [`socket`] and [`event_stream`] are realtime connections;
//! - [`device`] is the client algorithm: [`replica`], [`catch_up`] and [`agenda`] decide, `device`
//!   carries it out with [`fetch`], connected by a [`way`] over any transport, and [`view`] (with
//!   [`marks`] and [`quotes`]) is the state that deltas change; an [`observer`] is told of all
//!   that happens;
//! - [`otlp`] receives the spans that servers send;
//! - [`failure`] tells what may happen on any network from what breaks the protocol;
//! - [`check`] says whether what a device received is dense, in order and once;
//! - [`chaos`] records what many clients do and see while a run of faults goes on, and judges it.

pub mod agenda;
pub mod broker_link;
pub mod catch_up;
pub mod chaos;
pub mod check;
pub mod client;
pub mod cluster;
pub mod device;
pub mod event_stream;
pub mod failure;
pub mod fetch;
pub mod marks;
pub mod nginx;
pub mod observer;
pub mod otlp;
pub mod quotes;
pub mod replica;
pub mod server;
pub mod services;
#[cfg(test)]
mod simulation;
pub mod socket;
pub mod stack;
pub mod tidy;
pub mod upstream;
pub mod view;
pub mod wait;
pub mod way;
