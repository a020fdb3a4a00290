//! What becomes of pending entries where some of them cannot be read.

use super::{Pending, PendingPage, StoreError};
use crate::domain::{Entry, Kind, Seq, StreamId};

/// What the next of a stream's pending entries means to who applies them.
pub(super) enum Next {
    Entry(Box<Entry>),
    /// It cannot be read, but nothing is to be applied for it.
    PassOver,
    /// Nothing behind it can be applied before it.
    Unreadable(StoreError),
}

impl Next {
    /// `kind`, where that can be told.
    pub(super) fn of(read: Result<Entry, StoreError>, kind: Option<&str>) -> Self {
        let kind = || kind.and_then(|kind| kind.parse::<Kind>().ok());
        match read {
            Ok(entry) => Self::Entry(Box::new(entry)),
            Err(_) if kind().is_some_and(|kind| !kind.changes_state()) => Self::PassOver,
            Err(error) => Self::Unreadable(error),
        }
    }
}

/// A page under way: entries are added in their order until it is [full](Self::is_full).
pub(super) struct Filling {
    page: PendingPage,
    limit: usize,
    looked_at: usize,
    first_unreadable: Option<(String, i64, StoreError)>,
}

impl Filling {
    /// A page of at most `limit` entries.
    pub(super) fn new(limit: usize) -> Self {
        Self {
            page: PendingPage {
                items: Vec::new(),
                next: None,
                unreadable: 0,
            },
            limit,
            looked_at: 0,
            first_unreadable: None,
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.looked_at >= self.limit
    }

    /// Adds what was read, or counts what could not be. Those of a stream whose name cannot be
    /// read (no `position`) do not fill the page: there is no going on from where they stand.
    /// `place` names an unreadable one for the log.
    pub(super) fn add(
        &mut self,
        position: Option<(StreamId, Seq)>,
        read: Result<Pending, StoreError>,
        place: impl FnOnce() -> (String, i64),
    ) {
        if position.is_some() {
            self.page.next = position;
            self.looked_at += 1;
        }
        match read {
            Ok(pending) => self.page.items.push(pending),
            Err(error) => {
                self.page.unreadable += 1;
                self.first_unreadable.get_or_insert_with(|| {
                    let (stream, seq) = place();
                    (stream, seq, error)
                });
            }
        }
    }

    /// The page. `at_end`: there is nothing behind it.
    pub(super) fn finish(mut self, at_end: bool) -> PendingPage {
        if at_end {
            self.page.next = None;
        }
        // Said once: the same ones come again with every pass.
        if let Some((stream, seq, error)) = self.first_unreadable {
            tracing::error!(
                stream,
                delta.seq = seq,
                entries = self.page.unreadable,
                error = &error as &dyn std::error::Error,
                "pending entries cannot be read and are not announced; this is the first"
            );
        }
        self.page
    }
}
