//! What clients of a schedule ask for, with the rules of the API's proposals. The checks apply
//! the same rules to the true state at the position at which an entry was committed.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;

use super::journal::label;
use crate::clock::Clock;
use crate::domain::*;
use crate::log::{Append, Draft, Log, NotValid, Proposal};
use crate::store::Store;

#[derive(Debug, Clone)]
pub(super) struct Operation {
    pub(super) stream: StreamId,
    pub(super) actor: UserId,
    pub(super) key: Key,
    pub(super) what: What,
}

#[derive(Debug, Clone)]
pub(super) enum What {
    Send(String),
    Edit {
        message: Seq,
        content: String,
    },
    Delete {
        message: Seq,
    },
    React {
        message: Seq,
        present: bool,
    },
    Pin {
        message: Seq,
        pinned: bool,
    },
    CreateGroup {
        members: Vec<UserId>,
        channels: Vec<ChannelId>,
    },
    /// If-Match: only from this version on.
    Rename {
        name: String,
        expected: Option<Seq>,
    },
    Add(UserId),
    Remove(UserId),
    SetRole(UserId, Role),
    CreateChannel(ChannelId),
    DeleteChannel(ChannelId),
    DeleteGroup,
    CreateSession(SessionId),
    RevokeSession(SessionId),
    RenameUser(String),
}

pub(super) const EMOJI: &str = "👍";

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let actor = self.actor.as_bytes()[0];
        write!(f, "user {actor} in {}: ", label(self.stream))?;
        match &self.what {
            What::Send(content) => write!(f, "send {content}"),
            What::Edit { message, content } => write!(f, "edit {message} to {content}"),
            What::Delete { message } => write!(f, "delete {message}"),
            What::React { message, present } => write!(f, "react to {message}: {present}"),
            What::Pin { message, pinned } => write!(f, "pin {message}: {pinned}"),
            What::CreateGroup { .. } => write!(f, "create"),
            What::Rename { name, expected } => write!(f, "rename to {name} if at {expected:?}"),
            What::Add(user) => write!(f, "add user {}", user.as_bytes()[0]),
            What::Remove(user) => write!(f, "remove user {}", user.as_bytes()[0]),
            What::SetRole(user, role) => write!(f, "make user {} {role}", user.as_bytes()[0]),
            What::CreateChannel(channel) => write!(f, "create {}", label((*channel).into())),
            What::DeleteChannel(channel) => write!(f, "delete {}", label((*channel).into())),
            What::DeleteGroup => write!(f, "delete"),
            What::CreateSession(session) => write!(f, "log in as {}", session.as_bytes()[0]),
            What::RevokeSession(session) => write!(f, "end session {}", session.as_bytes()[0]),
            What::RenameUser(name) => write!(f, "be called {name}"),
        }
    }
}

impl Operation {
    /// The digest of the request's body.
    pub(super) fn request(&self) -> RequestHash {
        RequestHash::of("simulated", &[self.to_string().as_bytes()])
    }

    pub(super) fn append(self: &Arc<Self>, at: &Desk) -> Append {
        Append {
            stream: self.stream,
            actor: Some(self.actor),
            key: self.key,
            request: Some(self.request()),
            proposal: Arc::new(Asked {
                operation: self.clone(),
                desk: at.clone(),
            }),
        }
    }

    /// What a change of a message comes to, if the message and who reacts are as given.
    pub(super) fn of_message(
        &self,
        at: Timestamp,
        found: Option<&Message>,
        reacting: &Reacting,
    ) -> Result<Change, Refusal> {
        let found = found.filter(|message| !message.state.deleted);
        let found = found.ok_or(Refusal::NotFound)?;
        let message = found.seq;
        match &self.what {
            What::Edit { content, .. } => Ok(Change::MessageEdited {
                message,
                content: Some(content.clone()),
                mentions: Mentions::default(),
                edited_at: at,
            }),
            What::Delete { .. } => Ok(Change::MessageDeleted { message }),
            What::React { present, .. } => {
                let now = found.state.reaction(EMOJI);
                let now = now.after(self.actor, reacting, *present);
                Ok(if *present {
                    Change::ReactionAdded { message, now }
                } else {
                    Change::ReactionRemoved { message, now }
                })
            }
            What::Pin { pinned: true, .. } => Ok(Change::MessagePinned { message }),
            What::Pin { .. } => Ok(Change::MessageUnpinned { message }),
            other => panic!("{other:?} changes no message"),
        }
    }

    /// What a change of a group comes to, if the group is as given.
    pub(super) fn of_group(&self, group: &Group) -> Result<Change, Refusal> {
        match &self.what {
            What::Rename { name, expected } => {
                group.permit(self.actor, Action::UpdateGroup)?;
                let version = group.version;
                if expected.is_some_and(|expected| expected != version) {
                    return Err(Refusal::PreconditionFailed { version });
                }
                Ok(Change::GroupUpdated {
                    name: Some(name.clone()),
                    lease: None,
                })
            }
            What::Add(user) => {
                group.permit(self.actor, Action::AddMember)?;
                if group.members.contains_key(user) {
                    return Err(Refusal::Unchanged);
                }
                let (user, role) = (*user, Role::Member);
                Ok(Change::member_added(user, role))
            }
            What::Remove(user) => {
                if self.actor == *user {
                    group.permit(self.actor, Action::Leave)?;
                } else {
                    group.permit_on(self.actor, Action::RemoveMember, *user)?;
                }
                Ok(Change::MemberRemoved { user: *user })
            }
            What::SetRole(user, role) => {
                group.permit(self.actor, Action::SetRole)?;
                let known = group.members.get(user).ok_or(Refusal::NotFound)?;
                if known.role == *role || known.role == Role::Owner {
                    return Err(Refusal::Unchanged);
                }
                let (user, role) = (*user, *role);
                Ok(Change::MemberUpdated { user, role })
            }
            What::CreateChannel(channel) => {
                group.permit(self.actor, Action::CreateChannel)?;
                let name = "another".to_owned();
                let channel = *channel;
                Ok(Change::ChannelCreated { channel, name })
            }
            What::DeleteChannel(channel) => {
                group.permit(self.actor, Action::DeleteChannel)?;
                group.channel_for(self.actor, *channel)?;
                Ok(Change::ChannelDeleted { channel: *channel })
            }
            What::DeleteGroup => {
                group.permit(self.actor, Action::DeleteGroup)?;
                Ok(Change::GroupDeleted)
            }
            other => panic!("{other:?} changes no group"),
        }
    }

    /// The message that is to be changed.
    pub(super) fn message(&self) -> Option<Seq> {
        match &self.what {
            What::Edit { message, .. }
            | What::Delete { message }
            | What::React { message, .. }
            | What::Pin { message, .. } => Some(*message),
            _ => None,
        }
    }

    /// A group to be created.
    pub(super) fn creation(&self, head: Head) -> Result<Change, Refusal> {
        let What::CreateGroup { members, channels } = &self.what else {
            panic!("{:?} creates nothing", self.what);
        };
        if head.seq > 0 {
            return Err(Refusal::NotFound);
        }
        let others = members.iter().map(|user| (*user, Role::Member));
        let named = |channel: &ChannelId| (*channel, "general".to_owned());
        Ok(Change::GroupCreated {
            kind: GroupKind::Group,
            name: Some("new".to_owned()),
            members: std::iter::once((self.actor, Role::Owner))
                .chain(others)
                .collect(),
            channels: channels.iter().map(named).collect(),
        })
    }

    /// A session to be ended.
    pub(super) fn of_session(&self, found: Option<&Session>) -> Result<Change, Refusal> {
        match found {
            Some(session) if session.user == self.actor && !session.revoked => {
                Ok(Change::SessionRevoked {
                    session: session.id,
                })
            }
            _ => Err(Refusal::NotFound),
        }
    }
}

/// What rules read, in one process.
#[derive(Clone)]
pub(super) struct Desk {
    pub(super) log: Log,
    pub(super) store: Arc<dyn Store>,
    pub(super) clock: Arc<dyn Clock>,
}

/// An operation that was asked for at one process.
struct Asked {
    operation: Arc<Operation>,
    desk: Desk,
}

#[async_trait]
impl Proposal for Asked {
    fn reads_state(&self) -> bool {
        !matches!(
            self.operation.what,
            What::Send(_) | What::CreateGroup { .. } | What::CreateSession(_) | What::RenameUser(_)
        )
    }

    async fn validate(&self, head: Head) -> Result<Draft, NotValid> {
        let (operation, store) = (&*self.operation, &self.desk.store);
        let change = match (operation.stream, &operation.what) {
            (StreamId::Channel(channel), _) => return self.in_channel(channel, head).await,
            (_, What::CreateGroup { .. }) => operation.creation(head)?,
            (StreamId::Group(group), _) => {
                let group = store.group(group).await?.ok_or(Refusal::NotFound)?;
                operation.of_group(&group)?
            }
            (_, What::CreateSession(session)) => Change::SessionCreated {
                session: *session,
                device_name: "a device".to_owned(),
            },
            (_, What::RevokeSession(session)) => {
                operation.of_session(store.session(*session).await?.as_ref())?
            }
            (_, What::RenameUser(name)) => Change::UserUpdated {
                display_name: name.clone(),
            },
            (stream, other) => panic!("{other:?} in {stream}"),
        };
        Ok(Draft { change, gv: 0 })
    }
}

impl Asked {
    async fn in_channel(&self, channel: ChannelId, head: Head) -> Result<Draft, NotValid> {
        let group = self.group(channel, head).await?;
        let change = if let What::Send(content) = &self.operation.what {
            Change::MessageCreated(Box::new(MessageState {
                content: content.clone(),
                ..MessageState::default()
            }))
        } else {
            let seqs: Vec<Seq> = self.operation.message().into_iter().collect();
            let (store, actor) = (&self.desk.store, self.operation.actor);
            let found = store.messages_at(channel, &seqs).await?;
            let message = seqs.first().copied().unwrap_or_default();
            let reacting = store.reacting(channel, message, EMOJI, actor).await?;
            let at = self.desk.clock.now();
            self.operation.of_message(at, found.first(), &reacting)?
        };
        let gv = group.applied;
        Ok(Draft { change, gv })
    }

    /// As the API does it: what a cached group grants holds, what it refuses may have been
    /// granted since.
    async fn group(&self, channel: ChannelId, head: Head) -> Result<Arc<Group>, NotValid> {
        let (actor, groups) = (self.operation.actor, self.desk.log.groups());
        let cached = groups.of_channel(channel, head.gv).await?;
        let cached = cached.ok_or(Refusal::NotFound)?;
        if cached.channel_for(actor, channel).is_ok() {
            return Ok(cached);
        }
        let fresh = groups.fresh(cached.id).await?.ok_or(Refusal::NotFound)?;
        fresh.channel_for(actor, channel)?;
        Ok(fresh)
    }
}
