//! What a server's queue follows, over any number of connections.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use lapin::Channel;
use lapin::options::QueueBindOptions;
use lapin::types::FieldTable;

use super::super::{Bindings, BusError};
use super::connection::{Failure, request};
use super::topology::Topology;

/// Requests to bind that are under way at once after a reconnect.
const PIPELINED: usize = 64;

/// The bindings of one server's queue.
#[derive(Debug)]
pub(super) struct QueueBindings {
    topology: Topology,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// What is to be in force whenever there is a connection.
    wanted: BTreeSet<u16>,
    live: Option<Live>,
}

/// Where bindings can be made now.
#[derive(Debug, Clone)]
pub(super) struct Live {
    pub(super) channel: Channel,
    pub(super) queue: Arc<str>,
}

impl QueueBindings {
    pub(super) fn new(topology: Topology) -> Self {
        Self {
            topology,
            state: Mutex::default(),
        }
    }

    /// Bindings can be made no more, until [`QueueBindings::restore`].
    pub(super) fn interrupt(&self) {
        self.lock().live = None;
    }

    /// Binds everything on a new connection. What is bound already is not bound twice: a queue
    /// that is still there has kept its bindings, and the broker knows each by its key.
    pub(super) async fn restore(&self, live: Live) -> Result<(), Failure> {
        let wanted = self.lock().wanted.clone();
        let bind = |partition| request(self.bind_on(&live, partition));
        stream::iter(wanted)
            .map(bind)
            .buffer_unordered(PIPELINED)
            .try_collect::<()>()
            .await?;
        // Whoever binds or unbinds meanwhile is told that it failed, and does it again.
        self.lock().live = Some(live);
        Ok(())
    }

    async fn bind_on(&self, live: &Live, partition: u16) -> lapin::Result<()> {
        live.channel
            .queue_bind(
                (*live.queue).into(),
                self.topology.deltas(self.topology.exchange_of(partition)),
                partition.to_string().into(),
                QueueBindOptions::default(),
                FieldTable::default(),
            )
            .await
    }

    async fn unbind_on(&self, live: &Live, partition: u16) -> lapin::Result<()> {
        live.channel
            .queue_unbind(
                (*live.queue).into(),
                self.topology.deltas(self.topology.exchange_of(partition)),
                partition.to_string().into(),
                FieldTable::default(),
            )
            .await
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Bindings for QueueBindings {
    async fn bind(&self, partition: u16) -> Result<(), BusError> {
        let live = {
            let mut state = self.lock();
            state.wanted.insert(partition);
            state.live.clone().ok_or(Failure::QueueGone)?
        };
        request(self.bind_on(&live, partition)).await?;
        Ok(())
    }

    async fn unbind(&self, partition: u16) -> Result<(), BusError> {
        let live = {
            let mut state = self.lock();
            state.wanted.remove(&partition);
            state.live.clone().ok_or(Failure::QueueGone)?
        };
        request(self.unbind_on(&live, partition)).await?;
        Ok(())
    }
}
