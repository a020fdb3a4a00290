//! Who is there. It is shown to those who share a group with them, and to nobody else: to others
//! they are as if they did not exist. While presence does not answer, everybody's state is
//! unknown, and nothing waits for it.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tidings_common::domain::{GroupId, UserId, UserPresence};
use tidings_common::presence::{Presence, PresenceError};
use tokio::sync::OnceCell;
use tokio::time::Instant;

use super::{Context, IdPage, IdWindow, Listed, ServiceError};

/// How long a group's count is used without being made again.
const LIFETIME: Duration = Duration::from_secs(5);
/// Groups counted lately; beyond, all are forgotten.
const MOST_COUNTED: usize = 10_000;
/// Members read and asked about together.
const CHUNK: usize = 500;
/// Members that one count looks at. In a group with more, what is beyond does not count.
const MOST_LOOKED_AT: usize = 50_000;
/// Members who are named of a large group.
const SAMPLE: usize = 20;

pub(crate) struct WhoIsThere {
    context: Context,
    presence: Arc<dyn Presence>,
    /// Whoever asks while a count is being made waits for it.
    counted: Mutex<HashMap<GroupId, Counted>>,
}

/// When it began, and what comes of it.
type Counted = (Instant, Arc<OnceCell<Count>>);

/// How many of a group's members are there.
#[derive(Debug, Clone)]
struct Count {
    /// None: nobody can say.
    online: Option<u64>,
    sample: Vec<UserPresence>,
}

/// What there is to say of a group.
#[derive(Debug)]
pub(crate) struct GroupPresence {
    pub(crate) members: u64,
    pub(crate) online: Option<u64>,
    /// None: the group is large.
    pub(crate) page: Option<Listed<UserPresence>>,
    /// None: it is not.
    pub(crate) sample: Option<Vec<UserPresence>>,
}

impl WhoIsThere {
    pub(crate) fn new(context: Context, presence: Arc<dyn Presence>) -> Self {
        Self {
            context,
            presence,
            counted: Mutex::default(),
        }
    }

    /// Those of `users` whom the caller may see, ascending.
    pub(crate) async fn query(
        &self,
        who: UserId,
        users: &[UserId],
    ) -> Result<Vec<UserPresence>, ServiceError> {
        let shared = self.context.store.shared_groups(who, users).await?;
        let visible: BTreeSet<UserId> = shared.into_iter().map(|(user, _)| user).collect();
        Ok(self.states(&visible.into_iter().collect::<Vec<_>>()).await)
    }

    /// The count of a group's members; of a large group with a sample, of others with the page.
    pub(crate) async fn of_group(
        &self,
        who: UserId,
        group: GroupId,
        page: IdPage<UserId>,
    ) -> Result<GroupPresence, ServiceError> {
        let store = &self.context.store;
        let membership = store.membership(who, group).await?;
        let size = membership.ok_or(ServiceError::NotFound)?.size;
        let members = size.members;
        let Count { online, sample } = self.counted(group).await?;
        if size.large {
            return Ok(GroupPresence {
                members,
                online,
                page: None,
                sample: Some(sample),
            });
        }
        let items = store.members(group, page.window, page.limit + 1).await?;
        let users = items.into_iter().map(|(user, _)| user).collect();
        let Listed { items, more } = Listed::cut(users, &page);
        let items = self.states(&items).await;
        // Who was removed in the meantime must not see who came since.
        let still = store.membership(who, group).await?;
        still.ok_or(ServiceError::NotFound)?;
        Ok(GroupPresence {
            members,
            online,
            page: Some(Listed { items, more }),
            sample: None,
        })
    }

    async fn states(&self, users: &[UserId]) -> Vec<UserPresence> {
        if users.is_empty() {
            return Vec::new();
        }
        self.presence.states(users).await.unwrap_or_else(|error| {
            unanswered(&error);
            let at = self.context.clock.now();
            let unknown = users.iter().map(|user| UserPresence::unknown(*user, at));
            unknown.collect()
        })
    }

    async fn counted(&self, group: GroupId) -> Result<Count, ServiceError> {
        let count = self.cell(group);
        let counted = count.get_or_try_init(|| self.count(group)).await?;
        Ok(counted.clone())
    }

    /// What was counted lately or is being counted, or what is to become that.
    fn cell(&self, group: GroupId) -> Arc<OnceCell<Count>> {
        let now = Instant::now();
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((since, count)) = counted.get(&group)
            && now.duration_since(*since) < LIFETIME
        {
            return count.clone();
        }
        if counted.len() >= MOST_COUNTED {
            counted.clear();
        }
        let count = Arc::new(OnceCell::new());
        counted.insert(group, (now, count.clone()));
        count
    }

    /// One read of members and one call to presence for every [`CHUNK`] of them, in turn.
    async fn count(&self, group: GroupId) -> Result<Count, ServiceError> {
        let (mut online, mut sample) = (0, Vec::new());
        let (mut window, mut looked_at) = (IdWindow::First, 0);
        while looked_at < MOST_LOOKED_AT {
            let members = self.context.store.members(group, window, CHUNK).await?;
            let users: Vec<UserId> = members.into_iter().map(|(user, _)| user).collect();
            let Some(last) = users.last() else { break };
            window = IdWindow::After(*last);
            looked_at += users.len();
            match self.presence.states(&users).await {
                Ok(states) => {
                    let there = states.into_iter().filter(|now| now.state.is_connected());
                    for now in there {
                        online += 1;
                        if sample.len() < SAMPLE {
                            sample.push(now);
                        }
                    }
                }
                Err(error) => {
                    unanswered(&error);
                    return Ok(Count {
                        online: None,
                        sample: Vec::new(),
                    });
                }
            }
        }
        Ok(Count {
            online: Some(online),
            sample,
        })
    }
}

fn unanswered(error: &PresenceError) {
    tracing::debug!(
        error = error as &dyn std::error::Error,
        "presence did not answer; states are unknown"
    );
}
