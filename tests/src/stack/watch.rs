//! What a test sees of the bytes that pass a [`Proxy`](super::Proxy), and may hold.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result, bail};
use tokio::sync::watch;

use super::process::{Ports, dialer};
use crate::wait::SOON;

/// Where bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    ToServer,
    ToClient,
}

/// A piece that has come and has not been passed on. A piece is what was read at once: usually
/// what was written at once, but one may hold several messages, and a long message comes in
/// several.
#[derive(Debug)]
pub struct Seen<'a> {
    pub side: Side,
    pub(super) ports: Ports,
    pub bytes: &'a [u8],
}

impl Seen<'_> {
    /// Stands for the connection, as long as it is open.
    #[must_use]
    pub fn connection(&self) -> (u16, u16) {
        (self.ports.from, self.ports.to)
    }

    /// Whether this process has made the connection.
    #[must_use]
    pub fn is_of(&self, pid: u32) -> bool {
        dialer(self.ports, std::iter::once((0, pid))).is_some()
    }
}

/// Asks its question of every piece that passes the proxies it is set to, until it ends.
#[derive(Clone)]
pub struct Watch(Arc<Shared>);

struct Shared {
    question: Mutex<Question>,
    state: watch::Sender<State>,
}

type Question = Box<dyn FnMut(&Seen<'_>) -> Option<usize> + Send>;

#[derive(Debug, Clone, Copy, Default)]
struct State {
    held: usize,
    end: Option<End>,
}

#[derive(Debug, Clone, Copy)]
enum End {
    Released,
    Closed,
}

impl Watch {
    /// The question's answer is `None` to pass a piece on, and `Some(n)` to pass its first `n`
    /// bytes on and hold the rest, with all that follows it in its direction.
    #[must_use]
    pub fn new(question: impl FnMut(&Seen<'_>) -> Option<usize> + Send + 'static) -> Self {
        Self(Arc::new(Shared {
            question: Mutex::new(Box::new(question)),
            state: watch::Sender::new(State::default()),
        }))
    }

    /// Waits until something is held.
    ///
    /// # Errors
    /// Nothing is within [`SOON`].
    pub async fn held(&self) -> Result<()> {
        let mut states = self.0.state.subscribe();
        let held = states.wait_for(|state| state.held > 0);
        let held = tokio::time::timeout(SOON, held).await;
        held.context("nothing was held")??;
        Ok(())
    }

    /// Whether something is held now, or was when this ended.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.0.state.borrow().held > 0
    }

    /// Passes on what is held; from now on everything passes.
    pub fn release(&self) {
        self.end(End::Released);
    }

    /// Resets the connections on which something is held, which is lost; from now on everything
    /// passes.
    pub fn close(&self) {
        self.end(End::Closed);
    }

    fn end(&self, end: End) {
        self.0.state.send_modify(|state| {
            state.end.get_or_insert(end);
        });
    }

    /// How many bytes pass.
    pub(super) fn ask(&self, seen: &Seen<'_>) -> usize {
        if self.0.state.borrow().end.is_some() {
            return seen.bytes.len();
        }
        let mut question = self
            .0
            .question
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        question(seen).unwrap_or(seen.bytes.len())
    }

    /// Waits for the end; an error if what is held is not to be passed on.
    pub(super) async fn hold(&self) -> Result<()> {
        let mut states = self.0.state.subscribe();
        self.0.state.send_modify(|state| state.held += 1);
        let state = states.wait_for(|state| state.end.is_some()).await?;
        match state.end {
            Some(End::Released) => Ok(()),
            _ => bail!("what was held is lost"),
        }
    }
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Watch").field(&self.0.state).finish()
    }
}
