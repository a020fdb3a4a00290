//! What a device tells of itself, to those who record it.

use std::fmt::Debug;

use crate::replica::{Delta, Step};

/// What an [`Observer`] is told.
#[derive(Debug)]
pub enum Happened {
    /// A delta came, pushed or by a sync, whether or not it can be applied.
    Seen {
        delta: Delta,
        pushed: bool,
    },
    Step(Step),
    /// It was told that this user is about to write into this channel.
    Typing {
        channel: String,
        user: String,
    },
    /// A sync said that what the device holds of a stream cannot be continued.
    Reset {
        stream: String,
    },
    Connected,
    Live,
    Resume {
        reason: String,
    },
    Closed {
        code: Option<u16>,
    },
    /// The network did not work, or the server could not.
    Lost {
        error: String,
    },
    /// What came breaks the protocol.
    Violation {
        error: String,
    },
    Away,
    Back,
}

/// Is told of what happens to a device, at once and in order. The device then keeps no history.
pub trait Observer: Debug + Send + Sync {
    fn happened(&self, what: Happened);
}
