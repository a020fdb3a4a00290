//! One appender task per busy stream: optimistic insert at a remembered head, with group
//! commit (a batch is what queued during the previous one).
//!
//! That streams have no holes rests on one rule: an entry is sent as `n` only when `n − 1` is
//! known to be committed, by the acknowledgement of the batch before or by a read of the head;
//! one batch per stream is in flight.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

use super::APPEND_DEADLINE;
use super::announcer::{Announcer, Complete};
use super::append::{Append, AppendError, Committed, Draft, NotValid};
use super::completion::Completion;
use super::metrics::LogMetrics;
use super::setback::Setback;
use super::trace;
use super::waiting::{Copies, Waiting, share_doubt};
use crate::clock::Clock;
use crate::domain::{Entry, EntryId, Head, Refusal, Seq, StreamId};
use crate::store::{Store, StoreError};

/// Appends that may wait for one stream; one more is answered `Unavailable`. Derived entries may
/// fill as many places again.
const QUEUE_LIMIT: usize = 256;
/// Entries in one batch.
const BATCH_LIMIT: usize = 256;
/// A head is read again when it was last read this long ago.
const HEAD_LIFETIME: Duration = Duration::from_secs(300);
/// Locks over which streams are spread.
const SHARDS: usize = 64;

pub(super) struct Appenders {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    metrics: LogMetrics,
    tasks: TaskTracker,
    runtime: Handle,
    shards: Vec<Mutex<Shard>>,
    peers: OnceLock<Peers>,
    closing: CancellationToken,
}

/// What appenders need and what in turn needs them.
struct Peers {
    completion: Arc<Completion>,
    announcer: Announcer,
}

type Shard = HashMap<StreamId, Slot>;

/// A stream that was lately appended to.
#[derive(Default)]
struct Slot {
    queue: VecDeque<Waiting>,
    /// A task is at work on this stream; it alone touches `memory`.
    running: bool,
    memory: Memory,
}

/// What this process knows of a stream.
#[derive(Default, Clone, Copy)]
struct Memory {
    /// The committed head and when it was last read from the store.
    head: Option<(Head, Instant)>,
    /// Every pending entry up to here has been applied.
    applied: Seq,
    setback: Setback,
}

impl Appenders {
    pub(super) fn new(
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        metrics: LogMetrics,
        tasks: TaskTracker,
        runtime: Handle,
    ) -> Arc<Self> {
        Arc::new(Self {
            store,
            clock,
            metrics,
            tasks,
            runtime,
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            peers: OnceLock::new(),
            closing: CancellationToken::new(),
        })
    }

    /// Completes the circle: completing an entry may append others.
    pub(super) fn connect(&self, completion: Arc<Completion>, announcer: Announcer) {
        let peers = Peers {
            completion,
            announcer,
        };
        assert!(
            self.peers.set(peers).is_ok(),
            "connected once, at the start"
        );
    }

    fn peers(&self) -> &Peers {
        self.peers.get().expect("connected before the first append")
    }

    /// From now on appends are refused.
    pub(super) fn close(&self) {
        self.closing.cancel();
    }

    /// See [`super::Log::append`].
    pub(super) async fn append(self: &Arc<Self>, append: Append) -> Result<Committed, AppendError> {
        if self.closing.is_cancelled() {
            return Err(AppendError::Unavailable);
        }
        self.submit(append, QUEUE_LIMIT).await
    }

    /// Appends what a committed entry calls for: it has room of its own in the queue, and is
    /// taken while the log is being stopped.
    pub(super) async fn append_derived(
        self: &Arc<Self>,
        append: Append,
    ) -> Result<Committed, AppendError> {
        self.submit(append, 2 * QUEUE_LIMIT).await
    }

    async fn submit(
        self: &Arc<Self>,
        append: Append,
        queue_limit: usize,
    ) -> Result<Committed, AppendError> {
        let (done, outcome) = oneshot::channel();
        let deadline = Instant::now() + APPEND_DEADLINE;
        let span = trace::append(&append);
        let waiting = Waiting {
            append,
            id: EntryId::generate(),
            uncertain: false,
            deadline,
            done,
            span: span.clone(),
        };
        self.enqueue(waiting, queue_limit)?;
        let answer = async {
            match tokio::time::timeout_at(deadline, outcome).await {
                Ok(Ok(outcome)) => outcome,
                Ok(Err(_)) | Err(_) => Err(AppendError::Unavailable),
            }
        };
        self.metrics.measure(answer).instrument(span).await
    }

    fn enqueue(self: &Arc<Self>, waiting: Waiting, queue_limit: usize) -> Result<(), AppendError> {
        let stream = waiting.append.stream;
        let mut shard = self.shard(stream);
        let slot = shard.entry(stream).or_default();
        if slot.queue.len() >= queue_limit {
            return Err(AppendError::Unavailable);
        }
        slot.queue.push_back(waiting);
        if !slot.running {
            slot.running = true;
            let memory = slot.memory;
            drop(shard);
            let work = Box::pin(self.clone().work(stream, memory));
            self.tasks.spawn_on(work, &self.runtime);
        }
        Ok(())
    }

    fn shard(&self, stream: StreamId) -> MutexGuard<'_, Shard> {
        let bytes = stream.to_bytes();
        let index = usize::from(bytes[16] ^ bytes[15]) % SHARDS;
        // A panic elsewhere leaves a map that is still a map.
        self.shards[index]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Works a stream's queue off, then lies down.
    async fn work(self: Arc<Self>, stream: StreamId, mut memory: Memory) {
        let on_panic = ForgetStream(&self, stream);
        let mut left_over = VecDeque::new();
        loop {
            let mut batch = std::mem::take(&mut left_over);
            {
                let mut shard = self.shard(stream);
                let slot = shard.entry(stream).or_default();
                let room = BATCH_LIMIT
                    .saturating_sub(batch.len())
                    .min(slot.queue.len());
                batch.extend(slot.queue.drain(..room));
                if batch.is_empty() {
                    slot.running = false;
                    slot.memory = memory;
                    break;
                }
            }
            left_over = self.round(stream, batch, &mut memory).await;
            let pause = memory.setback.pause();
            if !pause.is_zero() {
                tokio::time::sleep(pause).await;
            }
        }
        std::mem::forget(on_panic);
    }

    /// Validates and commits one batch. Returns what must be tried again, in order.
    async fn round(
        &self,
        stream: StreamId,
        mut batch: VecDeque<Waiting>,
        memory: &mut Memory,
    ) -> VecDeque<Waiting> {
        share_doubt(&mut batch);
        // Their callers have been told that the outcome is unknown.
        batch.retain(|waiting| waiting.deadline > Instant::now());
        let head = match self.head(stream, memory).await {
            Ok(head) => head,
            Err(error) => return refuse_all(batch, stream, &error),
        };
        let run = self.validate(stream, head, &mut batch, memory).await;
        if run.is_empty() {
            memory.setback = Setback::None;
            return batch;
        }
        let entries = run.iter().map(|(_, entry)| entry.clone()).collect();
        let waiting = run.iter().map(|(waiting, _)| &waiting.span);
        let span = trace::insert(waiting, run.len());
        match self.store.append(entries).instrument(span).await {
            Ok(appended) => {
                self.metrics.batches.observe(appended.landed as f64);
                self.landed(stream, run, appended.landed, batch, memory)
                    .await
            }
            Err(error @ StoreError::Uncertain(_)) => {
                tracing::warn!(
                    stream = %stream,
                    error = &error as &dyn std::error::Error,
                    "the outcome of an append is unknown; trying again with the same keys"
                );
                self.metrics.uncertain.inc();
                memory.head = None;
                memory.setback = memory.setback.unknown_again();
                let uncertain = |(waiting, _)| Waiting {
                    uncertain: true,
                    ..waiting
                };
                let mut again: VecDeque<_> = run.into_iter().map(uncertain).collect();
                again.append(&mut batch);
                again
            }
            Err(error) => {
                memory.head = None;
                refuse_all(run.into_iter().map(|(waiting, _)| waiting), stream, &error);
                batch
            }
        }
    }

    async fn head(&self, stream: StreamId, memory: &mut Memory) -> Result<Head, StoreError> {
        let outcome = match memory.head {
            Some((head, read_at)) if read_at.elapsed() < HEAD_LIFETIME => {
                self.metrics.caches.count("head", "hit");
                return Ok(head);
            }
            Some(_) => "expired",
            None => "miss",
        };
        self.metrics.caches.count("head", outcome);
        let head = self.store.head(stream).await?;
        memory.head = Some((head, Instant::now()));
        Ok(head)
    }

    /// Takes from `batch` what can be committed together: each entry validated at the head it
    /// will follow. A proposal that reads the stream's state can only be first, for the
    /// state is that at the committed head. Copies of what is in the run already stay behind, to
    /// be answered with it. The refused are answered here.
    async fn validate(
        &self,
        stream: StreamId,
        head: Head,
        batch: &mut VecDeque<Waiting>,
        memory: &mut Memory,
    ) -> Vec<(Waiting, Entry)> {
        let mut run: Vec<(Waiting, Entry)> = Vec::new();
        let mut position = head;
        let mut keys = HashSet::new();
        let mut copies = Vec::new();
        while let Some(waiting) = batch.pop_front() {
            if !keys.insert(waiting.append.key) {
                copies.push(waiting);
                continue;
            }
            let validated = if waiting.append.proposal.reads_state() {
                if !run.is_empty() {
                    batch.push_front(waiting);
                    break;
                }
                match self
                    .peers()
                    .completion
                    .applied()
                    .reach(stream, memory.applied, head.seq)
                    .await
                {
                    Ok(()) => {
                        memory.applied = memory.applied.max(head.seq);
                        waiting.append.proposal.validate(position).await
                    }
                    Err(error) => Err(NotValid::Store(error)),
                }
            } else {
                waiting.append.proposal.validate(position).await
            };
            match validated {
                Ok(draft) => {
                    let entry = self.entry(&waiting, position, draft);
                    position = entry.head();
                    run.push((waiting, entry));
                }
                Err(NotValid::Store(error)) => {
                    keys.remove(&waiting.append.key);
                    refuse_all([waiting], stream, &error);
                }
                // What it was refused on is not committed yet, and may be its own first try.
                Err(NotValid::Refused(_)) if !run.is_empty() => {
                    batch.push_front(waiting);
                    break;
                }
                Err(NotValid::Refused(refusal)) => {
                    keys.remove(&waiting.append.key);
                    self.answer_from_log(waiting, refusal, memory).await;
                }
            }
        }
        for copy in copies.into_iter().rev() {
            batch.push_front(copy);
        }
        run
    }

    fn entry(&self, waiting: &Waiting, position: Head, draft: Draft) -> Entry {
        debug_assert!(
            draft.gv >= position.gv || !matches!(waiting.append.stream, StreamId::Channel(_)),
            "rights were checked at {} but the head is at {}",
            draft.gv,
            position.gv
        );
        let head = position.after(&draft.change, draft.gv);
        Entry {
            id: waiting.id,
            stream: waiting.append.stream,
            seq: head.seq,
            at: self.clock.now(),
            actor: waiting.append.actor,
            key: waiting.append.key,
            request: waiting.append.request,
            gv: head.gv,
            ord: head.ord,
            change: draft.change,
        }
    }

    /// The first `landed` of `run` are committed: completes, answers and announces them, with
    /// their copies in `rest`. Finds out about the one that was refused. Returns it (unless it
    /// is answered), those behind it and `rest`.
    async fn landed(
        &self,
        stream: StreamId,
        mut run: Vec<(Waiting, Entry)>,
        landed: usize,
        rest: VecDeque<Waiting>,
        memory: &mut Memory,
    ) -> VecDeque<Waiting> {
        let mut again: VecDeque<_> = run.drain(landed..).map(|(waiting, _)| waiting).collect();
        let complete = again.is_empty();
        again.extend(rest);
        let mut copies = Copies::of(&mut again, run.iter().map(|(_, entry)| entry.key));
        let mut to_announce = Vec::with_capacity(landed);
        for (waiting, entry) in run {
            if let Some((head, _)) = &mut memory.head {
                *head = entry.head();
            }
            let askers = copies.with(waiting, entry.key);
            to_announce.extend(self.complete(entry, askers, memory).await);
        }
        // All are answered before the first waits for room.
        self.peers().announcer.enqueue(to_announce).await;
        memory.setback = Setback::None;
        if !complete {
            memory.head = None;
            self.look_up_refused(stream, &mut again, memory).await;
        }
        again
    }

    /// Looks the first, which the store refused, up: if it is in, it is answered, and so are
    /// its copies.
    async fn look_up_refused(
        &self,
        stream: StreamId,
        again: &mut VecDeque<Waiting>,
        memory: &mut Memory,
    ) {
        let Some(refused) = again.pop_front() else {
            return;
        };
        let key = refused.append.key;
        match self.store.find(stream, key).await {
            Ok(Some(entry)) => {
                let mut copies = Copies::of(again, [key]);
                self.answer_with(entry, copies.with(refused, key), memory)
                    .await;
            }
            Ok(None) => {
                // Another process was faster.
                self.metrics.races.inc();
                memory.setback = Setback::Race;
                again.push_front(refused);
            }
            Err(error) => {
                refuse_all([refused], stream, &error);
            }
        }
    }

    /// Before a mutation is refused its key is looked up: its first result is the answer.
    async fn answer_from_log(&self, waiting: Waiting, refusal: Refusal, memory: &mut Memory) {
        let stream = waiting.append.stream;
        match self.store.find(stream, waiting.append.key).await {
            Ok(Some(entry)) => self.answer_with(entry, vec![waiting], memory).await,
            Ok(None) if waiting.uncertain => waiting.answer(Err(AppendError::Unavailable)),
            Ok(None) => waiting.answer(Err(AppendError::Refused(refusal))),
            Err(error) => {
                refuse_all([waiting], stream, &error);
            }
        }
    }

    /// The key is in the log already.
    async fn answer_with(&self, entry: Entry, askers: Vec<Waiting>, memory: &mut Memory) {
        let to_announce = self.complete(entry, askers, memory).await;
        self.peers().announcer.enqueue(to_announce).await;
    }

    /// Applies a committed entry, appends what derives from it, and answers those who ask for
    /// its key. Returns the entry if it is to be announced: not if somebody else has it in hand.
    async fn complete(
        &self,
        entry: Entry,
        mut askers: Vec<Waiting>,
        memory: &mut Memory,
    ) -> Option<Complete> {
        let is_other = |asker: &mut Waiting| {
            let hashes = (asker.append.request, entry.request);
            matches!(hashes, (Some(now), Some(then)) if now != then)
        };
        for other in askers.extract_if(.., is_other) {
            other.answer(Err(AppendError::KeyReused));
        }
        let own = askers.iter().find(|asker| asker.id == entry.id);
        let span = own.or(askers.first())?.span.clone();
        let own = own.is_some();
        let completing = self
            .peers()
            .completion
            .complete(&entry, memory.applied, !own);
        match completing.instrument(span.clone()).await {
            Ok(applied) => memory.applied = applied,
            Err(error) => {
                // It is committed and pending: a repetition or the relay completes it.
                tracing::warn!(
                    stream = %entry.stream,
                    delta.seq = entry.seq,
                    error = &error as &dyn std::error::Error,
                    "a committed entry could not be completed"
                );
                for asker in askers {
                    asker.answer(Err(AppendError::Unavailable));
                }
                return None;
            }
        }
        for asker in askers {
            let replayed = asker.id != entry.id;
            let entry = entry.clone();
            asker.answer(Ok(Committed { entry, replayed }));
        }
        own.then_some(Complete { entry, span })
    }

    fn sweep(&self) {
        for shard in &self.shards {
            let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            shard.retain(|_, slot| {
                let fresh = |(_, read_at): (Head, Instant)| read_at.elapsed() < HEAD_LIFETIME;
                slot.running || slot.memory.head.is_some_and(fresh)
            });
        }
    }
}

/// Forgets streams that have been idle, so that memory follows the busy ones.
pub(super) async fn sweep(appenders: Arc<Appenders>, stopping: CancellationToken) {
    let mut interval = tokio::time::interval(HEAD_LIFETIME / 5);
    while stopping
        .run_until_cancelled(interval.tick())
        .await
        .is_some()
    {
        appenders.sweep();
    }
}

/// Answers everybody that the store failed. Nothing of theirs is in.
fn refuse_all(
    all: impl IntoIterator<Item = Waiting>,
    stream: StreamId,
    error: &StoreError,
) -> VecDeque<Waiting> {
    tracing::warn!(stream = %stream, error = error as &dyn std::error::Error, "appends failed");
    for waiting in all {
        waiting.answer(Err(AppendError::Unavailable));
    }
    VecDeque::new()
}

/// If an appender panics, its stream starts afresh; those who wait are told "unavailable".
struct ForgetStream<'a>(&'a Appenders, StreamId);

impl Drop for ForgetStream<'_> {
    fn drop(&mut self) {
        self.0.shard(self.1).remove(&self.1);
    }
}
