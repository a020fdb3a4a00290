//! A bus that fails, takes its time, confirms late and loses hints; what it carries goes into
//! the journal.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::mpsc;

use super::journal::{Event, Journal, ProcessId};
use crate::bus::{
    Announcement, Audience, Bus, BusError, Control, Deliveries, Delivery, Payload, Subscription,
};
use crate::domain::{Entry, ServerId, StreamId, UserId};
use crate::store::simulated::{Link, Weather, chance};

/// Hints that may wait for one process; more are lost.
const HINTS: usize = 16;

/// What all processes share.
pub(super) struct Broker {
    pub(super) weather: Weather,
    journal: Journal,
    followers: Mutex<Vec<mpsc::Sender<Delivery>>>,
}

impl Broker {
    pub(super) fn new(journal: Journal) -> Arc<Self> {
        Arc::new(Self {
            weather: Weather::default(),
            journal,
            followers: Mutex::default(),
        })
    }

    fn followers(&self) -> std::sync::MutexGuard<'_, Vec<mpsc::Sender<Delivery>>> {
        self.followers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn hint(&self, hint: Control) {
        let faults = self.weather.now();
        self.followers().retain(|follower| {
            let delivery = if chance(faults.uncertain) {
                Delivery::Missed
            } else {
                Delivery::Control(hint)
            };
            if !chance(faults.unavailable) {
                // A full queue loses it.
                follower.try_send(delivery).ok();
            }
            !follower.is_closed()
        });
    }
}

/// One process's connection to the broker.
pub(super) struct SimulatedBus {
    pub(super) broker: Arc<Broker>,
    pub(super) link: Link,
    pub(super) process: ProcessId,
}

impl SimulatedBus {
    async fn travel(&self) -> Result<(), BusError> {
        let faults = self.broker.weather.now();
        let arrived = self.link.travel(faults).await;
        arrived.map_err(|died| BusError(Box::new(died)))?;
        if faults.outage {
            return Err(broken());
        }
        Ok(())
    }

    fn carry(&self, announcement: &Announcement) -> bool {
        let faults = self.broker.weather.now();
        if chance(faults.unavailable) {
            return false;
        }
        let confirmed = !chance(faults.uncertain);
        if let (Payload::Entry(entry), Audience::Users(to)) =
            (&announcement.payload, &announcement.audience)
        {
            self.broker
                .journal
                .add(self.published(entry, to, confirmed));
        }
        confirmed
    }

    fn published(&self, entry: &Entry, to: &[UserId], confirmed: bool) -> Event {
        let gv = match entry.stream {
            StreamId::Group(_) => entry.seq,
            _ => entry.gv,
        };
        Event::Published {
            by: self.process,
            position: (entry.stream, entry.seq),
            gv,
            to: to.to_vec(),
            confirmed,
        }
    }
}

fn broken() -> BusError {
    BusError("the broker is away".into())
}

#[async_trait]
impl Bus for SimulatedBus {
    async fn publish(&self, announcements: &[Announcement]) -> Vec<Result<(), BusError>> {
        let all_fail = |_| announcements.iter().map(|_| Err(broken())).collect();
        if let Err(error) = self.travel().await {
            return all_fail(error);
        }
        let carried = |announcement| match self.carry(announcement) {
            true => Ok(()),
            false => Err(broken()),
        };
        let outcomes = announcements.iter().map(carried).collect();
        match self.travel().await {
            Ok(()) => outcomes,
            Err(error) => all_fail(error),
        }
    }

    async fn publish_control(&self, control: Control) -> Result<(), BusError> {
        self.travel().await?;
        self.broker.hint(control);
        Ok(())
    }

    async fn subscribe(&self, _server: ServerId) -> Result<Subscription, BusError> {
        Err(BusError("nothing but hints is followed here".into()))
    }

    async fn control(&self) -> Result<Box<dyn Deliveries>, BusError> {
        self.travel().await?;
        let (follower, hints) = mpsc::channel(HINTS);
        self.broker.followers().push(follower);
        Ok(Box::new(Hints(hints)))
    }

    async fn check(&self) -> Result<(), BusError> {
        self.travel().await
    }
}

struct Hints(mpsc::Receiver<Delivery>);

#[async_trait]
impl Deliveries for Hints {
    async fn next(&mut self) -> Delivery {
        match self.0.recv().await {
            Some(delivery) => delivery,
            None => {
                // The broker is never shut down before the processes.
                tokio::time::sleep(Duration::from_secs(1)).await;
                Delivery::Closed
            }
        }
    }
}
