//! The log in MongoDB.

use async_trait::async_trait;

use super::messages::Which;
use super::{Failure, MongoStore, entry, messages, pending, reads, settle, trim};
use crate::domain::{ChannelId, Entry, Head, Key, Message, Seq, StreamId, Timestamp, Version};
use crate::store::run::{NOT_A_RUN, is_run};
use crate::store::{
    Appended, Claim, LogStore, MarkPage, OldPage, Page, Pending, PendingPage, StoreError, Window,
};

#[async_trait]
impl LogStore for MongoStore {
    async fn append(&self, run: Vec<Entry>) -> Result<Appended, StoreError> {
        if !is_run(&run) {
            return Err(Failure::corrupt(NOT_A_RUN).of_write());
        }
        let Some(stream) = run.first().map(|entry| entry.stream) else {
            return Ok(Appended { landed: 0 });
        };
        let stored = run.iter().map(entry::encode).collect::<Result<_, _>>();
        let stored = stored.map_err(Failure::of_write)?;
        self.appends.append(stream, stored).await
    }

    async fn head(&self, stream: StreamId) -> Result<Head, StoreError> {
        let entries = self.entries.clone();
        self.read(async move { reads::head(&entries, stream).await })
            .await
    }

    async fn heads(&self, streams: &[StreamId]) -> Result<Vec<Seq>, StoreError> {
        let (entries, streams) = (self.entries.clone(), streams.to_vec());
        self.read(async move { reads::heads(&entries, &streams).await })
            .await
    }

    async fn find(&self, stream: StreamId, key: Key) -> Result<Option<Entry>, StoreError> {
        let entries = self.entries.clone();
        self.read(async move { reads::by_key(&entries, stream, key).await })
            .await
    }

    async fn entries(
        &self,
        stream: StreamId,
        after: Seq,
        through: Seq,
        limit: usize,
    ) -> Result<Vec<Entry>, StoreError> {
        let entries = self.entries.clone();
        self.read(async move { reads::between(&entries, stream, (after, through), limit).await })
            .await
    }

    async fn newest(&self, stream: StreamId, limit: usize) -> Result<Vec<Entry>, StoreError> {
        let entries = self.entries.clone();
        self.read(async move { reads::newest(&entries, stream, limit).await })
            .await
    }

    async fn messages(
        &self,
        channel: ChannelId,
        window: Window,
        limit: usize,
    ) -> Result<Page<Message>, StoreError> {
        let entries = self.entries.clone();
        let which = Which::All;
        self.read(async move { messages::page(&entries, which, channel, window, limit).await })
            .await
    }

    async fn pinned(
        &self,
        channel: ChannelId,
        window: Window,
        limit: usize,
    ) -> Result<Page<Message>, StoreError> {
        let entries = self.entries.clone();
        let which = Which::Pinned;
        self.read(async move { messages::page(&entries, which, channel, window, limit).await })
            .await
    }

    async fn messages_at(
        &self,
        channel: ChannelId,
        seqs: &[Seq],
    ) -> Result<Vec<Message>, StoreError> {
        let (entries, seqs) = (self.entries.clone(), seqs.to_vec());
        self.read(async move { messages::at(&entries, channel, &seqs).await })
            .await
    }

    async fn versions(
        &self,
        channel: ChannelId,
        after: Seq,
        through: Seq,
    ) -> Result<Vec<Version>, StoreError> {
        let (entries, bounds) = (self.entries.clone(), (after, through));
        self.read(async move { messages::versions(&entries, channel, bounds).await })
            .await
    }

    async fn versions_at(
        &self,
        channel: ChannelId,
        seqs: &[Seq],
    ) -> Result<Vec<Version>, StoreError> {
        let (entries, seqs) = (self.entries.clone(), seqs.to_vec());
        self.read(async move { messages::versions_at(&entries, channel, &seqs).await })
            .await
    }

    async fn pending_in(
        &self,
        stream: StreamId,
        after: Seq,
        limit: usize,
    ) -> Result<Vec<Entry>, StoreError> {
        let entries = self.entries.clone();
        self.read(async move { pending::of_stream(&entries, stream, after, limit).await })
            .await
    }

    async fn with_pending(&self, streams: &[StreamId]) -> Result<Vec<StreamId>, StoreError> {
        let (entries, streams) = (self.entries.clone(), streams.to_vec());
        self.read(async move { pending::with_pending(&entries, &streams).await })
            .await
    }

    async fn pending(
        &self,
        before: Timestamp,
        after: Option<(StreamId, Seq)>,
        limit: usize,
    ) -> Result<PendingPage, StoreError> {
        let entries = self.entries.clone();
        self.read(async move { pending::of_all(&entries, before, after, limit).await })
            .await
    }

    async fn pending_lately(
        &self,
        since: Timestamp,
        limit: usize,
    ) -> Result<Vec<Pending>, StoreError> {
        let entries = self.entries.clone();
        self.read(async move { pending::lately(&entries, since, limit).await })
            .await
    }

    async fn pending_later(
        &self,
        than: Timestamp,
        after: Option<(StreamId, Seq)>,
        limit: usize,
    ) -> Result<MarkPage, StoreError> {
        let entries = self.entries.clone();
        self.read(async move { pending::later(&entries, than, after, limit).await })
            .await
    }

    async fn claim(&self, claims: &[Claim], now: Timestamp) -> Result<Vec<bool>, StoreError> {
        let (database, entries) = (self.database.clone(), self.entries.clone());
        let claims = claims.to_vec();
        self.write(async move { settle::claim(&database, &entries, &claims, now).await })
            .await
    }

    async fn settle(&self, entries: &[(StreamId, Seq)]) -> Result<(), StoreError> {
        let (database, settled) = (self.database.clone(), entries.to_vec());
        self.write(async move { settle::settle(&database, &settled).await })
            .await
    }

    async fn floor(&self, stream: StreamId) -> Result<Seq, StoreError> {
        let floors = self.floors.clone();
        self.read(async move { trim::floor(&floors, stream).await })
            .await
    }

    async fn old_entries(
        &self,
        before: Timestamp,
        after: Option<(StreamId, Seq)>,
        limit: usize,
    ) -> Result<OldPage, StoreError> {
        let entries = self.entries.clone();
        self.read(async move { trim::old(&entries, before, after, limit).await })
            .await
    }

    async fn trim(&self, stream: StreamId, through: Seq) -> Result<u64, StoreError> {
        let (entries, floors) = (self.entries.clone(), self.floors.clone());
        let floor = self
            .write(async move { trim::raise_floor(&entries, &floors, stream, through).await })
            .await?;
        let mut deleted = 0;
        loop {
            // In parts, each with a deadline of its own.
            let entries = self.entries.clone();
            let (found, part) = self
                .write(async move { trim::delete_part(&entries, stream, floor).await })
                .await?;
            deleted += part;
            if found < trim::PART {
                return Ok(deleted);
            }
        }
    }
}
