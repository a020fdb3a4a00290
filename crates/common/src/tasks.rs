//! The background tasks of a process: where they run, and that none of them ends unnoticed.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::FutureExt as _;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Where tasks run that a process cannot do without. If one of them panics, the process does
/// not go on without it: its shutdown begins. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Tasks {
    runtime: Handle,
    shutdown: CancellationToken,
    failed: Arc<AtomicBool>,
}

impl Tasks {
    /// Tasks on the current runtime, whose end is the end of everything that follows
    /// `shutdown`.
    #[must_use]
    pub fn new(shutdown: CancellationToken) -> Self {
        Self {
            runtime: Handle::current(),
            shutdown,
            failed: Arc::default(),
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

    /// Whether a task has failed, so that the process ends with an error.
    #[must_use]
    pub fn have_failed(&self) -> bool {
        self.failed.load(Ordering::SeqCst)
    }

    /// A task has ended that the process cannot do without: begins the shutdown.
    pub fn fail(&self, task: &'static str, why: &'static str) {
        tracing::error!(task, why, "a task has failed; the process stops");
        self.failed.store(true, Ordering::SeqCst);
        self.shutdown.cancel();
    }

    /// Runs `task` on the process's runtime; a panic of it begins the shutdown.
    pub fn spawn<F>(&self, name: &'static str, task: F) -> JoinHandle<()>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.runtime.spawn(self.watched(name, task))
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
                tasks.fail(name, "it has panicked");
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
        tasks.spawn("one that ends", async {}).await.unwrap();
        assert!(!tasks.have_failed() && !tasks.shutdown().is_cancelled());
        let broken = tasks.spawn("one that breaks", async { panic!("as it should") });
        broken.await.unwrap();
        assert!(tasks.have_failed() && tasks.shutdown().is_cancelled());
    }
}
