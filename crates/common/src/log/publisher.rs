//! One publish of complete entries: fills in what they leave to the state, resolves who is to
//! hear of each, and waits for the broker's word.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use tokio::time::timeout;
use tracing::{Span, field};

use super::apply::fill_in;
use super::groups::Groups;
use super::trace;
use crate::bus::{
    Announcement, Audience, Broadcast, Bus, BusError, Control, Part, Payload, TraceContext,
};
use crate::domain::{Entry, GroupId, Role, Seq, StreamId, UserId};
use crate::store::{Store, StoreError};
use crate::telemetry::traces;

/// Longest wait for the broker to confirm a batch, and to take a hint.
const PUBLISH_DEADLINE: Duration = Duration::from_secs(10);
const HINT_DEADLINE: Duration = Duration::from_secs(1);
/// Entries whose recipients are looked for at the same time.
const RESOLVING_AT_ONCE: usize = 16;

/// A complete entry, with the span of what brought it about.
pub(super) struct Complete {
    pub(super) entry: Entry,
    pub(super) span: Span,
}

/// An entry that the bus has confirmed.
pub(super) struct Announced {
    pub(super) position: (StreamId, Seq),
    pub(super) span: Span,
}

/// Why an entry was not announced, as far as is known.
#[derive(Debug, thiserror::Error)]
pub enum NotAnnounced {
    #[error("a delta's content or recipients could not be read")]
    Store(#[source] StoreError),
    #[error("the group of a delta is not known")]
    NoGroup,
    #[error("the bus did not take a delta")]
    Bus(#[source] BusError),
    #[error("the bus did not confirm a delta in time")]
    Late,
}

pub(super) struct Publisher {
    pub(super) store: Arc<dyn Store>,
    pub(super) bus: Arc<dyn Bus>,
    pub(super) groups: Arc<Groups>,
}

impl Publisher {
    /// Publishes entries in order; returns, in their order, what became of each.
    pub(super) async fn publish(
        &self,
        complete: Vec<Complete>,
    ) -> Vec<Result<Announced, NotAnnounced>> {
        let (mut entries, spans): (Vec<_>, Vec<_>) = complete
            .into_iter()
            .map(|Complete { entry, span }| (entry, span))
            .unzip();
        let unread = self.fill_in(&mut entries).await;
        let resolving = entries.iter().zip(unread);
        let resolving: Vec<_> = resolving
            .map(|(entry, unread)| self.resolve(entry, unread))
            .collect();
        let resolving = stream::iter(resolving).buffered(RESOLVING_AT_ONCE);
        let audiences: Vec<_> = resolving.collect().await;
        let mut announcements = Vec::with_capacity(entries.len());
        let mut publishing = Vec::with_capacity(entries.len());
        for ((entry, span), audiences) in entries.into_iter().zip(spans).zip(audiences) {
            publishing.push(audiences.map(|audiences| {
                let position = (entry.stream, entry.seq);
                let publish = trace::publish(&span);
                let before = announcements.len();
                announcements.extend(audiences.announcements(entry, &publish));
                let count = announcements.len() - before;
                (Announced { position, span }, publish, count)
            }));
        }
        let mut words = self.confirmed(&announcements).await.into_iter();
        let outcome_of = |publishing: Result<(Announced, Span, usize), NotAnnounced>| {
            let (announced, publish, count) = publishing?;
            let late = || Err(NotAnnounced::Late);
            let own = (0..count).map(|_| words.next().unwrap_or_else(late));
            // All of its own are taken, also behind one that failed.
            let word = own.fold(Ok(()), Result::and);
            if word.is_err() {
                publish.record("otel.status_code", "ERROR");
            }
            word.map(|()| announced)
        };
        publishing.into_iter().map(outcome_of).collect()
    }

    /// Fills in the contents of edits. Returns, for each entry, why that could not be done: one
    /// message that cannot be read does not keep the others from being announced.
    async fn fill_in(&self, entries: &mut [Entry]) -> Vec<Option<StoreError>> {
        let store = self.store.as_ref();
        match fill_in(store, entries).await {
            Ok(()) => entries.iter().map(|_| None).collect(),
            Err(StoreError::Corrupt(_)) => {
                let mut outcomes = Vec::with_capacity(entries.len());
                for entry in entries {
                    let filled = fill_in(store, std::slice::from_mut(entry)).await;
                    outcomes.push(filled.err());
                }
                outcomes
            }
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "the contents of edits could not be read"
                );
                let unread = || StoreError::Unavailable("the contents could not be read".into());
                entries.iter().map(|_| Some(unread())).collect()
            }
        }
    }

    /// Who is to hear of an entry, after a hint to all processes if it is one they wait for.
    async fn resolve(
        &self,
        entry: &Entry,
        unread: Option<StoreError>,
    ) -> Result<Audiences, NotAnnounced> {
        if let Some(error) = unread {
            return Err(NotAnnounced::Store(error));
        }
        self.hint(entry).await;
        let audiences = self.audiences(entry).await.map_err(NotAnnounced::Store)?;
        audiences.ok_or(NotAnnounced::NoGroup)
    }

    /// The bus's word on each.
    async fn confirmed(&self, announcements: &[Announcement]) -> Vec<Result<(), NotAnnounced>> {
        if announcements.is_empty() {
            return Vec::new();
        }
        let publishing = timeout(PUBLISH_DEADLINE, self.bus.publish(announcements));
        let Ok(outcomes) = publishing.await else {
            tracing::warn!("the bus did not confirm in time");
            // Nothing is known of any of them.
            return Vec::new();
        };
        let outcomes = outcomes.into_iter();
        outcomes
            .map(|outcome| outcome.map_err(NotAnnounced::Bus))
            .collect()
    }

    /// Hints may be lost: caches live 30 s and `x:sessions` is read every 3 s all the same.
    async fn hint(&self, entry: &Entry) {
        let hint = match entry.stream {
            StreamId::Sessions => Control::SessionsEnded,
            StreamId::Group(group) => Control::GroupChanged {
                group,
                seq: entry.seq,
            },
            StreamId::User(_) | StreamId::Channel(_) => return,
        };
        let publishing = timeout(HINT_DEADLINE, self.bus.publish_control(hint));
        if let Ok(Err(error)) = publishing.await {
            tracing::debug!(
                error = &error as &dyn std::error::Error,
                "a hint was not published"
            );
        }
    }

    /// Who is to hear of an entry: members as of the position its rights were checked at who
    /// are members still, and whom it is about. None: the group is not known (yet).
    async fn audiences(&self, entry: &Entry) -> Result<Option<Audiences>, StoreError> {
        let (group, as_of) = match entry.stream {
            StreamId::Sessions => return Ok(Some(Named::all(Vec::new()).into())),
            StreamId::User(user) => return Ok(Some(Named::all(vec![user]).into())),
            StreamId::Group(group) => (self.groups.get(group, entry.seq).await?, entry.seq),
            StreamId::Channel(channel) => {
                (self.groups.of_channel(channel, entry.gv).await?, entry.gv)
            }
        };
        let Some(group) = group else {
            return Ok(None);
        };
        if !group.size.is_named_at(as_of) {
            return Ok(Some(Audiences::Members(group.id, as_of)));
        }
        let members = group.members.iter();
        let members = members.filter(|(_, member)| member.joined <= as_of);
        let sees_all = |role| !entry.change.is_confidential() || role > Role::Member;
        let mut named = Named::all(Vec::new());
        for (user, member) in members {
            let part = if sees_all(member.role) {
                &mut named.all
            } else {
                &mut named.less
            };
            part.push(*user);
        }
        if let Some(user) = entry.change.removes() {
            named.add_removed(user, entry.change.is_confidential());
        }
        Ok(Some(named.into()))
    }
}

/// Who is to hear of an entry.
enum Audiences {
    Named(Named),
    /// The members of a large group as of this position.
    Members(GroupId, Seq),
}

impl From<Named> for Audiences {
    fn from(named: Named) -> Self {
        Self::Named(named)
    }
}

impl Audiences {
    /// One, or where there are two sorts of recipients one for each.
    fn announcements(self, entry: Entry, publish: &Span) -> Vec<Announcement> {
        publish.record("messaging.message.id", field::display(entry.id));
        let entry = Box::new(entry);
        let to = match self {
            Self::Named(named) => named.announcements(entry),
            Self::Members(group, gv) => of_members(group, gv, entry),
        };
        let trace = traces::traceparent(publish).map(TraceContext);
        to.into_iter()
            .map(|(payload, audience)| Announcement {
                payload,
                audience,
                trace: trace.clone(),
            })
            .collect()
    }
}

/// Who comes or goes sees what members see who are no admins: what there is more is for those
/// who were there.
fn of_members(group: GroupId, gv: Seq, entry: Box<Entry>) -> Vec<(Payload, Audience)> {
    let to = |part| {
        Audience::Group(Broadcast {
            group,
            gv,
            part,
            about: None,
        })
    };
    let in_group = matches!(entry.stream, StreamId::Group(_));
    if let Some(user) = entry.change.coming_or_going().filter(|_| in_group) {
        let audience = Audience::Group(Broadcast {
            group,
            gv,
            part: Part::All,
            about: Some(user),
        });
        return vec![(Payload::Concealed(entry), audience)];
    }
    if entry.change.is_confidential() {
        let concealed = (Payload::Concealed(entry.clone()), to(Part::Others));
        return vec![(Payload::Entry(entry), to(Part::Admins)), concealed];
    }
    vec![(Payload::Entry(entry), to(Part::All))]
}

/// Users, one by one: who hears all of an entry, and who what members see who are no admins.
struct Named {
    all: Vec<UserId>,
    less: Vec<UserId>,
}

impl Named {
    fn all(users: Vec<UserId>) -> Self {
        Self {
            all: users,
            less: Vec::new(),
        }
    }

    /// Whom the entry removes hears of it, unless back already.
    fn add_removed(&mut self, user: UserId, confidential: bool) {
        if self.all.contains(&user) || self.less.contains(&user) {
            return;
        }
        let part = if confidential {
            &mut self.less
        } else {
            &mut self.all
        };
        part.push(user);
    }

    fn announcements(self, entry: Box<Entry>) -> Vec<(Payload, Audience)> {
        let to = Audience::Users;
        if self.less.is_empty() {
            return vec![(Payload::Entry(entry), to(self.all))];
        }
        let concealed = (Payload::Concealed(entry.clone()), to(self.less));
        if self.all.is_empty() {
            return vec![concealed];
        }
        vec![(Payload::Entry(entry), to(self.all)), concealed]
    }
}
