//! What at least two of the binaries need: the model and its rules, the log, and the
//! traits behind which the store, the bus and presence stand.

pub mod auth;
pub mod clock;
pub mod config;
pub mod domain;
pub mod telemetry;
