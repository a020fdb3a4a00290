//! How far each stream's state is known to have come, so that nobody brings it there again:
//! while the broker is away all that is committed stays pending, and every reader would apply
//! all of it once more.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tokio::sync::Mutex as AsyncMutex;

use super::apply::apply_pending;
use crate::domain::{Seq, StreamId};
use crate::store::{Store, StoreError};

/// Streams that are remembered. One more makes all be forgotten that nobody is at: they are
/// brought up to date once more when they are asked for.
const REMEMBERED: usize = 20_000;

/// Streams whose state one reader brings up to date at the same time.
pub(super) const APPLYING_AT_ONCE: usize = 16;

/// See the module's documentation.
pub struct Applied {
    store: Arc<dyn Store>,
    fanout_limit: u64,
    streams: Mutex<HashMap<StreamId, Arc<AsyncMutex<Seq>>>>,
}

impl Applied {
    /// Above `fanout_limit` members a group turns large.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, fanout_limit: u64) -> Self {
        Self {
            store,
            fanout_limit,
            streams: Mutex::default(),
        }
    }

    /// Brings the state of streams up to these committed positions, whoever committed the
    /// entries: for readers that go on from a position with the state they find. Costs one read
    /// for all streams where nothing is pending, and once for a process what is.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if an entry could not be read or applied.
    pub async fn reach_all(
        &self,
        positions: impl IntoIterator<Item = (StreamId, Seq)>,
    ) -> Result<(), StoreError> {
        let positions: HashMap<StreamId, Seq> = positions.into_iter().collect();
        let streams: Vec<StreamId> = positions.keys().copied().collect();
        let behind = self.store.with_pending(&streams).await?;
        let applying = behind
            .into_iter()
            .map(|stream| self.reach(stream, 0, positions[&stream]));
        stream::iter(applying)
            .buffer_unordered(APPLYING_AT_ONCE)
            .try_collect()
            .await
    }

    /// Applies the stream's pending entries with `after < seq ≤ through`, in order, whoever
    /// committed them, unless this process has done so before. Entries that are pending no more
    /// have been applied by somebody. `through` is committed. Of those who ask for the same
    /// stream one works and the others wait.
    pub(super) async fn reach(
        &self,
        stream: StreamId,
        after: Seq,
        through: Seq,
    ) -> Result<(), StoreError> {
        let known = self.of(stream);
        let mut known = known.lock().await;
        let after = after.max(*known);
        if after < through {
            let store = self.store.as_ref();
            apply_pending(store, self.fanout_limit, stream, after, through).await?;
            *known = through;
        }
        Ok(())
    }

    fn of(&self, stream: StreamId) -> Arc<AsyncMutex<Seq>> {
        // A panic elsewhere leaves a map that is still a map.
        let mut streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        if streams.len() >= REMEMBERED && !streams.contains_key(&stream) {
            streams.retain(|_, known| Arc::strong_count(known) > 1);
        }
        streams.entry(stream).or_default().clone()
    }
}
