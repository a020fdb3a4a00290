//! The HTTP layer on a real port with a real client: what is refused, and in which shape.

#![expect(clippy::unwrap_used, reason = "a harness that fails fails its test")]

mod auth;
mod cors;
mod harness;
mod operations;
mod rejections;
