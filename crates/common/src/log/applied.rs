//! How far each stream's state is known to have come, so that nobody brings it there again:
//! while the broker is away all that is committed stays pending, and every reader would apply
//! all of it once more.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Mutex as AsyncMutex;

use super::apply::apply_pending;
use crate::domain::{Seq, StreamId};
use crate::store::{Store, StoreError};

/// Streams that are remembered. One more makes all be forgotten that nobody is at: they are
/// brought up to date once more when they are asked for.
const REMEMBERED: usize = 20_000;

#[derive(Default)]
pub(super) struct Applied {
    streams: Mutex<HashMap<StreamId, Arc<AsyncMutex<Seq>>>>,
}

impl Applied {
    /// Applies the stream's pending entries with `after < seq ≤ through`, in order, whoever
    /// committed them, unless this process has done so before. Entries that are pending no more
    /// have been applied by somebody. `through` is committed. Of those who ask for the same
    /// stream one works and the others wait.
    pub(super) async fn reach(
        &self,
        store: &dyn Store,
        stream: StreamId,
        after: Seq,
        through: Seq,
    ) -> Result<(), StoreError> {
        let known = self.of(stream);
        let mut known = known.lock().await;
        let after = after.max(*known);
        if after < through {
            apply_pending(store, stream, after, through).await?;
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
