//! What a client that polls has in the place of a mailbox: it is told that there is something,
//! and reads what from the log.

use std::time::Duration;

use tidings_common::wire::ResumeReason;
use tokio::sync::watch;

use super::{Close, Delta, Offered, Recipient};

/// See the module's documentation. Holds nothing but the fact that it rang.
#[derive(Debug, Default)]
pub(crate) struct Bell(watch::Sender<Heard>);

#[derive(Debug, Clone, Copy, Default)]
struct Heard {
    /// How long to wait before looking what there is.
    wait: Duration,
    close: Option<Close>,
}

/// Hears what rings after it was made.
#[derive(Debug)]
pub(crate) struct Listener(watch::Receiver<Heard>);

/// What a [`Listener`] heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rung {
    /// There is, or may be, something to read after this time.
    Something(Duration),
    Closed(Close),
}

impl Bell {
    pub(crate) fn listen(&self) -> Listener {
        Listener(self.0.subscribe())
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.0.borrow().close.is_some()
    }

    fn ring(&self, wait: Duration) {
        self.0.send_modify(|heard| heard.wait = wait);
    }
}

impl Recipient for Bell {
    /// Ephemeral deltas are in no log, so clients that poll do without them.
    fn offer(&self, delta: Delta) -> Offered {
        if self.is_closed() {
            return Offered::Ended;
        }
        if !delta.ephemeral {
            self.ring(Duration::ZERO);
        }
        Offered::Rung
    }

    fn resume(&self, _reason: ResumeReason, after_ms: u64) {
        self.ring(Duration::from_millis(after_ms));
    }

    /// There is nobody to tell: a poll that is answered comes again, and meets another server.
    fn move_over(&self, _after_ms: u64) {}

    fn close(&self, close: Close) {
        self.0.send_modify(|heard| {
            heard.close.get_or_insert(close);
        });
    }
}

impl Listener {
    /// The next ring, or the end. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Rung {
        if let Some(close) = self.0.borrow().close {
            return Rung::Closed(close);
        }
        if self.0.changed().await.is_err() {
            // The bell is gone, and whoever polls holds it.
            return Rung::Closed(Close::TryLater);
        }
        let Heard { wait, close } = *self.0.borrow_and_update();
        close.map_or(Rung::Something(wait), Rung::Closed)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use futures_util::FutureExt as _;
    use tidings_common::domain::Timestamp;

    use super::*;

    fn delta(ephemeral: bool) -> Delta {
        Delta {
            frame: Bytes::new(),
            ephemeral,
            committed: Timestamp::default(),
            span: None,
        }
    }

    fn heard(listener: &mut Listener) -> Option<Rung> {
        listener.next().now_or_never()
    }

    #[test]
    fn what_rings_after_one_listens_is_heard_once() {
        let bell = Bell::default();
        bell.offer(delta(false));
        let mut listener = bell.listen();
        assert_eq!(heard(&mut listener), None);
        bell.offer(delta(false));
        bell.offer(delta(false));
        assert_eq!(heard(&mut listener), Some(Rung::Something(Duration::ZERO)));
        assert_eq!(heard(&mut listener), None);
        bell.offer(delta(true));
        assert_eq!(heard(&mut listener), None, "nothing that the log has");
        bell.resume(ResumeReason::Missed, 7);
        let later = Rung::Something(Duration::from_millis(7));
        assert_eq!(heard(&mut listener), Some(later));
    }

    #[test]
    fn the_end_is_heard_by_all_at_any_time() {
        let bell = Bell::default();
        let mut before = bell.listen();
        bell.offer(delta(false));
        bell.close(Close::SessionRevoked);
        bell.close(Close::Restarting);
        let ended = Some(Rung::Closed(Close::SessionRevoked));
        assert_eq!(heard(&mut before), ended);
        assert_eq!(heard(&mut before), ended);
        assert_eq!(heard(&mut bell.listen()), ended);
        assert_eq!(bell.offer(delta(false)), Offered::Ended);
    }
}
