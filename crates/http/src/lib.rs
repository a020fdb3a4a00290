//! What every binary's HTTP server needs, whatever it serves: problems (RFC 9457), bodies and
//! parameters as typed values, who is asking, health and metrics, the listener itself, and
//! the start of the program. Knows no route but the operational ones and no resource.

pub mod access_log;
pub mod auth;
pub mod body;
pub mod cli;
pub mod health;
pub mod json;
pub mod origins;
pub mod params;
pub mod probe;
pub mod problem;
pub mod process;
pub mod server;

pub use auth::{Authenticated, Authenticator};
pub use body::BodyLimit;
pub use json::Json;
pub use origins::Origins;
pub use params::{Path, Query};
pub use problem::{Code, Problem, Violation};
