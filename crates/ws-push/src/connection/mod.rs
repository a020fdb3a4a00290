//! One client's connection: its rules (`session`), what waits for it (`mailbox`), how it ends
//! (`close`), the task that keeps it (`task`), and the transports that carry it (`websocket`
//! with its `reader`, and `events`; `outlet` is what they have in common). A client that polls
//! has no connection that stays; it has a `bell` in the place of a mailbox.

mod bell;
mod close;
mod events;
mod mailbox;
mod outlet;
mod reader;
mod recipient;
mod session;
mod task;
mod transport;
mod websocket;

pub(crate) use bell::{Bell, Listener, Rung};
pub use close::{Close, CloseRow, Reconnect};
#[cfg(test)]
pub(crate) use mailbox::Outgoing;
pub(crate) use mailbox::{Delta, Mailbox, MailboxLimits, Offered};
pub(crate) use recipient::Recipient;
pub(crate) use session::Session;
pub(crate) use task::{Admitted, BIND_DEADLINE, Link, open};
pub(crate) use transport::Transport;
