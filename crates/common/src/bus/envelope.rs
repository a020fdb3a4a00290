//! What travels on the bus.

use bytes::Bytes;

use crate::domain::{
    Entry, EntryId, Ephemeral, GroupId, Role, Seq, StreamId, Timestamp, UserId, UserPresence,
};
use crate::wire;

/// Something to tell people: what, and whom.
#[derive(Debug, Clone)]
pub struct Announcement {
    pub payload: Payload,
    pub audience: Audience,
    /// The trace that it belongs to, if one is being recorded.
    pub trace: Option<TraceContext>,
}

/// A place in a trace, as the header `traceparent` of W3C Trace Context has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceContext(pub Box<str>);

#[derive(Debug, Clone)]
pub enum Payload {
    /// A committed entry. The content of an edit has been filled in.
    Entry(Box<Entry>),
    /// As members see it who are no admins; see [`wire::Delta::concealed`].
    Concealed(Box<Entry>),
    Ephemeral {
        at: Timestamp,
        actor: Option<UserId>,
        what: Ephemeral,
    },
}

#[derive(Debug, Clone)]
pub enum Audience {
    /// These users, each once; at most `fanout_limit`.
    Users(Vec<UserId>),
    /// Members of a large group, whom every server finds among its users.
    Group(Broadcast),
    /// Whoever watches this user. Only the servers know who does, so each gets it.
    Watchers(UserId),
}

/// Members of a group as of position `gv` of its stream who are members still.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Broadcast {
    pub group: GroupId,
    pub gv: Seq,
    pub part: Part,
    /// Who comes or goes with it: is told at once, and the others that members have changed.
    pub about: Option<UserId>,
}

/// Which of a group's members a delta is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    All,
    /// The owner among them.
    Admins,
    /// Who are no admins.
    Others,
}

impl Part {
    #[must_use]
    pub fn includes(self, role: Role) -> bool {
        match self {
            Self::All => true,
            Self::Admins => role > Role::Member,
            Self::Others => role == Role::Member,
        }
    }
}

/// One announcement, encoded. Servers pass `body` on and never look into it.
#[derive(Debug, Clone)]
pub struct Envelope {
    /// Of the entry; None for an ephemeral delta.
    pub id: Option<EntryId>,
    /// Of the entry; None for an ephemeral delta, which is dropped first under pressure.
    pub position: Option<(StreamId, Seq)>,
    /// When it was committed, for `tidings_delivery_seconds`.
    pub at: Timestamp,
    pub to: Recipients,
    /// The trace that it belongs to, if one is being recorded.
    pub trace: Option<TraceContext>,
    /// The `delta` frame exactly as clients get it.
    pub body: Bytes,
}

/// To whom, as far as the server it came to is concerned.
#[derive(Debug, Clone)]
pub enum Recipients {
    Users(Vec<UserId>),
    Group(Broadcast),
    Watchers(UserId),
}

/// A hint to every process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Control {
    /// `x:sessions` has a new entry.
    SessionsEnded,
    /// The group's stream has reached `seq`.
    GroupChanged { group: GroupId, seq: Seq },
}

impl Payload {
    /// The kind of the delta, such as `message.created`.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Entry(entry) | Self::Concealed(entry) => entry.change.kind().as_str(),
            Self::Ephemeral { what, .. } => what.kind(),
        }
    }
}

impl Announcement {
    /// That somebody came, went, or turned to something else, to those who watch.
    #[must_use]
    pub fn presence(now: UserPresence) -> Self {
        Self {
            payload: Payload::Ephemeral {
                at: now.at,
                actor: None,
                what: Ephemeral::PresenceChanged(now),
            },
            audience: Audience::Watchers(now.user),
            trace: None,
        }
    }

    /// Encodes the frame, once for all recipients. None for entries that no client may see.
    #[must_use]
    pub fn encode(&self) -> Option<Envelope> {
        let to = match &self.audience {
            Audience::Users(users) => Recipients::Users(users.clone()),
            Audience::Group(broadcast) => Recipients::Group(*broadcast),
            Audience::Watchers(user) => Recipients::Watchers(*user),
        };
        let of_entry = |entry: &Entry, delta| {
            let position = (entry.stream, entry.seq);
            (Some(entry.id), Some(position), entry.at, delta)
        };
        let (id, position, at, delta) = match &self.payload {
            Payload::Entry(entry) => of_entry(entry, wire::Delta::of_entry(entry)?),
            Payload::Concealed(entry) => of_entry(entry, wire::Delta::concealed(entry)?),
            Payload::Ephemeral { at, actor, what } => (
                None,
                None,
                *at,
                wire::Delta::of_ephemeral(*at, *actor, what),
            ),
        };
        Some(Envelope {
            id,
            position,
            at,
            to,
            trace: self.trace.clone(),
            body: delta.to_frame(),
        })
    }
}
