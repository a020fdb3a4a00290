//! Proposals that several resources share.

use std::sync::Arc;

use async_trait::async_trait;
use tidings_common::domain::{Change, Group, GroupId, Head, Refusal};
use tidings_common::log::{Draft, NotValid, Proposal};
use tidings_common::store::Store;

/// A change of a group that is decided by the group's own state.
pub(super) struct GroupChange<R> {
    pub(super) store: Arc<dyn Store>,
    pub(super) group: GroupId,
    pub(super) rule: R,
}

#[async_trait]
impl<R> Proposal for GroupChange<R>
where
    R: Fn(&Group) -> Result<Change, Refusal> + Send + Sync,
{
    fn reads_state(&self) -> bool {
        true
    }

    async fn validate(&self, _: Head) -> Result<Draft, NotValid> {
        let group = self.store.group(self.group).await?;
        let group = group.ok_or(Refusal::NotFound)?;
        Ok(decided((self.rule)(&group)?))
    }
}

/// A change that nothing can refuse.
pub(super) struct Always(pub(super) Change);

#[async_trait]
impl Proposal for Always {
    fn reads_state(&self) -> bool {
        false
    }

    async fn validate(&self, _: Head) -> Result<Draft, NotValid> {
        Ok(decided(self.0.clone()))
    }
}

/// A draft in a stream other than a channel's, where `gv` means nothing.
pub(super) fn decided(change: Change) -> Draft {
    Draft { change, gv: 0 }
}
