//! Sessions that poll. Between two polls a session stays registered, so that whatever is
//! committed meanwhile finds its partition bound, and nothing is bound and unbound for a poll.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tidings_common::auth::Principal;
use tidings_common::domain::SessionId;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::connection::{Bell, Listener, Transport};
use crate::hub::{Hub, NoPlace, Place, Registration};

/// How long a session stays registered after its last poll.
const LINGER: Duration = Duration::from_secs(30);
/// Between looks for sessions that poll no more.
const SWEEP: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(crate) struct Pollers {
    hub: Arc<Hub>,
    /// Polls of one session at the same time. One more ends the oldest.
    polls_per_session: usize,
    /// As many as have a place. Lock order: these, a session's polls, then those of the hub.
    sessions: Mutex<HashMap<SessionId, Arc<Poller>>>,
}

/// A session that polls: one connection, of the server's and of its user's.
#[derive(Debug)]
struct Poller {
    bell: Arc<Bell>,
    registration: Registration,
    polls: Mutex<Polls>,
    _place: Place,
}

#[derive(Debug)]
struct Polls {
    /// The oldest first, each with what ends it.
    under_way: VecDeque<(u64, CancellationToken)>,
    begun: u64,
    /// When the last one ended.
    idle_since: Instant,
}

/// One poll. The session stays registered while it lasts, and for some time afterwards.
#[derive(Debug)]
pub(crate) struct Turn {
    poller: Arc<Poller>,
    number: u64,
    displaced: CancellationToken,
    /// Of a poll beside others of its session: each is a connection that the server holds.
    _place: Option<Place>,
}

impl Pollers {
    pub(crate) fn new(hub: Arc<Hub>, polls_per_session: usize) -> Arc<Self> {
        Arc::new(Self {
            hub,
            polls_per_session,
            sessions: Mutex::default(),
        })
    }

    /// Begins a poll; registers the session if it is not.
    ///
    /// # Errors
    ///
    /// [`NoPlace`]
    pub(crate) fn join(&self, who: &Principal) -> Result<Turn, NoPlace> {
        let mut sessions = self.lock();
        let known = sessions.get(&who.session);
        if let Some(poller) = known.filter(|poller| !poller.bell.is_closed()) {
            return self.one_more(poller);
        }
        let place = self.hub.reserve()?;
        let bell = Arc::new(Bell::default());
        let (user, session) = (who.user, who.session);
        let registration = self
            .hub
            .register(user, session, Transport::Poll, bell.clone())?;
        let poller = Arc::new(Poller {
            bell,
            registration,
            polls: Mutex::new(Polls::none()),
            _place: place,
        });
        sessions.insert(session, poller.clone());
        Ok(poller.begin(None))
    }

    fn one_more(&self, poller: &Arc<Poller>) -> Result<Turn, NoPlace> {
        poller.registration.renew();
        let others = {
            let mut polls = poller.polls();
            while polls.under_way.len() >= self.polls_per_session.max(1)
                && let Some((_, oldest)) = polls.under_way.pop_front()
            {
                oldest.cancel();
            }
            !polls.under_way.is_empty()
        };
        let place = others.then(|| self.hub.reserve()).transpose()?;
        Ok(poller.begin(place))
    }

    /// Lets go of sessions that poll no more, until `stop`.
    pub(crate) async fn sweep(self: Arc<Self>, stop: CancellationToken) {
        let sweeping = async {
            loop {
                sleep(SWEEP).await;
                self.forget_idle(Instant::now());
            }
        };
        // None: it was stopped.
        let _stopped: Option<()> = stop.run_until_cancelled(sweeping).await;
    }

    fn forget_idle(&self, now: Instant) {
        let mut gone = Vec::new();
        self.lock().retain(|_, poller| {
            let stays = poller.stays(now);
            if !stays {
                gone.push(poller.clone());
            }
            stays
        });
        // Whose registrations and places go here, after the lock.
        drop(gone);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SessionId, Arc<Poller>>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Poller {
    fn begin(self: &Arc<Self>, place: Option<Place>) -> Turn {
        let displaced = CancellationToken::new();
        let mut polls = self.polls();
        polls.begun += 1;
        let number = polls.begun;
        polls.under_way.push_back((number, displaced.clone()));
        drop(polls);
        Turn {
            poller: self.clone(),
            number,
            displaced,
            _place: place,
        }
    }

    fn stays(&self, now: Instant) -> bool {
        let polls = self.polls();
        let idle = now.duration_since(polls.idle_since) >= LINGER;
        let polled = !polls.under_way.is_empty();
        !self.bell.is_closed() && (polled || !idle)
    }

    fn polls(&self) -> MutexGuard<'_, Polls> {
        self.polls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Polls {
    fn none() -> Self {
        Self {
            under_way: VecDeque::new(),
            begun: 0,
            idle_since: Instant::now(),
        }
    }
}

impl Turn {
    pub(crate) fn partition(&self) -> u16 {
        self.poller.registration.partition()
    }

    pub(crate) fn listen(&self) -> Listener {
        self.poller.bell.listen()
    }

    /// Returns when a newer poll of the session has taken this one's place.
    pub(crate) async fn displaced(&self) {
        self.displaced.cancelled().await;
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut polls = self.poller.polls();
        polls.under_way.retain(|(number, _)| *number != self.number);
        polls.idle_since = Instant::now();
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU16;

    use tidings_common::domain::{Timestamp, UserId};
    use tidings_common::telemetry::Metrics;

    use super::*;
    use crate::binder::Partitions;
    use crate::connection::{Close, Recipient as _, Rung};
    use crate::hub::HubLimits;
    use crate::metrics::PushMetrics;

    fn pollers(connections: usize) -> Arc<Pollers> {
        let limits = HubLimits {
            connections,
            connections_per_user: 2,
        };
        let metrics = PushMetrics::register(&Metrics::default());
        let partitions = Partitions::new(NonZeroU16::new(8).unwrap(), Duration::from_secs(60));
        Pollers::new(Hub::new(limits, metrics, partitions), 2)
    }

    fn login(user: UserId) -> Principal {
        Principal {
            user,
            session: SessionId::generate(),
            expires_at: Timestamp::default(),
        }
    }

    /// Lets time pass with a sweep each second, as in a running server.
    async fn pass(pollers: &Arc<Pollers>, time: Duration) {
        let stop = CancellationToken::new();
        let sweep = tokio::spawn(pollers.clone().sweep(stop.clone()));
        sleep(time).await;
        stop.cancel();
        sweep.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_session_stays_for_thirty_seconds_after_its_last_poll() {
        let pollers = pollers(10);
        let who = login(UserId::generate());
        let first = pollers.join(&who).unwrap();
        pass(&pollers, Duration::from_secs(60)).await;
        drop(first);
        for _ in 0..3 {
            pass(&pollers, Duration::from_millis(29_500)).await;
            assert_eq!(pollers.hub.connections(), 1, "it lingers");
            drop(pollers.join(&who).unwrap());
        }
        pass(&pollers, Duration::from_millis(31_500)).await;
        assert_eq!(pollers.hub.connections(), 0);
        assert!(pollers.lock().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_session_is_one_connection_and_each_poll_beside_another_one_more() {
        let pollers = pollers(3);
        let who = login(UserId::generate());
        let first = pollers.join(&who).unwrap();
        assert_eq!(pollers.hub.connections(), 1);
        let second = pollers.join(&who).unwrap();
        assert_eq!(pollers.hub.connections(), 2);
        let _other = pollers.join(&login(UserId::generate())).unwrap();
        let refused = pollers.join(&login(UserId::generate())).unwrap_err();
        assert_eq!(refused, NoPlace::Full);
        drop((first, second));
        assert_eq!(pollers.hub.connections(), 2, "it lingers");
    }

    #[tokio::test(start_paused = true)]
    async fn one_poll_too_many_of_a_session_ends_its_oldest() {
        let pollers = pollers(10);
        let who = login(UserId::generate());
        let turns = [(); 3].map(|()| pollers.join(&who).unwrap());
        turns[0].displaced().await;
        assert!(!turns[1].displaced.is_cancelled() && !turns[2].displaced.is_cancelled());
        drop(turns);
        assert_eq!(pollers.hub.connections(), 1);
        let turns = [(); 2].map(|()| pollers.join(&who).unwrap());
        assert!(turns.iter().all(|turn| !turn.displaced.is_cancelled()));
    }

    #[tokio::test(start_paused = true)]
    async fn one_session_too_many_of_a_user_ends_the_polls_of_the_oldest() {
        let pollers = pollers(10);
        let user = UserId::generate();
        let oldest = login(user);
        let turn = pollers.join(&oldest).unwrap();
        let mut listener = turn.listen();
        let _second = pollers.join(&login(user)).unwrap();
        let _third = pollers.join(&login(user)).unwrap();
        assert_eq!(listener.next().await, Rung::Closed(Close::Displaced));
        drop(turn);
        // What has ended is no bar to coming back.
        let again = pollers.join(&oldest).unwrap();
        assert!(!again.poller.bell.is_closed());
        assert_eq!(pollers.hub.connections(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_closed_goes_at_once() {
        let pollers = pollers(10);
        let turn = pollers.join(&login(UserId::generate())).unwrap();
        let bell = turn.poller.bell.clone();
        drop(turn);
        bell.close(Close::Restarting);
        pass(&pollers, Duration::from_millis(1_500)).await;
        assert_eq!(pollers.hub.connections(), 0);
    }
}
