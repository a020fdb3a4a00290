//! Chaos runs: many clients change, read and follow things while processes and services are
//! killed, paused and cut off, and afterwards everything that was recorded is judged.
//!
//! - [`run`] is one run: [`world`] is what its clients share, an [`actor`] asks and repeats as a
//!   good client does, [`workload`] says what is asked, [`nemesis`] causes the faults
//!   (`faults` lists them);
//! - [`history`] is what a run leaves, [`recorder`] fills it, [`truth`] is what the servers hold
//!   in the end;
//! - [`checker`] judges it, [`report`] tells; [`session`] is all of that on services of its own.

pub mod actor;
mod change;
pub mod checker;
mod faults;
pub mod history;
pub mod nemesis;
pub mod recorder;
pub mod report;
pub mod run;
pub mod session;
pub mod truth;
pub mod workload;
pub mod world;
