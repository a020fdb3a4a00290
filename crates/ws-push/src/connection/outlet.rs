//! The response's body: whatever the mailbox has, when the socket has room for it.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use actix_http::ws::Codec;
use bytes::Bytes;
use futures_util::Stream;
use tidings_common::domain::Timestamp;

use super::mailbox::Outgoing;
use super::{Mailbox, events, websocket};
use crate::hub::Place;
use crate::state::State;

/// The body takes from the mailbox only what is about to be written, so the mailbox's bounds
/// are all that a slow client costs; a channel between the two, as in `actix-ws`, would hold
/// another 32 writes.
pub(super) struct Outlet {
    state: Arc<State>,
    mailbox: Arc<Mailbox>,
    framing: Framing,
    _place: Place,
}

/// How frames are put into bytes.
pub(super) enum Framing {
    WebSocket(Codec),
    Events,
}

impl Outlet {
    pub(super) fn new(
        state: Arc<State>,
        mailbox: Arc<Mailbox>,
        framing: Framing,
        place: Place,
    ) -> Self {
        Self {
            state,
            mailbox,
            framing,
            _place: place,
        }
    }

    fn measure(&self, outgoing: &Outgoing) {
        let Outgoing::Deltas(deltas) = outgoing else {
            return;
        };
        let now = self.state.clock.now();
        for (_, committed) in deltas {
            let latency = Duration::from_millis(now.millis_since(*committed));
            self.state
                .metrics
                .delivery_seconds
                .observe(latency.as_secs_f64());
        }
    }
}

impl Stream for Outlet {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(self: Pin<&mut Self>, ctx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        let outgoing = ready!(this.mailbox.poll_take(ctx));
        this.measure(&outgoing);
        let bytes = match &mut this.framing {
            Framing::WebSocket(codec) => websocket::encode(codec, outgoing),
            Framing::Events => events::encode(outgoing),
        };
        Poll::Ready(bytes.map(Ok))
    }
}

impl Drop for Outlet {
    fn drop(&mut self) {
        self.mailbox.detach();
    }
}

/// One delta as it is, several as a JSON array of frames.
pub(super) fn gathered(deltas: &[(Bytes, Timestamp)]) -> Bytes {
    if let [(delta, _)] = deltas {
        return delta.clone();
    }
    let mut array = Vec::new();
    for (delta, _) in deltas {
        array.push(if array.is_empty() { b'[' } else { b',' });
        array.extend_from_slice(delta);
    }
    array.push(b']');
    Bytes::from(array)
}
