//! What a broker is asked to carry.
