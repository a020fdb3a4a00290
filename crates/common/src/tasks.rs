//! The background tasks of a process: where they run, and that none of them ends unnoticed.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::FutureExt as _;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

/// Where tasks run that a process cannot do without. If one of them panics, the process does
/// not go on without it: its shutdown begins. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Tasks {
    runtime: Handle,
    shutdown: CancellationToken,
    panicked: Arc<AtomicBool>,
}

impl Tasks {
    /// Tasks on the current runtime, whose end is the end of everything that follows
    /// `shutdown`.
    #[must_use]
    pub fn new(shutdown: CancellationToken) -> Self {
        Self {
            runtime: Handle::current(),
            shutdown,
            panicked: Arc::default(),
        }
    }

    #[must_use]
    pub fn runtime(&self) -> &Handle {
        &self.runtime
    }

    /// The shutdown of the process, whatever the reason.
    #[must_use]
    pub fn shutdown(&self) -> &CancellationToken {
        &self.shutdown
    }

    /// Whether a task has panicked, so that the process ends with an error.
    #[must_use]
    pub fn have_panicked(&self) -> bool {
        self.panicked.load(Ordering::SeqCst)
    }

    /// `task`, to be spawned: a panic of it begins the shutdown. (The panic's message has been
    /// written to standard error by then.)
    pub fn watched<F>(
        &self,
        name: &'static str,
        task: F,
    ) -> impl Future<Output = ()> + Send + use<F>
    where
        F: Future<Output = ()> + Send,
    {
        let tasks = self.clone();
        // Nothing of the task is used after its panic.
        let task = AssertUnwindSafe(task).catch_unwind();
        async move {
            if task.await.is_err() {
                tracing::error!(task = name, "a task has panicked; the process stops");
                tasks.panicked.store(true, Ordering::SeqCst);
                tasks.shutdown.cancel();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_begins_the_shutdown_and_an_ordinary_end_does_not() {
        let tasks = Tasks::new(CancellationToken::new());
        tokio::spawn(tasks.watched("one that ends", async {}))
            .await
            .unwrap();
        assert!(!tasks.have_panicked() && !tasks.shutdown().is_cancelled());
        let broken = tasks.watched("one that breaks", async { panic!("as it should") });
        tokio::spawn(broken).await.unwrap();
        assert!(tasks.have_panicked() && tasks.shutdown().is_cancelled());
    }
}
