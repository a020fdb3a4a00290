//! What waits for one client: filled by the hub and the session, emptied by the transport.
//! Bounded in bytes and in count; nobody ever waits for it to have room.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use tidings_common::domain::Timestamp;
use tidings_common::wire::{ResumeReason, ServerFrame};
use tokio::sync::Notify;
use tokio::time::Instant;
use tracing::Span;

use super::{Close, Recipient};
use crate::trace;

/// What one client's mailbox holds. At the limit: ephemeral deltas go first; then the backlog
/// is replaced by one `resume`; when it fills again before it was once empty, the connection is
/// closed with 4008.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MailboxLimits {
    /// Of delta frames waiting.
    pub(crate) bytes: usize,
    /// Of delta frames waiting.
    pub(crate) deltas: usize,
}

/// Most frames waiting that answer the client or instruct it. A client that goes on asking and
/// does not read the answers is closed with 4008.
const MAX_INSTRUCTIONS: usize = 64;
/// Most delta bytes gathered into one write.
const MAX_WRITE_BYTES: usize = 64 * 1024;

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Mailbox {
    limits: MailboxLimits,
    content: Mutex<Content>,
    /// Told when the mailbox ends or its transport has gone.
    changed: Notify,
}

#[derive(Debug, Default)]
struct Content {
    waiting: VecDeque<Item>,
    delta_bytes: usize,
    deltas: usize,
    instructions: usize,
    /// `hello` is in: what comes before it must wait behind it.
    opened: bool,
    /// The backlog was replaced and the mailbox has not been empty since.
    slow: bool,
    ping: bool,
    /// The answer to the client's latest ping; earlier ones need none (RFC 6455 §5.5.3).
    pong: Option<Bytes>,
    ending: Option<Ending>,
    /// Why it ends, also once the close frame has been taken.
    close: Option<Close>,
    /// The transport has gone: nothing will be taken any more.
    detached: bool,
    /// Since when the transport has had something to take and has taken nothing.
    stuck_since: Option<Instant>,
    writer: Option<Waker>,
}

/// A delta on its way to one client.
#[derive(Debug)]
pub(crate) struct Delta {
    pub(crate) frame: Bytes,
    pub(crate) ephemeral: bool,
    pub(crate) committed: Timestamp,
    /// Until it is written; boxed, because few are traced.
    pub(crate) span: Option<Box<Span>>,
}

#[derive(Debug)]
enum Item {
    Delta(Delta),
    Instruction(ServerFrame),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    /// A close frame, then the end.
    Frame(Close),
    /// The end, at once.
    Silent,
}

/// What became of a delta offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Offered {
    Queued,
    /// An ephemeral delta there was no room for.
    Dropped,
    /// There was no room: the backlog, with this delta, is now one `resume`.
    Replaced,
    /// There was no room again: the connection is being closed.
    TooSlow,
    /// The client polls, and reads it from the log.
    Rung,
    /// The connection is ending anyway.
    Ended,
}

/// What the transport writes next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outgoing {
    /// One or more delta frames, in order, with the times they were committed.
    Deltas(Vec<(Bytes, Timestamp)>),
    Frame(ServerFrame),
    Ping,
    Pong(Bytes),
    Close(Close),
    End,
}

impl Mailbox {
    pub(crate) fn new(limits: MailboxLimits) -> Self {
        Self {
            limits,
            content: Mutex::default(),
            changed: Notify::new(),
        }
    }

    /// Puts `hello` before everything and lets the transport begin.
    pub(crate) fn open(&self, hello: ServerFrame) {
        self.change(|content| {
            content.opened = true;
            content.waiting.push_front(Item::Instruction(hello));
            content.instructions += 1;
        });
    }

    /// Puts a delta in, or makes room as the limits say. Called by the hub.
    pub(crate) fn offer(&self, delta: Delta) -> Offered {
        let limits = self.limits;
        let (bytes, ephemeral) = (delta.frame.len(), delta.ephemeral);
        let offered = self.change(|content| {
            if content.ending.is_some() {
                return Offered::Ended;
            }
            if !content.has_room(limits, bytes) {
                content.drop_deltas(|ephemeral| ephemeral);
            }
            if content.has_room(limits, bytes) {
                content.delta_bytes += bytes;
                content.deltas += 1;
                content.waiting.push_back(Item::Delta(delta));
                Offered::Queued
            } else if ephemeral {
                Offered::Dropped
            } else if content.slow {
                content.end(Ending::Frame(Close::Slow));
                Offered::TooSlow
            } else {
                content.drop_deltas(|_| true);
                content.slow = true;
                content.resume(ResumeReason::Slow, 0);
                Offered::Replaced
            }
        });
        if offered == Offered::TooSlow {
            self.changed.notify_one();
        }
        offered
    }

    /// Puts in a frame that answers the client or instructs it.
    pub(crate) fn instruct(&self, frame: ServerFrame) {
        self.change(|content| content.instruct(frame));
        self.tell_if_ended();
    }

    /// Tells the client to sync. One that waits to be written already is enough.
    pub(crate) fn resume(&self, reason: ResumeReason, after_ms: u64) {
        self.change(|content| content.resume(reason, after_ms));
        self.tell_if_ended();
    }

    pub(crate) fn ping(&self) {
        self.change(|content| content.ping = true);
    }

    pub(crate) fn pong(&self, payload: Bytes) {
        self.change(|content| content.pong = Some(payload));
    }

    /// Ends the connection with a close frame. Deltas that wait are dropped: the log has them.
    /// The first reason given stays.
    pub(crate) fn close(&self, close: Close) {
        self.change(|content| content.end(Ending::Frame(close)));
        self.changed.notify_one();
    }

    /// Ends the connection without a word.
    pub(crate) fn abandon(&self) {
        self.change(|content| content.ending = Some(Ending::Silent));
        self.changed.notify_one();
    }

    /// The transport has gone.
    pub(crate) fn detach(&self) {
        self.change(|content| content.detached = true);
        self.changed.notify_one();
    }

    /// Returns when the mailbox ends or its transport has gone. For the connection's own task.
    pub(crate) async fn ended(&self) {
        loop {
            {
                let content = self.lock();
                if content.ending.is_some() || content.detached {
                    return;
                }
            }
            self.changed.notified().await;
        }
    }

    /// Returns when the transport has gone. For the connection's own task.
    pub(crate) async fn detached(&self) {
        while !self.lock().detached {
            self.changed.notified().await;
        }
    }

    /// Why the connection is being closed; None also if it ends without a close frame.
    pub(crate) fn closing(&self) -> Option<Close> {
        self.lock().close
    }

    /// How long the transport has been unable to take what waits.
    pub(crate) fn stuck_for(&self, now: Instant) -> Duration {
        let since = self.lock().stuck_since;
        since.map_or(Duration::ZERO, |since| now.duration_since(since))
    }

    /// What to write next. One transport calls this; it is woken when there is something.
    pub(crate) fn poll_take(&self, ctx: &mut Context<'_>) -> Poll<Outgoing> {
        let mut content = self.lock();
        let Some(outgoing) = content.take() else {
            content.writer = Some(ctx.waker().clone());
            return Poll::Pending;
        };
        // Being asked for more is the transport's progress.
        content.stuck_since = content.has_work().then(Instant::now);
        Poll::Ready(outgoing)
    }

    fn tell_if_ended(&self) {
        if self.lock().ending.is_some() {
            self.changed.notify_one();
        }
    }

    /// Changes the content, then wakes the transport if that gave it something to do.
    fn change<T>(&self, act: impl FnOnce(&mut Content) -> T) -> T {
        let mut content = self.lock();
        let result = act(&mut content);
        let writer = if content.has_work() {
            content.stuck_since.get_or_insert_with(Instant::now);
            content.writer.take()
        } else {
            None
        };
        drop(content);
        if let Some(writer) = writer {
            writer.wake();
        }
        result
    }

    fn lock(&self) -> MutexGuard<'_, Content> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Recipient for Mailbox {
    fn offer(&self, delta: Delta) -> Offered {
        self.offer(delta)
    }

    fn resume(&self, reason: ResumeReason, after_ms: u64) {
        self.resume(reason, after_ms);
    }

    fn move_over(&self, after_ms: u64) {
        self.instruct(ServerFrame::Reconnect { after_ms });
    }

    fn close(&self, close: Close) {
        self.close(close);
    }
}

impl Content {
    fn has_work(&self) -> bool {
        let content = !self.waiting.is_empty() || self.ping || self.pong.is_some();
        self.ending.is_some() || (self.opened && content)
    }

    /// A frame larger than the whole mailbox passes when nothing else waits.
    fn has_room(&self, limits: MailboxLimits, bytes: usize) -> bool {
        self.deltas == 0
            || (self.deltas < limits.deltas && self.delta_bytes + bytes <= limits.bytes)
    }

    fn drop_deltas(&mut self, which: impl Fn(bool) -> bool) {
        let (mut bytes, mut count) = (0, 0);
        self.waiting.retain(|item| match item {
            Item::Delta(delta) if which(delta.ephemeral) => {
                bytes += delta.frame.len();
                count += 1;
                false
            }
            Item::Delta(_) | Item::Instruction(_) => true,
        });
        self.delta_bytes -= bytes;
        self.deltas -= count;
    }

    fn instruct(&mut self, frame: ServerFrame) {
        if self.instructions >= MAX_INSTRUCTIONS {
            self.end(Ending::Frame(Close::Slow));
        } else if self.ending.is_none() {
            self.instructions += 1;
            self.waiting.push_back(Item::Instruction(frame));
        }
    }

    fn resume(&mut self, reason: ResumeReason, after_ms: u64) {
        let told = self
            .waiting
            .iter()
            .any(|item| matches!(item, Item::Instruction(ServerFrame::Resume { .. })));
        if !told {
            self.instruct(ServerFrame::Resume { reason, after_ms });
        }
    }

    fn end(&mut self, ending: Ending) {
        if self.ending.is_none() {
            self.drop_deltas(|_| true);
            self.ending = Some(ending);
            if let Ending::Frame(close) = ending {
                self.close = Some(close);
            }
        }
    }

    fn take(&mut self) -> Option<Outgoing> {
        if self.ending == Some(Ending::Silent) {
            return Some(Outgoing::End);
        }
        if self.opened {
            if let Some(payload) = self.pong.take() {
                return Some(Outgoing::Pong(payload));
            }
            if std::mem::take(&mut self.ping) {
                return Some(Outgoing::Ping);
            }
            if let Some(frames) = self.take_frames() {
                if self.waiting.is_empty() {
                    self.slow = false;
                }
                return Some(frames);
            }
        }
        match self.ending {
            Some(Ending::Frame(close)) => {
                self.ending = Some(Ending::Silent);
                Some(Outgoing::Close(close))
            }
            Some(Ending::Silent) | None => None,
        }
    }

    /// The next instruction, or as many deltas as follow each other and fit into one write.
    fn take_frames(&mut self) -> Option<Outgoing> {
        let mut gathered = Vec::new();
        let mut bytes = 0;
        while let Some(item) = self.waiting.pop_front() {
            match item {
                Item::Instruction(frame) if gathered.is_empty() => {
                    self.instructions -= 1;
                    return Some(Outgoing::Frame(frame));
                }
                Item::Delta(delta)
                    if gathered.is_empty() || bytes + delta.frame.len() <= MAX_WRITE_BYTES =>
                {
                    if let Some(span) = delta.span {
                        trace::written(&span);
                    }
                    bytes += delta.frame.len();
                    gathered.push((delta.frame, delta.committed));
                }
                next => {
                    self.waiting.push_front(next);
                    break;
                }
            }
        }
        self.delta_bytes -= bytes;
        self.deltas -= gathered.len();
        (!gathered.is_empty()).then_some(Outgoing::Deltas(gathered))
    }
}

#[cfg(test)]
#[path = "mailbox_tests.rs"]
mod tests;
