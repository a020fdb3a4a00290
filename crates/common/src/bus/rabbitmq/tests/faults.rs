//! What the broker, or the way to it, may do.
