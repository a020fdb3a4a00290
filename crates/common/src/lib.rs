//! What at least two of the binaries need: the model and its rules, the log, and the
//! traits behind which the store, the bus and presence stand.

pub mod auth;
pub mod backends;
pub mod bus;
pub mod clock;
pub mod config;
pub mod domain;
pub mod log;
pub mod measured;
pub mod presence;
pub mod store;
pub mod sync;
pub mod tasks;
pub mod telemetry;
pub mod wire;
