//! From committed to complete: state applied in stream order, derived entries appended.
//! Any process can do it for any entry, and twice does no harm.

use std::sync::{Arc, Weak};

use async_trait::async_trait;
use futures_util::future::{BoxFuture, try_join_all};

use super::append::{Append, AppendError, Draft, NotValid, Proposal};
use super::appender::Appenders;
use super::applied::Applied;
use super::groups::Groups;
use crate::domain::{
    Change, ChannelId, Entry, Group, GroupId, Head, Key, Place, Seq, SessionId, StreamId, UserId,
};
use crate::store::{Store, StoreError};

/// Entries of a group that are read at once.
const LATER: usize = 200;

pub(super) struct Completion {
    store: Arc<dyn Store>,
    groups: Arc<Groups>,
    applied: Arc<Applied>,
    /// The appenders own this; they are gone only when nobody appends any more.
    appenders: Weak<Appenders>,
}

/// What could not be done for a committed entry.
#[derive(Debug, thiserror::Error)]
pub(super) enum Incomplete {
    #[error("an entry could not be applied")]
    Store(#[from] StoreError),
    #[error("an entry's derived entries could not be appended")]
    Derived(#[from] AppendError),
}

impl Completion {
    pub(super) fn new(
        store: Arc<dyn Store>,
        fanout_limit: u64,
        groups: Arc<Groups>,
        appenders: Weak<Appenders>,
    ) -> Self {
        Self {
            applied: Arc::new(Applied::new(store.clone(), fanout_limit)),
            store,
            groups,
            appenders,
        }
    }

    /// Applies `entry` and all before it, and appends what derives from it. `applied` is the
    /// position through which the caller knows the stream to be applied; returns the new one.
    /// `again`: somebody may have done so already, so that derived entries are looked for first,
    /// which costs less than an append that is refused.
    pub(super) async fn complete(
        &self,
        entry: &Entry,
        applied: Seq,
        again: bool,
    ) -> Result<Seq, Incomplete> {
        if !entry.change.changes_state() {
            // Nothing to apply. Entries before it may still have something.
            return Ok(if applied + 1 == entry.seq {
                entry.seq
            } else {
                applied
            });
        }
        if applied < entry.seq {
            self.applied.reach(entry.stream, applied, entry.seq).await?;
        }
        if let StreamId::Group(group) = entry.stream {
            self.groups.forget_before(group, entry.seq);
        }
        self.derive(entry, again).await?;
        Ok(applied.max(entry.seq))
    }

    pub(super) fn applied(&self) -> &Arc<Applied> {
        &self.applied
    }

    async fn derive(&self, entry: &Entry, again: bool) -> Result<(), AppendError> {
        match (entry.stream, &entry.change) {
            (StreamId::User(user), Change::SessionRevoked { session }) => {
                let ended = SessionEnded {
                    session: *session,
                    user,
                };
                self.append_derived(entry, StreamId::Sessions, Arc::new(ended), again)
                    .await?;
            }
            (StreamId::Group(group), change) if change.needs_fence() => {
                let fences = self.fence(entry, group, again).await?;
                if let Change::MemberAdded { user, .. } = change {
                    self.begin_reading(entry, group, *user, &fences).await?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// What stands before the fences of their joining does not count as unread for somebody who
    /// has never read. Whoever repeats it finds the same fences, or, in a large group, what the
    /// first found as the channels' ends.
    async fn begin_reading(
        &self,
        entry: &Entry,
        group: GroupId,
        user: UserId,
        fences: &[(ChannelId, Place)],
    ) -> Result<(), AppendError> {
        let unavailable = |error: StoreError| {
            tracing::warn!(group.id = %group, error = &error as &dyn std::error::Error, "where a member begins to read could not be recorded");
            AppendError::Unavailable
        };
        let places = self.older_than(entry, fences).await.map_err(unavailable)?;
        let beginning = self.store.begin_reading(user, group, entry.seq, &places);
        beginning.await.map_err(unavailable)
    }

    /// Those of the fences whose channels are older than the entry. Others there are only where
    /// it is completed late.
    async fn older_than(
        &self,
        entry: &Entry,
        fences: &[(ChannelId, Place)],
    ) -> Result<Vec<(ChannelId, Place)>, StoreError> {
        let mut places = fences.to_vec();
        let mut after = entry.seq;
        loop {
            let later = self.store.entries(entry.stream, after, Seq::MAX, LATER);
            let later = later.await?;
            for entry in &later {
                if let Change::ChannelCreated { channel, .. } = &entry.change {
                    places.retain(|(known, _)| known != channel);
                }
            }
            match later.last() {
                Some(last) if later.len() == LATER => after = last.seq,
                _ => return Ok(places),
            }
        }
    }

    /// Puts a fence into every channel of the group, and returns where: entries behind it were
    /// checked at the change or later. It stands for the position that the group has come to, which is beyond
    /// the change where that is completed late: its recipients are the members of now, in
    /// channels too that are younger than the change.
    async fn fence(
        &self,
        entry: &Entry,
        group: GroupId,
        again: bool,
    ) -> Result<Vec<(ChannelId, Place)>, AppendError> {
        let state = self.store.group_for(group, &[]).await.map_err(|error| {
            tracing::warn!(group.id = %group, error = &error as &dyn std::error::Error, "the channels to fence could not be read");
            AppendError::Unavailable
        })?;
        // Of a large group everybody's servers find out themselves who has come. The first who is
        // one too many still has a fence: whoever is behind it knows that the group is large.
        if let (Change::MemberAdded { .. }, Some(state)) = (&entry.change, &state)
            && self.is_known_to_be_large(state, entry.seq).await?
        {
            return self.ends(state).await;
        }
        let gv = state.iter().map(|state| state.applied).max();
        let gv = gv.unwrap_or_default().max(entry.seq);
        let there = state
            .iter()
            .flat_map(|state| state.channels.keys().copied());
        let channels: Vec<ChannelId> = match &entry.change {
            Change::ChannelDeleted { channel } => there.chain([*channel]).collect(),
            // What it says is of that one alone.
            Change::ChannelUpdated { channel, .. } => there.filter(|id| id == channel).collect(),
            _ => there.collect(),
        };
        let fences = channels.into_iter().map(|channel| async move {
            let fence = Arc::new(Fence { gv });
            let stream = StreamId::Channel(channel);
            let fence = self.append_derived(entry, stream, fence, again).await?;
            Ok((channel, fence.into()))
        });
        try_join_all(fences).await
    }

    /// Where the channels of a group end, for want of fences.
    async fn ends(&self, state: &Group) -> Result<Vec<(ChannelId, Place)>, AppendError> {
        let channels: Vec<ChannelId> = state.channels.keys().copied().collect();
        let ends = self.store.ends(&channels).await.map_err(|error| {
            tracing::warn!(group.id = %state.id, error = &error as &dyn std::error::Error, "where the channels end could not be read");
            AppendError::Unavailable
        })?;
        Ok(channels.into_iter().zip(ends).collect())
    }

    /// Whether whoever appends to a channel of the group knows that it is large, and was so before
    /// the entry `seq`: the fence of the entry with which it became that is in, as is that of
    /// every entry which is pending no more.
    async fn is_known_to_be_large(&self, group: &Group, seq: Seq) -> Result<bool, AppendError> {
        let turned = group.size.turned;
        if !group.size.large || turned >= seq {
            return Ok(false);
        }
        let stream = StreamId::Group(group.id);
        let pending = self.store.pending_in(stream, turned.saturating_sub(1), 1);
        let pending = pending.await.map_err(|error| {
            tracing::warn!(group.id = %group.id, error = &error as &dyn std::error::Error, "it could not be read whether a fence is needed");
            AppendError::Unavailable
        })?;
        Ok(pending.first().is_none_or(|entry| entry.seq != turned))
    }

    /// Boxed, because appending completes entries and completing them appends.
    fn append_derived<'a>(
        &'a self,
        deciding: &Entry,
        stream: StreamId,
        proposal: Arc<dyn Proposal>,
        again: bool,
    ) -> BoxFuture<'a, Result<Head, AppendError>> {
        let append = Append {
            stream,
            actor: deciding.actor,
            key: Key::of_entry(deciding.id),
            request: None,
            proposal,
        };
        Box::pin(async move {
            if again && let Ok(Some(known)) = self.store.find(stream, append.key).await {
                return Ok(known.head());
            }
            let appenders = self.appenders.upgrade().ok_or(AppendError::Unavailable)?;
            let committed = appenders.append_derived(append).await?;
            Ok(committed.entry.head())
        })
    }
}

/// Says in a channel that the group has changed who may do what.
struct Fence {
    gv: Seq,
}

#[async_trait]
impl Proposal for Fence {
    fn reads_state(&self) -> bool {
        false
    }

    async fn validate(&self, head: Head) -> Result<Draft, NotValid> {
        Ok(Draft {
            change: Change::MembersChanged { gv: self.gv },
            gv: self.gv.max(head.gv),
        })
    }
}

/// Tells every process that a session has ended.
struct SessionEnded {
    session: SessionId,
    user: UserId,
}

#[async_trait]
impl Proposal for SessionEnded {
    fn reads_state(&self) -> bool {
        false
    }

    async fn validate(&self, _head: Head) -> Result<Draft, NotValid> {
        Ok(Draft {
            change: Change::SessionEnded {
                session: self.session,
                user: self.user,
            },
            gv: 0,
        })
    }
}
