//! What a run leaves to be judged: who asked for what and what was answered, what each device
//! saw, which faults there were. Plain data; [`super::recorder`] fills it while a run goes on.
//!
//! All times are since the beginning of the run, of one clock that never goes back.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

pub use super::change::Change;
use crate::replica::Delta;

pub type Moment = Duration;

/// What became of an operation in the end.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// A success. `replayed`: the server says that a repetition found what had been done.
    Ok {
        status: u16,
        replayed: bool,
        body: Value,
    },
    /// It was refused for good, and must have had no effect.
    Refused { status: u16, code: String },
    /// There was no answer, or none that says what happened: it may have had its effect once.
    Unknown,
}

/// One change, repeated with the same key until its outcome was known.
#[derive(Debug, Clone)]
pub struct Operation {
    /// The user who asked.
    pub actor: String,
    pub change: Change,
    pub key: String,
    /// When it was sent for the first time.
    pub invoked: Moment,
    /// When the outcome was known; [`Moment::MAX`] if it never was.
    pub answered: Moment,
    pub attempts: u32,
    pub outcome: Outcome,
}

/// What a read asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Question {
    Message {
        channel: String,
        seq: u64,
    },
    /// The newest page of a channel's messages.
    Newest {
        channel: String,
    },
    /// The channel itself, with its head.
    Channel {
        channel: String,
    },
    Group {
        group: String,
    },
    /// The deltas of one stream after a position.
    Sync {
        stream: String,
        after: u64,
    },
}

/// One read, and what its answer says.
#[derive(Debug, Clone)]
pub struct Read {
    pub actor: String,
    pub question: Question,
    pub invoked: Moment,
    pub answered: Moment,
    pub status: u16,
    /// The body of a success.
    pub body: Value,
    /// What a sync returned.
    pub deltas: Vec<Arc<Delta>>,
}

/// Somebody told the others of a channel that they are about to write. It may have been heard,
/// whatever the answer, unless that is a refusal: those are not here.
#[derive(Debug, Clone)]
pub struct Typing {
    pub actor: String,
    pub channel: String,
    pub invoked: Moment,
    /// [`Moment::MAX`] if it never was.
    pub answered: Moment,
    /// It was answered that it is done.
    pub done: bool,
}

/// How a delta came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    Push,
    Sync,
}

/// What happened at a device.
#[derive(Debug, Clone)]
pub enum Event {
    /// A delta came, whether or not it could be applied.
    Seen {
        delta: Arc<Delta>,
        source: Source,
    },
    /// It was applied, as the next one of its stream.
    Applied(Arc<Delta>),
    /// The state of a stream was read over HTTP, after its head had been read.
    TakenUp {
        stream: String,
        head: u64,
    },
    /// A sync said that the stream cannot be continued from where the device was.
    Reset {
        stream: String,
    },
    /// It was told that this user is about to write into this channel.
    Typing {
        channel: String,
        user: String,
    },
    /// The stream is no longer the user's.
    Gone {
        stream: String,
    },
    Connected,
    /// It has caught up with what there was when it connected.
    Live,
    Resume {
        reason: String,
    },
    Closed {
        code: Option<u16>,
    },
    /// The connection, or a request, met a network that does not work or a server that cannot.
    Lost {
        error: String,
    },
    /// The app left the front, and comes back. In between the device wants no connection.
    Away,
    Back,
}

/// One device and all that happened to it, in order of time.
#[derive(Debug, Clone, Default)]
pub struct DeviceHistory {
    pub name: String,
    /// The user's id.
    pub user: String,
    pub events: Vec<(Moment, Event)>,
    /// Deltas that came again and were dropped.
    pub duplicates: usize,
    /// Its cursor in the end.
    pub cursor: BTreeMap<String, u64>,
    /// How what it holds in the end differs from what a new device reads, if it does.
    pub stale: Option<String>,
}

/// A fault, from when it was caused until all it had broken was put right again.
#[derive(Debug, Clone)]
pub struct Fault {
    /// Such as `kill api`.
    pub kind: String,
    /// Which one, such as `api-1`.
    pub target: String,
    pub began: Moment,
    pub healed: Moment,
}

/// One request sent to an API process directly, without nginx.
#[derive(Debug, Clone)]
pub struct Direct {
    /// Such as `api-0`.
    pub target: String,
    pub what: String,
    pub invoked: Moment,
    /// When it was answered or the connection failed; or when it was given up.
    pub ended: Moment,
    pub answered: bool,
}

/// All of it.
#[derive(Debug, Clone, Default)]
pub struct History {
    /// Id → name, for messages to people.
    pub users: BTreeMap<String, String>,
    pub operations: Vec<Operation>,
    pub reads: Vec<Read>,
    pub typings: Vec<Typing>,
    pub directs: Vec<Direct>,
    pub devices: Vec<DeviceHistory>,
    pub faults: Vec<Fault>,
    /// What was seen to be wrong as it happened: answers that break the protocol.
    pub violations: Vec<(Moment, String)>,
}

/// What the servers hold in the end: the log as sync tells it from its beginning, and the state
/// as HTTP tells it.
#[derive(Debug, Clone, Default)]
pub struct Truth {
    pub streams: BTreeMap<String, Vec<Arc<Delta>>>,
    /// The heads that the servers name.
    pub heads: BTreeMap<String, u64>,
    pub state: crate::view::View,
    /// User → through where each channel is read.
    pub read_marks: BTreeMap<String, crate::view::ReadMarks>,
}

impl Question {
    /// The channel or group that is asked about: `c:…` or `g:…`.
    #[must_use]
    pub fn stream(&self) -> String {
        match self {
            Self::Message { channel, .. }
            | Self::Newest { channel }
            | Self::Channel { channel } => {
                format!("c:{channel}")
            }
            Self::Group { group } => format!("g:{group}"),
            Self::Sync { stream, .. } => stream.clone(),
        }
    }
}

impl Operation {
    #[must_use]
    pub fn is_ok(&self) -> bool {
        matches!(self.outcome, Outcome::Ok { .. })
    }

    /// An edit lease was held already: of that there is nothing in the log.
    #[must_use]
    pub fn is_renewal(&self) -> bool {
        let renewed = matches!(self.outcome, Outcome::Ok { status: 200, .. });
        matches!(self.change, Change::TakeLease { .. }) && renewed
    }

    /// Whether it may have had an effect.
    #[must_use]
    pub fn may_be_done(&self) -> bool {
        !matches!(self.outcome, Outcome::Refused { .. })
    }

    #[must_use]
    pub fn stream(&self) -> String {
        self.change.stream(&self.actor)
    }
}

impl History {
    /// A user's name, or the id where there is none.
    #[must_use]
    pub fn name<'a>(&'a self, user: &'a str) -> &'a str {
        self.users.get(user).map_or(user, |name| name)
    }

    /// One line about an operation.
    #[must_use]
    pub fn describe(&self, operation: &Operation) -> String {
        let answered = match operation.answered {
            Moment::MAX => "never".to_owned(),
            at => seconds(at),
        };
        format!(
            "{} by {}: {:?}, asked {}, answered {answered} after {} attempts: {:?}",
            operation.change.kind(),
            self.name(&operation.actor),
            operation.change,
            seconds(operation.invoked),
            operation.attempts,
            operation.outcome
        )
    }

    /// Whether a fault was there at some time of the span.
    pub fn faults_during(&self, from: Moment, to: Moment) -> impl Iterator<Item = &Fault> {
        let touching = move |fault: &&Fault| fault.began <= to && fault.healed >= from;
        self.faults.iter().filter(touching)
    }
}

/// Such as `12.345s`.
#[must_use]
pub fn seconds(at: Moment) -> String {
    format!("{:.3}s", at.as_secs_f64())
}
