//! The WebSocket transport. Two halves share a mailbox: the response's body, which the server
//! polls whenever its socket has room, and a task, which reads and keeps time.
//!
//! The body takes from the mailbox only what is about to be written, so the mailbox's bounds
//! are all that a slow client costs; a channel between the two, as in `actix-ws`, would hold
//! another 32 writes.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use actix_http::ws::{Codec, Message, OpCode, Parser};
use actix_web::dev::Payload;
use bytes::{Bytes, BytesMut};
use futures_util::Stream;
use tidings_common::wire::ServerFrame;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::codec::Encoder as _;

use super::mailbox::Outgoing;
use super::reader::{Incoming, Reader};
use super::session::{Action, Now};
use super::{Close, Mailbox, Session};
use crate::hub::{Place, Registration};
use crate::metrics::CloseLabel;
use crate::state::State;

/// A binding that takes longer closes the connection with 1013.
const BIND_DEADLINE: Duration = Duration::from_secs(10);
/// What `hello` tells a client about its background syncs while the app is in front.
const SYNC_SECS: u64 = 120;

/// A connection that is registered; its `hello` is still to come.
struct Connection {
    state: Arc<State>,
    registration: Registration,
    mailbox: Arc<Mailbox>,
    session: Session,
    reader: Reader,
}

/// Starts the task that serves a connection, and returns the body that carries its frames.
/// To be called on a server's worker thread, which the task never leaves.
pub(crate) fn open(
    state: Arc<State>,
    (registration, place): (Registration, Place),
    mailbox: Arc<Mailbox>,
    session: Session,
    payload: Payload,
) -> impl Stream<Item = Result<Bytes, Infallible>> {
    let body = Outlet {
        state: state.clone(),
        mailbox: mailbox.clone(),
        codec: Codec::new(),
        _place: place,
    };
    let connection = Connection {
        state,
        registration,
        mailbox,
        session,
        reader: Reader::new(payload),
    };
    // Owned by the connection: it ends when the body is dropped, and with the worker.
    actix_web::rt::spawn(connection.serve());
    body
}

impl Connection {
    async fn serve(mut self) {
        if self.welcome().await {
            self.converse().await;
        }
        self.finish().await;
    }

    /// Sends `hello` once deltas of this user really come. False: the connection has ended.
    async fn welcome(&mut self) -> bool {
        let partition = self.registration.partition();
        tokio::select! {
            // Cancelling the wait loses nothing: the binder goes on for whoever holds it.
            bound = timeout(BIND_DEADLINE, self.state.partitions.bound(partition)) => {
                if bound.is_err() {
                    self.mailbox.close(Close::TryLater);
                    return false;
                }
            }
            () = self.mailbox.ended() => return false,
        }
        self.mailbox.open(ServerFrame::Hello {
            server: self.state.server,
            connection: self.registration.id(),
            epoch: self.state.epoch,
            heartbeat_ms: u64::try_from(self.state.heartbeat.as_millis()).unwrap_or(u64::MAX),
            session_expires_in: self.session.expires_in(self.state.now()),
            sync_secs: SYNC_SECS,
            // Until devices register for push, nobody knows who needs none.
            acks: true,
        });
        true
    }

    async fn converse(&mut self) {
        // Whether the transport is stuck is asked twice per deadline: telling this task of
        // every write instead would cost each delta another wake-up.
        let look = self.state.write_deadline / 2;
        loop {
            let wait = self.session.next_tick(self.state.now()).min(look);
            // All branches are cancel-safe.
            tokio::select! {
                incoming = self.reader.next() => {
                    if !self.hear(incoming) {
                        return;
                    }
                }
                () = self.mailbox.ended() => return,
                () = sleep(wait) => self.tick(),
            }
        }
    }

    fn tick(&mut self) {
        for action in self.session.tick(self.state.now()) {
            self.act(action);
        }
        if self.mailbox.stuck_for(Instant::now()) >= self.state.write_deadline {
            // Whether the frame still gets through is up to the client; the kernel ends the
            // connection of one that accepts nothing.
            self.mailbox.close(Close::Slow);
        }
    }

    /// False: nothing more will be read.
    fn hear(&mut self, incoming: Incoming) -> bool {
        let now = self.state.now();
        self.session.heard(now);
        let action = match incoming {
            Incoming::Text(text) => self.session.text(&text, now),
            Incoming::Ping(payload) => self.session.pinged(payload, now),
            Incoming::Pong => None,
            Incoming::Close(close) => {
                self.mailbox.close(close);
                return false;
            }
            Incoming::Gone => {
                self.mailbox.abandon();
                return false;
            }
        };
        if let Some(action) = action {
            self.act(action);
        }
        true
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Send(frame) => self.mailbox.instruct(frame),
            Action::Ping => self.mailbox.ping(),
            Action::Pong(payload) => self.mailbox.pong(payload),
            Action::Acknowledge(cursor) => {
                let session = self.session.principal().session;
                if !self.state.acks.report(session, cursor) {
                    self.state.metrics.acks_dropped.inc();
                }
            }
            Action::Verify(token) => {
                let now = self.state.now();
                let outcome = self.state.keys.verify_access(&token, now.time);
                if let Some(action) = self.session.verified(outcome, now) {
                    self.act(action);
                }
            }
            Action::Close(close) => self.mailbox.close(close),
            Action::Abandon => self.mailbox.abandon(),
        }
    }

    /// Leaves the hub at once; what is left to write gets a little longer.
    async fn finish(self) {
        drop(self.registration);
        let label = CloseLabel::from(self.mailbox.closing());
        self.state.metrics.closes.get_or_create(&label).inc();
        let written = timeout(self.state.write_deadline, self.mailbox.detached()).await;
        if written.is_err() {
            tracing::debug!("a client did not take its close frame in time");
        }
    }
}

/// The response's body: whatever the mailbox has, as frames.
struct Outlet {
    state: Arc<State>,
    mailbox: Arc<Mailbox>,
    codec: Codec,
    _place: Place,
}

impl Stream for Outlet {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(self: Pin<&mut Self>, ctx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        let outgoing = ready!(this.mailbox.poll_take(ctx));
        Poll::Ready(this.encode(outgoing).map(|frame| Ok(frame.freeze())))
    }
}

impl Outlet {
    /// None ends the connection.
    fn encode(&mut self, outgoing: Outgoing) -> Option<BytesMut> {
        let mut frame = BytesMut::new();
        let message = match outgoing {
            Outgoing::Deltas(deltas) => {
                let now = self.state.clock.now();
                for (_, committed) in &deltas {
                    let latency = Duration::from_millis(now.millis_since(*committed));
                    self.state
                        .metrics
                        .delivery_seconds
                        .observe(latency.as_secs_f64());
                }
                write_text(&mut frame, &gathered(deltas.iter().map(|(delta, _)| delta)));
                return Some(frame);
            }
            Outgoing::Frame(instruction) => {
                write_text(&mut frame, instruction.to_json().as_bytes());
                return Some(frame);
            }
            Outgoing::Ping => Message::Ping(Bytes::new()),
            Outgoing::Pong(payload) => Message::Pong(payload),
            Outgoing::Close(close) => Message::Close(Some(close.frame())),
            Outgoing::End => return None,
        };
        // Only continuations, of which there are none, can be refused.
        self.codec.encode(message, &mut frame).ok()?;
        Some(frame)
    }
}

impl Drop for Outlet {
    fn drop(&mut self) {
        self.mailbox.detach();
    }
}

/// One delta as it is, several as a JSON array of frames.
fn gathered<'a>(deltas: impl ExactSizeIterator<Item = &'a Bytes>) -> Bytes {
    if deltas.len() == 1 {
        return deltas.last().cloned().unwrap_or_default();
    }
    let mut array = Vec::new();
    for delta in deltas {
        array.push(if array.is_empty() { b'[' } else { b',' });
        array.extend_from_slice(delta);
    }
    array.push(b']');
    Bytes::from(array)
}

/// A text frame of what is known to be UTF-8; the codec's own message would check it again.
fn write_text(frame: &mut BytesMut, text: &[u8]) {
    Parser::write_message(frame, text, OpCode::Text, true, false);
}

impl State {
    fn now(&self) -> Now {
        Now {
            instant: Instant::now(),
            time: self.clock.now(),
        }
    }

    pub(crate) fn new_session(&self, principal: tidings_common::auth::Principal) -> Session {
        Session::new(principal, self.heartbeat, self.now())
    }
}
