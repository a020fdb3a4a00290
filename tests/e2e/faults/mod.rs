//! Services and processes that die, stand still or are cut off, each fault by itself: the rows of
//! the fault matrix in docs/reliability.md.

mod amqp;
mod broker;
mod chaos;
mod crash;
mod ear;
mod leases;
mod load;
mod mongo;
mod presence;
mod push;
mod rolling;
