//! Black-box tests.

pub mod tidy;
