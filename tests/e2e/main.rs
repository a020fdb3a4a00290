//! The built program, over real sockets.

mod access;
mod bad_input;
mod bad_upgrades;
mod chat;
mod crash;
mod idempotency;
mod lifecycle;
mod logs;
mod members;
mod slow;
mod state;
mod traces;
