//! Tickets for realtime connections, so that no long-lived token appears in an address.

use secrecy::SecretString;
use tidings_common::auth::{Principal, TICKET_TTL};

use super::Context;

pub(crate) struct Tickets {
    context: Context,
}

/// A ticket and where to take it.
pub(crate) struct IssuedTicket {
    pub(crate) ticket: SecretString,
    pub(crate) partition: u16,
    /// Of the ws-push servers (`http` or `https`), without a trailing slash.
    pub(crate) base_url: String,
    pub(crate) expires_in_secs: u64,
}

impl Tickets {
    pub(crate) fn new(context: Context) -> Self {
        Self { context }
    }

    pub(crate) fn issue(&self, who: &Principal) -> IssuedTicket {
        let now = self.context.clock.now();
        // A ticket does not outlive the access token that it was got with.
        let token_secs = who.expires_at.millis_since(now) / 1000;
        IssuedTicket {
            ticket: self.context.keys.ticket(who, now),
            partition: who.user.partition(self.context.partitions),
            base_url: self.context.realtime_url.clone(),
            expires_in_secs: TICKET_TTL.as_secs().min(token_secs),
        }
    }
}
