//! Which sessions have ended: every process follows `x:sessions`.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::{Instant, MissedTickBehavior};

use crate::auth::SessionCheck;
use crate::bus::{Bus, Control, Deliveries, Delivery};
use crate::clock::Clock;
use crate::domain::{Change, Entry, Seq, SessionId, StreamId, Timestamp};
use crate::store::{Store, StoreError};
use crate::tasks::Tasks;

/// The stream is read this often, whether or not a hint came.
const INTERVAL: Duration = Duration::from_secs(3);
/// Longest wait for a broker to be asked for hints.
const HINTS_DEADLINE: Duration = Duration::from_secs(1);
/// Entries read at once.
const PAGE: usize = 500;
/// What clocks of different servers may differ by.
const CLOCK_MARGIN_MS: i64 = 3_600_000;

/// Follows `x:sessions`: which sessions have ended within the life of an access token.
/// (A session that ended earlier has no access token left.)
pub struct Revocations {
    ended: RwLock<HashMap<SessionId, Timestamp>>,
    changed: watch::Sender<u64>,
    follower: std::sync::OnceLock<AbortHandle>,
}

/// How far the stream has been read, and with what.
struct Reader {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    access_ttl: Duration,
    position: Seq,
}

impl Revocations {
    /// Reads the stream to its head, then follows it: at each hint, and every 3 s, until the
    /// value is dropped.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the stream cannot be read: the process must not serve.
    pub async fn start(
        store: Arc<dyn Store>,
        bus: Arc<dyn Bus>,
        clock: Arc<dyn Clock>,
        access_ttl: Duration,
        tasks: &Tasks,
    ) -> Result<Arc<Self>, StoreError> {
        let this = Arc::new(Self {
            ended: RwLock::default(),
            changed: watch::Sender::new(0),
            follower: std::sync::OnceLock::new(),
        });
        let mut reader = Reader {
            store,
            clock,
            access_ttl,
            position: 0,
        };
        reader.read_back(&this).await?;
        let following = follow(Arc::downgrade(&this), reader, bus);
        let following = tasks.watched("revoked sessions", following);
        let follower = tasks.runtime().spawn(following);
        assert!(
            this.follower.set(follower.abort_handle()).is_ok(),
            "set once, here"
        );
        Ok(this)
    }

    /// Whether the session has ended.
    #[must_use]
    pub fn is_ended(&self, session: SessionId) -> bool {
        let ended = self.ended.read().unwrap_or_else(PoisonError::into_inner);
        ended.contains_key(&session)
    }

    /// This process has just ended the session: its tokens are refused at once, without waiting
    /// for the stream to be read.
    pub fn note_ended(&self, session: SessionId, at: Timestamp) {
        let mut ended = self.ended.write().unwrap_or_else(PoisonError::into_inner);
        ended.insert(session, at);
        drop(ended);
        self.changed.send_modify(|version| *version += 1);
    }

    /// Changes whenever sessions have ended.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    fn add(&self, entries: &[Entry], cutoff: Timestamp) {
        {
            let mut ended = self.ended.write().unwrap_or_else(PoisonError::into_inner);
            for entry in entries {
                if let Change::SessionEnded { session, .. } = entry.change {
                    ended.insert(session, entry.at);
                }
            }
            ended.retain(|_, at| *at >= cutoff);
        }
        self.changed.send_modify(|version| *version += 1);
    }
}

impl SessionCheck for Revocations {
    fn is_revoked(&self, session: SessionId) -> bool {
        self.is_ended(session)
    }
}

impl Drop for Revocations {
    fn drop(&mut self) {
        if let Some(follower) = self.follower.get() {
            follower.abort();
        }
    }
}

impl Reader {
    fn cutoff(&self) -> Timestamp {
        let ttl = i64::try_from(self.access_ttl.as_millis()).unwrap_or(i64::MAX);
        self.clock
            .now()
            .plus_millis(ttl.saturating_add(CLOCK_MARGIN_MS).saturating_neg())
    }

    /// Reads from the head back to what no longer matters.
    async fn read_back(&mut self, into: &Revocations) -> Result<(), StoreError> {
        let cutoff = self.cutoff();
        self.position = self.store.head(StreamId::Sessions).await?.seq;
        let mut through = self.position;
        while through > 0 {
            let after = through.saturating_sub(PAGE as Seq);
            let entries = self
                .store
                .entries(StreamId::Sessions, after, through, PAGE)
                .await?;
            into.add(&entries, cutoff);
            if entries.first().is_none_or(|oldest| oldest.at < cutoff) {
                break;
            }
            through = after;
        }
        Ok(())
    }

    /// Reads what has come since.
    async fn read_on(&mut self, into: &Revocations) -> Result<(), StoreError> {
        loop {
            let entries = self
                .store
                .entries(StreamId::Sessions, self.position, Seq::MAX, PAGE)
                .await?;
            let Some(last) = entries.last() else {
                return Ok(());
            };
            self.position = last.seq;
            into.add(&entries, self.cutoff());
        }
    }
}

async fn follow(into: std::sync::Weak<Revocations>, mut reader: Reader, bus: Arc<dyn Bus>) {
    let mut interval = tokio::time::interval_at(Instant::now() + INTERVAL, INTERVAL);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut hints: Option<Box<dyn Deliveries>> = None;
    loop {
        if hints.is_none() {
            // A broker that does not answer must not hold up the reading.
            let control = tokio::time::timeout(HINTS_DEADLINE, bus.control()).await;
            hints = control.ok().and_then(Result::ok);
        }
        let Some(into) = into.upgrade() else {
            return;
        };
        if let Err(error) = reader.read_on(&into).await {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "revoked sessions could not be read; trying again"
            );
        }
        drop(into);
        if !wait(&mut interval, hints.as_mut()).await {
            hints = None;
        }
    }
}

/// Waits for the next hint or tick. False: hints come no more.
async fn wait(
    interval: &mut tokio::time::Interval,
    hints: Option<&mut Box<dyn Deliveries>>,
) -> bool {
    let hint = async {
        match hints {
            None => std::future::pending().await,
            Some(hints) => loop {
                match hints.next().await {
                    Delivery::Control(Control::SessionsEnded) | Delivery::Missed => return true,
                    Delivery::Control(Control::GroupChanged { .. })
                    | Delivery::Delta(_)
                    | Delivery::Interrupted => {}
                    Delivery::Closed => return false,
                }
            },
        }
    };
    // Both are cancel-safe.
    tokio::select! {
        _ = interval.tick() => true,
        open = hint => open || {
            // The bus is gone for now: do not ask it again at once.
            interval.tick().await;
            false
        },
    }
}
