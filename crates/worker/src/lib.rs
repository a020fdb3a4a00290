//! Work that no request waits for: the relay.

mod relay;

pub use relay::Relay;
