//! What happened in a schedule, in order: what the checks read, and what a failure shows.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::time::Instant;

use super::operation::Operation;
use crate::domain::{Entry, Seq, StreamId, UserId};
use crate::store::simulated::StoreEvent;

/// Which of the processes that ever ran; each run has its own number.
pub(super) type ProcessId = usize;
/// Which of the clients' attempts.
pub(super) type AttemptId = usize;

#[derive(Debug, Clone)]
pub(super) enum Event {
    Store(StoreEvent),
    /// An entry went out on the bus.
    Published {
        by: ProcessId,
        position: (StreamId, Seq),
        /// As of which `g:` position the recipients are told (0: no group's).
        gv: Seq,
        to: Vec<UserId>,
        confirmed: bool,
    },
    /// A client asked a process for a mutation.
    Asked {
        attempt: AttemptId,
        by: ProcessId,
        operation: Arc<Operation>,
    },
    Answered {
        attempt: AttemptId,
        answer: Answer,
    },
    /// What else happened, for people to read.
    Note(String),
}

#[derive(Debug, Clone)]
pub(super) enum Answer {
    Committed {
        entry: Box<Entry>,
        replayed: bool,
    },
    Refused(&'static str),
    KeyReused,
    Unavailable,
    /// The process died, or the client did not wait.
    Nothing,
}

/// Grows as the schedule goes on. Cheap to clone.
#[derive(Clone)]
pub(super) struct Journal {
    begun: Instant,
    events: Arc<Mutex<Vec<(u128, Event)>>>,
}

impl Journal {
    pub(super) fn new() -> Self {
        Self {
            begun: Instant::now(),
            events: Arc::default(),
        }
    }

    pub(super) fn add(&self, event: Event) {
        let at = self.begun.elapsed().as_millis();
        self.lock().push((at, event));
    }

    pub(super) fn note(&self, note: String) {
        self.add(Event::Note(note));
    }

    pub(super) fn take(&self) -> Vec<(u128, Event)> {
        std::mem::take(&mut *self.lock())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<(u128, Event)>> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// `g:3`: ids in a schedule are one byte repeated.
pub(super) fn label(stream: StreamId) -> String {
    let bytes = stream.to_bytes();
    format!("{}:{}", char::from(bytes[0]), bytes[16])
}

/// Says everything but entries' ids and keys made of them, which no seed decides.
impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Store(StoreEvent::Committed(entry)) => write!(
                f,
                "  committed {} {} gv {} {}",
                label(entry.stream),
                entry.seq,
                entry.gv,
                entry.change.kind()
            ),
            Self::Store(StoreEvent::Applied(stream, seq)) => {
                write!(f, "  applied {} {seq}", label(*stream))
            }
            Self::Store(StoreEvent::Settled(stream, seq)) => {
                write!(f, "  settled {} {seq}", label(*stream))
            }
            Self::Store(StoreEvent::Broken(why)) => write!(f, "  {why}"),
            Self::Published {
                by,
                position: (stream, seq),
                gv,
                to,
                confirmed,
            } => {
                let (stream, to) = (label(*stream), to.len());
                write!(
                    f,
                    "  process {by} published {stream} {seq} gv {gv} to {to}, confirmed {confirmed}"
                )
            }
            Self::Asked {
                attempt,
                by,
                operation,
            } => write!(f, "attempt {attempt} at process {by}: {operation}"),
            Self::Answered { attempt, answer } => {
                write!(f, "attempt {attempt}: ")?;
                match answer {
                    Answer::Committed { entry, replayed } => {
                        let (stream, seq) = (label(entry.stream), entry.seq);
                        write!(f, "{stream} {seq}, replayed {replayed}")
                    }
                    Answer::Refused(why) => write!(f, "refused, {why}"),
                    Answer::KeyReused => write!(f, "key reused"),
                    Answer::Unavailable => write!(f, "unavailable"),
                    Answer::Nothing => write!(f, "no answer"),
                }
            }
            Self::Note(note) => write!(f, "{note}"),
        }
    }
}
