//! What a run leaves to be judged: who asked for what and what was answered, what each device
//! saw, which faults there were. Plain data; [`super::recorder`] fills it while a run goes on.
//!
//! All times are since the beginning of the run, of one clock that never goes back.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::replica::Delta;

pub type Moment = Duration;

/// A change that somebody asks for. Contents and names are never used twice in a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    Send {
        channel: String,
        content: String,
        reply_to: Option<u64>,
    },
    Edit {
        channel: String,
        message: u64,
        content: String,
    },
    Delete {
        channel: String,
        message: u64,
    },
    RenameGroup {
        group: String,
        name: String,
        if_match: Option<u64>,
    },
    PutMember {
        group: String,
        user: String,
        role: String,
    },
    SetRole {
        group: String,
        user: String,
        role: String,
    },
    Remove {
        group: String,
        user: String,
    },
    CreateChannel {
        group: String,
        name: String,
    },
    RenameChannel {
        group: String,
        channel: String,
        name: String,
        if_match: Option<u64>,
    },
    DeleteChannel {
        group: String,
        channel: String,
    },
    Profile {
        display_name: String,
    },
}

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
}

impl Change {
    /// A word for reports.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Send { reply_to: None, .. } => "send",
            Self::Send { .. } => "reply",
            Self::Edit { .. } => "edit",
            Self::Delete { .. } => "delete",
            Self::RenameGroup { if_match: None, .. } => "rename group",
            Self::RenameGroup { .. } => "rename group if-match",
            Self::PutMember { .. } => "put member",
            Self::SetRole { .. } => "set role",
            Self::Remove { .. } => "remove member",
            Self::CreateChannel { .. } => "create channel",
            Self::RenameChannel { if_match: None, .. } => "rename channel",
            Self::RenameChannel { .. } => "rename channel if-match",
            Self::DeleteChannel { .. } => "delete channel",
            Self::Profile { .. } => "change profile",
        }
    }

    /// The stream in which it becomes an entry.
    #[must_use]
    pub fn stream(&self, actor: &str) -> String {
        match self {
            Self::Send { channel, .. }
            | Self::Edit { channel, .. }
            | Self::Delete { channel, .. } => {
                format!("c:{channel}")
            }
            Self::RenameGroup { group, .. }
            | Self::PutMember { group, .. }
            | Self::SetRole { group, .. }
            | Self::Remove { group, .. }
            | Self::CreateChannel { group, .. }
            | Self::RenameChannel { group, .. }
            | Self::DeleteChannel { group, .. } => format!("g:{group}"),
            Self::Profile { .. } => format!("u:{actor}"),
        }
    }

    /// The request: method, path, body, and the version for `If-Match`.
    #[must_use]
    pub fn request(&self) -> (Method, String, Option<Value>, Option<u64>) {
        let messages = |channel: &str| format!("/v1/channels/{channel}/messages");
        let member = |group: &str, user: &str| format!("/v1/groups/{group}/members/{user}");
        let (method, path, body) = match self {
            Self::Send {
                channel,
                content,
                reply_to,
            } => {
                let body = json!({"content": content, "reply_to": reply_to});
                (Method::POST, messages(channel), Some(body))
            }
            Self::Edit {
                channel,
                message,
                content,
            } => {
                let path = format!("{}/{message}", messages(channel));
                (Method::PATCH, path, Some(json!({"content": content})))
            }
            Self::Delete { channel, message } => {
                let path = format!("{}/{message}", messages(channel));
                (Method::DELETE, path, None)
            }
            Self::RenameGroup { group, name, .. } => {
                let path = format!("/v1/groups/{group}");
                (Method::PATCH, path, Some(json!({"name": name})))
            }
            Self::PutMember { group, user, role } => (
                Method::PUT,
                member(group, user),
                Some(json!({"role": role})),
            ),
            Self::SetRole { group, user, role } => (
                Method::PATCH,
                member(group, user),
                Some(json!({"role": role})),
            ),
            Self::Remove { group, user } => (Method::DELETE, member(group, user), None),
            Self::CreateChannel { group, name } => {
                let path = format!("/v1/groups/{group}/channels");
                (Method::POST, path, Some(json!({"name": name})))
            }
            Self::RenameChannel { channel, name, .. } => {
                let path = format!("/v1/channels/{channel}");
                (Method::PATCH, path, Some(json!({"name": name})))
            }
            Self::DeleteChannel { channel, .. } => {
                (Method::DELETE, format!("/v1/channels/{channel}"), None)
            }
            Self::Profile { display_name } => {
                let body = json!({"display_name": display_name});
                (Method::PATCH, "/v1/users/me".to_owned(), Some(body))
            }
        };
        (method, path, body, self.if_match())
    }

    /// The version that it must find.
    #[must_use]
    pub fn if_match(&self) -> Option<u64> {
        match self {
            Self::RenameGroup { if_match, .. } | Self::RenameChannel { if_match, .. } => *if_match,
            _ => None,
        }
    }
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
