//! Fills a [`History`] while a run goes on, from many tasks at once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use super::history::{
    DeviceHistory, Direct, Event, Fault, History, Moment, Operation, Read, Source, Typing,
};
use crate::observer::{Happened, Observer};
use crate::replica::{Delta, Step};

/// The clock of a run and all that it recorded so far.
#[derive(Debug)]
pub struct Recorder {
    begin: Instant,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    history: History,
    /// Every delta once, however many devices saw it: the variants of each place in a stream.
    deltas: HashMap<(String, u64), Vec<Arc<Delta>>>,
}

impl Recorder {
    #[must_use]
    pub fn start() -> Arc<Self> {
        Arc::new(Self {
            begin: Instant::now(),
            kept: Mutex::default(),
        })
    }

    #[must_use]
    pub fn now(&self) -> Moment {
        self.begin.elapsed()
    }

    pub fn user(&self, id: &str, name: &str) {
        let mut kept = self.lock();
        kept.history.users.insert(id.to_owned(), name.to_owned());
    }

    /// A device that will report what happens to it.
    pub fn device(self: &Arc<Self>, name: &str, user: &str) -> Arc<DeviceRecorder> {
        let mut kept = self.lock();
        kept.history.devices.push(DeviceHistory {
            name: name.to_owned(),
            user: user.to_owned(),
            ..DeviceHistory::default()
        });
        Arc::new(DeviceRecorder {
            recorder: self.clone(),
            index: kept.history.devices.len() - 1,
        })
    }

    pub fn operation(&self, operation: Operation) {
        self.lock().history.operations.push(operation);
    }

    pub fn read(&self, read: Read) {
        self.lock().history.reads.push(read);
    }

    pub fn typing(&self, typing: Typing) {
        self.lock().history.typings.push(typing);
    }

    pub fn direct(&self, direct: Direct) {
        self.lock().history.directs.push(direct);
    }

    pub fn fault(&self, fault: Fault) {
        self.lock().history.faults.push(fault);
    }

    /// Something that the protocol does not allow.
    pub fn violation(&self, what: String) {
        let at = self.now();
        self.lock().history.violations.push((at, what));
    }

    /// The same delta as one seen before, if there was one.
    pub fn delta(&self, delta: Delta) -> Arc<Delta> {
        self.lock().same(delta)
    }

    /// How much was recorded: acknowledged operations, and deltas that devices saw.
    #[must_use]
    pub fn counts(&self) -> (usize, usize) {
        let kept = self.lock();
        let ok = kept.history.operations.iter().filter(|it| it.is_ok());
        let seen = |(_, event): &&(Moment, Event)| matches!(event, Event::Seen { .. });
        let devices = kept.history.devices.iter();
        let deltas = devices.map(|device| device.events.iter().filter(seen).count());
        (ok.count(), deltas.sum())
    }

    /// All of it, at the end.
    #[must_use]
    pub fn take(&self) -> History {
        std::mem::take(&mut self.lock().history)
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn same(&mut self, delta: Delta) -> Arc<Delta> {
        let place = (delta.stream.clone(), delta.seq);
        let variants = self.deltas.entry(place).or_default();
        if let Some(known) = variants.iter().find(|known| ***known == delta) {
            return known.clone();
        }
        let delta = Arc::new(delta);
        variants.push(delta.clone());
        delta
    }
}

/// One device's part of the record.
#[derive(Debug)]
pub struct DeviceRecorder {
    recorder: Arc<Recorder>,
    index: usize,
}

impl DeviceRecorder {
    /// Notes what the device holds in the end.
    pub fn end(&self, replica: &crate::replica::Replica, stale: Option<String>) {
        let mut kept = self.recorder.lock();
        let device = &mut kept.history.devices[self.index];
        device.cursor.clone_from(&replica.cursor);
        device.duplicates = replica.duplicates;
        device.stale = stale;
    }
}

impl Observer for DeviceRecorder {
    fn happened(&self, what: Happened) {
        let now = self.recorder.now();
        let mut kept = self.recorder.lock();
        let name = kept.history.devices[self.index].name.clone();
        let event = match what {
            Happened::Seen { delta, pushed } => Event::Seen {
                delta: kept.same(delta),
                source: if pushed { Source::Push } else { Source::Sync },
            },
            Happened::Step(Step::Applied(delta)) => Event::Applied(kept.same(delta)),
            Happened::Step(Step::TakenUp { stream, head }) => Event::TakenUp { stream, head },
            Happened::Step(Step::Gone { stream }) => Event::Gone { stream },
            Happened::Typing { channel, user } => Event::Typing { channel, user },
            Happened::Reset { stream } => Event::Reset { stream },
            Happened::Connected => Event::Connected,
            Happened::Live => Event::Live,
            Happened::Resume { reason } => Event::Resume { reason },
            Happened::Closed { code } => Event::Closed { code },
            Happened::Lost { error } => Event::Lost { error },
            Happened::Violation { error } => {
                let what = format!("device {name}: {error}");
                kept.history.violations.push((now, what));
                return;
            }
            Happened::Away => Event::Away,
            Happened::Back => Event::Back,
        };
        kept.history.devices[self.index].events.push((now, event));
    }
}
