//! One client's connection: its rules (`session`), what waits for it (`mailbox`), how it ends
//! (`close`), and the transport that carries it (`websocket`).

mod close;
mod mailbox;
mod reader;
mod session;
mod websocket;

pub use close::{Close, CloseRow, Reconnect};
#[cfg(test)]
pub(crate) use mailbox::Outgoing;
pub(crate) use mailbox::{Delta, Mailbox, MailboxLimits, Offered};
pub(crate) use session::Session;
pub(crate) use websocket::open;
