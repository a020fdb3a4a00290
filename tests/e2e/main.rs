//! The built programs, over real sockets.
//!
//! What stands in `shared` is compiled twice, as `embedded::…` with `System` as one process on
//! SQLite and as `cluster::…` with `System` as all processes behind nginx: the two may differ in
//! nothing that a client can see.
#![expect(clippy::duplicate_mod, reason = "the same tests run on both systems")]

mod cluster;
mod embedded;
mod faults;
mod logs;
mod nginx;
mod traces;
