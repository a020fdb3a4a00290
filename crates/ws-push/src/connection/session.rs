//! The rules of a connection, as a state machine: what the client says and the time go in,
//! what to do about it comes out. No socket, no runtime, no clock.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use tidings_common::auth::{Principal, TokenError};
use tidings_common::domain::{Cursor, StreamId, Timestamp, UserId};
use tidings_common::wire::{ClientFrame, ErrorCode, ServerFrame};
use tokio::time::Instant;

use super::Close;

/// A client may send this many frames at once, and one more every [`FRAME_INTERVAL`]: 10 a
/// second. What is beyond is answered with an error and not looked at.
const FRAME_BURST: u32 = 10;
const FRAME_INTERVAL: Duration = Duration::from_millis(100);
/// More errors than this on one connection close it with 1008.
const MAX_ERRORS: u32 = 10;
/// Acknowledged positions are passed on at most this often.
const ACK_INTERVAL: Duration = Duration::from_secs(1);
/// Streams in one such report. Beyond, further streams wait for a later `ack` of the client.
const MAX_ACKED_STREAMS: usize = 1_000;
/// Users that one connection watches. A frame with more is an error.
const MAX_WATCHED: usize = 200;

/// Both times that matter: the one for waiting, and the one that tokens end by.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Now {
    pub(crate) instant: Instant,
    pub(crate) time: Timestamp,
}

/// What the transport is to do.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Send(ServerFrame),
    Ping,
    Pong(Bytes),
    /// Verify this access token and say what came out to [`Session::verified`].
    Verify(String),
    /// Pass these positions on.
    Acknowledge(Cursor),
    /// The app came to the front, or left it.
    Turn(bool),
    /// Watch these users, each once, and no others.
    Watch(Vec<UserId>),
    Close(Close),
    /// End without a close frame: nobody is there to read it.
    Abandon,
}

/// One connection of an authenticated session.
#[derive(Debug)]
pub(crate) struct Session {
    principal: Principal,
    heartbeat: Duration,
    /// Whether the client can say anything.
    speaks: bool,
    last_heard: Instant,
    next_ping: Instant,
    /// When the frames taken so far are paid off at one per [`FRAME_INTERVAL`].
    frames_paid_at: Instant,
    errors: u32,
    acks: Cursor,
    acks_not_before: Instant,
    closed: bool,
}

impl Session {
    pub(crate) fn new(principal: Principal, heartbeat: Duration, now: Now) -> Self {
        Self {
            principal,
            heartbeat,
            speaks: true,
            last_heard: now.instant,
            next_ping: now.instant + heartbeat,
            frames_paid_at: now.instant,
            errors: 0,
            acks: Cursor::new(),
            acks_not_before: now.instant,
            closed: false,
        }
    }

    /// On a transport without a way back: that the client is silent means nothing.
    #[must_use]
    pub(crate) fn of_a_listener(self) -> Self {
        Self {
            speaks: false,
            ..self
        }
    }

    pub(crate) fn speaks(&self) -> bool {
        self.speaks
    }

    pub(crate) fn principal(&self) -> &Principal {
        &self.principal
    }

    /// Whole seconds until the connection is closed with 4001.
    pub(crate) fn expires_in(&self, now: Now) -> u64 {
        self.principal.expires_at.millis_since(now.time) / 1000
    }

    /// Something was read, whatever it was.
    pub(crate) fn heard(&mut self, now: Now) {
        self.last_heard = now.instant;
    }

    /// A text frame.
    pub(crate) fn text(&mut self, text: &str, now: Now) -> Option<Action> {
        if !self.take_frame(now) {
            return self.refuse(ErrorCode::RateLimited);
        }
        let Ok(frame) = serde_json::from_str(text) else {
            return self.refuse(ErrorCode::InvalidFrame);
        };
        match frame {
            ClientFrame::Ping => self.unless_closed(Action::Send(ServerFrame::Pong)),
            ClientFrame::Auth { access_token } => self.unless_closed(Action::Verify(access_token)),
            ClientFrame::Active { value } => self.unless_closed(Action::Turn(value)),
            ClientFrame::Watch { users } => match watchable(&users) {
                Some(users) => self.unless_closed(Action::Watch(users)),
                None => self.refuse(ErrorCode::InvalidFrame),
            },
            ClientFrame::Ack { cursor } => {
                let parsed: Option<Vec<_>> = cursor
                    .iter()
                    .map(|(name, seq)| Some((acknowledgeable(name)?, *seq)))
                    .collect();
                match parsed {
                    Some(positions) => self.acknowledge(positions, now),
                    None => self.refuse(ErrorCode::InvalidFrame),
                }
            }
        }
    }

    /// A ping of the transport. Counts as a frame.
    pub(crate) fn pinged(&mut self, payload: Bytes, now: Now) -> Option<Action> {
        if self.take_frame(now) {
            self.unless_closed(Action::Pong(payload))
        } else {
            self.refuse(ErrorCode::RateLimited)
        }
    }

    /// The outcome of [`Action::Verify`].
    pub(crate) fn verified(
        &mut self,
        outcome: Result<Principal, TokenError>,
        now: Now,
    ) -> Option<Action> {
        let Ok(renewed) = outcome else {
            return self.refuse(ErrorCode::InvalidToken);
        };
        let same = (renewed.user, renewed.session) == (self.principal.user, self.principal.session);
        if !same {
            return self.refuse(ErrorCode::Forbidden);
        }
        // An older token of the same session does not shorten what a newer one gave.
        self.principal.expires_at = self.principal.expires_at.max(renewed.expires_at);
        let session_expires_in = self.expires_in(now);
        self.unless_closed(Action::Send(ServerFrame::Auth { session_expires_in }))
    }

    /// What is due. To be called again at [`Session::next_tick`].
    pub(crate) fn tick(&mut self, now: Now) -> Vec<Action> {
        let mut due = Vec::new();
        if self.closed {
            return due;
        }
        if now.time >= self.principal.expires_at {
            due.extend(self.end(Action::Close(Close::TokenExpired)));
            return due;
        }
        if self.speaks && now.instant.duration_since(self.last_heard) >= 2 * self.heartbeat {
            due.extend(self.end(Action::Abandon));
            return due;
        }
        if now.instant >= self.next_ping {
            self.next_ping = now.instant + self.heartbeat;
            due.push(Action::Ping);
        }
        due.extend(self.report(now));
        due
    }

    /// How long nothing will be due unless the client says something.
    pub(crate) fn next_tick(&self, now: Now) -> Duration {
        let mut next = self.next_ping;
        if self.speaks {
            next = next.min(self.last_heard + 2 * self.heartbeat);
        }
        if !self.acks.is_empty() {
            next = next.min(self.acks_not_before);
        }
        let expiry = Duration::from_millis(self.principal.expires_at.millis_since(now.time));
        next.saturating_duration_since(now.instant).min(expiry)
    }

    /// Takes positions in; they go out at most once per [`ACK_INTERVAL`], merged.
    fn acknowledge(&mut self, positions: Vec<(StreamId, u64)>, now: Now) -> Option<Action> {
        for (stream, seq) in positions {
            if let Some(known) = self.acks.get_mut(&stream) {
                *known = seq.max(*known);
            } else if self.acks.len() < MAX_ACKED_STREAMS {
                self.acks.insert(stream, seq);
            }
        }
        self.report(now)
    }

    fn report(&mut self, now: Now) -> Option<Action> {
        if self.acks.is_empty() || now.instant < self.acks_not_before {
            return None;
        }
        self.acks_not_before = now.instant + ACK_INTERVAL;
        let acks = std::mem::take(&mut self.acks);
        self.unless_closed(Action::Acknowledge(acks))
    }

    fn take_frame(&mut self, now: Now) -> bool {
        let paid_at = self.frames_paid_at.max(now.instant);
        if paid_at.duration_since(now.instant) > FRAME_INTERVAL * (FRAME_BURST - 1) {
            return false;
        }
        self.frames_paid_at = paid_at + FRAME_INTERVAL;
        true
    }

    fn refuse(&mut self, code: ErrorCode) -> Option<Action> {
        self.errors += 1;
        if self.errors > MAX_ERRORS {
            self.end(Action::Close(Close::Policy))
        } else {
            self.unless_closed(Action::Send(ServerFrame::Error { code }))
        }
    }

    fn end(&mut self, last: Action) -> Option<Action> {
        let last = self.unless_closed(last);
        self.closed = true;
        last
    }

    fn unless_closed(&self, action: Action) -> Option<Action> {
        (!self.closed).then_some(action)
    }
}

/// The users of these ids, each once; None if one is no id, or if they are too many.
fn watchable(ids: &[String]) -> Option<Vec<UserId>> {
    if ids.len() > MAX_WATCHED {
        return None;
    }
    let users = ids.iter().map(|id| id.parse().ok());
    let users: Option<BTreeSet<UserId>> = users.collect();
    Some(users?.into_iter().collect())
}

/// The stream of that name, if it is one that clients have.
fn acknowledgeable(name: &str) -> Option<StreamId> {
    name.parse()
        .ok()
        .filter(|stream| *stream != StreamId::Sessions)
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
