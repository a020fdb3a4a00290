//! The task that keeps a connection: hears the client, keeps time, and ends it. The other half
//! is the response's body (`outlet`), which the server polls whenever its socket has room; the
//! two share a mailbox.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use actix_http::ws::Codec;
use actix_web::dev::Payload;
use bytes::Bytes;
use futures_util::Stream;
use tidings_common::auth::Principal;
use tidings_common::domain::UserId;
use tidings_common::wire::ServerFrame;
use tokio::time::{Instant, sleep, timeout};

use super::outlet::{Framing, Outlet};
use super::reader::{Incoming, Reader};
use super::session::{Action, Now};
use super::{Close, Mailbox, Session};
use crate::hub::{Place, Registration};
use crate::metrics::CloseLabel;
use crate::state::State;
use crate::watching::Watching;

/// A binding that takes longer closes the connection with 1013.
pub(crate) const BIND_DEADLINE: Duration = Duration::from_secs(10);
/// What `hello` tells a client about its background syncs while the app is in front.
const SYNC_SECS: u64 = 120;

/// A client that has been let in.
pub(crate) struct Admitted {
    pub(crate) principal: Principal,
    pub(crate) registration: Registration,
    pub(crate) place: Place,
    pub(crate) mailbox: Arc<Mailbox>,
}

/// What carries the frames of a connection that stays open.
pub(crate) enum Link {
    /// With what the client sends.
    WebSocket(Payload),
    Events,
}

/// A connection that is registered; its `hello` is still to come.
struct Connection {
    state: Arc<State>,
    registration: Registration,
    mailbox: Arc<Mailbox>,
    session: Session,
    /// None where the client has no way to say anything.
    reader: Option<Reader>,
    /// From when the client first asked for it.
    watching: Option<Watching>,
}

/// Starts the task that serves a connection, and returns the body that carries its frames.
/// To be called on a server's worker thread, which the task never leaves.
pub(crate) fn open(
    state: Arc<State>,
    admitted: Admitted,
    link: Link,
) -> impl Stream<Item = Result<Bytes, Infallible>> {
    let Admitted {
        principal,
        registration,
        place,
        mailbox,
    } = admitted;
    let session = Session::new(principal, state.heartbeat, state.now());
    let (framing, session, reader) = match link {
        Link::WebSocket(payload) => {
            let framing = Framing::WebSocket(Codec::new());
            (framing, session, Some(Reader::new(payload)))
        }
        Link::Events => (Framing::Events, session.of_a_listener(), None),
    };
    let outlet = Outlet::new(state.clone(), mailbox.clone(), framing, place);
    let connection = Connection {
        state,
        registration,
        mailbox,
        session,
        reader,
        watching: None,
    };
    // Owned by the connection: it ends when the body is dropped, and with the worker.
    actix_web::rt::spawn(connection.serve());
    outlet
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
        let (user, partition) = (self.registration.user(), self.registration.partition());
        tokio::select! {
            // Cancelling the wait loses nothing: the binder goes on for whoever holds it.
            bound = timeout(BIND_DEADLINE, self.state.receives(user, partition)) => {
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
            acks: self.session.speaks(),
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
                incoming = next_of(&mut self.reader) => {
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
            Action::Turn(active) => self.registration.set_active(active),
            Action::Watch(users) => self.watch(users),
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

    fn watch(&mut self, users: Vec<UserId>) {
        if let Some(watching) = &self.watching {
            watching.change(users);
            return;
        }
        self.watching = Some(Watching::start(
            self.state.clone(),
            self.session.principal().user,
            self.registration.id(),
            self.mailbox.clone(),
            users,
        ));
    }

    /// Leaves the hub at once; what is left to write gets a little longer.
    async fn finish(self) {
        drop(self.registration);
        drop(self.watching);
        let label = CloseLabel::from(self.mailbox.closing());
        self.state.metrics.closes.get_or_create(&label).inc();
        let written = timeout(self.state.write_deadline, self.mailbox.detached()).await;
        if written.is_err() {
            tracing::debug!("a client did not take its close frame in time");
        }
    }
}

/// What the client does next. Cancel-safe.
async fn next_of(reader: &mut Option<Reader>) -> Incoming {
    match reader {
        Some(reader) => reader.next().await,
        None => std::future::pending().await,
    }
}

impl State {
    fn now(&self) -> Now {
        Now {
            instant: Instant::now(),
            time: self.clock.now(),
        }
    }
}
